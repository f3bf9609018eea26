//! Alertmanager, API v2: one sink per replica, since replicas tell each other of silences and of what was notified, but
//! not of alerts. (<https://prometheus.io/docs/alerting/latest/alerts_api/>, `POST /api/v2/alerts`.)
//!
//! - An alert's labels are its identity: nothing that changes during a rollout's attempt stands in them. The attempt does,
//!   so that a late end of one attempt's alert cannot resolve the next one's.
//! - While it fires, each post says that it ends four repeats from now: Alertmanager forgets it by itself if we die.
//! - Resolved is an end in the past. Alertmanager ignores an end that is in its future, so that end is set a little back,
//!   for clocks that differ.
//! - It tells nobody of an alert that ends within its route's `group_wait`, so each one stays up for `atLeast`.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sluice_outbound::{Client, Outbound};
use sluice_rollout::{AlertKind, Timestamp};
use sluice_wire::{
    alert::{Alert, AlertStatus, kind_name},
    policy,
};

use crate::{Sink, SinkError, instant::rfc3339, outward, outward::HiddenUrl, secret};

/// How many repeats an alert outlives us by.
const OUTLIVES: u32 = 4;
/// How far Alertmanager's clock may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

/// One replica.
#[derive(Debug)]
pub(crate) struct Alertmanager {
    client: Client,
    /// Without `/api/v2/alerts`.
    outbound: Outbound,
    base: HiddenUrl,
    /// The first replica's place.
    receiver: String,
    token_file: Option<String>,
    labels: BTreeMap<String, String>,
    repeat: Duration,
    at_least: Duration,
    clock: fn() -> Timestamp,
}

/// All replicas of a policy's block.
pub(crate) fn replicas(
    block: &policy::Alertmanager,
    client: &Client,
    outbound: &Outbound,
) -> Result<Vec<Alertmanager>, SinkError> {
    let urls = block
        .replicas()
        .into_iter()
        .map(|url| outward::url(url, outbound))
        .collect::<Result<Vec<_>, SinkError>>()?;
    secret::check(outbound, block.token_file.as_ref())?;
    let receiver = urls.first().map(HiddenUrl::place).unwrap_or_default();
    Ok(urls.into_iter().map(|base| replica(block, (client, outbound), base, &receiver)).collect())
}

fn replica(
    block: &policy::Alertmanager,
    (client, outbound): (&Client, &Outbound),
    base: HiddenUrl,
    receiver: &str,
) -> Alertmanager {
    Alertmanager {
        client: client.clone(),
        outbound: outbound.clone(),
        base,
        receiver: receiver.to_owned(),
        token_file: block.token_file.clone(),
        labels: block.labels.clone(),
        repeat: block.repeat.0,
        at_least: block.at_least.0,
        clock: wall_clock,
    }
}

#[async_trait]
impl Sink for Alertmanager {
    fn name(&self) -> String {
        format!("alertmanager {}", self.base.place())
    }

    fn receiver(&self) -> String {
        format!("alertmanager {}", self.receiver)
    }

    fn repeat(&self) -> Option<Duration> {
        Some(self.repeat)
    }

    fn at_least(&self) -> Duration {
        self.at_least
    }

    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError> {
        let now = (self.clock)();
        let body: Value = alerts.iter().map(|alert| self.posted(alert, now)).collect();
        let mut request = self.client.post(self.base.below("/api/v2/alerts")).map_err(outward::forbidden)?;
        if let Some(file) = &self.token_file {
            request = request.bearer_auth(secret::read(&self.outbound, file).await?.expose_secret());
        }
        outward::post("Alertmanager", request, &body).await
    }
}

impl Alertmanager {
    fn posted(&self, alert: &Alert, now: Timestamp) -> Value {
        json!({
            "labels": self.labels_of(alert),
            "annotations": annotations(alert),
            "startsAt": rfc3339(alert.since),
            "endsAt": rfc3339(self.ends(alert, now)),
        })
    }

    fn ends(&self, alert: &Alert, now: Timestamp) -> Timestamp {
        match alert.status {
            AlertStatus::Firing => now.plus(self.repeat * OUTLIVES),
            AlertStatus::Resolved => before(alert.at.min(now), CLOCKS_DIFFER).max(alert.since),
        }
    }

    fn labels_of(&self, alert: &Alert) -> BTreeMap<String, String> {
        let (name, severity) = named(alert.kind);
        let mut labels = BTreeMap::from([("severity".to_owned(), severity.to_owned())]);
        labels.extend(self.labels.clone());
        labels.extend([
            ("alertname".to_owned(), name.to_owned()),
            ("namespace".to_owned(), alert.rollout.namespace().to_owned()),
            ("rollout".to_owned(), alert.rollout.name().to_owned()),
            ("attempt".to_owned(), alert.rollout.attempt().to_owned()),
            ("kind".to_owned(), kind_name(alert.kind).to_owned()),
        ]);
        labels
    }
}

/// The alert's name and its usual severity.
fn named(kind: AlertKind) -> (&'static str, &'static str) {
    match kind {
        AlertKind::Aborting => ("SluiceRolloutAborting", "critical"),
        AlertKind::NeedsAttention => ("SluiceRolloutNeedsAttention", "warning"),
        AlertKind::Blind => ("SluiceRolloutBlind", "warning"),
        AlertKind::Advisory => ("SluiceRolloutAdvisory", "info"),
    }
}

/// What may change: the summary, all details as a description, and each detail under its own name.
fn annotations(alert: &Alert) -> BTreeMap<String, String> {
    let description: Vec<String> =
        alert.details.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut annotations: BTreeMap<String, String> =
        alert.details.iter().map(|(name, value)| (annotation_name(name), value.clone())).collect();
    annotations.insert("summary".to_owned(), alert.summary.clone());
    annotations.insert("description".to_owned(), description.join("\n"));
    annotations
}

/// Names follow the rules of label names.
fn annotation_name(name: &str) -> String {
    let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if safe.starts_with(|c: char| c.is_ascii_alphabetic()) { safe } else { format!("_{safe}") }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    Timestamp::from_millis(at.millis().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

fn wall_clock() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}
