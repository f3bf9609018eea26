//! What is to be written next, so that the controller brings the weight that is wanted. Pure.
//!
//! ```text
//!   wanted        what is written to /status                      done when
//!   0 %           abort: true                                     aborted, no traffic left
//!     promoted    /spec/template back, then promoteFull: true     the former version is stable again
//!   a setWeight   currentStepIndex: its step, pauseConditions     the controller stands there with this weight
//!   100 %         promoteFull: true (blue/green: pauseConditions  the version is the stable one
//!                 away)                                           (blue/green: has the active Service)
//! ```
//!
//! First of all our marks: annotations of the object, tested like everything that is written after them. A patch of `/status`
//! cannot write annotations (the API server drops them), but it can test them, so a former owner's is refused all the same.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_rollout::{Fence, Weight};

use super::rollout::Rollout;
use crate::kubernetes::decide::{forbid_rise_after_abort, writing};
use crate::kubernetes::marks::{Marks, annotate, guards};
use crate::kubernetes::object::Place;
use crate::kubernetes::patch::{add, path, remove, test};
use crate::{Observed, TargetError, Wanted};

#[derive(Debug)]
pub(super) enum Next {
    /// It is as wanted.
    Stands(Observed),
    /// The controller's move; in words.
    Wait(String),
    /// A patch of the object: our marks.
    Mark(Vec<PatchOperation>),
    /// A patch of its status.
    Steer(Vec<PatchOperation>),
    /// The template of this version's ReplicaSet back.
    Undo(String),
}

/// Which versions a rollout of ours is about: pod template hashes, kept on the object from its first write to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Versions {
    pub stable: String,
    pub canary: String,
    /// The write that may take an abort back, which stood there before it or was our own. Somebody else's is not ours to undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_retry: Option<Fence>,
}

impl Versions {
    fn found(rollout: &Rollout) -> Versions {
        let (stable, current) = (rollout.status.stable_rs.clone(), &rollout.status.current_pod_hash);
        let canary = if rollout.is_under_way() { current.clone() } else { String::new() };
        Versions { stable, canary, may_retry: None }
    }

    fn kept(marks: &Marks) -> Option<Versions> {
        serde_json::from_value(marks.original.clone()?).ok()
    }

    /// For whoever only looks: those that are kept, unless that rollout's version has long been promoted and another one is
    /// on its way.
    fn seen(marks: &Marks, rollout: &Rollout) -> Versions {
        let over = |kept: &Versions| {
            let current = &rollout.status.current_pod_hash;
            kept.canary == rollout.status.stable_rs && ![&kept.canary, &kept.stable].contains(&current)
        };
        Versions::kept(marks).filter(|kept| !over(kept)).unwrap_or_else(|| Versions::found(rollout))
    }
}

pub(super) fn observed(rollout: &Rollout, object: &DynamicObject) -> Observed {
    let marks = Marks::of(object);
    let canary = rollout.share_of(&Versions::seen(&marks, rollout).canary);
    Observed { canary, written: rollout.written(), fence: marks.fence, abort: marks.abort }
}

pub(super) fn next(place: &Place, object: &DynamicObject, wanted: &Wanted) -> Result<Next, TargetError> {
    let rollout = Rollout::of(place, object)?;
    let marks = Marks::of(object);
    let repeated = marks.are_of(wanted) && (wanted.abort.is_none() || marks.abort.is_some());
    if let Some(found) = marks.fence
        && (found > wanted.fence || (found == wanted.fence && !repeated))
    {
        return Err(TargetError::Fenced { found, ours: wanted.fence });
    }
    forbid_rise_after_abort(place, &marks, wanted)?;
    match Versions::kept(&marks).filter(|_| repeated) {
        Some(versions) => Steering { place, object, rollout: &rollout, versions, wanted }.next(),
        None => Ok(Next::Mark(mark(object, &rollout, &marks, wanted))),
    }
}

/// Fence, weight, the abort's reason, and which versions are meant. An abort also takes a pause of the whole Rollout away:
/// while `spec.paused` stands, the controller scales and switches nothing.
fn mark(object: &DynamicObject, rollout: &Rollout, marks: &Marks, wanted: &Wanted) -> Vec<PatchOperation> {
    let before = marks.wanted.as_ref().filter(|(by, _)| *by == wanted.rollout.to_string());
    let kept = Versions::kept(marks).filter(|_| before.is_some());
    let shut_by_us = before.is_none_or(|(_, weight)| weight.is_zero());
    let may_retry = (rollout.status.abort && shut_by_us).then_some(wanted.fence);
    let versions = Versions { may_retry, ..kept.unwrap_or_else(|| Versions::found(rollout)) };
    let versions = serde_json::to_value(versions).unwrap_or_default();
    let mut operations = guards(object);
    if wanted.abort.is_some() && rollout.spec.paused {
        operations.push(add(path(["spec", "paused"]), false));
    }
    operations.extend(annotate(object, &writing(marks, wanted, Some(versions))));
    operations
}

struct Steering<'a> {
    place: &'a Place,
    object: &'a DynamicObject,
    rollout: &'a Rollout,
    versions: Versions,
    wanted: &'a Wanted,
}

impl Steering<'_> {
    fn next(self) -> Result<Next, TargetError> {
        let wanted = self.wanted.weight;
        if wanted.is_zero() {
            Ok(self.shut())
        } else if wanted == Weight::FULL {
            self.open_fully()
        } else {
            self.open(wanted)
        }
    }

    fn share(&self) -> Weight {
        self.rollout.share_of(&self.versions.canary)
    }

    fn is_current(&self) -> bool {
        self.versions.canary == self.rollout.status.current_pod_hash
    }

    fn is_promoted(&self) -> bool {
        self.versions.canary == self.rollout.status.stable_rs
    }

    fn stands(&self) -> Next {
        Next::Stands(Observed { canary: self.share(), ..observed(self.rollout, self.object) })
    }

    fn wait(&self, for_what: &str) -> Next {
        let status = self.rollout.written();
        Next::Wait(format!("{}: {for_what} ({status}; see: {})", self.place.title(), self.place.show()))
    }

    fn shut(&self) -> Next {
        let status = &self.rollout.status;
        if self.versions.canary.is_empty() || !(self.is_current() || self.is_promoted()) {
            return self.stands();
        }
        if self.is_promoted() {
            return self.undo();
        }
        if !status.abort || status.promote_full {
            return self.steer([("abort", true.into()), ("promoteFull", false.into())]);
        }
        if self.share().is_zero() {
            self.stands()
        } else {
            self.wait("the controller has not taken the traffic away yet")
        }
    }

    /// The version is the stable one already: the former template, and the controller is told to skip its steps.
    fn undo(&self) -> Next {
        let status = &self.rollout.status;
        if !self.rollout.is_observed(self.object) {
            return self.wait("the controller has not seen the former template yet");
        }
        if self.is_current() {
            return Next::Undo(self.versions.stable.clone());
        }
        if status.current_pod_hash != self.versions.stable {
            return self.wait(
                "another template than the former one has been written; the controller rolls that out",
            );
        }
        if status.promote_full {
            return self.wait("the controller brings the former version back");
        }
        self.steer([("promoteFull", true.into())])
    }

    fn open(&self, weight: Weight) -> Result<Next, TargetError> {
        self.check_ours()?;
        let status = &self.rollout.status;
        let Some(hold) = self.rollout.hold_of(weight) else {
            let why = format!(
                "{weight} has no setWeight with a pause: {{}} behind it any more; put it back, or abort"
            );
            return Err(self.place.unfit("spec.strategy.canary.steps", why));
        };
        let Some(index) = status.current_step_index else {
            return Ok(self.wait("the controller has not begun yet"));
        };
        if !status.abort && !status.promote_full && hold.has(index) {
            let there = self.share() == weight;
            return Ok(if there {
                self.stands()
            } else {
                self.wait("the controller brings the pods for it")
            });
        }
        Ok(self.steer([
            ("abort", false.into()),
            ("promoteFull", false.into()),
            ("pauseConditions", Value::Null),
            ("currentStepIndex", hold.from.into()),
        ]))
    }

    fn open_fully(&self) -> Result<Next, TargetError> {
        if self.share() == Weight::FULL {
            return Ok(self.stands());
        }
        self.check_ours()?;
        let status = &self.rollout.status;
        if self.rollout.spec.strategy.blue_green.is_none() {
            return Ok(if status.promote_full {
                self.wait("the controller promotes it")
            } else {
                self.steer([("abort", false.into()), ("promoteFull", true.into())])
            });
        }
        if status.abort {
            return Ok(self.steer([("abort", false.into())]));
        }
        Ok(if self.rollout.waits() {
            self.steer([("pauseConditions", Value::Null)])
        } else if status.controller_pause {
            self.wait("the controller switches the active Service")
        } else {
            self.wait("the controller brings the pods of the preview")
        })
    }

    /// Opening further is for the version that this rollout began with, as long as nobody has stopped it.
    fn check_ours(&self) -> Result<(), TargetError> {
        let refuse = |field: &str, why: &str| Err(self.place.unfit(field, why));
        if self.is_promoted() {
            return refuse("status.stableRS", "somebody else has promoted this version");
        }
        if !self.is_current() {
            return refuse(
                "spec.template",
                "it was changed since this rollout began; announce it as a release of its own",
            );
        }
        let status = &self.rollout.status;
        if status.abort && self.versions.may_retry != Some(self.wanted.fence) {
            return refuse("status.abort", "somebody else has aborted it");
        }
        Ok(())
    }

    /// Only what differs, tested to be of the version that is meant, and as it was read.
    fn steer<const N: usize>(&self, fields: [(&str, Value); N]) -> Next {
        let status = &self.object.data["status"];
        let at = |field: &str| path(["status", field]);
        let differs = |(field, value): &(&str, Value)| {
            status[*field] != *value && !(status[*field].is_null() && *value == false)
        };
        let changed: Vec<(&str, Value)> = fields.into_iter().filter(differs).collect();
        let mut operations = guards(self.object);
        operations.push(test(at("currentPodHash"), status["currentPodHash"].clone()));
        operations.extend(changed.iter().map(|(field, _)| test(at(field), status[*field].clone())));
        operations.extend(changed.into_iter().map(|(field, value)| match value {
            Value::Null => remove(at(field)),
            value => add(at(field), value),
        }));
        Next::Steer(operations)
    }
}
