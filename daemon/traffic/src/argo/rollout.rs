//! A Rollout as Argo's controller tells of it: its steps, where it stands in them, and which version has which traffic. Pure.
//!
//! Versions are pod template hashes: `status.currentPodHash` is the one of `spec.template`, `status.stableRS` the one that was
//! promoted last. Source: the API types of Argo Rollouts 1.10, `pkg/apis/rollouts/v1alpha1/types.go`.

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::{Map, Value};
use sluice_rollout::Weight;

use crate::TargetError;
use crate::kubernetes::object::Place;

/// The pause of a canary's step, and the one before blue becomes green.
const PAUSES: [&str; 2] = ["CanaryPauseStep", "BlueGreenPause"];

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rollout {
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub paused: bool,
    pub strategy: Strategy,
    pub workload_ref: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Strategy {
    pub canary: Option<Canary>,
    pub blue_green: Option<BlueGreen>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Canary {
    pub stable_service: String,
    pub canary_service: String,
    pub steps: Vec<Step>,
    pub traffic_routing: Option<TrafficRouting>,
    pub dynamic_stable_scale: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TrafficRouting {
    pub max_traffic_weight: Option<u32>,
}

/// Exactly one kind; those without a field of their own stand in `other`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Step {
    pub set_weight: Option<u32>,
    pub pause: Option<Pause>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pause {
    pub duration: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BlueGreen {
    pub active_service: String,
    pub preview_service: String,
    pub auto_promotion_enabled: Option<bool>,
    pub auto_promotion_seconds: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub current_pod_hash: String,
    #[serde(rename = "stableRS")]
    pub stable_rs: String,
    pub current_step_index: Option<usize>,
    pub pause_conditions: Vec<PauseCondition>,
    pub controller_pause: bool,
    /// Begins with `InvalidSpec` where the controller refuses the Rollout.
    pub message: String,
    pub abort: bool,
    pub promote_full: bool,
    /// A number, as text.
    pub observed_generation: String,
    pub replicas: u32,
    pub updated_replicas: u32,
    pub canary: CanaryStatus,
    pub blue_green: BlueGreenStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PauseCondition {
    pub reason: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CanaryStatus {
    pub weights: Option<Weights>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Weights {
    pub canary: Destination,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Destination {
    pub weight: u32,
    pub pod_template_hash: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BlueGreenStatus {
    pub active_selector: String,
}

/// Steps at which the controller waits with one weight: from the one that sets it to the last pause behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub weight: Weight,
    pub from: usize,
    pub to: usize,
}

impl Hold {
    pub fn has(&self, index: usize) -> bool {
        (self.from..=self.to).contains(&index)
    }
}

impl Rollout {
    pub fn of(place: &Place, object: &DynamicObject) -> Result<Rollout, TargetError> {
        serde_json::from_value(object.data.clone()).map_err(|error| {
            place.unfit("spec or status", format!("not as Argo Rollouts 1.x has it: {error}"))
        })
    }

    /// The controller has seen what its owner wants now.
    pub fn is_observed(&self, object: &DynamicObject) -> bool {
        let seen = self.status.observed_generation.parse().ok();
        object.metadata.generation.is_none_or(|generation| seen == Some(generation))
    }

    /// A version that is not the stable one is being rolled out.
    pub fn is_under_way(&self) -> bool {
        !self.status.stable_rs.is_empty() && self.status.current_pod_hash != self.status.stable_rs
    }

    /// The controller waits for somebody to say `promote`.
    pub fn waits(&self) -> bool {
        self.status.pause_conditions.iter().any(|condition| PAUSES.contains(&condition.reason.as_str()))
    }

    /// All the traffic that pods of this template get. Of several versions on the move only two have any: the stable one and
    /// the one of `spec.template`.
    pub fn share_of(&self, hash: &str) -> Weight {
        if hash.is_empty() {
            return Weight::ZERO;
        }
        let (current, stable) = (&self.status.current_pod_hash, &self.status.stable_rs);
        if self.spec.strategy.blue_green.is_some() {
            let active = self.status.blue_green.active_selector == hash;
            return if active { Weight::FULL } else { Weight::ZERO };
        }
        match (hash == current, hash == stable) {
            (true, true) => Weight::FULL,
            (true, false) => self.canary_share(),
            (false, true) => self.canary_share().rest(),
            (false, false) => Weight::ZERO,
        }
    }

    /// What `spec.template` gets while it is not stable: never all, since it is promoted only with the controller's last word.
    fn canary_share(&self) -> Weight {
        let routed =
            self.spec.strategy.canary.as_ref().is_some_and(|canary| canary.traffic_routing.is_some());
        let hundredths = if routed {
            let weights = self.status.canary.weights.as_ref().map(|weights| &weights.canary);
            let ours = weights.filter(|canary| canary.pod_template_hash == self.status.current_pod_hash);
            ours.map_or(0, |canary| self.weight(canary.weight).hundredths())
        } else if self.waits() {
            self.held().map_or(0, |hold| hold.weight.hundredths())
        } else {
            // Without a router a version's share is that of its pods.
            let share = u64::from(self.status.updated_replicas) * 10_000;
            share
                .checked_div(self.status.replicas.into())
                .and_then(|share| u32::try_from(share).ok())
                .unwrap_or(0)
        };
        Weight::from_hundredths(hundredths.min(9_999)).unwrap_or_default()
    }

    /// `setWeight` as a share: of 100, or of the router's own largest weight.
    fn weight(&self, written: u32) -> Weight {
        let routing = self.spec.strategy.canary.as_ref().and_then(|canary| canary.traffic_routing.as_ref());
        let most = routing.and_then(|routing| routing.max_traffic_weight).unwrap_or(100).max(1);
        let hundredths = u64::from(written) * 10_000 / u64::from(most);
        Weight::from_hundredths(u32::try_from(hundredths).unwrap_or(10_000).min(10_000))
            .unwrap_or(Weight::FULL)
    }

    /// Where it stands among its holds.
    pub fn held(&self) -> Option<Hold> {
        let index = self.status.current_step_index?;
        self.holds().into_iter().find(|hold| hold.has(index))
    }

    pub fn hold_of(&self, weight: Weight) -> Option<Hold> {
        self.holds().into_iter().find(|hold| hold.weight == weight)
    }

    /// The weights at which the controller waits for somebody, in order.
    pub fn holds(&self) -> Vec<Hold> {
        let mut holds: Vec<Hold> = Vec::new();
        let (mut weight, mut from) = (Weight::ZERO, 0);
        for (index, step) in self.steps().iter().enumerate() {
            if let Some(written) = step.set_weight {
                (weight, from) = (self.weight(written), index);
            }
            if step.pause.as_ref().is_some_and(|pause| pause.duration.is_none()) {
                match holds.last_mut().filter(|last| last.from == from && last.weight == weight) {
                    Some(last) => last.to = index,
                    None => holds.push(Hold { weight, from, to: index }),
                }
            }
        }
        holds
    }

    pub fn steps(&self) -> &[Step] {
        self.spec.strategy.canary.as_ref().map_or(&[], |canary| &canary.steps)
    }

    /// For people: `30 % at step 2 of 4, paused`.
    pub fn written(&self) -> String {
        let status = &self.status;
        if !self.is_under_way() {
            return "no version beside the stable one".to_owned();
        }
        let what = match (status.abort, self.waits()) {
            (true, _) => ", aborted",
            (false, true) => ", paused",
            (false, false) => "",
        };
        match status.current_step_index {
            Some(index) => format!("{} at step {index} of {}{what}", self.canary_share(), self.steps().len()),
            None => format!("{}{what}", self.share_of(&status.current_pod_hash)),
        }
    }
}
