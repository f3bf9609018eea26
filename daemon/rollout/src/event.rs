//! Everything that can cause work: one closed list.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{EffectId, Fence, TimerId, Timestamp, Weight};

/// Which of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Stable,
    Canary,
}

/// What the analysis makes of all windows so far. Five different things; nothing but `Pass` ever advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Pass,
    Fail,
    Undecided,
    NoData,
    SourceDown,
}

/// The name of a gate as the policy gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GateId(pub String);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateAnswer {
    Yes,
    /// Refused for good: the rollout ends.
    No {
        why: String,
    },
    /// Nothing yet: asked again at `again`.
    NotYet {
        why: String,
        again: Timestamp,
    },
}

/// What was read back from the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBack {
    pub weight: Weight,
    /// The fence that stands at the target, if any daemon ever wrote one.
    pub fence: Option<Fence>,
    /// Read just now (or a write's own answer), and not a watch's possibly late news.
    pub fresh: bool,
}

/// Whether service and metrics were measured before the canary has traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    Measured,
    /// The source cannot be read now; it is tried again.
    Unavailable {
        why: String,
    },
}

/// How watching the canary's last requests after weight 0 ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainEnd {
    Yes,
    No,
    Unknown,
}

/// A weight that the target cannot express as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inexpressible {
    pub why: String,
    /// The weights around it that can be expressed, lower first; empty where that is not known.
    pub nearest: Vec<Weight>,
}

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// This step counts as passed.
    Promote,
    /// Every step and the bake count as passed.
    PromoteFull,
    Pause,
    Resume,
    Abort,
    /// Begin the present wait anew: its deadline starts again. (A rollout that has ended is started anew by the runtime.)
    Retry,
    /// Leave this step and pass over the next one, or go to step `to` (1-based, later than the present one); at a gate: waive it.
    Skip {
        to: Option<usize>,
    },
    /// Stay at this weight until resumed. `inexpressible`: what the target said to it, where it cannot carry it out.
    SetWeight {
        weight: Weight,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inexpressible: Option<Inexpressible>,
    },
    /// Move the deadline of the present step, or the end of the bake.
    Extend {
        by: Duration,
    },
    /// Stable back to a former revision: a rollout of its own, which the runtime begins.
    Undo {
        to_revision: Option<u64>,
    },
    /// Changes in the cluster start rollouts of the policy again, or no longer: the runtime's matter.
    Triggers {
        on: bool,
    },
}

/// A command from a person on the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// `source` and `id` of the message: a repeat gets the first answer again.
    pub key: String,
    pub actor: String,
    pub reason: String,
    /// The revision that the person saw; another one refuses the command.
    pub expected_revision: Option<u64>,
    pub action: Action,
}

/// Everything that can cause work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The rollout begins.
    Requested,
    GateAnswered {
        gate: GateId,
        answer: GateAnswer,
    },
    /// The baseline that the analysis freezes before the canary has traffic.
    BaselineMeasured(Baseline),
    /// Replicas as the cluster reports them now. `external` workloads report what they can see.
    WorkloadObserved {
        role: Role,
        wanted: u32,
        available: u32,
    },
    /// The canary was scaled; so many pods must be available before the weight may rise.
    Scaled {
        id: EffectId,
        needed: u32,
    },
    /// The work of a workload effect is complete: the template was copied (or put back) and its pods are available.
    WorkloadReady {
        id: EffectId,
    },
    /// The target as it stands: a write's answer, a read, or a change seen by the watch.
    TrafficObserved(ReadBack),
    /// The target cannot be read, and not for a passing reason: it was deleted, say. Told once, until it is seen again.
    TargetUnseen {
        why: String,
    },
    /// One closed window was judged. `counted` is its length, `until` its end; `step` names the observation that it
    /// belongs to. `alarms`: what somebody should look at, each as `name: words`; they decide nothing. `None`: as before.
    Evidence {
        step: usize,
        verdict: Verdict,
        counted: Duration,
        until: Timestamp,
        words: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alarms: Option<Vec<String>>,
    },
    /// The canary has had no ready endpoint for the policy's grace, while it has weight.
    CanaryVanished,
    Drained(DrainEnd),
    /// An effect without a result of its own is done (told, scaled, asked).
    EffectDone {
        id: EffectId,
    },
    /// An effect did not come about; the edge goes on trying where that can help (`retrying`).
    EffectFailed {
        id: EffectId,
        why: String,
        retrying: bool,
    },
    TimerFired {
        timer: TimerId,
        id: EffectId,
    },
    Override(Override),
    /// A newer release of the same policy was announced.
    Superseded {
        by: String,
    },
    /// The announcement waited for its turn, which will not come: this rollout ends before it began.
    NeverBegan {
        why: String,
    },
    /// A daemon took this rollout up with this epoch, after a crash or from another one (`takeover`). An abort mark of
    /// this rollout on the target wins over the saved state.
    Recovered {
        epoch: u64,
        takeover: bool,
        abort_mark: Option<String>,
    },
}
