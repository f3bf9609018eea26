//! A POST of the alerts as JSON, for whatever has no file here.
//!
//! ```json
//! {"apiVersion": "sluice.dev/v1alpha1", "alerts": [
//!   {"id": "5d41…", "status": "firing", "kind": "blind", "namespace": "shop", "rollout": "checkout", "attempt": "v2",
//!    "title": "…", "summary": "…", "details": {"weight": "5 %"},
//!    "since": "2026-11-21T11:00:00Z", "at": "2026-11-21T11:00:02Z"}]}
//! ```
//! Any 2xx means taken. `id` is the same from firing to resolved, so (`id`, `status`, `at`) tells a repeat; the header
//! `Idempotency-Key` is the same for the same alerts in one POST.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_outbound::{Client, Outbound};
use sluice_wire::{
    API_VERSION,
    alert::{Alert, kind_name},
    policy::AlertWebhook,
};

use crate::{Sink, SinkError, instant::rfc3339, outward, outward::HiddenUrl, secret};

#[derive(Debug)]
pub(crate) struct Webhook {
    client: Client,
    outbound: Outbound,
    url: HiddenUrl,
    token_file: Option<String>,
}

impl Webhook {
    pub fn new(block: &AlertWebhook, client: Client, outbound: &Outbound) -> Result<Webhook, SinkError> {
        let url = outward::url(&block.url, outbound)?;
        secret::check(outbound, block.token_file.as_ref())?;
        Ok(Webhook { client, outbound: outbound.clone(), url, token_file: block.token_file.clone() })
    }
}

#[async_trait]
impl Sink for Webhook {
    fn name(&self) -> String {
        format!("webhook {} ({})", self.url.place(), self.url.mark())
    }

    fn repeat(&self) -> Option<Duration> {
        None
    }

    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError> {
        let request = self.client.post(self.url.full()).map_err(outward::forbidden)?;
        let mut request = request.header("Idempotency-Key", idempotency_key(alerts));
        if let Some(file) = &self.token_file {
            request = request.bearer_auth(secret::read(&self.outbound, file).await?.expose_secret());
        }
        let alerts: Vec<Value> = alerts.iter().map(posted).collect();
        outward::post("the webhook", request, &json!({"apiVersion": API_VERSION, "alerts": alerts})).await
    }
}

fn posted(alert: &Alert) -> Value {
    json!({
        "id": alert.episode(),
        "status": alert.status,
        "kind": kind_name(alert.kind),
        "namespace": alert.rollout.namespace(),
        "rollout": alert.rollout.name(),
        "attempt": alert.rollout.attempt(),
        "title": alert.title(),
        "summary": alert.summary,
        "details": alert.details,
        "since": rfc3339(alert.since),
        "at": rfc3339(alert.at),
    })
}

/// 32 hex digits of a SHA-256 over each alert's episode, status and time.
fn idempotency_key(alerts: &[Alert]) -> String {
    let mut hash = Sha256::new();
    for alert in alerts {
        hash.update(format!("{} {:?} {}\n", alert.episode(), alert.status, alert.at.millis()));
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
