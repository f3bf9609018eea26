//! Why something was, or was not, done. The same words stand in log, message, metric, history and answer.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Weight;

/// Why a transition came out as it did. `code` is for programs and metrics, `Display` for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "code")]
pub enum Reason {
    Requested,
    GateYes {
        gate: String,
    },
    GateNo {
        gate: String,
        why: String,
    },
    GateNotYet {
        gate: String,
        why: String,
    },
    GateSilent {
        gate: String,
    },
    CanaryAvailable {
        available: u32,
    },
    CanaryNotAvailable {
        available: u32,
        needed: u32,
    },
    PrepareDeadline {
        available: u32,
        needed: u32,
    },
    BaselineMeasured,
    BaselineUnavailable {
        why: String,
    },
    WeightInEffect {
        weight: Weight,
    },
    WeightOverdue {
        weight: Weight,
    },
    StepPassed {
        step: usize,
        words: String,
    },
    MinNotReached {
        step: usize,
    },
    Failed {
        words: String,
    },
    Undecided {
        words: String,
    },
    NoData {
        words: String,
    },
    SourceDown {
        words: String,
    },
    /// `words`: how far the analysis was.
    StepDeadline {
        step: usize,
        #[serde(default)]
        words: String,
    },
    BakeOverdue {
        #[serde(default)]
        words: String,
    },
    BakePassed {
        words: String,
    },
    AwaitsPerson,
    CanaryVanished,
    Drift {
        found: Weight,
        wanted: Weight,
        times: u32,
    },
    DriftTooOften {
        found: Weight,
        wanted: Weight,
    },
    /// After the end somebody gives the canary traffic again and again.
    OpenedAfterEnd {
        found: Weight,
    },
    /// What the analysis wants somebody to look at.
    Advice {
        words: String,
    },
    NeverBegan {
        why: String,
    },
    TargetRefused {
        why: String,
    },
    TargetUnseen {
        why: String,
    },
    PromotionDone,
    PromotionOverdue,
    StableEmptied,
    FirstAvailable,
    ReplacementOverdue,
    PromotionFailed {
        why: String,
    },
    PutBack,
    Drained {
        end: String,
    },
    Superseded {
        by: String,
    },
    AbortMarkFound {
        mark: String,
    },
    Recovered,
    Override {
        actor: String,
        action: String,
        reason: String,
    },
    OverrideRepeated,
    RevisionExpected {
        expected: u64,
        at: u64,
    },
    NotNow {
        action: String,
        phase: String,
    },
    AlreadySo {
        what: String,
    },
    WeightTooHigh {
        asked: Weight,
        most: Weight,
    },
    /// `nearest`: the weights around it that the target can express, as far as this step allows them.
    WeightInexpressible {
        asked: Weight,
        nearest: Vec<Weight>,
        why: String,
    },
    OnlyBakeLeft,
    StepUnknown {
        to: usize,
        from: usize,
        last: usize,
    },
    /// A late, repeated or unexpected event: nothing changes.
    Stale {
        what: String,
    },
    EffectFailed {
        why: String,
    },
}

/// Words after a colon, or nothing where there are none.
fn because(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// What can be done in a phase in which most commands are refused.
fn instead(phase: &str) -> &'static str {
    match phase {
        "promoted" | "reverted" | "failed" => {
            ": the rollout has ended; announce the next release, or retry this one"
        }
        "paused" => ": resume it first",
        _ => "",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Requested => write!(f, "release announced"),
            Reason::GateYes { gate } => write!(f, "gate {gate} says yes"),
            Reason::GateNo { gate, why } => write!(f, "gate {gate} says no: {why}"),
            Reason::GateNotYet { gate, why } => write!(f, "gate {gate} does not say yes yet: {why}"),
            Reason::GateSilent { gate } => write!(f, "gate {gate} has not answered in time"),
            Reason::CanaryAvailable { available: 1 } => f.write_str("canary has 1 available pod"),
            Reason::CanaryAvailable { available } => write!(f, "canary has {available} available pods"),
            Reason::CanaryNotAvailable { available, needed } => {
                write!(f, "canary has {available} of {needed} available pods")
            }
            Reason::PrepareDeadline { available, needed } => {
                write!(f, "canary did not become ready in time: {available} of {needed} pods available")
            }
            Reason::BaselineMeasured => write!(f, "measured the service before the canary has traffic"),
            Reason::BaselineUnavailable { why } => write!(f, "the service cannot be measured yet: {why}"),
            Reason::WeightInEffect { weight } => write!(f, "weight {weight} read back"),
            Reason::WeightOverdue { weight } => write!(f, "weight {weight} was not read back in time"),
            Reason::StepPassed { step, words } => write!(f, "step {} passed: {words}", step + 1),
            Reason::MinNotReached { step } => {
                write!(f, "step {} is good but not watched long enough yet", step + 1)
            }
            Reason::Failed { words } => write!(f, "{words}"),
            Reason::Undecided { words } => write!(f, "undecided: {words}"),
            Reason::NoData { words } => write!(f, "no data: {words}"),
            Reason::SourceDown { words } => write!(f, "metrics source down: {words}"),
            Reason::StepDeadline { step, words } => {
                write!(f, "step {} was not decided before its deadline{}", step + 1, because(words))
            }
            Reason::BakeOverdue { words } => {
                write!(f, "the bake did not come to its end in time{}", because(words))
            }
            Reason::BakePassed { words } => write!(f, "bake passed: {words}"),
            Reason::AwaitsPerson => write!(f, "the step passed and waits for a person, as the policy says"),
            Reason::CanaryVanished => write!(f, "the canary has no ready endpoint while it has traffic"),
            Reason::Drift { found, wanted, times } => {
                write!(
                    f,
                    "somebody set the weight to {found}; put back to {wanted} (number {times} in five minutes)"
                )
            }
            Reason::DriftTooOften { found, wanted } => {
                write!(
                    f,
                    "somebody keeps setting the weight to {found} instead of {wanted}; find out who (GitOps?) and resume"
                )
            }
            Reason::TargetUnseen { why } => write!(f, "the target cannot be read: {why}"),
            Reason::OpenedAfterEnd { found } => write!(
                f,
                "somebody keeps giving the canary traffic ({found}) though the rollout was put back; find out who (GitOps?)"
            ),
            Reason::Advice { words } => write!(f, "somebody should look: {words}"),
            Reason::NeverBegan { why } => write!(f, "it never began: {why}"),
            Reason::TargetRefused { why } => write!(f, "the target refuses: {why}"),
            Reason::PromotionDone => write!(f, "the new version is the stable one"),
            Reason::PromotionOverdue => write!(f, "promotion did not come to its end in time"),
            Reason::StableEmptied => write!(f, "no pod of the old version is left"),
            Reason::FirstAvailable => write!(f, "the first pod of the new version is available"),
            Reason::ReplacementOverdue => {
                write!(f, "stable was not replaced in the time that workloads.replace gives each part")
            }
            Reason::PromotionFailed { why } => write!(f, "promotion failed: {why}"),
            Reason::PutBack => write!(f, "weight 0 read back"),
            Reason::Drained { end } => write!(f, "drained: {end}"),
            Reason::Superseded { by } => write!(f, "superseded by release {by}"),
            Reason::AbortMarkFound { mark } => write!(f, "the target carries an abort mark: {mark}"),
            Reason::Recovered => write!(f, "taken up again"),
            Reason::Override { actor, action, reason } => write!(f, "{actor} asked for {action}: {reason}"),
            Reason::OverrideRepeated => write!(f, "a repeat; the first answer holds"),
            Reason::RevisionExpected { expected, at } => {
                write!(f, "revision {expected} expected, it is at {at}")
            }
            Reason::NotNow { action, phase } => {
                write!(f, "{action} is not possible while {phase}{}", instead(phase))
            }
            Reason::AlreadySo { what } => write!(f, "already {what}"),
            Reason::WeightTooHigh { asked, most } => {
                write!(f, "weight {asked} is above this step's {most}; promote or skip first")
            }
            Reason::WeightInexpressible { asked, nearest, why } if nearest.is_empty() => {
                write!(f, "weight {asked} cannot be written: {why}")
            }
            Reason::WeightInexpressible { asked, nearest, .. } => {
                let nearest: Vec<String> = nearest.iter().map(Weight::to_string).collect();
                let nearest = nearest.join(" and ");
                write!(f, "weight {asked} is finer than the target can express; nearest to it are {nearest}")
            }
            Reason::OnlyBakeLeft => f.write_str(
                "only the bake is left to pass over: promote goes on to it, promote-full leaves it out",
            ),
            Reason::StepUnknown { to, from, last } => {
                write!(f, "cannot skip to step {to}: at step {from} of {last}, only later steps are possible")
            }
            Reason::Stale { what } => write!(f, "late or repeated: {what}"),
            Reason::EffectFailed { why } => write!(f, "{why}"),
        }
    }
}

impl Reason {
    /// The kebab-case code that serde writes too (Debug begins with the variant's name), for metrics and programs.
    pub fn code(&self) -> String {
        let debug = format!("{self:?}");
        let name = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let mut code = String::with_capacity(name.len() + 4);
        for (index, c) in name.chars().enumerate() {
            if c.is_ascii_uppercase() && index > 0 {
                code.push('-');
            }
            code.push(c.to_ascii_lowercase());
        }
        code
    }
}
