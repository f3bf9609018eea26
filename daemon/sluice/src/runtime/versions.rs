//! `${version}` and `${stable}` in a policy: names that change with every release, such as a Deployment called `shop-1.7`.
//!
//! They are filled in when a rollout begins, so that what waited for another one sees what that one has promoted. What is
//! filled in is saved in the charter; nothing asks again later.

use serde_json::Value;
use sluice_rollout::{Outcome, Phase};
use sluice_wire::policy::Policy;
use sluice_wire::record::Charter;

use super::Daemon;
use super::announce::{StartError, parse};

const VERSION: &str = "${version}";
const STABLE: &str = "${stable}";

/// Whether a policy's text has names to be filled in.
pub(super) fn are_named_in(policy: &str) -> bool {
    policy.contains(VERSION) || policy.contains(STABLE)
}

impl Daemon {
    /// The charter's policy with its versions' names in it.
    pub(super) async fn with_versions(&self, charter: &Charter) -> Result<Policy, StartError> {
        let version = charter.release.as_deref();
        let mut names = Vec::new();
        if charter.policy.contains(VERSION) {
            names.push((VERSION, known(version, VERSION, "announce with a version (start --version)")?));
        }
        if charter.policy.contains(STABLE) {
            let promoted = self.promoted_last(charter).await?;
            let stable = charter.from.clone().or(promoted);
            let remedy = "no release of it was promoted yet: say which version runs now (start --from)";
            names.push((STABLE, known(stable.as_deref(), STABLE, remedy)?));
        }
        filled(charter, &names)
    }

    /// The release that was promoted last, by its name.
    async fn promoted_last(&self, charter: &Charter) -> Result<Option<String>, StartError> {
        let ledger = &self.parts.ledger;
        let attempts = ledger.attempts(charter.id.namespace(), charter.id.name()).await?;
        for id in attempts.ids.iter().rev().filter(|id| **id != charter.id) {
            let saved = ledger.load(id).await?;
            let promoted = saved.is_some_and(|(saved, _)| {
                matches!(saved.state.phase, Phase::Done { outcome: Outcome::Promoted, .. })
            });
            if promoted {
                return Ok(ledger.charter(id).await?.and_then(|charter| charter.release));
            }
        }
        Ok(None)
    }
}

/// A name that fits into a label, into an object's name and into an image's tag alike.
fn known(name: Option<&str>, place: &str, remedy: &str) -> Result<String, StartError> {
    let refuse = |why: String| Err(StartError::Refused(format!("the policy names {place}: {why}")));
    let Some(name) = name else { return refuse(remedy.to_owned()) };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() > 40 || !name.chars().all(fits) || !ends(name.chars().next()) || !ends(name.chars().last())
    {
        return refuse(format!(
            "{name:?} does not fit there; write up to 40 lower-case letters, digits, '-' and '.'"
        ));
    }
    Ok(name.to_owned())
}

fn filled(charter: &Charter, names: &[(&str, String)]) -> Result<Policy, StartError> {
    if names.is_empty() {
        return parse(charter);
    }
    let mut policy: Value =
        serde_json::from_str(&charter.policy).map_err(|error| StartError::Refused(error.to_string()))?;
    fill(&mut policy["spec"], names);
    parse(&Charter { policy: policy.to_string(), ..charter.clone() })
}

/// In every text, wherever it stands.
fn fill(value: &mut Value, names: &[(&str, String)]) {
    match value {
        Value::String(text) => {
            for (place, name) in names {
                *text = text.replace(place, name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, names)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_filled_in_wherever_they_stand() {
        let mut spec = json!({"target": {"service": {"stable": {"version": "${stable}"}}},
            "workloads": {"canary": {"deployment": "busybox-${version}"}}, "steps": [], "n": 1});
        fill(&mut spec, &[(VERSION, "v2".to_owned()), (STABLE, "v1".to_owned())]);
        assert_eq!(spec["target"]["service"]["stable"]["version"], "v1");
        assert_eq!(spec["workloads"]["canary"]["deployment"], "busybox-v2");
    }

    #[test]
    fn what_could_be_more_than_a_name_is_refused_with_the_remedy() {
        assert_eq!(known(Some("1.7"), VERSION, "").ok(), Some("1.7".to_owned()));
        for (name, expected) in [
            (None, "announce with a version"),
            (Some("../x"), "does not fit"),
            (Some("V2"), "does not fit"),
            (Some("${stable}"), "does not fit"),
            (Some(""), "does not fit"),
        ] {
            let refused = known(name, VERSION, "announce with a version").unwrap_err().to_string();
            assert!(refused.contains(expected), "{name:?}: {refused}");
        }
    }
}
