//! Everything that is done outside: one closed list. An effect names a wanted result, never a call.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{DrainEnd, EffectId, GateId, Outcome, Role, Timestamp, Weight};

/// Effects keep their order within a lane; lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    Target,
    Workload,
    Telling,
    /// Reads, timers and questions: the latest one of a kind replaces the former.
    Watching,
}

/// How many pods a version is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replicas {
    /// At least this share of stable's size at the start (rounded up, at least 1).
    AtLeastShare(Weight),
    /// Stable's own size (or its autoscaler's minimum) at the start, held until the rollout is done.
    HeldAtStart,
    /// What stood there before the rollout.
    AsBefore,
    /// None, after this delay.
    ZeroAfter(Duration),
}

/// What is read from the metrics now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// Stable alone, before the canary has traffic.
    Baseline,
    /// Both versions, judged as step `step` (0-based; the bake is the step after the last).
    Step { step: usize, weight: Weight },
    /// After promotion nothing runs beside the new version any more.
    None,
}

/// Timers by purpose: setting one again replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerId {
    /// Ask the gate again.
    Gate,
    /// The gate has been silent for long.
    Patience,
    /// A part of stable's replacement takes too long.
    Replace,
    Prepare,
    Shift,
    StepDeadline,
    BakeDeadline,
    Promote,
}

/// What on-call is told, and withdrawn again under the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// The canary was found worse and is being put back. Resolved with the terminal event.
    Aborting,
    /// Something needs a person: a deadline, drift, a gate, a promotion that does not go on.
    NeedsAttention,
    /// Metrics are missing or their source is down.
    Blind,
    /// The analysis saw something that somebody should look at: traffic that is not divided as the weight says, stable
    /// that suffers, a watched metric that differs. It never decides.
    Advisory,
}

/// What is published on the bus as `sluice.out.<namespace>.<rollout>.<type>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Notice {
    Started,
    StepReached {
        step: usize,
        weight: Weight,
    },
    StepPassed {
        step: usize,
    },
    Paused,
    Resumed,
    Baking,
    Promoting,
    Aborting,
    Drained {
        end: DrainEnd,
    },
    /// A person's command was taken or refused; the answer stands in the reason.
    Overridden {
        actor: String,
        accepted: bool,
    },
    Attention,
    /// The one terminal event.
    Finished {
        outcome: Outcome,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The canary's weight is to be this. With `abort` set it goes down and carries the abort's reason as a mark.
    SetTraffic {
        weight: Weight,
        abort: Option<String>,
    },
    /// Put the target's remembered original back where weight alone does not say it, and take our marks away.
    ReleaseTraffic,
    /// After weight 0: watch the canary's counter at the router come to rest, at most this long.
    WatchDrain {
        limit: Duration,
    },
    ScaleWorkload {
        role: Role,
        replicas: Replicas,
    },
    /// Stable's pods go, all of them; done when none is left.
    EmptyWorkload,
    /// The new template for an emptied stable, and one pod of it; done when that is available.
    PromoteFirst,
    /// The canary's template becomes stable's (or whatever the policy's promotion is); done when its pods are available.
    PromoteWorkload,
    /// Stable's template from its saved revision; done when its pods are available.
    RestoreWorkload,
    Observe(Observation),
    WakeAt {
        timer: TimerId,
        at: Timestamp,
    },
    AskGate {
        gate: GateId,
    },
    /// `revision` and `weight` are those of the transition that tells it, whenever it is published.
    Publish {
        notice: Notice,
        reason: String,
        #[serde(default)]
        revision: u64,
        #[serde(default)]
        weight: Weight,
    },
    /// `since` tells one episode of trouble from the next.
    Alert {
        kind: AlertKind,
        summary: String,
        since: Timestamp,
    },
    ResolveAlert {
        kind: AlertKind,
        summary: String,
        since: Timestamp,
        /// When it was over, if it had not been told to everybody by then: whoever does not know whether it was (after a
        /// restart) tells both in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        untold: Option<Timestamp>,
    },
}

/// An effect with its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    pub id: EffectId,
    pub effect: Effect,
}

impl Effect {
    pub fn lane(&self) -> Lane {
        match self {
            Effect::SetTraffic { .. } | Effect::ReleaseTraffic | Effect::WatchDrain { .. } => Lane::Target,
            Effect::ScaleWorkload { .. }
            | Effect::EmptyWorkload
            | Effect::PromoteFirst
            | Effect::PromoteWorkload
            | Effect::RestoreWorkload => Lane::Workload,
            Effect::Publish { .. } | Effect::Alert { .. } | Effect::ResolveAlert { .. } => Lane::Telling,
            Effect::Observe(_) | Effect::WakeAt { .. } | Effect::AskGate { .. } => Lane::Watching,
        }
    }

    /// Whether `self` makes an outstanding `earlier` needless: the later wish of the same kind counts.
    pub fn replaces(&self, earlier: &Effect) -> bool {
        match (self, earlier) {
            (Effect::SetTraffic { .. }, Effect::SetTraffic { .. } | Effect::ReleaseTraffic) => true,
            // A canary that has traffic again is drained anew once that has been taken away.
            (Effect::SetTraffic { .. }, Effect::WatchDrain { .. }) => true,
            (Effect::Observe(_), Effect::Observe(_)) => true,
            (Effect::WakeAt { timer: new, .. }, Effect::WakeAt { timer: old, .. }) => new == old,
            (Effect::ScaleWorkload { role: new, .. }, Effect::ScaleWorkload { role: old, .. }) => new == old,
            (
                Effect::RestoreWorkload,
                Effect::EmptyWorkload | Effect::PromoteFirst | Effect::PromoteWorkload,
            ) => true,
            (Effect::AskGate { gate: new }, Effect::AskGate { gate: old }) => new == old,
            (Effect::Alert { kind: new, since: now, .. }, Effect::Alert { kind: old, since: then, .. }) => {
                new == old && now == then
            }
            // An abort is news even when it is over: its end does not take its beginning back.
            (
                Effect::ResolveAlert { kind: new, since: now, .. },
                Effect::Alert { kind: old, since: then, .. },
            ) => new == old && now == then && *new != AlertKind::Aborting,
            (
                Effect::ResolveAlert { kind: new, since: now, .. },
                Effect::ResolveAlert { kind: old, since: then, .. },
            ) => new == old && now == then,
            _ => false,
        }
    }
}
