//! Words and pictures of a state: the view of `status`, the answer to a command.

use std::sync::Arc;

use serde_json::Value;
use sluice_rollout::{
    AlertKind, Answered, Effect, Observation, Phase, Policy as Machine, PromoteStage, Reason, Replicas,
    RevertStage, Role, RolloutId, State, TimerId, Timestamp, Weight,
};
use sluice_wire::{
    message::Answer,
    policy::Policy,
    record::{Charter, Saved},
    view::RolloutView,
};

use crate::picture::clock;

use super::{lanes::notice_name, troubles::Troubles};

/// `reason`: what happened last; `troubles`: what cannot be reached just now.
pub fn view(
    charter: &Charter,
    policy: &Policy,
    saved: &Saved,
    report: &Arc<Value>,
    (reason, troubles): (&str, &Troubles),
) -> RolloutView {
    let state = &saved.state;
    let machine = policy.machine();
    let step = state.step(&machine);
    let watch = state.watch();
    let outcome = match &state.phase {
        Phase::Done { outcome, .. } => Some(*outcome),
        _ => None,
    };
    RolloutView {
        rollout: state.id.clone(),
        release: charter.release.clone(),
        revision: state.revision,
        phase: state.phase.name().to_owned(),
        step: step.map(|step| step + 1),
        steps: machine.steps.iter().map(|step| step.weight.percent()).collect(),
        bake: machine.bake.as_ref().map(|bake| bake.weight.percent()),
        weight: state.weight,
        read_back: state.read_back,
        verdict: watch.and_then(|watch| watch.verdict),
        reason: why(state, reason),
        waits_for: troubles.added_to(waits_for(state, &machine)),
        outcome,
        alerts: state.alerts.iter().map(|firing| firing.summary.clone()).collect(),
        started: state.started,
        changed: state.now,
        watched_seconds: watch.map(|watch| watch.counted_ms as f64 / 1000.0),
        needed_seconds: needed(step, &machine),
        deadline: deadline(state),
        evidence: report.clone(),
        owner: Some(saved.owner.daemon.clone()),
        cluster: saved.owner.cluster.clone(),
    }
}

/// A rollout whose record this Sluice cannot read.
pub fn left_alone(id: &RolloutId, why: &str) -> RolloutView {
    RolloutView {
        rollout: id.clone(),
        release: None,
        revision: 0,
        phase: "unknown".to_owned(),
        step: None,
        steps: Vec::new(),
        bake: None,
        weight: Weight::ZERO,
        read_back: None,
        verdict: None,
        reason: why.to_owned(),
        waits_for: Some("a Sluice that can read its record".to_owned()),
        outcome: None,
        alerts: Vec::new(),
        started: Timestamp::default(),
        changed: Timestamp::default(),
        watched_seconds: None,
        needed_seconds: None,
        evidence: Arc::default(),
        owner: None,
        cluster: None,
        deadline: None,
    }
}

fn needed(step: Option<usize>, machine: &Machine) -> Option<f64> {
    let step = step?;
    let length = match machine.steps.get(step) {
        Some(step) => step.min,
        None => machine.bake.as_ref()?.length,
    };
    Some(length.as_secs_f64())
}

/// Of the step or the bake; a paused one has none.
fn deadline(state: &State) -> Option<Timestamp> {
    match &state.phase {
        Phase::Observing { .. } => state.timer(TimerId::StepDeadline),
        Phase::Baking { .. } => state.timer(TimerId::BakeDeadline),
        Phase::Gated { .. }
        | Phase::Preparing { .. }
        | Phase::Shifting { .. }
        | Phase::Paused { .. }
        | Phase::Promoting { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    }
}

/// A finished rollout keeps saying why it ended; a running one what happened last.
fn why(state: &State, last: &str) -> String {
    match &state.phase {
        Phase::Done { reason, .. } | Phase::Reverting { reason, .. } => reason.to_string(),
        _ => last.to_owned(),
    }
}

fn waits_for(state: &State, machine: &Machine) -> Option<String> {
    Some(match &state.phase {
        Phase::Gated { .. } | Phase::Promoting { stage: PromoteStage::Gated, .. } => {
            format!("gate {}", state.asked_gate(machine)?.0)
        }
        Phase::Promoting { stage: PromoteStage::Between | PromoteStage::After, .. } => {
            match state.asked_gate(machine) {
                Some(hook) => format!("hook {}", hook.0),
                None => "the traffic to be where it belongs".to_owned(),
            }
        }
        Phase::Promoting { stage: PromoteStage::Emptying, .. } => "the last of stable's old pods".to_owned(),
        Phase::Promoting { stage: PromoteStage::Proving, .. } => "stable's first new pod".to_owned(),
        Phase::Preparing { .. } if !state.baseline_measured => {
            format!(
                "the service to be measured; canary {} of {} pods available",
                state.canary_available, state.canary_needed
            )
        }
        Phase::Preparing { .. } => {
            format!("canary pods: {} of {} available", state.canary_available, state.canary_needed)
        }
        Phase::Shifting { .. } => format!("weight {} to be read back", state.weight),
        Phase::Observing { watch, .. } | Phase::Baking { watch } => match watch.verdict {
            None => "the first window".to_owned(),
            Some(_) => watch.words.clone(),
        },
        Phase::Paused { .. } if state.step(machine).is_none() => "a person: resume or abort".to_owned(),
        Phase::Paused { .. } => "a person: resume, promote or abort".to_owned(),
        Phase::Promoting { stage: PromoteStage::Raising, .. } => "the canary at full size".to_owned(),
        Phase::Promoting { stage: PromoteStage::Replacing, .. } => {
            "stable to take the new template".to_owned()
        }
        Phase::Promoting { stage: PromoteStage::Returning, .. } => {
            "the traffic to return to stable".to_owned()
        }
        Phase::Reverting { stage: RevertStage::Restoring, .. } => "stable's former template".to_owned(),
        Phase::Reverting { stage: RevertStage::Closing, .. } => "weight 0 to be read back".to_owned(),
        Phase::Done { .. } => return None,
    })
}

/// What will happen now, or why it was refused.
pub fn answer(state: &State, machine: &Machine, answered: Option<&Answered>, reason: &Reason) -> Answer {
    let accepted = answered.is_some_and(|answered| answered.accepted);
    let message = match answered {
        Some(answered) if answered.accepted => {
            format!("{}; revision {}", stood(answered, machine), answered.revision)
        }
        Some(answered) => format!("refused: {}", answered.reason),
        None => reason.to_string(),
    };
    let earlier = answered.and_then(|answered| answered.of.as_ref());
    let message = match earlier {
        Some(earlier) => format!(
            "{message}; that was {earlier}, and nothing was done to {}: give the command another id if it is meant for that",
            state.id
        ),
        None => message,
    };
    Answer {
        accepted,
        message,
        rollout: Some(earlier.unwrap_or(&state.id).clone()),
        revision: Some(answered.map_or(state.revision, |answered| answered.revision)),
        phase: Some(
            answered.map_or_else(|| state.phase.name().to_owned(), |answered| answered.phase.clone()),
        ),
        weight: Some(answered.map_or(state.weight, |answered| answered.weight)),
        each: Vec::new(),
    }
}

/// Where it stood after the command, in one phrase: `paused at 5 % (step 1 of 4)`. A repeat reads the same.
fn stood(answered: &Answered, machine: &Machine) -> String {
    let place = match answered.step {
        Some(step) if step < machine.steps.len() => {
            format!(" (step {} of {})", step + 1, machine.steps.len())
        }
        Some(_) => " (bake)".to_owned(),
        None => String::new(),
    };
    match answered.phase.as_str() {
        "shifting" => format!("going to {}{place}", answered.weight),
        "reverting" => "aborting: the traffic goes back to stable".to_owned(),
        phase => format!("{phase} at {}{place}", answered.weight),
    }
}

/// An effect in the history's words.
pub fn effect_words(effect: &Effect) -> String {
    match effect {
        Effect::SetTraffic { weight, abort: None } => format!("weight {weight}"),
        Effect::SetTraffic { weight, abort: Some(_) } => format!("weight {weight} (abort)"),
        Effect::ScaleWorkload { role, replicas } => {
            format!("{} {}", role_word(*role), replicas_words(*replicas))
        }
        Effect::Observe(Observation::Step { step, .. }) => format!("observe step {}", step + 1),
        Effect::Observe(Observation::Baseline) => "measure the service".to_owned(),
        Effect::Observe(Observation::None) => "observe nothing".to_owned(),
        Effect::AskGate { gate } => format!("ask gate {}", gate.0),
        Effect::WakeAt { timer, at } => format!("{} {}", timer_words(*timer), clock(*at)),
        Effect::Publish { notice, .. } => format!("publish {}", notice_name(notice)),
        Effect::Alert { kind, .. } => format!("alert on-call: {}", alert_words(*kind)),
        Effect::ResolveAlert { kind, .. } => format!("withdraw the alert: {}", alert_words(*kind)),
        Effect::ReleaseTraffic => "put the target's original back".to_owned(),
        Effect::WatchDrain { limit } => format!("watch the canary drain, {} s at most", limit.as_secs()),
        Effect::EmptyWorkload => "stable's pods go, all of them".to_owned(),
        Effect::PromoteFirst => "one pod of the new template".to_owned(),
        Effect::PromoteWorkload => "stable takes the new template".to_owned(),
        Effect::RestoreWorkload => "stable takes its former template back".to_owned(),
    }
}

fn timer_words(timer: TimerId) -> &'static str {
    match timer {
        TimerId::Gate => "ask the gate again at",
        TimerId::Patience => "tell on-call of a silent gate at",
        TimerId::Replace => "this part of stable's replacement to be through by",
        TimerId::Prepare => "the canary's pods to be there by",
        TimerId::Shift => "the weight to be read back by",
        TimerId::StepDeadline => "the step to be decided by",
        TimerId::BakeDeadline => "the bake to be decided by",
        TimerId::Promote => "the promotion to be through by",
    }
}

fn alert_words(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Aborting => "aborting",
        AlertKind::NeedsAttention => "needs attention",
        AlertKind::Blind => "blind",
        AlertKind::Advisory => "advisory",
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Stable => "stable",
        Role::Canary => "canary",
    }
}

fn replicas_words(replicas: Replicas) -> String {
    match replicas {
        Replicas::AtLeastShare(weight) => format!("at least {weight} of stable's size"),
        Replicas::HeldAtStart => "held at its size at the start".to_owned(),
        Replicas::AsBefore => "as before".to_owned(),
        Replicas::ZeroAfter(delay) => format!("to zero after {} s", delay.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"apiVersion":"sluice.dev/v1alpha1","kind":"RolloutPolicy","metadata":{"name":"checkout","namespace":"shop"},"spec":{"target":{"webhook":{"url":"http://127.0.0.1:1/"}},"metrics":{"scrape":{"stable":["http://127.0.0.1:1/metrics"],"canary":["http://127.0.0.1:1/metrics"]}},"steps":[{"weight":5},{"weight":50}]}}"#;

    fn state(attempt: &str) -> State {
        State::new(format!("shop/checkout@{attempt}").parse().unwrap(), 1, Timestamp::from_millis(0))
    }

    #[test]
    fn what_was_answered_for_an_earlier_attempt_names_it_and_the_one_to_which_nothing_was_done() {
        let machine = Policy::parse("policy", POLICY.as_bytes()).unwrap().machine();
        let mut former = state("v2");
        former.answered.push_back(Answered {
            key: "ann 7".into(),
            accepted: true,
            revision: 7,
            reason: Reason::OverrideRepeated,
            phase: "paused".into(),
            step: Some(0),
            weight: Weight::from_percent(5.0).unwrap(),
            of: None,
        });
        let told =
            |state: &State| answer(state, &machine, state.first_answer("ann 7"), &Reason::OverrideRepeated);
        assert_eq!(told(&former).message, "paused at 5 % (step 1 of 2); revision 7");
        let mut next = State { answered: former.answers_to_hand_on(), ..state("v3") };
        for attempt in ["v3", "v4"] {
            let answer = told(&next);
            assert_eq!(answer.rollout, Some(former.id.clone()), "whose it was, however long ago");
            let words = format!("that was {}, and nothing was done to shop/checkout@{attempt}", former.id);
            assert!(
                answer.message.starts_with("paused at 5 %") && answer.message.contains(&words),
                "{answer:?}"
            );
            next = State { answered: next.answers_to_hand_on(), ..state("v4") };
        }
    }
}
