//! Asking a gate: approval, freeze calendar, webhook, a Job, another rollout.

use std::time::Duration;

use jiff::{Zoned, civil::Weekday, tz::TimeZone};
use sluice_outbound::Client;
use sluice_rollout::{GateAnswer, GateId, Outcome, Phase, RolloutId, Timestamp};
use sluice_traffic::job::{Question, Ran};
use sluice_wire::policy::{Dates, Day, FailurePolicy, Freeze, Gate, GateKind, Hours, Job, Workload};

use url::Url;

use super::{clock::now, edge::Edge};

const WEBHOOK_LIMIT: Duration = Duration::from_secs(5);
/// How soon a gate that did not say yes is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// `None`: a person answers by message; nothing is asked.
pub async fn ask(edge: &Edge, gate: &GateId) -> Option<GateAnswer> {
    let Some(spec) = edge.policy.all_gates().find(|spec| spec.name == gate.0) else {
        return Some(GateAnswer::No { why: "the policy has no such gate".into() });
    };
    let answer = match &spec.kind {
        GateKind::Approval {} => return None,
        GateKind::Freeze(freeze) => thawed(freeze, now()),
        GateKind::Webhook { url } => asked(&edge.parts.http, url).await,
        GateKind::Job(job) => ran(edge, spec, job).await,
        GateKind::Rollout { namespace, name } => {
            let namespace = namespace.as_deref().unwrap_or(edge.id.namespace());
            promoted(edge, namespace, name).await
        }
    };
    Some(with_policy(answer, spec.failure_policy, &edge.id))
}

/// What a "no" comes to.
fn with_policy(answer: GateAnswer, policy: FailurePolicy, rollout: &RolloutId) -> GateAnswer {
    let why = match answer {
        GateAnswer::Yes | GateAnswer::NotYet { .. } => return answer,
        GateAnswer::No { why } => why,
    };
    match policy {
        FailurePolicy::Abort => GateAnswer::No { why },
        FailurePolicy::Retry => not_yet(why),
        FailurePolicy::Ignore => {
            tracing::warn!(%rollout, why, "a gate says no, which its failurePolicy ignores");
            GateAnswer::Yes
        }
    }
}

/// Waits for the Job's end. What cannot be asked just now is asked again; a Job that the cluster refuses says no.
async fn ran(edge: &Edge, gate: &Gate, job: &Job) -> GateAnswer {
    let question = Question {
        namespace: edge.id.namespace(),
        rollout: edge.id.to_string(),
        gate: &gate.name,
        job,
        env: told(edge, gate),
        again: gate.failure_policy == FailurePolicy::Retry,
    };
    match question.answered(&edge.parts.clients).await {
        Ok(Ran::Succeeded) => GateAnswer::Yes,
        Ok(Ran::Failed(why)) => GateAnswer::No { why },
        Err(error) if error.retryable() => not_yet(error.to_string()),
        Err(error) => GateAnswer::No { why: error.to_string() },
    }
}

/// What a Job's pod knows of the rollout, in Sluice's words and in those of OpenShift's custom deployments.
fn told(edge: &Edge, gate: &Gate) -> Vec<(&'static str, String)> {
    let canary = match &edge.policy.spec.workloads.canary {
        Workload::Deployment(name) | Workload::DeploymentConfig(name) | Workload::StatefulSet(name) => name,
        Workload::External => edge.id.name(),
    };
    vec![
        ("SLUICE_ROLLOUT", edge.id.to_string()),
        ("SLUICE_RELEASE", edge.charter.release.clone().unwrap_or_default()),
        ("SLUICE_GATE", gate.name.clone()),
        ("OPENSHIFT_DEPLOYMENT_NAME", canary.to_owned()),
        ("OPENSHIFT_DEPLOYMENT_NAMESPACE", edge.id.namespace().to_owned()),
    ]
}

fn not_yet(why: String) -> GateAnswer {
    GateAnswer::NotYet { why, again: now().plus(AGAIN) }
}

/// 200 is yes, 403 is no, anything else is not yet.
async fn asked(http: &Client, url: &str) -> GateAnswer {
    let request = Url::parse(url).map_err(|error| error.to_string());
    let request = request.and_then(|url| http.get(url).map_err(|why| why.to_string()));
    let request = match request {
        Ok(request) => request,
        Err(why) => return GateAnswer::No { why: format!("the gate's url cannot be asked: {why}") },
    };
    match request.timeout(WEBHOOK_LIMIT).send().await {
        Ok(answer) if answer.status() == 200 => GateAnswer::Yes,
        Ok(answer) if answer.status() == 403 => GateAnswer::No { why: "answered 403".into() },
        Ok(answer) => not_yet(format!("answered {}", answer.status())),
        Err(error) => not_yet(error.without_url().to_string()),
    }
}

async fn promoted(edge: &Edge, namespace: &str, name: &str) -> GateAnswer {
    let ledger = &edge.parts.ledger;
    let latest = match ledger.attempts(namespace, name).await {
        Ok(attempts) => attempts.ids.last().cloned(),
        Err(error) => return not_yet(error.to_string()),
    };
    let Some(latest) = latest else { return not_yet(format!("{namespace}/{name} has no rollout yet")) };
    match ledger.load(&latest).await {
        Ok(Some((saved, _))) => match saved.state.phase {
            Phase::Done { outcome: Outcome::Promoted, .. } => GateAnswer::Yes,
            ref phase => not_yet(format!("{latest} is {}", phase.name())),
        },
        Ok(None) => not_yet(format!("{latest} has not begun")),
        Err(error) => not_yet(error.to_string()),
    }
}

/// Yes outside the frozen times; within them not yet, asked again every minute. A calendar that cannot be read says no.
fn thawed(freeze: &Freeze, at: Timestamp) -> GateAnswer {
    match frozen(freeze, at) {
        Ok(None) => GateAnswer::Yes,
        Ok(Some(why)) => GateAnswer::NotYet { why, again: at.plus(Duration::from_secs(60)) },
        Err(why) => GateAnswer::No { why },
    }
}

fn frozen(freeze: &Freeze, at: Timestamp) -> Result<Option<String>, String> {
    let zone = TimeZone::get(&freeze.zone).map_err(|error| format!("zone {:?}: {error}", freeze.zone))?;
    let instant = jiff::Timestamp::from_millisecond(at.millis()).map_err(|error| error.to_string())?;
    let local: Zoned = instant.to_zoned(zone);
    if freeze.days.iter().any(|day| weekday(*day) == local.weekday()) {
        return Ok(Some(format!("no change on {:?}", local.weekday())));
    }
    for hours in &freeze.hours {
        if Hours::parse(hours)?.contain(local.time()) {
            return Ok(Some(format!("no change {hours} {}", freeze.zone)));
        }
    }
    for dates in &freeze.dates {
        if Dates::parse(dates)?.contain(local.date()) {
            return Ok(Some(format!("no change {dates}")));
        }
    }
    Ok(None)
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn calendar() -> Freeze {
        Freeze {
            zone: "Europe/Berlin".into(),
            days: vec![Day::Sat, Day::Sun],
            hours: vec!["22:00-06:00".into()],
            dates: vec!["2026-12-24..2026-12-27".into()],
        }
    }

    #[test]
    fn a_freeze_is_read_in_its_own_zone() {
        assert_eq!(frozen(&calendar(), at("2026-11-20T12:00:00Z")), Ok(None));
        assert!(
            frozen(&calendar(), at("2026-11-20T21:30:00Z")).unwrap().is_some(),
            "half past ten in Berlin"
        );
        assert!(frozen(&calendar(), at("2026-11-21T12:00:00Z")).unwrap().is_some(), "a Saturday");
        assert!(frozen(&calendar(), at("2026-12-24T12:00:00Z")).unwrap().is_some(), "Christmas Eve");
    }

    #[test]
    fn a_calendar_that_cannot_be_read_opens_nothing() {
        let wrong = Freeze { zone: "Mars/Olympus".into(), ..calendar() };
        assert!(matches!(thawed(&wrong, at("2026-11-20T12:00:00Z")), GateAnswer::No { .. }));
        let wrong = Freeze { days: vec![], hours: vec!["at night".into()], ..calendar() };
        assert!(matches!(thawed(&wrong, at("2026-11-20T12:00:00Z")), GateAnswer::No { .. }));
    }
}
