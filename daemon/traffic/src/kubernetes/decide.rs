//! What a write comes to, given the object as it stands. Pure.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;

use super::marks::{self, ABORT, FENCE, Marks, ORIGINAL, WANTED, annotate, guards, same_generation};
use super::object::{Change, Place};
use super::{Kind, observed};
use crate::{Observed, TargetError, Wanted};

#[derive(Debug)]
pub(crate) enum Decision {
    /// This very write is in place already.
    Stands(Observed),
    Write(Vec<PatchOperation>),
}

pub(crate) fn decide<K: Kind>(
    kind: &K,
    place: &Place,
    object: &DynamicObject,
    wanted: &Wanted,
) -> Result<Decision, TargetError> {
    let marks = Marks::of(object);
    if let Some(found) = marks.fence {
        let repeated = marks.are_of(wanted);
        if found > wanted.fence || (found == wanted.fence && !repeated) {
            return Err(TargetError::Fenced { found, ours: wanted.fence });
        }
        if repeated && let Some(stands) = standing(kind, place, object, wanted) {
            return Ok(Decision::Stands(stands));
        }
    }
    forbid_rise_after_abort(place, &marks, wanted)?;
    let mut operations = guards(object);
    operations.extend(wanted.rising.then(|| same_generation(object)).flatten());
    operations.extend(kind.write(place, object, wanted.weight)?);
    let testers = kind.testers(place, object, wanted.abort.is_none())?;
    operations.extend(testers.operations);
    let original = marks.original.is_none().then(|| kind.original(place, object)).flatten();
    let annotations = [writing(&marks, wanted, original), testers.annotations].concat();
    operations.extend(annotate(object, &annotations));
    Ok(Decision::Write(operations))
}

/// What stands there, if it is what is wanted.
fn standing<K: Kind>(kind: &K, place: &Place, object: &DynamicObject, wanted: &Wanted) -> Option<Observed> {
    let stands = observed(kind, place, object).ok()?;
    let marked = wanted.abort.is_none() || stands.abort.is_some();
    (stands.canary == wanted.weight && marked).then_some(stands)
}

/// The target keeps an abort's decision, also when the one who writes now has not heard of it.
pub(crate) fn forbid_rise_after_abort(
    place: &Place,
    marks: &Marks,
    wanted: &Wanted,
) -> Result<(), TargetError> {
    match &marks.abort {
        Some(mark) if wanted.rising && mark.rollout == wanted.rollout.to_string() => {
            Err(TargetError::Refused(format!(
                "{}: {} was aborted ({}), so its weight does not rise again (see: {})",
                place.title(),
                mark.rollout,
                mark.reason,
                place.show()
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Our marks for a write; `original` is remembered if it is given.
pub(crate) fn writing(
    marks: &Marks,
    wanted: &Wanted,
    original: Option<Value>,
) -> Vec<(&'static str, Option<String>)> {
    let mut changes =
        vec![(FENCE, Some(wanted.fence.to_string())), (WANTED, Some(marks::wanted_text(wanted)))];
    match (&wanted.abort, &marks.abort) {
        (Some(reason), _) => changes.push((ABORT, Some(marks::abort_text(wanted, reason)))),
        (None, Some(mark)) if mark.rollout != wanted.rollout.to_string() => changes.push((ABORT, None)),
        (None, _) => {}
    }
    changes.extend(original.map(|original| (ORIGINAL, Some(original.to_string()))));
    changes
}

/// Takes our marks away, all but the fence.
pub(crate) fn releasing<K: Kind>(kind: &K, place: &Place, object: &DynamicObject) -> Change {
    let original = Marks::of(object).original;
    let numbers = original.map(|original| kind.put_back(place, object, &original)).unwrap_or_default();
    // What cannot be read any more cannot be put right either.
    let testers = kind.testers(place, object, false).unwrap_or_default();
    let marks = vec![(WANTED, None), (ABORT, None), (ORIGINAL, None)];
    Change {
        operations: [numbers, testers.operations].concat(),
        annotations: [marks, testers.annotations].concat(),
    }
}

/// After a 422. If everything that the patch tested is as it was, the refusal was not about a test.
pub(crate) fn after_refusal(
    place: &Place,
    base: &DynamicObject,
    fresh: &DynamicObject,
    operations: &[PatchOperation],
    words: &str,
) -> Result<(), TargetError> {
    let (before, now) = (as_json(base), as_json(fresh));
    let tested = operations.iter().filter_map(|operation| match operation {
        PatchOperation::Test(test) => Some(&test.path),
        _ => None,
    });
    let mut changed = tested.filter(|path| value_at(&before, path) != value_at(&now, path));
    match changed.next() {
        Some(_) => Ok(()),
        None => Err(TargetError::Refused(format!("{}: {words} (see: {})", place.title(), place.show()))),
    }
}

pub(crate) fn as_json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn value_at<'a>(document: &'a Value, path: &json_patch::jsonptr::PointerBuf) -> &'a Value {
    document.pointer(path.as_str()).unwrap_or(&Value::Null)
}
