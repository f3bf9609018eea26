//! Which of the policies in the cluster are in force. Plain bookkeeping: no IO, no clock.
//!
//! A policy that is wrong changes nothing: the generation before it stays in force, and the object's status says why. One
//! that names objects of another namespace is wrong here, though not in a file: who may write policies in one namespace
//! must not reach into another by this daemon's rights. What else of the daemon they may use says [`Rights`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sluice_traffic::cluster::{PolicyNews, PolicyObject};
use sluice_wire::policy::{Condition, Policy};

use crate::{cluster_rights::Rights, policy_files, shared_targets::SharedTargets};

/// Whether the generation is in force.
pub const ACCEPTED: &str = "Accepted";

/// Namespace and name.
type Name = (String, String);

#[derive(Debug, Default)]
pub struct ClusterBook {
    entries: BTreeMap<Name, Entry>,
    /// The one that they stand in, where several share the bus.
    cluster: Option<String>,
    rights: Rights,
    /// Namespaces whose first listing has not come yet.
    awaited: usize,
    listed: BTreeSet<Option<String>>,
    /// Whose status is to be looked at.
    due: BTreeSet<Name>,
    targets: SharedTargets<Name>,
}

/// One object, and what came of it.
#[derive(Debug)]
pub struct Entry {
    pub object: PolicyObject,
    /// The latest generation that was right.
    pub in_force: Option<(Arc<Policy>, i64)>,
    /// What is wrong with the present one.
    pub fault: Option<String>,
    /// Why a changed workload was refused as a release; nothing once one was taken, or the policy is another.
    pub refused: Option<String>,
}

impl ClusterBook {
    /// Announcements wait until so many namespaces have been listed.
    pub fn awaiting(listings: usize, cluster: Option<String>, rights: Rights) -> ClusterBook {
        ClusterBook { awaited: listings, cluster, rights, ..ClusterBook::default() }
    }

    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    pub fn is_complete(&self) -> bool {
        self.listed.len() >= self.awaited
    }

    pub fn get(&self, name: &Name) -> Option<Arc<Policy>> {
        self.entries.get(name)?.in_force.as_ref().map(|(policy, _)| policy.clone())
    }

    pub fn entry(&self, name: &Name) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.entries.keys()
    }

    pub fn in_force(&self) -> impl Iterator<Item = (Name, Arc<Policy>)> {
        let policy = |entry: &Entry| entry.in_force.as_ref().map(|(policy, _)| policy.clone());
        self.entries.iter().filter_map(move |(name, entry)| Some((name.clone(), policy(entry)?)))
    }

    /// One line a policy that is wrong.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        self.entries.iter().filter_map(|((namespace, name), entry)| {
            entry.fault.as_ref().map(|why| format!("rolloutpolicy {namespace}/{name}: {why}"))
        })
    }

    pub fn take(&mut self, news: PolicyNews) {
        match news {
            PolicyNews::Listed { namespace, objects } => {
                let there: BTreeSet<Name> = objects.iter().map(name_of).collect();
                let within = |name: &Name| namespace.as_ref().is_none_or(|namespace| *namespace == name.0);
                self.entries.retain(|name, _| there.contains(name) || !within(name));
                self.targets.retain(|name| self.entries.contains_key(name));
                objects.into_iter().for_each(|object| self.place(object));
                self.listed.insert(namespace);
            }
            PolicyNews::Written(object) => self.place(*object),
            PolicyNews::Gone { namespace, name } => {
                tracing::info!(policy = format!("{namespace}/{name}"), "gone from the cluster");
                self.targets.remove(&(namespace.clone(), name.clone()));
                self.entries.remove(&(namespace, name));
            }
        }
    }

    /// A write of ours to the status is seen here too, and changes nothing.
    fn place(&mut self, object: PolicyObject) {
        let name = name_of(&object);
        self.due.insert(name.clone());
        let known = self.entries.remove(&name).filter(|known| known.object.uid == object.uid);
        let entry = match known {
            Some(known) if known.object.document == object.document => Entry { object, ..known },
            known => {
                let policy = read(&object, self.cluster.as_deref(), &self.rights);
                judged(object, policy, known.and_then(|known| known.in_force))
            }
        };
        if let Some((policy, _)) = &entry.in_force {
            self.targets.put(name.clone(), policy, self.cluster.as_deref());
        }
        self.entries.insert(name, entry);
    }

    /// Why a changed workload was refused as a release; `None`: one was taken.
    pub fn note_refusal(&mut self, name: &Name, why: Option<String>) {
        if let Some(entry) = self.entries.get_mut(name)
            && entry.refused != why
        {
            entry.refused = why;
            self.due.insert(name.clone());
        }
    }

    /// Who else in the cluster writes the same object.
    pub fn shared(&self, name: &Name) -> Option<String> {
        self.targets.warning(name, |(namespace, name)| format!("rolloutpolicy {namespace}/{name}"))
    }

    /// As the API server answered a write of ours.
    pub fn saw(&mut self, object: PolicyObject) {
        if let Some(known) = self.entries.get_mut(&name_of(&object))
            && known.object.document == object.document
        {
            known.object = object;
        }
    }

    pub fn is_due(&mut self, name: Name) {
        if self.entries.contains_key(&name) {
            self.due.insert(name);
        }
    }

    pub fn all_are_due(&mut self) {
        self.due = self.entries.keys().cloned().collect();
    }

    /// Some of those whose status is to be looked at; the others stay due.
    pub fn take_due(&mut self, most: usize) -> Vec<Name> {
        std::iter::from_fn(|| self.due.pop_first()).take(most).collect()
    }
}

impl Entry {
    /// What its status should say. `file`: a policy file has the same name. `shared`: who else writes its target.
    pub fn accepted(&self, file: bool, shared: Option<String>) -> Condition {
        let generation = self.object.generation;
        let (status, reason, message) = match (&self.fault, &self.in_force) {
            _ if file => (
                "False",
                "NameTaken",
                "a policy file of the daemon has this name, and files come first: rename one of the two, or take the file away"
                    .to_owned(),
            ),
            (None, _) => {
                let refused = self.refused.as_ref().map(|why| format!("a changed workload was refused as a release: {why}"));
                let reason = match (&refused, &shared) {
                    (Some(_), _) => "TriggerRefused",
                    (None, Some(_)) => "TargetShared",
                    (None, None) => "Accepted",
                };
                let words = std::iter::once("in force".to_owned()).chain(refused).chain(shared);
                ("True", reason, words.collect::<Vec<_>>().join("; "))
            }
            (Some(why), Some((_, former))) => {
                ("False", "Invalid", format!("{why}; generation {former} stays in force"))
            }
            (Some(why), None) => ("False", "Invalid", why.clone()),
        };
        Condition {
            kind: ACCEPTED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: String::new(),
            observed_generation: Some(generation),
        }
    }
}

fn name_of(object: &PolicyObject) -> Name {
    (object.namespace.clone(), object.name.clone())
}

fn judged(object: PolicyObject, policy: Result<Policy, String>, former: Option<(Arc<Policy>, i64)>) -> Entry {
    let name = format!("{}/{}", object.namespace, object.name);
    match policy {
        Ok(policy) => {
            tracing::info!(policy = name, generation = object.generation, "read from the cluster");
            let in_force = Some((Arc::new(policy), object.generation));
            Entry { object, in_force, fault: None, refused: None }
        }
        Err(why) => {
            tracing::error!(
                policy = name,
                generation = object.generation,
                why,
                "a policy in the cluster cannot be used; its former version stays, if there is one"
            );
            Entry { object, in_force: former, fault: Some(why), refused: None }
        }
    }
}

/// Field and remedy of all that is wrong.
fn read(object: &PolicyObject, cluster: Option<&str>, rights: &Rights) -> Result<Policy, String> {
    let faults = |faults: Vec<(Option<String>, String)>| {
        let lines = faults.into_iter().map(|(field, why)| match field {
            Some(field) => format!("{field}: {why}"),
            None => why,
        });
        lines.collect::<Vec<_>>().join("; ")
    };
    let policy = Policy::from_json("rolloutpolicy", &object.document).map_err(|wrong| {
        faults(wrong.iter().map(|fault| (fault.field.clone(), fault.why.clone())).collect())
    })?;
    let mut wrong = policy_files::wrong(&policy);
    wrong.extend(beyond_its_namespace(&policy));
    wrong.extend(beyond_its_cluster(&policy, cluster));
    wrong.extend(rights.beyond(&policy));
    if wrong.is_empty() {
        return Ok(policy);
    }
    Err(faults(wrong.into_iter().map(|(field, why)| (Some(field), why)).collect()))
}

fn beyond_its_namespace(policy: &Policy) -> Option<(String, String)> {
    let own = policy.metadata.namespace.as_str();
    let other = policy.spec.target.object()?.namespace.filter(|namespace| *namespace != own)?;
    let why = format!(
        "the target stands in namespace {other}: a policy in the cluster may name objects of its own namespace ({own}) only; put the policy there, or into a file of the daemon"
    );
    Some(("spec.target".to_owned(), why))
}

fn beyond_its_cluster(policy: &Policy, own: Option<&str>) -> Option<(String, String)> {
    let other = policy.spec.cluster.as_deref().filter(|cluster| Some(*cluster) != own)?;
    let here = own.map_or("one whose daemon has no --cluster".to_owned(), |own| format!("cluster {own}"));
    let why =
        format!("it names cluster {other} and stands in {here}: apply it there, or leave the field out");
    Some(("spec.cluster".to_owned(), why))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sluice_wire::policy::PolicyStatus;

    use super::*;

    fn object(generation: i64, spec: Value) -> PolicyObject {
        PolicyObject {
            namespace: "shop".into(),
            name: "checkout".into(),
            uid: "u-1".into(),
            generation,
            document: json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy",
                "metadata": {"name": "checkout", "namespace": "shop", "labels": {}}, "spec": spec}),
            status: PolicyStatus::default(),
        }
    }

    fn spec(weight: f64) -> Value {
        json!({"target": {"httpRoute": {"name": "checkout", "stable": "checkout", "canary": "checkout-canary"}},
            "metrics": {"prometheus": {"url": "http://prometheus:9090"}}, "steps": [{"weight": weight}]})
    }

    fn checkout() -> Name {
        ("shop".into(), "checkout".into())
    }

    fn first_step(book: &ClusterBook) -> Option<f64> {
        book.get(&checkout()).map(|policy| policy.spec.steps[0].weight.percent())
    }

    #[test]
    fn a_wrong_policy_changes_nothing_and_its_status_says_why() {
        let mut book = ClusterBook::awaiting(1, None, Rights::default());
        assert!(!book.is_complete());
        book.take(PolicyNews::Listed { namespace: None, objects: vec![object(1, spec(5.0))] });
        assert!(book.is_complete() && first_step(&book) == Some(5.0));

        book.take(PolicyNews::Written(Box::new(object(2, spec(500.0)))));
        assert_eq!(first_step(&book), Some(5.0), "the former one stays");
        let told = book.entry(&checkout()).unwrap().accepted(false, None);
        assert_eq!((told.status.as_str(), told.observed_generation), ("False", Some(2)));
        assert!(told.message.starts_with("spec.steps[0].weight: "), "{}", told.message);
        assert!(told.message.ends_with("generation 1 stays in force"), "{}", told.message);
        assert_eq!(book.faults().count(), 1);

        book.take(PolicyNews::Written(Box::new(object(3, spec(7.0)))));
        assert_eq!((first_step(&book), book.faults().count()), (Some(7.0), 0));
        assert_eq!(book.entry(&checkout()).unwrap().accepted(false, None).status, "True");
        assert_eq!(book.entry(&checkout()).unwrap().accepted(true, None).reason, "NameTaken");

        book.take(PolicyNews::Listed { namespace: Some("shop".into()), objects: Vec::new() });
        assert_eq!(first_step(&book), None, "a listing without it: it is gone");
    }

    #[test]
    fn a_refused_trigger_and_a_target_that_another_writes_too_stand_in_the_status() {
        let mut book = ClusterBook::default();
        let twin = PolicyObject { name: "twin".into(), uid: "u-2".into(), ..object(1, spec(5.0)) };
        let named = |mut object: PolicyObject| {
            object.document["metadata"]["name"] = json!(object.name);
            object
        };
        book.take(PolicyNews::Written(Box::new(object(1, spec(5.0)))));
        book.take(PolicyNews::Written(Box::new(named(twin))));
        let told = |book: &ClusterBook| {
            let told = book.entry(&checkout()).unwrap().accepted(false, book.shared(&checkout()));
            assert_eq!(told.status, "True", "neither makes it wrong");
            (told.reason, told.message)
        };
        let (reason, message) = told(&book);
        assert_eq!(reason, "TargetShared");
        assert!(
            message.contains("httproute shop/checkout is written by rolloutpolicy shop/twin too"),
            "{message}"
        );

        book.take_due(9);
        book.note_refusal(&checkout(), Some("held by shop/twin/v2".into()));
        assert_eq!(book.take_due(9), [checkout()], "its status is looked at");
        let (reason, message) = told(&book);
        assert_eq!(reason, "TriggerRefused");
        assert!(message.contains("refused as a release: held by shop/twin/v2; httproute"), "{message}");

        book.note_refusal(&checkout(), None);
        book.take(PolicyNews::Gone { namespace: "shop".into(), name: "twin".into() });
        assert_eq!(told(&book), ("Accepted".to_owned(), "in force".to_owned()));
    }

    #[test]
    fn one_of_the_same_name_that_was_made_anew_has_no_former_version() {
        let mut book = ClusterBook::default();
        book.take(PolicyNews::Written(Box::new(object(4, spec(5.0)))));
        let anew = PolicyObject { uid: "u-2".into(), ..object(1, spec(500.0)) };
        book.take(PolicyNews::Written(Box::new(anew)));
        assert_eq!(first_step(&book), None);
    }

    #[test]
    fn a_policy_reaches_no_object_of_another_namespace() {
        let mut book = ClusterBook::default();
        let mut abroad = spec(5.0);
        abroad["target"]["httpRoute"]["namespace"] = json!("payments");
        book.take(PolicyNews::Written(Box::new(object(1, abroad.clone()))));
        assert_eq!(first_step(&book), None);
        let why = book.faults().next().unwrap_or_default();
        assert!(why.contains("spec.target: ") && why.contains("namespace payments"), "{why}");
        abroad["target"]["httpRoute"]["namespace"] = json!("shop");
        book.take(PolicyNews::Written(Box::new(object(2, abroad))));
        assert_eq!(first_step(&book), Some(5.0), "its own may be written down");
        let mut elsewhere = spec(6.0);
        elsewhere["cluster"] = json!("south");
        book.take(PolicyNews::Written(Box::new(object(3, elsewhere))));
        assert_eq!(first_step(&book), Some(5.0));
        assert!(book.faults().any(|why| why.contains("spec.cluster: it names cluster south")));
    }
}
