//! From the document to what the machine trusts. Every fault names file, line, field and remedy.

use std::time::Duration;

use sluice_analyzers::{Plan, PlanError};
use sluice_rollout as rollout;
use sluice_rollout::{
    GateId, GateSpec, OnDeadline, OnDrift, OnTrouble, OnUndrained, Promote, RolloutId, Weight,
};

use super::{
    Gate, OnDeadlineSpec, OnDriftSpec, OnTroubleSpec, OnUndrainedSpec, Policy, PromoteBy, StepSpec, Target,
};
use crate::API_VERSION;

/// A policy document larger than this is refused unread.
pub const MOST_POLICY_BYTES: usize = 256 * 1024;

/// Why a document is no policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyFault {
    #[error("{file}: {bytes} bytes are more than a policy may have ({most}); is this the right file?")]
    TooLarge { file: String, bytes: usize, most: usize },
    #[error("{file}: not UTF-8 text: {why}")]
    NoText { file: String, why: String },
    /// The reader's own words: line, column, field, and what was expected.
    #[error("{file}:{line}:{column}: {why}")]
    Form { file: String, line: usize, column: usize, why: String },
    #[error("{file}: {field}: {why}")]
    Field { file: String, field: String, why: String },
}

impl Policy {
    /// Reads YAML (or JSON, which is YAML). `file` is named in faults only.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Policy, PolicyFault> {
        if bytes.len() > MOST_POLICY_BYTES {
            return Err(PolicyFault::TooLarge {
                file: file.into(),
                bytes: bytes.len(),
                most: MOST_POLICY_BYTES,
            });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| PolicyFault::NoText { file: file.into(), why: error.to_string() })?;
        let policy: Policy = serde_saphyr::from_str(text).map_err(|error| form_fault(file, &error))?;
        policy.check(file)?;
        Ok(policy)
    }

    fn check(&self, file: &str) -> Result<(), PolicyFault> {
        let fault =
            |field: &str, why: String| PolicyFault::Field { file: file.into(), field: field.into(), why };
        if self.api_version != API_VERSION {
            return Err(fault(
                "apiVersion",
                format!("{:?} is unknown; this Sluice reads {API_VERSION}", self.api_version),
            ));
        }
        if self.kind != "RolloutPolicy" {
            return Err(fault("kind", format!("{:?} is unknown; write RolloutPolicy", self.kind)));
        }
        RolloutId::new(&self.metadata.namespace, &self.metadata.name, "check")
            .map_err(|error| fault("metadata", error.to_string()))?;
        self.check_gates().map_err(|(field, why)| fault(&field, why))?;
        for (index, sink) in self.spec.alerts.iter().enumerate() {
            sink.check().map_err(|(field, why)| fault(&format!("spec.alerts[{index}].{field}"), why))?;
        }
        self.spec.bake_weight().map_err(|why| fault("spec.bake.holdback", why))?;
        self.machine().check().map_err(|error| fault("spec.steps", error.to_string()))?;
        self.plan().map_err(|error| {
            let PlanError { field, value, why, remedy } = error;
            fault(&format!("spec.analysis.{field}"), format!("{value} {why}; {remedy}"))
        })?;
        Ok(())
    }

    /// What the windows are judged by, before history is known.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let machine = self.machine();
        let steps: Vec<f64> = machine.steps.iter().map(|step| step.weight.fraction()).collect();
        let bake = machine.bake.as_ref().map_or(1.0, |bake| bake.weight.fraction());
        self.spec.analysis.plan(&steps, bake)
    }

    /// Gate names are told apart by the machine, so they must differ.
    fn check_gates(&self) -> Result<(), (String, String)> {
        let mut seen = std::collections::BTreeSet::new();
        let steps = self.spec.steps.iter().enumerate().flat_map(|(i, step)| {
            step.gates.iter().map(move |gate| (format!("spec.steps[{i}].gates"), gate))
        });
        let first = self.spec.gates.iter().map(|gate| ("spec.gates".to_owned(), gate));
        let last = self.spec.promote_gates.iter().map(|gate| ("spec.promoteGates".to_owned(), gate));
        for (field, gate) in first.chain(steps).chain(last) {
            if !seen.insert(gate.name.clone()) {
                return Err((
                    field,
                    format!("gate name {:?} is used twice; give each gate its own", gate.name),
                ));
            }
        }
        Ok(())
    }

    /// What the machine works with.
    pub fn machine(&self) -> rollout::Policy {
        let spec = &self.spec;
        let limits = &spec.limits;
        rollout::Policy {
            gates: gates(&spec.gates),
            steps: spec
                .steps
                .iter()
                .map(|step| machine_step(step, &limits.step.min.0, &limits.step.max.0))
                .collect(),
            bake: self.machine_bake(),
            promote_gates: gates(&spec.promote_gates),
            limits: rollout::Limits {
                prepare: limits.prepare.0,
                shift: limits.shift.0,
                promote: limits.promote.0,
                on_deadline: limits.on_deadline.into(),
                on_undecided: limits.on_undecided.into(),
                on_no_data: limits.on_no_data.into(),
                on_source_down: limits.on_source_down.into(),
                trouble_after: limits.trouble_after.0,
                drain: limits.drain.0,
                on_undrained: match limits.on_undrained {
                    OnUndrainedSpec::Cut => OnUndrained::Cut,
                    OnUndrainedSpec::Alert => OnUndrained::Alert,
                },
                scale_down_delay: spec.workloads.scale_down_delay.0,
            },
            on_drift: match spec.on_drift {
                OnDriftSpec::Correct => OnDrift::Correct,
                OnDriftSpec::Report => OnDrift::Report,
            },
            promote: match spec.workloads.promote {
                PromoteBy::CopyTemplate => Promote::CopyTemplate,
                PromoteBy::Swap => Promote::Swap,
                PromoteBy::External => Promote::External,
            },
            flip: spec.is_flip(),
        }
    }

    fn machine_bake(&self) -> Option<rollout::Bake> {
        let length = self.spec.bake.length.0;
        let weight = self.spec.bake_weight().ok()?;
        let max = length.saturating_mul(3).saturating_add(self.spec.limits.step.max.0);
        (self.spec.is_flip() || length > Duration::ZERO).then_some(rollout::Bake { weight, length, max })
    }

    /// Every gate of the policy, wherever it stands.
    pub fn all_gates(&self) -> impl Iterator<Item = &Gate> {
        let spec = &self.spec;
        spec.gates.iter().chain(spec.steps.iter().flat_map(|step| &step.gates)).chain(&spec.promote_gates)
    }
}

impl super::Spec {
    pub fn is_flip(&self) -> bool {
        matches!(self.target, Target::Service(_))
    }

    /// 100 % less the holdback; 100 % for a flip.
    fn bake_weight(&self) -> Result<Weight, String> {
        if self.is_flip() {
            return Ok(Weight::FULL);
        }
        Weight::from_percent(100.0 - (self.bake.holdback.0 * 1e6).round() / 1e4)
            .map_err(|error| error.to_string())
    }
}

fn gates(given: &[Gate]) -> Vec<GateSpec> {
    given.iter().map(|gate| GateSpec { id: GateId(gate.name.clone()), patience: gate.patience.0 }).collect()
}

fn machine_step(step: &StepSpec, min: &Duration, max: &Duration) -> rollout::Step {
    rollout::Step {
        weight: step.weight,
        min: step.min.map_or(*min, |span| span.0),
        max: step.max.map_or(*max, |span| span.0),
        gates: gates(&step.gates),
        pause: step.pause,
    }
}

impl From<OnDeadlineSpec> for OnDeadline {
    fn from(spec: OnDeadlineSpec) -> Self {
        match spec {
            OnDeadlineSpec::Hold => OnDeadline::Hold,
            OnDeadlineSpec::Pause => OnDeadline::Pause,
            OnDeadlineSpec::Abort => OnDeadline::Abort,
        }
    }
}

impl From<OnTroubleSpec> for OnTrouble {
    fn from(spec: OnTroubleSpec) -> Self {
        match spec {
            OnTroubleSpec::Hold => OnTrouble::Hold,
            OnTroubleSpec::Alert => OnTrouble::Alert,
            OnTroubleSpec::Pause => OnTrouble::Pause,
        }
    }
}

fn form_fault(file: &str, error: &serde_saphyr::Error) -> PolicyFault {
    let place = error.location();
    let (line, column) = place.map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
    PolicyFault::Form { file: file.into(), line, column, why: plain(&error.to_string()) }
}

/// The reader's message without its own position and source snippet.
fn plain(message: &str) -> String {
    message.lines().next().unwrap_or(message).trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests;
