//! The telling lanes: events on the bus, alerts to on-call. Neither waits for the other, and nothing waits for them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use sluice_alerts::{Delivery, Receipt};
use sluice_rollout::{AlertKind, Effect, EffectId, Event, Notice, Numbered, Timestamp};
use sluice_wire::{
    alert::{Alert, AlertStatus},
    cloudevent::CloudEvent,
    message::{TOLD, Told},
    record::Charter,
    subject,
};

use crate::runtime::{
    backoff::Backoff,
    boundary::{self, Boundary},
    clock::now,
    edge::Edge,
    fault::{self, Fault},
    troubles::Silent,
};

/// An alert that nobody has by then is shown as waiting.
const TOLD_SOON: Duration = Duration::from_secs(2);

/// At least once, under one id: a repeat is recognised by the stream and by whoever listens.
pub(super) async fn publish(edge: Arc<Edge>, job: Numbered) {
    let report = edge.report.borrow().clone();
    let Some((subject, event)) = published(&edge.charter, job.id, &job.effect, &report) else { return };
    let headers = [("Content-Type".to_owned(), "application/cloudevents+json".to_owned())];
    let body = bytes::Bytes::from(event.to_bytes());
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while let Err(error) =
        edge.parts.bus.publish(&subject, &headers, body.clone(), &id(&event, &backoff)).await
    {
        edge.failed(&job.effect, Silent::Bus, &error.to_string());
        tokio::time::sleep(backoff.next()).await;
    }
    boundary::met_by(Boundary::EffectPerformed, &job.effect);
    edge.troubles.over(Silent::Bus);
    edge.post.event(Event::EffectDone { id: job.id }).await;
}

/// The same at every attempt, and after a crash.
fn id(event: &CloudEvent, backoff: &Backoff) -> String {
    if fault::has(Fault::PublishUnderAFreshId) {
        return format!("{} {}", event.id, backoff.attempts());
    }
    event.id.clone()
}

/// What is published for a notice, and where; nothing for another effect.
pub fn published(
    charter: &Charter,
    id: EffectId,
    effect: &Effect,
    evidence: &Value,
) -> Option<(String, CloudEvent)> {
    let Effect::Publish { notice, reason, revision, weight } = effect else { return None };
    let (rollout, name) = (&charter.id, notice_name(notice));
    let outcome = match notice {
        Notice::Finished { outcome } => Some(*outcome),
        _ => None,
    };
    let told = Told {
        rollout: rollout.clone(),
        revision: *revision,
        phase: name.to_owned(),
        weight: *weight,
        reason: reason.clone(),
        version: charter.release.clone(),
        outcome,
        details: json!({"notice": notice, "evidence": evidence}),
    };
    let data = serde_json::to_value(told).unwrap_or_default();
    let place = format!("{}/{}", rollout.namespace(), rollout.name());
    let (event_id, kind) = (format!("{rollout}/{}", id.seq), format!("{TOLD}{name}"));
    let event = CloudEvent::new(event_id, "sluice", &kind, &place, now(), data);
    Some((subject::out(rollout.namespace(), rollout.name(), name), event))
}

/// The notice's token in a subject and a type.
pub fn notice_name(notice: &Notice) -> &'static str {
    match notice {
        Notice::Started => "started",
        Notice::StepReached { .. } => "step-reached",
        Notice::StepPassed { .. } => "step-passed",
        Notice::Paused => "paused",
        Notice::Resumed => "resumed",
        Notice::Baking => "baking",
        Notice::Promoting => "promoting",
        Notice::Aborting => "aborting",
        Notice::Drained { .. } => "drained",
        Notice::Overridden { .. } => "overridden",
        Notice::Attention => "attention",
        Notice::Finished { .. } => "finished",
    }
}

/// Told when every receiver has it; a receiver that never will have it is logged and does not hold up the rollout's end.
pub(super) async fn alert(edge: Arc<Edge>, job: Numbered) {
    let receipt = match &job.effect {
        Effect::Alert { kind, summary, since } => {
            edge.alerts.fire(message(&edge, *kind, AlertStatus::Firing, summary, *since))
        }
        Effect::ResolveAlert { kind, summary, since, .. } => {
            edge.alerts.resolve(message(&edge, *kind, AlertStatus::Resolved, summary, *since))
        }
        _ => return,
    };
    // The dispatcher goes on trying by itself; a dead sink must not keep the next alert waiting.
    let Numbered { id, effect } = job;
    tokio::spawn(async move {
        for delivery in told(&edge, receipt).await {
            if let sluice_alerts::Outcome::Refused { why } = delivery.outcome {
                tracing::error!(rollout = %edge.id, sink = delivery.sink, why, "an alert was refused");
            }
        }
        boundary::met_by(Boundary::EffectPerformed, &effect);
        edge.post.event(Event::EffectDone { id }).await;
    });
}

/// Until every receiver has it. Meanwhile whoever looks at the rollout sees which one does not take it, and why.
async fn told(edge: &Edge, receipt: Receipt) -> Vec<Delivery> {
    let told = receipt.told();
    tokio::pin!(told);
    loop {
        match tokio::time::timeout(TOLD_SOON, &mut told).await {
            Ok(deliveries) => {
                edge.troubles.over(Silent::OnCall);
                return deliveries;
            }
            Err(_) => {
                let stats = edge.alerts.stats().into_iter();
                let failing = stats.filter_map(|sink| sink.failing.map(|(_, why)| (sink.name, why))).next();
                if let Some((sink, why)) = failing {
                    edge.troubles.note(Silent::OnCall, &format!("{sink}: {why}"));
                }
            }
        }
    }
}

/// What on-call reads.
pub fn message(edge: &Edge, kind: AlertKind, status: AlertStatus, summary: &str, since: Timestamp) -> Alert {
    let snapshot = *edge.snapshot.borrow();
    let mut details = BTreeMap::new();
    details.insert("weight".to_owned(), snapshot.weight.to_string());
    details.insert("target".to_owned(), edge.target.name());
    if let Some(release) = &edge.charter.release {
        details.insert("release".to_owned(), release.clone());
    }
    details
        .insert("explain".to_owned(), format!("sluice explain {}/{}", edge.id.namespace(), edge.id.name()));
    Alert { rollout: edge.id.clone(), kind, status, summary: summary.to_owned(), details, since, at: now() }
}
