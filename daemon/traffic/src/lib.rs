//! Traffic targets and workloads: one file each, all alike. Adding one touches its file and the list in `target.rs` (or
//! `workload/mod.rs`).
//!
//! ```text
//!   connect ──▶ dyn Target      kubernetes/{routers/*,selector}  replicas  argo  haproxy  webhook  in_place
//!   connect_workloads ──▶ dyn Workloads      workload/{deployment,external}, endpoints
//!   cluster      policies that stand in the cluster, their status and events
//!   job          a Job of the policy's image, run to its end
//!   openshift    a Route's weights for people, and what its endpoints make of them
//!   Clients      kube and HTTP clients that they share
//! ```
//!
//! What holds for all: a write changes two weights and our own marks, nothing else; it says what it was read back as; a fence
//! that is not later than the one found is refused; every call ends in time; nothing here decides how often to try.

mod argo;
mod clients;
pub mod cluster;
mod error;
mod haproxy;
mod in_place;
pub mod job;
mod kubernetes;
pub mod openshift;
mod poll;
mod replicas;
mod share;
mod target;
mod turns;
mod watches;
mod webhook;
mod workload;

pub use clients::Clients;
pub use error::{TargetError, Unfit};
pub use target::{check, connect, fewest_stable_pods, written};
pub use workload::{History, Revision, connect_history, connect_workloads};

use async_trait::async_trait;
use futures::stream::BoxStream;
use sluice_rollout::{Fence, RolloutId, Weight};

/// The target as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The canary's share.
    pub canary: Weight,
    /// The weights as the object has them, for people: `5/95`.
    pub written: String,
    pub fence: Option<Fence>,
    /// Our annotation on an aborted target: rollout and reason.
    pub abort: Option<AbortMark>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AbortMark {
    pub rollout: String,
    pub reason: String,
}

/// What is to stand there.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub rollout: RolloutId,
    pub weight: Weight,
    /// What this write is numbered; the target refuses it if a higher one stands there.
    pub fence: Fence,
    /// With weight 0 on an abort: the reason, kept in our annotation on the target.
    pub abort: Option<String>,
    /// Going up, an object changed since `observe` is refused; going down nothing stands in the way.
    pub rising: bool,
}

/// What carries the traffic. Every call ends within its own time limit.
#[async_trait]
pub trait Target: Send + Sync + std::fmt::Debug {
    /// For people and metrics: `httproute shop/checkout`.
    fn name(&self) -> String;
    /// Identifies the object: one rollout per target object.
    fn key(&self) -> String;
    /// Refuses a weight that the target cannot express, with the finest that it can.
    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError>;
    /// The weights around one that it cannot express as it stands, lower first; empty where it expresses all alike, or where
    /// that is not known.
    async fn nearest(&self, _weight: Weight) -> Result<Vec<Weight>, TargetError> {
        Ok(Vec::new())
    }
    async fn observe(&self) -> Result<Observed, TargetError>;
    /// What of the object, as it was read last, makes requests go otherwise than the weights say; for people.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// What the versions' pods are labelled with, stable's first, where the target names them anew with each release.
    async fn versions(&self) -> Result<Option<[String; 2]>, TargetError> {
        Ok(None)
    }
    /// Writes the two weights, our annotations and nothing else; the answer is what was read back.
    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError>;
    /// Takes our marks away (all but the fence) and restores what weights alone do not say.
    async fn release(&self, fence: Fence) -> Result<Observed, TargetError>;
    /// Every state that the target takes from now on, whoever caused it; errors while it cannot be seen. Endless.
    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>>;
}

/// Replicas as the cluster reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    pub wanted: u32,
    pub available: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    pub stable: Size,
    pub canary: Size,
}

/// What stood there before the rollout, kept in the record so that any owner can put it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct AtStart {
    pub stable: u32,
    pub canary: u32,
    /// The autoscaler's own minimum, if stable has one.
    pub stable_min: Option<u32>,
}

/// How both versions are run. Every wish can be repeated without harm.
#[async_trait]
pub trait Workloads: Send + Sync + std::fmt::Debug {
    fn name(&self) -> String;
    /// Refuses what cannot work (a missing Deployment, promotion by copy under GitOps, …), saying what to do.
    async fn check(&self) -> Result<(), TargetError>;
    /// Sizes at the start, remembered on the objects too (annotation), so that a second call answers alike. `after`: the
    /// attempt whose raised sizes this one took over; what stood there before that one counts.
    async fn at_start(
        &self,
        rollout: &RolloutId,
        after: Option<&RolloutId>,
        fence: Fence,
    ) -> Result<AtStart, TargetError>;
    async fn observe(&self) -> Result<Sizes, TargetError>;
    /// Raises the fence on everything that is written here, and changes nothing else: what a former owner has under way is
    /// refused from then on.
    async fn take_over(&self, fence: Fence) -> Result<(), TargetError>;
    /// At least so many canary pods; an autoscaler's higher number stays.
    async fn raise_canary(&self, at_least: u32, fence: Fence) -> Result<(), TargetError>;
    /// Stable's floor: its autoscaler's minimum, or its replicas.
    async fn hold_stable(&self, floor: u32, fence: Fence) -> Result<(), TargetError>;
    /// Stable's floor is let go: what stood there before (`at_start`).
    async fn release_stable(&self, start: AtStart, fence: Fence) -> Result<(), TargetError>;
    async fn set_canary(&self, replicas: u32, fence: Fence) -> Result<(), TargetError>;
    async fn set_stable(&self, replicas: u32, fence: Fence) -> Result<(), TargetError>;
    /// Stable has no pod; ends when none is left, ending ones included. Cancel-safe.
    async fn empty_stable(&self, fence: Fence) -> Result<(), TargetError>;
    /// One pod of the new template for an emptied stable; ends when it is available. Cancel-safe.
    async fn promote_first(&self, fence: Fence) -> Result<(), TargetError>;
    /// Asks for the policy's promotion; ends when the new stable's pods are available, an emptied one's at its size of
    /// the start. Cancel-safe.
    async fn promote(&self, start: AtStart, fence: Fence) -> Result<(), TargetError>;
    /// Puts stable's template back from its saved revision, and its size; ends when its pods are available. Cancel-safe.
    async fn restore(&self, start: AtStart, fence: Fence) -> Result<(), TargetError>;
    /// Sizes on every change. Endless.
    fn watch(&self) -> BoxStream<'static, Result<Sizes, TargetError>>;
    /// The canary's ready endpoints on every change (EndpointSlices); `None`: cannot be known here. Endless.
    fn canary_endpoints(&self) -> Option<BoxStream<'static, Result<u32, TargetError>>>;
}
