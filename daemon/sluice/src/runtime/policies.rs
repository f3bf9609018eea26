//! The policies that are in force: those in files, read at start and again when a file changes, and those that stand in the
//! cluster. Files come first where both have one name. A wrong one is reported and its former version stays; a change concerns
//! later rollouts only.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use sluice_traffic::cluster::{PolicyNews, PolicyObject};
use sluice_wire::policy::{Condition, Policy, TriggerOn};

use super::{Daemon, cluster::book::ClusterBook};
use crate::{
    cluster_rights::Rights,
    policy_files::{self, Wrong},
    shared_targets::SharedTargets,
};

/// How often the policy folder is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// Names in one line of the log.
const MOST_TOLD: usize = 20;

/// namespace and name
type Name = (String, String);

#[derive(Debug, Default)]
pub struct PolicyBook {
    /// Folders and files.
    places: Vec<PathBuf>,
    pages: RwLock<Pages>,
    cluster: Mutex<ClusterBook>,
}

#[derive(Debug, Default)]
struct Pages {
    policies: BTreeMap<Name, Arc<Policy>>,
    /// Where each policy stands, or stood when it could be read last.
    files: BTreeMap<Name, PathBuf>,
    faults: Vec<String>,
    /// Files that cannot be used now.
    wrong: BTreeSet<PathBuf>,
    targets: SharedTargets<Name>,
    seen: BTreeMap<PathBuf, (SystemTime, u64)>,
}

impl PolicyBook {
    /// Without a place every announcement brings its policy along.
    pub fn new(places: Vec<PathBuf>) -> PolicyBook {
        PolicyBook { places, ..PolicyBook::default() }
    }

    /// With the policies in the cluster, which come in so many listings.
    pub fn awaiting(self, listings: usize, cluster: Option<String>, rights: Rights) -> PolicyBook {
        PolicyBook { cluster: Mutex::new(ClusterBook::awaiting(listings, cluster, rights)), ..self }
    }

    /// Of policies that stand in no file.
    #[cfg(test)]
    pub fn holding(policies: impl IntoIterator<Item = Policy>) -> PolicyBook {
        let named = |policy: Policy| {
            ((policy.metadata.namespace.clone(), policy.metadata.name.clone()), Arc::new(policy))
        };
        let policies = policies.into_iter().map(named).collect();
        PolicyBook { pages: RwLock::new(Pages { policies, ..Pages::default() }), ..PolicyBook::default() }
    }

    /// Whether there is a folder or a file that can change.
    pub fn has_places(&self) -> bool {
        !self.places.is_empty()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Policy>> {
        let name = (namespace.to_owned(), name.to_owned());
        self.in_a_file(&name).or_else(|| self.cluster().get(&name))
    }

    /// What is wrong in folders and cluster now, one line a fault.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.pages.read().unwrap_or_else(PoisonError::into_inner).faults.clone();
        faults.extend(self.cluster().faults());
        faults
    }

    pub fn names(&self) -> Vec<String> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let cluster = self.cluster();
        let all: BTreeSet<&Name> = pages.policies.keys().chain(cluster.names()).collect();
        all.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    /// [`Self::names`] for people, as far as they fit into a line.
    pub fn known(&self) -> String {
        let names = self.names();
        if names.is_empty() { "none is known".to_owned() } else { format!("known: {}", in_a_line(&names)) }
    }

    /// Fields of a policy that came inside a message and names secrets which are not its namespace's.
    pub fn secrets_of_others(&self, policy: &Policy) -> Vec<Wrong> {
        self.cluster().rights().announced(policy)
    }

    /// Policies whose workload's changes start rollouts.
    pub fn triggering(&self) -> Vec<(Name, Arc<Policy>)> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let in_files = pages.policies.iter().map(|(name, policy)| (name.clone(), policy.clone()));
        let cluster = self.cluster();
        let in_cluster = cluster.in_force().filter(|(name, _)| !pages.policies.contains_key(name));
        let all = in_files.chain(in_cluster);
        all.filter(|(_, policy)| policy.spec.trigger.on != TriggerOn::Announcement).collect()
    }

    /// Until every namespace has been listed once, a policy that is not known may still come.
    pub fn is_complete(&self) -> bool {
        self.cluster().is_complete()
    }

    pub fn take_from_cluster(&self, news: PolicyNews) {
        self.cluster().take(news);
    }

    /// The object in the cluster, and what its status should say of it.
    pub fn in_cluster(&self, name: &Name) -> Option<(PolicyObject, Condition)> {
        let file = self.in_a_file(name).is_some();
        let cluster = self.cluster();
        let shared = cluster.shared(name);
        cluster.entry(name).map(|entry| (entry.object.clone(), entry.accepted(file, shared)))
    }

    /// Why a changed workload was refused as a release, for the status of its policy; `None`: one was taken.
    pub fn note_refusal(&self, name: &Name, why: Option<String>) {
        self.cluster().note_refusal(name, why);
    }

    /// As the API server answered a write to its status.
    pub fn saw(&self, object: PolicyObject) {
        self.cluster().saw(object);
    }

    /// The status of this one is to be looked at.
    pub fn is_due(&self, name: Name) {
        self.cluster().is_due(name);
    }

    pub fn all_are_due(&self) {
        self.cluster().all_are_due();
    }

    pub fn take_due(&self, most: usize) -> Vec<Name> {
        self.cluster().take_due(most)
    }

    fn in_a_file(&self, name: &Name) -> Option<Arc<Policy>> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).policies.get(name).cloned()
    }

    fn cluster(&self) -> MutexGuard<'_, ClusterBook> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
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
        next.keep_former(&pages);
        next.compare_targets();
        *pages = next;
        drop(pages);
        self.tell();
        Ok(true)
    }

    /// One line for each policy file whose target another one writes, too.
    fn shared_targets(&self) -> Vec<String> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let called = |(namespace, name): &Name| format!("policy {namespace}/{name}");
        let told =
            pages.targets.shared().take(MOST_TOLD).filter_map(|name| {
                Some(format!("{}: {}", called(name), pages.targets.warning(name, called)?))
            });
        told.collect()
    }

    /// An empty folder is more often a wrong one than meant so.
    pub fn warn_if_empty(&self) {
        if self.has_places() && self.names().is_empty() && self.faults().is_empty() {
            let places: Vec<String> = self.places.iter().map(|place| place.display().to_string()).collect();
            tracing::warn!(
                places = places.join(", "),
                "no policy (.yaml, .yml, .json) is here yet; until there is one, only announcements that bring theirs begin"
            );
        }
    }

    /// One line of what was read, and one a fault.
    fn tell(&self) {
        for why in self.faults() {
            tracing::error!("a policy cannot be used; its former version stays, if there is one: {why}");
        }
        for why in self.shared_targets() {
            tracing::warn!("{why}");
        }
        let names = self.names();
        tracing::info!(count = names.len(), policies = in_a_line(&names), "policies read");
    }
}

fn in_a_line(names: &[String]) -> String {
    let told = names.iter().take(MOST_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

impl Pages {
    /// Each file; of two that name the same policy the first one counts.
    fn read(&mut self) {
        for path in self.seen.keys() {
            match policy_files::read(path) {
                Ok(policy) => {
                    let name = (policy.metadata.namespace.clone(), policy.metadata.name.clone());
                    if let Some(other) = self.files.get(&name) {
                        let (namespace, name) = name;
                        self.faults.push(format!(
                            "{}: metadata.name: {namespace}/{name} stands in {} too: give one of them another name",
                            path.display(),
                            other.display()
                        ));
                        continue;
                    }
                    self.files.insert(name.clone(), path.clone());
                    self.policies.insert(name, Arc::new(policy));
                }
                Err(faults) => {
                    self.faults.extend(faults.iter().map(ToString::to_string));
                    self.wrong.insert(path.clone());
                }
            }
        }
    }

    fn compare_targets(&mut self) {
        for (name, policy) in &self.policies {
            self.targets.put(name.clone(), policy, None);
        }
    }

    /// Of a file that is wrong now the policy stays that it held; of one that is gone nothing does.
    fn keep_former(&mut self, former: &Pages) {
        for (name, path) in &former.files {
            if self.wrong.contains(path)
                && !self.policies.contains_key(name)
                && let Some(policy) = former.policies.get(name)
            {
                self.files.insert(name.clone(), path.clone());
                self.policies.insert(name.clone(), policy.clone());
            }
        }
    }
}

/// Looks at the folders until the daemon stops.
pub(super) async fn reload_on(daemon: Arc<Daemon>) {
    let mut told = None;
    while daemon.stop.run_until_cancelled(tokio::time::sleep(RELOAD_EVERY)).await.is_some() {
        let reading = daemon.clone();
        let read = tokio::task::spawn_blocking(move || reading.book.reload()).await;
        let trouble = match read {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        daemon.count_policy_faults(trouble.is_some());
        // Said once, not every two seconds.
        if let Some(why) = trouble.as_ref().filter(|why| told.as_ref() != Some(*why)) {
            tracing::error!("the policies cannot be read; the former ones stay: {why}");
        }
        told = trouble;
    }
}

impl Daemon {
    /// `unread`: the folders themselves cannot be read.
    pub(super) fn count_policy_faults(&self, unread: bool) {
        self.parts.meters.policy_faults(self.book.faults().len() + usize::from(unread));
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
    fn two_files_that_write_one_object_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let route = "{httpRoute: {name: shop, stable: a, canary: b}}";
        let metrics = "{prometheus: {url: 'http://prometheus:9090'}}";
        for name in ["one", "two", "three"] {
            let target =
                if name == "three" { route.replace("name: shop", "name: other") } else { route.to_owned() };
            let text = format!(
                "apiVersion: sluice.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: {name}}}\nspec:\n  target: {target}\n  \
                 metrics: {metrics}\n  workloads: {{stable: {{deployment: a}}, canary: {{deployment: b}}}}\n  steps: [{{weight: 5}}]\n"
            );
            std::fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
        }
        let book = PolicyBook::new(vec![folder.path().to_owned()]);
        assert!(book.reload().unwrap() && book.faults().is_empty(), "{:?}", book.faults());
        let told = book.shared_targets();
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(
            told[0].starts_with(
                "policy default/one: httproute default/shop is written by policy default/two too: "
            ),
            "{told:#?}"
        );
    }

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
        assert!(book.shared_targets().is_empty(), "what a webhook writes is not known");
        std::fs::remove_file(folder.path().join("twin.yaml")).unwrap();
        std::fs::remove_file(folder.path().join("twin2.yaml")).unwrap();
        assert!(book.reload().unwrap());
        assert_eq!(book.names(), ["default/shop"], "what was deleted is gone, whatever is wrong elsewhere");
        put("twin.yaml", POLICY.replace("name: shop", "name: other"));
        put("twin2.yaml", POLICY.replace("name: shop", "name: other"));
        assert!(book.reload().unwrap());
        put("shop.yaml", POLICY.to_owned() + "  bake: {for: 1h}\n");
        std::fs::remove_file(folder.path().join("twin2.yaml")).unwrap();
        assert!(book.reload().unwrap() && book.faults().is_empty());
    }
}
