//! What on-call saw of a shop, as Alertmanager itself told it.

use anyhow::{Result, bail};
use serde_json::Value;
use sluice_rig::wait;

use super::{World, servers};
use crate::LIMIT;

impl World {
    /// What Alertmanager has notified of an alert's kind (`aborting`, `blind`, `needs-attention`) in this namespace, in
    /// order: `firing` or `resolved`.
    pub async fn notified(&self, kind: &str) -> Result<Vec<String>> {
        let letters = servers::shared().await?.inbox.letters();
        let of = |letter: Value| -> Vec<String> {
            let alerts = letter["alerts"].as_array().cloned().unwrap_or_default();
            let ours = alerts.iter().filter(|alert| {
                alert["labels"]["namespace"] == self.namespace.as_str() && alert["labels"]["kind"] == kind
            });
            ours.map(|alert| alert["status"].as_str().unwrap_or_default().to_owned()).collect()
        };
        Ok(letters.iter().flat_map(|letter| of(letter.json())).collect())
    }

    /// Waits until Alertmanager has notified of exactly these, in order.
    pub async fn wait_notified(&self, kind: &str, wanted: &[&str]) -> Result<()> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        wait::until_equal(&format!("notifications of {kind}"), LIMIT, wanted, || self.notified(kind)).await
    }

    /// Waits until on-call has heard that something of this kind was up, and last that it is over: once is usual, and what
    /// comes and goes on a busy machine may be told of more often.
    pub async fn wait_over(&self, kind: &str) -> Result<()> {
        wait::until(&format!("the end of {kind}"), LIMIT, || async {
            let told = self.notified(kind).await?;
            let over = told.len() > 1 && told.last().is_some_and(|last| last == "resolved");
            if over { Ok(Some(())) } else { bail!("notified were {told:?}") }
        })
        .await
    }

    /// The kinds of the alerts that are up in this namespace, as Alertmanager lists them.
    pub async fn alerts_up(&self) -> Result<Vec<String>> {
        let alerts =
            servers::shared().await?.alertmanager.alerts_with(&[("namespace", &self.namespace)]).await?;
        Ok(alerts.into_iter().map(|alert| alert.labels.get("kind").cloned().unwrap_or_default()).collect())
    }

    /// Waits until an alert of this kind is up in Alertmanager; gives its summary.
    pub async fn wait_alert(&self, kind: &str) -> Result<String> {
        let shared = servers::shared().await?;
        let labels = [("namespace", self.namespace.as_str()), ("kind", kind)];
        let alert = shared.alertmanager.wait_until_firing(&labels, LIMIT).await?;
        Ok(alert.annotations.get("summary").cloned().unwrap_or_default())
    }

    /// Waits until no alert of this namespace is up any more.
    pub async fn wait_quiet(&self) -> Result<()> {
        wait::until("no alert to be up", LIMIT, || async {
            match self.alerts_up().await?.as_slice() {
                [] => Ok(Some(())),
                up => bail!("up are {up:?}"),
            }
        })
        .await
    }
}
