//! What a policy in the cluster may use of this daemon beyond the objects of its own namespace. Whoever may write policies there
//! is not, for that reason alone, somebody who may run images with the daemon's rights, read its secrets, or command what
//! listens on its host: the operator says so. Plain bookkeeping: no IO.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sluice_wire::policy::{Policy, Target};

use crate::policy_files::Wrong;

/// What the operator grants, by the word of `--cluster-policies-may`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Grant {
    /// Gates and hooks with a `job`, and `workloads.replace: {custom: …}`: they run an image in the policy's namespace, with any of
    /// its service accounts.
    Jobs,
    /// Any file below --secrets. Otherwise those in the folder of the policy's own namespace there.
    Secrets,
    /// HAProxy's runtime socket, as this daemon's host has it.
    Haproxy,
}

/// All that policies in the cluster are granted.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    pub granted: Vec<Grant>,
    /// Folders of `--secrets`.
    pub secrets: Vec<PathBuf>,
}

impl Rights {
    /// Fields of what this policy uses and may not, with the remedy.
    pub fn beyond(&self, policy: &Policy) -> Vec<Wrong> {
        let has = |grant| self.granted.contains(&grant);
        let mut beyond = Vec::new();
        if !has(Grant::Jobs) {
            beyond.extend(jobs(policy));
        }
        if !has(Grant::Secrets) {
            let remedy = ", put the policy into a file of the daemon, or start the daemon with --cluster-policies-may secrets";
            beyond.extend(self.secrets_of_others(policy, "policies in the cluster", remedy));
        }
        if !has(Grant::Haproxy) {
            beyond.extend(haproxy(policy));
        }
        beyond
    }

    /// The same of a policy that came inside an announcement: whoever may announce a release of one namespace is not to send
    /// the secrets of another to an address of their own. No word grants that; a stored policy may name them.
    pub fn announced(&self, policy: &Policy) -> Vec<Wrong> {
        self.secrets_of_others(
            policy,
            "policies inside an announcement",
            ", or put the policy into a file of the daemon",
        )
    }

    fn secrets_of_others(&self, policy: &Policy, who: &str, remedy: &str) -> Vec<Wrong> {
        let namespace = &policy.metadata.namespace;
        let own = |file: &str| {
            let path = Path::new(file);
            // Below which folder an absolute one stands says the folder's own check; here only what comes after it counts.
            let below = self.secrets.iter().find_map(|folder| path.strip_prefix(folder).ok()).unwrap_or(path);
            below.starts_with(namespace) && !file.split('/').any(|part| part == "..")
        };
        let others = policy.secret_files().into_iter().filter(|(_, file)| !own(file));
        let why = |file: &str| {
            format!(
                "{file} is a secret that {who} may not name here: put it into the folder {namespace} below the daemon's --secrets and write {namespace}/{}{remedy}",
                Path::new(file).file_name().unwrap_or_default().to_string_lossy()
            )
        };
        others.map(|(field, file)| (field, why(file))).collect()
    }
}

fn jobs(policy: &Policy) -> Option<Wrong> {
    let (field, who) = policy.jobs().into_iter().next()?;
    let why = format!(
        "{who} runs a Job, which policies in the cluster may not have here: put the policy into a file of the daemon, or start the daemon with --cluster-policies-may jobs"
    );
    Some((field, why))
}

fn haproxy(policy: &Policy) -> Option<Wrong> {
    let Target::Haproxy(_) = policy.spec.target else { return None };
    let why = "HAProxy's socket is the daemon's host's, which policies in the cluster may not command here: put the policy into a file of the daemon, or start the daemon with --cluster-policies-may haproxy";
    Some(("spec.target.haproxy.socket".to_owned(), why.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(change: &Value) -> Policy {
        let mut spec = json!({
            "target": {"httpRoute": {"name": "checkout", "stable": "checkout", "canary": "checkout-canary"}},
            "metrics": {"prometheus": {"url": "http://prometheus:9090"}}, "steps": [{"weight": 5}]});
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let document = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy",
            "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec});
        Policy::from_json("policy", &document).unwrap()
    }

    fn beyond(granted: &[Grant], change: &Value) -> Vec<String> {
        let secrets = vec![PathBuf::from("/etc/sluice/secrets")];
        let rights = Rights { granted: granted.to_vec(), secrets };
        rights.beyond(&policy(change)).into_iter().map(|(field, why)| format!("{field}: {why}")).collect()
    }

    #[test]
    fn nothing_is_granted_by_itself_and_each_word_grants_its_own() {
        let job = json!({"gates": [{"name": "smoke", "job": {"image": "tests:1"}}]});
        let hook = json!({"hooks": {"post": [{"name": "tests", "job": {"image": "tests:1"}}]}});
        assert!(beyond(&[], &hook)[0].starts_with("spec.hooks.post[0].job: gate tests runs a Job"));
        let custom = json!({"workloads": {"stable": {"deployment": "a"}, "canary": {"deployment": "b"},
            "replace": {"custom": {"image": "deployer:1"}}}});
        assert!(
            beyond(&[], &custom)[0]
                .starts_with("spec.workloads.replace.custom: workloads.replace runs a Job")
        );
        let socket = json!({"target": {"haproxy":
            {"socket": "/run/haproxy/admin.sock", "backend": "shop", "stable": ["v1"], "canary": ["v2"]}}});
        let secret = json!({"metrics": {"prometheus": {"url": "http://prometheus:9090", "tokenFile": "prometheus"}},
            "alerts": [{"slack": {"urlFile": "slack-url"}}]});
        let every = [
            (Grant::Jobs, job, "spec.gates[0].job: gate smoke runs a Job", "jobs", 1),
            (Grant::Haproxy, socket, "spec.target.haproxy.socket: ", "haproxy", 1),
            (
                Grant::Secrets,
                secret,
                "spec.metrics.prometheus.tokenFile: prometheus is a secret",
                "secrets",
                2,
            ),
        ];
        for (grant, change, begin, word, lines) in &every {
            let told = beyond(&[], change);
            assert_eq!(told.len(), *lines, "{told:#?}");
            assert!(told[0].starts_with(begin), "{told:#?}");
            assert!(
                told.iter().all(|told| told.ends_with(&format!("--cluster-policies-may {word}"))),
                "{told:#?}"
            );
            assert_eq!(beyond(&[*grant], change), [""; 0]);
            for (other, ..) in every.iter().filter(|(other, ..)| other != grant) {
                assert_eq!(beyond(&[*other], change).len(), *lines, "{other:?} is something else");
            }
        }
        assert_eq!(beyond(&[], &json!({})), [""; 0]);
    }

    #[test]
    fn an_announcement_brings_no_policy_that_names_the_secrets_of_others() {
        let every = [Grant::Jobs, Grant::Secrets, Grant::Haproxy];
        let rights = Rights { granted: every.to_vec(), secrets: vec![PathBuf::from("/etc/sluice/secrets")] };
        let told = |file: &str| rights.announced(&policy(&json!({"alerts": [{"slack": {"urlFile": file}}]})));
        assert_eq!(told("shop/slack-url"), []);
        let told = told("bank/slack-url");
        assert_eq!(told[0].0, "spec.alerts[0].slack.urlFile");
        assert!(
            told[0].1.contains("shop/slack-url") && told[0].1.ends_with("a file of the daemon"),
            "{told:?}"
        );
    }

    #[test]
    fn the_secrets_of_its_own_namespace_are_its_own() {
        let named = |file: &str| json!({"alerts": [{"slack": {"urlFile": file}}]});
        for own in ["shop/slack-url", "/etc/sluice/secrets/shop/slack-url"] {
            assert_eq!(beyond(&[], &named(own)), [""; 0], "{own}");
        }
        for others in [
            "slack-url",
            "bank/slack-url",
            "shopping/slack-url",
            "shop/../bank/slack-url",
            "/etc/sluice/secrets/bank/slack-url",
            "/etc/sluice/secrets/slack-url",
            "/shop/slack-url",
        ] {
            let told = beyond(&[], &named(others));
            assert!(
                told[0].starts_with("spec.alerts[0].slack.urlFile: ") && told[0].contains("shop/slack-url"),
                "{told:#?}"
            );
        }
    }
}
