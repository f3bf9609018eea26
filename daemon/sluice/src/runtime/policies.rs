//! The folders of policies: read at start and again when a file changes. A wrong file is reported and the former version
//! of its policy stays; a reload concerns later rollouts only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use sluice_wire::policy::Policy;

use crate::policy_files;

/// Names in one line of the log.
const MOST_TOLD: usize = 20;

/// namespace and name
type Name = (String, String);

#[derive(Debug, Default)]
pub struct PolicyBook {
    /// Folders and files.
    places: Vec<PathBuf>,
    pages: RwLock<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    policies: BTreeMap<Name, Arc<Policy>>,
    faults: Vec<String>,
    seen: BTreeMap<PathBuf, (SystemTime, u64)>,
}

impl PolicyBook {
    /// Without a place every announcement brings its policy along.
    pub fn new(places: Vec<PathBuf>) -> PolicyBook {
        PolicyBook { places, pages: RwLock::default() }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Policy>> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.policies.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// What is wrong in the folders now, one line a fault.
    pub fn faults(&self) -> Vec<String> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).faults.clone()
    }

    pub fn names(&self) -> Vec<String> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.policies.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    /// Reads again if a file came, went or changed. Answers whether one did.
    pub fn reload(&self) -> std::io::Result<bool> {
        let seen = listing(&self.places)?;
        if self.pages.read().unwrap_or_else(PoisonError::into_inner).seen == seen {
            return Ok(false);
        }
        let mut next = Pages { seen, ..Pages::default() };
        next.read();
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if !next.faults.is_empty() {
            for (name, policy) in &pages.policies {
                next.policies.entry(name.clone()).or_insert_with(|| policy.clone());
            }
        }
        *pages = next;
        drop(pages);
        self.tell();
        Ok(true)
    }

    /// One line of what was read, and one a fault.
    fn tell(&self) {
        for why in self.faults() {
            tracing::error!("a policy cannot be used; its former version stays, if there is one: {why}");
        }
        let names = self.names();
        let more = names.len().saturating_sub(MOST_TOLD);
        let told = names.iter().take(MOST_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        tracing::info!(count = names.len(), policies = format!("{told}{and}"), "policies read");
    }
}

impl Pages {
    /// Each file; of two that name the same policy the first one counts.
    fn read(&mut self) {
        let mut files: BTreeMap<Name, &Path> = BTreeMap::new();
        for path in self.seen.keys() {
            match policy_files::read(path) {
                Ok(policy) => {
                    let name = (policy.metadata.namespace.clone(), policy.metadata.name.clone());
                    if let Some(other) = files.get(&name) {
                        let (namespace, name) = name;
                        self.faults.push(format!(
                            "{}: metadata.name: {namespace}/{name} stands in {} too: give one of them another name",
                            path.display(),
                            other.display()
                        ));
                        continue;
                    }
                    files.insert(name.clone(), path);
                    self.policies.insert(name, Arc::new(policy));
                }
                Err(faults) => self.faults.extend(faults.iter().map(ToString::to_string)),
            }
        }
    }
}

fn listing(places: &[PathBuf]) -> std::io::Result<BTreeMap<PathBuf, (SystemTime, u64)>> {
    let mut seen = BTreeMap::new();
    for place in places {
        let files = policy_files::list(place).and_then(|files| {
            files
                .into_iter()
                .map(|path| Ok((path.clone(), stamp(&path)?)))
                .collect::<std::io::Result<Vec<_>>>()
        });
        seen.extend(files.map_err(|error| {
            let text =
                format!("{}: {error}; make the folder, or name another one with --policies", place.display());
            std::io::Error::new(error.kind(), text)
        })?);
    }
    Ok(seen)
}

fn stamp(path: &Path) -> std::io::Result<(SystemTime, u64)> {
    let about = std::fs::metadata(path)?;
    Ok((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: shop}
spec:
  target: {webhook: {url: 'http://127.0.0.1:1'}}
  metrics: {scrape: {stable: ['http://127.0.0.1:2'], canary: ['http://127.0.0.1:3']}}
  steps: [{weight: 5}]
";

    #[test]
    fn a_wrong_file_is_told_once_with_its_place_and_the_former_policy_stays() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        put("shop.yaml", POLICY.to_owned());
        let book = PolicyBook::new(vec![folder.path().to_owned()]);
        assert!(book.reload().unwrap() && book.faults().is_empty());
        assert!(!book.reload().unwrap(), "nothing has changed");
        put("shop.yaml", POLICY.replace("weight: 5", "wieght: 55"));
        put("twin.yaml", POLICY.replace("name: shop", "name: other"));
        put("twin2.yaml", POLICY.replace("name: shop", "name: other"));
        assert!(book.reload().unwrap());
        let faults = book.faults();
        assert!(
            faults[0].ends_with("shop.yaml:7:12: spec.steps[0].wieght: unknown field; did you mean weight?"),
            "{faults:#?}"
        );
        assert!(faults[1].contains("twin2.yaml: metadata.name: default/other stands in"), "{faults:#?}");
        assert_eq!(book.names(), ["default/other", "default/shop"]);
        put("shop.yaml", POLICY.to_owned() + "  bake: {for: 1h}\n");
        std::fs::remove_file(folder.path().join("twin2.yaml")).unwrap();
        assert!(book.reload().unwrap() && book.faults().is_empty());
    }
}
