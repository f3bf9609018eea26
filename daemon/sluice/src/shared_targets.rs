//! Policies that write one and the same object. None of them is wrong, but only one can run a rollout at a time: the releases of
//! the others are refused meanwhile. So it is said before that happens. Plain bookkeeping: no IO, no clock.

use std::collections::{BTreeMap, BTreeSet};

use sluice_wire::policy::Policy;

/// Others that are named in a warning.
const MOST_NAMED: usize = 5;

/// What each policy writes. `N`: how a policy is named.
#[derive(Debug)]
pub struct SharedTargets<N> {
    by_policy: BTreeMap<N, Written>,
    by_object: BTreeMap<Written, BTreeSet<N>>,
}

/// The cluster and the object in it.
type Written = (Option<String>, String);

impl<N> Default for SharedTargets<N> {
    fn default() -> Self {
        SharedTargets { by_policy: BTreeMap::new(), by_object: BTreeMap::new() }
    }
}

impl<N: Ord + Clone> SharedTargets<N> {
    /// `own`: the cluster of a policy that names none.
    pub fn put(&mut self, name: N, policy: &Policy, own: Option<&str>) {
        self.remove(&name);
        let Some(object) = sluice_traffic::written(policy) else { return };
        let written = (policy.spec.cluster.clone().or_else(|| own.map(str::to_owned)), object);
        self.by_object.entry(written.clone()).or_default().insert(name.clone());
        self.by_policy.insert(name, written);
    }

    pub fn remove(&mut self, name: &N) {
        let Some(written) = self.by_policy.remove(name) else { return };
        if let Some(names) = self.by_object.get_mut(&written) {
            names.remove(name);
            if names.is_empty() {
                self.by_object.remove(&written);
            }
        }
    }

    pub fn retain(&mut self, keep: impl Fn(&N) -> bool) {
        let gone: Vec<N> = self.by_policy.keys().filter(|name| !keep(name)).cloned().collect();
        gone.iter().for_each(|name| self.remove(name));
    }

    /// What this one and others write, and the others: `called` gives their names.
    pub fn warning(&self, name: &N, called: impl Fn(&N) -> String) -> Option<String> {
        let written = self.by_policy.get(name)?;
        let others: Vec<&N> = self.by_object.get(written)?.iter().filter(|other| *other != name).collect();
        if others.is_empty() {
            return None;
        }
        let more = others.len().saturating_sub(MOST_NAMED);
        let mut named: Vec<String> = others.iter().take(MOST_NAMED).map(|other| called(other)).collect();
        if more > 0 {
            named.push(format!("{more} more"));
        }
        Some(format!(
            "{} is written by {} too: while one of them runs a rollout, releases of the others are refused; give each policy an object of its own, or make one policy of them",
            written.1,
            named.join(", ")
        ))
    }

    /// All that share an object with another.
    pub fn shared(&self) -> impl Iterator<Item = &N> {
        self.by_object.values().filter(|names| names.len() > 1).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(target: &str, more: &str) -> Policy {
        let text = format!(
            "apiVersion: sluice.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: a, namespace: shop}}\nspec:\n  target: {target}\n  \
             metrics: {{prometheus: {{url: 'http://prometheus:9090'}}}}\n  steps: [{{weight: 5}}]\n{more}"
        );
        Policy::parse("policy", text.as_bytes()).unwrap()
    }

    #[test]
    fn policies_that_write_one_object_know_of_each_other_until_one_is_gone() {
        let route =
            |name: &str| policy(&format!("{{httpRoute: {{name: {name}, stable: a, canary: b}}}}"), "");
        let mut targets = SharedTargets::default();
        targets.put("first", &route("checkout"), None);
        targets.put("second", &route("basket"), None);
        let called = |name: &&str| format!("policy {name}");
        assert_eq!(targets.warning(&"first", called), None);
        targets.put("second", &route("checkout"), None);
        targets.put(
            "third",
            &policy("{httpRoute: {name: checkout, namespace: shop, stable: a, canary: b}}", ""),
            None,
        );
        let told = targets.warning(&"first", called).unwrap();
        assert!(
            told.starts_with("httproute shop/checkout is written by policy second, policy third too: "),
            "{told}"
        );
        assert_eq!(targets.shared().count(), 3);
        targets.remove(&"second");
        targets.retain(|name| *name != "third");
        assert_eq!((targets.warning(&"first", called), targets.shared().count()), (None, 0));
    }

    #[test]
    fn objects_of_another_kind_or_cluster_are_others_and_annotations_of_one_ingress_are_not() {
        let mut targets = SharedTargets::default();
        let arms = "stable: a, canary: b";
        targets.put(1, &policy(&format!("{{httpRoute: {{name: checkout, {arms}}}}}"), ""), Some("eu"));
        targets.put(2, &policy(&format!("{{httpProxy: {{name: checkout, {arms}}}}}"), ""), Some("eu"));
        targets.put(
            3,
            &policy(&format!("{{httpRoute: {{name: checkout, {arms}}}}}"), "  cluster: us\n"),
            Some("eu"),
        );
        assert_eq!(targets.shared().count(), 0);
        targets.put(
            4,
            &policy(&format!("{{httpRoute: {{name: checkout, {arms}}}}}"), "  cluster: eu\n"),
            Some("eu"),
        );
        targets.put(5, &policy(&format!("{{albIngress: {{name: shop, action: one, {arms}}}}}"), ""), None);
        targets.put(6, &policy(&format!("{{skipperIngress: {{name: shop, {arms}}}}}"), ""), None);
        assert_eq!(targets.shared().collect::<BTreeSet<_>>(), BTreeSet::from([&1, &4, &5, &6]));
    }
}
