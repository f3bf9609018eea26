//! Names that can be trusted once they exist.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One attempt to move one target from the stable version to a new one: the policy's namespace and name, and the attempt.
/// Written `namespace/name@attempt`. All three follow the rules of Kubernetes names (lower case, digits, `-`, `.`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolloutId {
    namespace: String,
    name: String,
    attempt: String,
}

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error(
        "{what} {given:?} is no name: use lower-case letters, digits, '-' and '.', 1 to 253 of them, beginning and ending with a letter or digit"
    )]
    Name { what: &'static str, given: String },
    #[error("{0:?} is no rollout id: write namespace/name@attempt")]
    Form(String),
}

impl RolloutId {
    pub fn new(namespace: &str, name: &str, attempt: &str) -> Result<Self, IdError> {
        Ok(RolloutId {
            namespace: checked("namespace", namespace)?,
            name: checked("rollout", name)?,
            attempt: checked("attempt", attempt)?,
        })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The policy's name, which is also the rollout's token in a bus subject.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn attempt(&self) -> &str {
        &self.attempt
    }
}

fn checked(what: &'static str, given: &str) -> Result<String, IdError> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fine = given.len() <= 253
        && given.chars().all(inner)
        && edge(given.chars().next())
        && edge(given.chars().next_back());
    if fine {
        Ok(given.to_owned())
    } else {
        Err(IdError::Name { what, given: given.chars().take(80).collect() })
    }
}

impl FromStr for RolloutId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let form = || IdError::Form(text.chars().take(80).collect());
        let (path, attempt) = text.split_once('@').ok_or_else(form)?;
        let (namespace, name) = path.split_once('/').ok_or_else(form)?;
        RolloutId::new(namespace, name, attempt)
    }
}

impl TryFrom<String> for RolloutId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<RolloutId> for String {
    fn from(id: RolloutId) -> String {
        id.to_string()
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.name, self.attempt)
    }
}

impl fmt::Debug for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which effect of a rollout: the revision of the state that asked for it, and a running number that never repeats.
/// Its completion event echoes it, so that a late answer to an overtaken effect is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    pub revision: u64,
    pub seq: u64,
}

/// What a target keeps to refuse a former owner: the ownership's epoch, then the effect's running number.
/// Written `epoch.seq`; ordered by epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    pub epoch: u64,
    pub seq: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Fence {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.split_once('.')
            .and_then(|(epoch, seq)| Some(Fence { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? }))
            .ok_or_else(|| IdError::Form(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = RolloutId::new("shop", "checkout", "v2-1").unwrap();
        assert_eq!(id.to_string(), "shop/checkout@v2-1");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn names_with_spaces_wildcards_or_capitals_are_refused() {
        for bad in ["", "a b", "a*", "a>", "Shop", "-a", "a-", "a/b", "a@b"] {
            assert!(RolloutId::new("shop", bad, "1").is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_later_owner_fences_off_every_number_of_a_former_one() {
        let former: Fence = "3.900".parse().unwrap();
        let later: Fence = "4.1".parse().unwrap();
        assert!(later > former);
    }
}
