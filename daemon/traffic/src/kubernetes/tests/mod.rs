//! Objects in, patches out. No server: the patch is applied here as the API server applies it.

mod fences;
mod httproute;
mod route;
mod routers;
mod selector;
mod testers;
mod virtualservice;

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_rollout::{Fence, RolloutId, Weight};

use super::decide::{Decision, as_json, decide, releasing};
use super::object::Place;
use super::{Kind, observed};
use crate::{Observed, TargetError, Wanted};

/// A target without a server.
pub struct Bench<K> {
    pub kind: K,
    pub object: DynamicObject,
}

impl<K: Kind> Bench<K> {
    pub fn new(kind: K, object: Value) -> Self {
        Bench { kind, object: serde_json::from_value(object).unwrap() }
    }

    pub fn json(&self) -> Value {
        as_json(&self.object)
    }

    /// Decides and writes, and gives what was read back.
    pub fn apply(&mut self, wanted: &Wanted) -> Result<Observed, TargetError> {
        match decide(&self.kind, &place(), &self.object, wanted)? {
            Decision::Stands(observed) => return Ok(observed),
            Decision::Write(operations) => self.patch(&operations),
        }
        self.observe()
    }

    pub fn set(&mut self, percent: f64, fence: &str) -> Result<Observed, TargetError> {
        self.apply(&wanted(percent, fence))
    }

    pub fn release(&mut self) {
        let change = releasing(&self.kind, &place(), &self.object);
        let marks = super::marks::annotate(&self.object, &change.annotations);
        self.patch(&[change.operations, marks].concat());
    }

    pub fn observe(&self) -> Result<Observed, TargetError> {
        observed(&self.kind, &place(), &self.object)
    }

    pub fn check(&self, percent: f64) -> Result<(), TargetError> {
        self.kind.check(&place(), &self.object, weight(percent))
    }

    /// What a write to this weight would send.
    pub fn operations(&self, wanted: &Wanted) -> Vec<PatchOperation> {
        match decide(&self.kind, &place(), &self.object, wanted).unwrap() {
            Decision::Write(operations) => operations,
            Decision::Stands(_) => Vec::new(),
        }
    }

    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut json = self.json();
        edit(&mut json);
        self.object = serde_json::from_value(json).unwrap();
    }

    fn patch(&mut self, operations: &[PatchOperation]) {
        let operations = operations.to_vec();
        self.edit(|json| {
            // The API server passes a test for null where nothing is; this library does not know that.
            let is_null_test = |operation: &PatchOperation| matches!(operation, PatchOperation::Test(test) if test.value.is_null());
            for absent in operations.iter().filter(|operation| is_null_test(operation)) {
                assert_eq!(json.pointer(absent.path().as_str()), None, "a test for null fails at {}", absent.path());
            }
            let rest: Vec<PatchOperation> = operations.iter().filter(|operation| !is_null_test(operation)).cloned().collect();
            json_patch::patch(json, &rest).unwrap();
        });
    }
}

/// The object without our annotations.
pub fn without_marks(mut json: Value) -> Value {
    if let Some(annotations) = json.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !name.starts_with("sluice.dev/"));
        if annotations.is_empty() {
            json["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    json
}

/// Sets values by pointer, to say what is expected to be the only difference.
pub fn with(mut json: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    json
}

pub fn wanted(percent: f64, fence: &str) -> Wanted {
    Wanted {
        rollout: RolloutId::new("shop", "checkout", "v2").unwrap(),
        weight: weight(percent),
        fence: fence.parse().unwrap(),
        abort: None,
        rising: percent > 0.0,
    }
}

pub fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

pub fn fence(text: &str) -> Fence {
    text.parse().unwrap()
}

pub fn place() -> Place {
    Place { short: "httproute", kubectl: "httproute", namespace: "shop".into(), name: "checkout".into() }
}

pub fn metadata() -> Value {
    json!({"name": "checkout", "namespace": "shop", "uid": "u-1", "generation": 4, "labels": {"team": "shop"}})
}
