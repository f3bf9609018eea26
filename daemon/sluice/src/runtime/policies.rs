//! The folders of policies: read at start and again when a file changes. A wrong file is reported and the former version
//! of its policy stays; a reload concerns later rollouts only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use sluice_wire::policy::{Policy, PolicyFault};

/// Files beyond this many are not read.
const MOST_FILES: usize = 10_000;

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

    /// What is wrong in the folder now, one line a file.
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
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Pages { seen, ..Pages::default() };
        for path in next.seen.keys() {
            match read(path) {
                Ok(policy) => {
                    let name = (policy.metadata.namespace.clone(), policy.metadata.name.clone());
                    next.policies.insert(name, Arc::new(policy));
                }
                Err(why) => {
                    tracing::error!(why, "a policy cannot be used; its former version stays");
                    next.faults.push(why);
                }
            }
        }
        if !next.faults.is_empty() {
            for (name, policy) in &pages.policies {
                next.policies.entry(name.clone()).or_insert_with(|| policy.clone());
            }
        }
        *pages = next;
        Ok(true)
    }
}

fn listing(places: &[PathBuf]) -> std::io::Result<BTreeMap<PathBuf, (SystemTime, u64)>> {
    let mut seen = BTreeMap::new();
    for place in places {
        if place.is_file() {
            note(&mut seen, place.clone())?;
            continue;
        }
        let entries = std::fs::read_dir(place).map_err(|error| {
            let text =
                format!("{}: {error}; make the folder, or name another one with --policies", place.display());
            std::io::Error::new(error.kind(), text)
        })?;
        for entry in entries {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) && seen.len() < MOST_FILES {
                note(&mut seen, path)?;
            }
        }
    }
    Ok(seen)
}

fn note(seen: &mut BTreeMap<PathBuf, (SystemTime, u64)>, path: PathBuf) -> std::io::Result<()> {
    let about = std::fs::metadata(&path)?;
    seen.insert(path, (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len()));
    Ok(())
}

fn read(path: &Path) -> Result<Policy, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Policy::parse(&path.display().to_string(), &bytes).map_err(|fault: PolicyFault| fault.to_string())
}
