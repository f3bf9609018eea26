//! From the document to what the machine trusts. Every fault names file, line, field and remedy, and all are told at once.

use std::time::Duration;

use sluice_analyzers::{Plan, PlanError};
use sluice_rollout as rollout;
use sluice_rollout::{
    GateId, GateSpec, OnDeadline, OnDrift, OnTrouble, OnUndrained, PolicyError, Promote, RolloutId, Weight,
};

use super::document::{self, Node};
use super::{
    AlertSink, Gate, GateKind, Metadata, OnDeadlineSpec, OnDriftSpec, OnTroubleSpec, OnUndrainedSpec, Places,
    Policy, PolicyFault, PolicyFaults, PromoteBy, Replace, StepSpec, Strategy, Target, Testers, Workloads,
    form,
};
use crate::API_VERSION;

/// `kind:` of a policy.
const KIND: &str = "RolloutPolicy";

/// A policy document larger than this is refused unread.
pub const MOST_POLICY_BYTES: usize = 256 * 1024;

/// A field and what is wrong with it.
type Wrong = (String, String);

impl Policy {
    /// Reads YAML (or JSON, which is YAML). `file` is named in faults only.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Policy, PolicyFaults> {
        let text = text(file, bytes)?;
        match serde_saphyr::from_str::<Policy>(text) {
            Ok(mut policy) => {
                let document = policy.spec.strategy.and_then(|_| document::read(text).ok());
                policy.spec.imply(document.as_ref());
                PolicyFaults::located(file, policy.wrong(), bytes).map_or(Ok(policy), Err)
            }
            Err(error) => Err(misread(file, text, &error)),
        }
    }

    /// A policy that came inside a message.
    pub fn from_json(field: &str, value: &serde_json::Value) -> Result<Policy, PolicyFaults> {
        Policy::parse(field, value.to_string().as_bytes()).map_err(PolicyFaults::without_places)
    }

    /// Everything that the types alone do not say.
    fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        wrong.extend(wrong_head(&self.api_version, &self.kind, &self.metadata));
        if let Some(Err(why)) = self.spec.cluster.as_deref().map(cluster_name) {
            wrong.push(("spec.cluster".to_owned(), why));
        }
        wrong.extend(self.spec.wrong_trigger());
        for (field, why) in self.spec.testers.iter().flat_map(Testers::wrong) {
            wrong.push((format!("spec.testers.{field}"), why));
        }
        wrong.extend(self.spec.wrong_strategy());
        wrong.extend(self.wrong_gates());
        wrong.extend(self.wrong_workloads());
        for (index, sink) in self.spec.alerts.iter().enumerate() {
            wrong.extend(wrong_sink(index, sink));
        }
        for (index, rule) in self.spec.access.iter().enumerate() {
            wrong.extend(
                rule.wrong().into_iter().map(|(field, why)| (format!("spec.access[{index}].{field}"), why)),
            );
        }
        if let Err(why) = self.spec.bake_weight() {
            wrong.push(("spec.bake.holdback".to_owned(), why));
            return wrong;
        }
        let steps = self.machine().faults();
        wrong.extend(steps.iter().map(|error| (step_field(error), error.to_string())));
        if steps.is_empty() && !self.spec.is_in_place() {
            wrong.extend(self.plan().err().map(|error| {
                let PlanError { field, value, why, remedy } = error;
                (format!("spec.analysis.{field}"), format!("{value} {why}; {remedy}"))
            }));
        }
        wrong
    }

    /// Freeze calendars that cannot be read, with their fields. (Time zones come from the host's database.)
    pub fn wrong_calendars(&self) -> Vec<(String, String)> {
        let wrong = self.gate_lists().into_iter().flat_map(|(field, gates)| {
            gates.iter().enumerate().flat_map(move |(index, gate)| {
                let below = format!("{field}[{index}].freeze");
                let wrong = match &gate.kind {
                    GateKind::Freeze(freeze) => freeze.wrong(),
                    GateKind::Approval {}
                    | GateKind::Webhook { .. }
                    | GateKind::Job(_)
                    | GateKind::Rollout { .. } => Vec::new(),
                };
                wrong.into_iter().map(move |(name, why)| (format!("{below}.{name}"), why))
            })
        });
        wrong.collect()
    }

    /// What the windows are judged by, before history is known.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let machine = self.machine();
        let steps: Vec<f64> = machine.steps.iter().map(|step| step.weight.fraction()).collect();
        let bake = machine.bake.as_ref().map_or(1.0, |bake| bake.weight.fraction());
        self.spec.analysis.plan(&steps, bake)
    }

    /// An Argo Rollout runs both versions itself; its controller makes the canary's pods the stable ones.
    fn wrong_workloads(&self) -> Option<Wrong> {
        let runs_itself = matches!(self.spec.target, Target::ArgoRollout(_));
        let why = "an Argo Rollout runs both versions itself: leave workloads out (scaleDownDelaySeconds stands in the Rollout)";
        (runs_itself && self.spec.workloads != Workloads::default())
            .then(|| ("spec.workloads".to_owned(), why.to_owned()))
    }

    /// Gate names are told apart by the machine, so they must differ.
    fn wrong_gates(&self) -> Vec<Wrong> {
        let mut seen = std::collections::BTreeSet::new();
        let of = |(field, gates): (String, &Vec<Gate>)| -> Vec<(String, String)> {
            let named = |(index, gate): (usize, &Gate)| (format!("{field}[{index}].name"), gate.name.clone());
            gates.iter().enumerate().map(named).collect()
        };
        let all = self.gate_lists().into_iter().flat_map(of);
        all.filter(|(_, name)| !seen.insert(name.clone()))
            .map(|(field, name)| (field, format!("gate name {name:?} is used twice; give each gate its own")))
            .collect()
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
            promote_gates: gates(&[spec.promote_gates.as_slice(), &spec.hooks.pre].concat()),
            limits: rollout::Limits {
                prepare: limits.prepare.0,
                shift: limits.shift.0,
                promote: limits.promote.0,
                replace: spec.workloads.replace.as_ref().map(|replace| replace.timeout().0),
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
            testers: spec.testers.is_some(),
            in_place: spec.is_in_place(),
            replace: match spec.workloads.replace {
                Some(Replace::Recreate(_)) => rollout::Replace::Recreate,
                Some(Replace::Rolling(_) | Replace::Custom(_)) | None => rollout::Replace::Rolling,
            },
            hooks: rollout::Hooks { mid: gates(&spec.hooks.mid), post: gates(&spec.hooks.post) },
            pods_are_the_weight: matches!(spec.target, Target::Replicas(_)),
        }
    }

    fn machine_bake(&self) -> Option<rollout::Bake> {
        if self.spec.is_in_place() {
            return None;
        }
        let length = self.spec.bake.length.0;
        let weight = self.spec.bake_weight().ok()?;
        let max = length.saturating_mul(3).saturating_add(self.spec.limits.step.max.0);
        (self.spec.is_flip() || length > Duration::ZERO).then_some(rollout::Bake { weight, length, max })
    }
}

impl super::Spec {
    pub fn is_flip(&self) -> bool {
        let may_flip = matches!(self.target, Target::ArgoRollout(_)) && self.steps.is_empty();
        let is_said = self.strategy == Some(Strategy::BlueGreen) && !self.is_in_place();
        matches!(self.target, Target::Service(_)) || may_flip || is_said
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

fn wrong_head(api_version: &str, kind: &str, metadata: &Metadata) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if api_version != API_VERSION {
        let why = format!("{api_version:?} is unknown; this Sluice reads {API_VERSION}");
        wrong.push(("apiVersion".to_owned(), why));
    }
    if kind != KIND {
        wrong.push(("kind".to_owned(), format!("{kind:?} is no policy; write {KIND}")));
    }
    for (field, namespace, name) in [
        ("metadata.namespace", metadata.namespace.as_str(), "check"),
        ("metadata.name", "check", metadata.name.as_str()),
    ] {
        let refused = RolloutId::new(namespace, name, "check").err();
        wrong.extend(refused.map(|error| (field.to_owned(), error.to_string())));
    }
    wrong
}

/// Refuses what cannot be a cluster's name: it stands in names of consumers and keys.
pub fn cluster_name(name: &str) -> Result<(), String> {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if (1..=63).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no cluster's name: write 1 to 63 lower-case letters, digits and dashes, for example eu-west"
    ))
}

fn wrong_sink(index: usize, sink: &AlertSink) -> Option<Wrong> {
    sink.check().err().map(|(field, why)| (format!("spec.alerts[{index}].{field}"), why))
}

fn step_field(error: &PolicyError) -> String {
    match error.step() {
        Some(step) => format!("spec.steps[{}].{}", step - 1, error.field()),
        None => format!("spec.{}", error.field()),
    }
}

fn text<'b>(file: &str, bytes: &'b [u8]) -> Result<&'b str, PolicyFault> {
    let fault = |place, why| PolicyFault { file: file.to_owned(), place, field: None, why };
    if bytes.len() > MOST_POLICY_BYTES {
        let (bytes, most) = (bytes.len(), MOST_POLICY_BYTES);
        let why = format!("{bytes} bytes are more than a policy may have ({most}); is this the right file?");
        return Err(fault(None, why));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        let why = "not UTF-8 text from here on: save the file as UTF-8 (is it a policy at all?)".to_owned();
        fault(Some((line, column)), why)
    })?;
    let is_written = |line: &str| !line.trim_start().starts_with('#') && !matches!(line.trim(), "" | "---");
    if text.trim_start_matches('\u{feff}').lines().any(is_written) {
        return Ok(text);
    }
    Err(fault(None, format!("the file is empty: begin with apiVersion: {API_VERSION} and kind: {KIND}")))
}

/// Why serde has refused a document: everything about its form, and what can be said of its parts one by one.
fn misread(file: &str, text: &str, error: &serde_saphyr::Error) -> PolicyFaults {
    let root = match document::read(text) {
        Ok(root) => root,
        Err(syntax) => return unreadable(file, &syntax).into(),
    };
    let places = Places::within(&root);
    let of_another_kind = root.get("kind").and_then(Node::text).filter(|kind| kind != KIND);
    if let Some(kind) = of_another_kind {
        let why = format!("{kind:?} is no policy; write {KIND}");
        return PolicyFault::at(file, "kind".to_owned(), why, &places).into();
    }
    let misfits = form::misfits(&root).into_iter().map(|misfit| PolicyFault {
        file: file.to_owned(),
        place: Some(misfit.place),
        field: (!misfit.field.is_empty()).then_some(misfit.field),
        why: misfit.why,
    });
    let mut faults: Vec<PolicyFault> = misfits.collect();
    let parts = wrong_parts(&root).into_iter();
    faults.extend(parts.map(|(field, why)| PolicyFault::at(file, field, why, &places)));
    PolicyFaults::of(faults).unwrap_or_else(|| unreadable(file, error).into())
}

/// Parts that can be read for themselves, whatever is wrong with the others.
fn wrong_parts(root: &Node) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let text = |key: &str| root.get(key).and_then(Node::text);
    let metadata = root.get("metadata").and_then(|node| serde_json::from_value(node.json()).ok());
    if let (Some(version), Some(kind), Some(metadata)) = (text("apiVersion"), text("kind"), metadata) {
        wrong.extend(wrong_head(&version, &kind, &metadata));
    }
    if let Some(Node::List(sinks)) = root.get("spec").and_then(|spec| spec.get("alerts")) {
        for (index, (_, sink)) in sinks.iter().enumerate() {
            let sink = serde_json::from_value(sink.json()).ok();
            wrong.extend(sink.and_then(|sink| wrong_sink(index, &sink)));
        }
    }
    wrong
}

/// What is no YAML, or holds another number of documents than one.
fn unreadable(file: &str, error: &serde_saphyr::Error) -> PolicyFault {
    let place = error.location().map(|at| (at.line() as usize, at.column() as usize));
    let why = match error.without_snippet() {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "a second document begins here: a file holds one policy, so put each into a file of its own"
                .to_owned()
        }
        other => plain(&other.to_string()),
    };
    PolicyFault { file: file.to_owned(), place, field: None, why }
}

/// The reader's message without its own position and source snippet.
fn plain(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message).trim_start_matches("error: ");
    // The place stands in front already.
    let first = first.rsplit_once(" at line ").map_or(first, |(why, _)| why);
    match first.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, why)) if place.contains("column") => why.to_owned(),
        Some(_) | None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
