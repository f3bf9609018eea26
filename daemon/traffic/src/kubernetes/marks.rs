//! Our annotations on an object: the fence, the abort's reason, what stood there before, and what is wanted. Pure.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::{Fence, Weight};

use super::patch::{add, path, remove, test};
use crate::{AbortMark, Wanted};

/// `<epoch>.<seq>` of the latest write. It outlives the rollout.
pub(crate) const FENCE: &str = "sluice.dev/fence";
/// `<rollout> <reason>` of an abort.
pub(crate) const ABORT: &str = "sluice.dev/abort";
/// What stood there before the rollout, as JSON.
pub(crate) const ORIGINAL: &str = "sluice.dev/original";
/// `<rollout> <weight in percent>` of the latest write: whose it is, and what it meant. With it a write that is repeated is told
/// from another one with the same fence, and integers that only come close to the weight read back as it.
pub(crate) const WANTED: &str = "sluice.dev/wanted";

/// Longer reasons are cut: all annotations of an object share 256 kB.
const MOST_REASON_CHARS: usize = 1_000;

/// Our marks as they stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Marks {
    pub fence: Option<Fence>,
    pub abort: Option<AbortMark>,
    pub original: Option<Value>,
    pub wanted: Option<(String, Weight)>,
}

impl Marks {
    /// A mark that cannot be read counts as none: nobody but us has business there.
    pub fn of(object: &DynamicObject) -> Marks {
        let text = |name: &str| annotation(object, name);
        Marks {
            fence: text(FENCE).and_then(|text| text.parse().ok()),
            abort: text(ABORT).and_then(|text| {
                let (rollout, reason) = text.split_once(' ')?;
                Some(AbortMark { rollout: rollout.into(), reason: reason.into() })
            }),
            original: text(ORIGINAL).and_then(|text| serde_json::from_str(text).ok()),
            wanted: text(WANTED).and_then(|text| {
                let (rollout, percent) = text.split_once(' ')?;
                Some((rollout.to_owned(), Weight::from_percent(percent.parse().ok()?).ok()?))
            }),
        }
    }

    /// The weight that the latest write meant.
    pub fn weight(&self) -> Option<Weight> {
        self.wanted.as_ref().map(|(_, weight)| *weight)
    }

    /// Whether this very write has been here before.
    pub fn are_of(&self, wanted: &Wanted) -> bool {
        let same = self.wanted.as_ref().is_some_and(|(rollout, weight)| {
            *rollout == wanted.rollout.to_string() && *weight == wanted.weight
        });
        same && self.fence == Some(wanted.fence)
    }
}

pub(crate) fn annotation<'a>(object: &'a DynamicObject, name: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The tests that every write begins with: the same object, and nobody has written with a fence since.
pub(crate) fn guards(object: &DynamicObject) -> Vec<PatchOperation> {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let mut guards = vec![test(path(["metadata", "uid"]), uid)];
    if object.metadata.annotations.is_some() {
        let found = annotation(object, FENCE).map_or(Value::Null, Value::from);
        guards.push(test(at(FENCE), found));
    } else {
        guards.push(test(path(["metadata", "annotations"]), Value::Null));
    }
    guards
}

/// The present generation: what the owner wants has not changed since.
pub(crate) fn same_generation(object: &DynamicObject) -> Option<PatchOperation> {
    object.metadata.generation.map(|generation| test(path(["metadata", "generation"]), generation))
}

/// Sets and takes away annotations; `None` takes away. Only what changes is written.
pub(crate) fn annotate(object: &DynamicObject, changes: &[(&str, Option<String>)]) -> Vec<PatchOperation> {
    let mut operations = Vec::new();
    if object.metadata.annotations.is_none() && changes.iter().any(|(_, value)| value.is_some()) {
        operations.push(add(path(["metadata", "annotations"]), Value::Object(serde_json::Map::new())));
    }
    operations.extend(changes.iter().filter_map(|(name, value)| match (annotation(object, name), value) {
        (found, Some(value)) if found == Some(value) => None,
        (_, Some(value)) => Some(add(at(name), value.clone())),
        (Some(_), None) => Some(remove(at(name))),
        (None, None) => None,
    }));
    operations
}

/// The abort's annotation: `<rollout> <reason>`.
pub(crate) fn abort_text(wanted: &Wanted, reason: &str) -> String {
    let reason: String = reason.chars().take(MOST_REASON_CHARS).collect();
    format!("{} {reason}", wanted.rollout)
}

pub(crate) fn wanted_text(wanted: &Wanted) -> String {
    format!("{} {}", wanted.rollout, wanted.weight.percent())
}

fn at(annotation: &str) -> json_patch::jsonptr::PointerBuf {
    path(["metadata", "annotations", annotation])
}
