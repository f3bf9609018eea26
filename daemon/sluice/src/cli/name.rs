//! Names of rollouts as people type them: `checkout`, `shop/checkout`, `shop/checkout@attempt`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sluice_rollout::{IdError, RolloutId};
use sluice_wire::subject::ALL;

use super::Global;

/// Not yet resolved: the namespace may come from `-n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutName {
    pub namespace: Option<String>,
    pub name: String,
    pub attempt: Option<String>,
}

/// Which rollout is meant; namespace and name may be `_all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    pub namespace: String,
    pub name: String,
    pub attempt: Option<String>,
}

/// `team=payments,tier=1`: rollouts whose policy has all of these labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(pub BTreeMap<String, String>);

impl FromStr for RolloutName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (path, attempt) =
            text.split_once('@').map_or((text, None), |(path, attempt)| (path, Some(attempt)));
        let (namespace, name) =
            path.split_once('/').map_or((None, path), |(space, name)| (Some(space), name));
        RolloutId::new(namespace.unwrap_or("default"), name, attempt.unwrap_or("any"))?;
        let owned = |text: &str| text.to_owned();
        Ok(RolloutName { namespace: namespace.map(owned), name: owned(name), attempt: attempt.map(owned) })
    }
}

impl RolloutName {
    pub fn aim(&self, global: &Global) -> Aim {
        Aim {
            namespace: self.namespace.clone().unwrap_or_else(|| global.namespace().to_owned()),
            name: self.name.clone(),
            attempt: self.attempt.clone(),
        }
    }
}

impl Aim {
    /// All rollouts, of one namespace or of all.
    pub fn all(namespace: Option<&str>) -> Aim {
        Aim { namespace: namespace.unwrap_or(ALL).to_owned(), name: ALL.to_owned(), attempt: None }
    }

    pub fn of(id: &RolloutId) -> Aim {
        Aim {
            namespace: id.namespace().to_owned(),
            name: id.name().to_owned(),
            attempt: Some(id.attempt().to_owned()),
        }
    }

    /// Whether a rollout is the one that is meant.
    pub fn means(&self, id: &RolloutId) -> bool {
        id.namespace() == self.namespace
            && id.name() == self.name
            && self.attempt.as_deref().is_none_or(|attempt| attempt == id.attempt())
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.attempt.as_ref().map_or(Ok(()), |attempt| write!(f, "@{attempt}"))
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            Some(_) | None => {
                Err(format!("{part:?} is no label: write key=value, several separated by commas"))
            }
        };
        text.split(',').map(pair).collect::<Result<_, _>>().map(Selector)
    }
}
