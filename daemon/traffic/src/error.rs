//! The one error of targets and workloads. Its kinds say what can be done about it.

use std::time::Duration;

use sluice_rollout::{Fence, Weight};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// Names the object, the field and the `kubectl` line that would show it.
    #[error("{0}")]
    NotAsNeeded(String),
    #[error("refused: {0}")]
    Refused(String),
    /// A later owner or a later effect has written: read the record again.
    #[error("fenced off: {found} stands there, {ours} is ours")]
    Fenced { found: Fence, ours: Fence },
    /// The object changed under us; observe and try again.
    #[error("changed meanwhile: {0}")]
    Changed(String),
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Asked for, and somebody else (a controller) has to carry it out.
    #[error("not in effect yet: {0}")]
    Pending(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{asked} is finer than this target can express; the finest is {finest}")]
    TooFine { asked: Weight, finest: String },
}

/// What is wrong with a target's own block of the policy, whatever stands outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Unfit {
    /// `spec.target.webhook.url`
    pub field: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Unfit {
    /// `field` below `spec.target`.
    pub(crate) fn new(field: &str, why: impl Into<String>) -> Unfit {
        Unfit { field: format!("spec.target.{field}"), why: why.into() }
    }
}

impl From<Unfit> for TargetError {
    fn from(unfit: Unfit) -> TargetError {
        TargetError::NotAsNeeded(unfit.to_string())
    }
}

impl TargetError {
    /// Whether trying the same again can help.
    pub fn retryable(&self) -> bool {
        match self {
            TargetError::Changed(_)
            | TargetError::Unreachable(_)
            | TargetError::Pending(_)
            | TargetError::Timeout(_) => true,
            TargetError::NotAsNeeded(_)
            | TargetError::Refused(_)
            | TargetError::Fenced { .. }
            | TargetError::TooFine { .. } => false,
        }
    }
}

/// An error with its sources: the outer ones alone say little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let inner = source.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        next = source.source();
    }
    text
}
