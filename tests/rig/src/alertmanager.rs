//! Alertmanager: takes alerts, lists those that fire, and tells a webhook if it is given one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries;
use crate::folder::Folder;
use crate::http;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};
use crate::wait;

/// How to start it.
#[derive(Debug, Clone, Default)]
pub struct AlertmanagerOptions {
    /// Where notifications go, at once and without grouping; see [`crate::Inbox`].
    pub webhook: Option<String>,
    /// A whole configuration instead of the one above.
    pub config: Option<String>,
}

/// A running Alertmanager, alone (no gossip).
#[derive(Debug)]
pub struct Alertmanager {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    client: reqwest::Client,
    port: Port,
    _folder: Folder,
}

/// An alert that has not been resolved, as API v2 lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339.
    pub starts_at: String,
    /// RFC 3339.
    pub ends_at: String,
    /// `active`, `suppressed` or `unprocessed`.
    pub state: String,
}

impl Alertmanager {
    /// Starts it and waits for `/-/ready`.
    pub async fn start(options: AlertmanagerOptions) -> Result<Self> {
        let (folder, port) = (Folder::new("alertmanager")?, Port::free()?);
        let config = options.config.unwrap_or_else(|| config(options.webhook.as_deref()));
        folder.write("alertmanager.yml", config)?;
        let ready = Ready::Http(format!("http://{}/-/ready", port.address()));
        let program = binaries::packaged("prometheus-alertmanager")?;
        let server = Recipe::new("alertmanager", program, folder.path(), ready)
            .args(["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="])
            .args([format!("--web.listen-address={}", port.address())])
            .start()
            .await?;
        Ok(Self { server, client: http::client()?, port, _folder: folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// All alerts that are not resolved.
    pub async fn alerts(&self) -> Result<Vec<Alert>> {
        let answer = http::get_json(&self.client, &format!("{}/api/v2/alerts", self.url())).await?;
        answer.as_array().context("no list of alerts")?.iter().map(alert).collect()
    }

    /// Those of them that have all these labels.
    pub async fn alerts_with(&self, labels: &[(&str, &str)]) -> Result<Vec<Alert>> {
        let has =
            |alert: &Alert, (name, value): &(&str, &str)| alert.labels.get(*name).is_some_and(|l| l == value);
        let all = self.alerts().await?;
        Ok(all.into_iter().filter(|alert| labels.iter().all(|label| has(alert, label))).collect())
    }

    /// Waits until exactly one alert with these labels fires.
    pub async fn wait_until_firing(&self, labels: &[(&str, &str)], limit: Duration) -> Result<Alert> {
        wait::until(&format!("an alert {labels:?}"), limit, || async {
            match self.alerts_with(labels).await?.as_slice() {
                [one] => Ok(Some(one.clone())),
                several => bail!("there are {}", several.len()),
            }
        })
        .await
    }

    /// Waits until no alert with these labels fires any more.
    pub async fn wait_until_resolved(&self, labels: &[(&str, &str)], limit: Duration) -> Result<()> {
        let what = format!("the alerts {labels:?} to be resolved");
        wait::until_equal(&what, limit, vec![], || self.alerts_with(labels)).await
    }

    /// Posts alerts as API v2 takes them.
    pub async fn post(&self, alerts: &Value) -> Result<()> {
        let url = format!("{}/api/v2/alerts", self.url());
        http::answer(&url, self.client.post(&url).json(alerts).send().await).await.map(drop)
    }
}

fn config(webhook: Option<&str>) -> String {
    let receiver = webhook.map(|url| format!("  webhook_configs: [{{url: {url:?}, send_resolved: true}}]\n"));
    format!(
        "route: {{receiver: rig, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers:\n- name: rig\n{}",
        receiver.unwrap_or_default()
    )
}

fn alert(listed: &Value) -> Result<Alert> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let map = |value: &Value| -> Result<BTreeMap<String, String>> {
        let entries = value.as_object().context("an alert without a map")?;
        Ok(entries.iter().map(|(name, value)| (name.clone(), text(value))).collect())
    };
    Ok(Alert {
        labels: map(&listed["labels"])?,
        annotations: map(&listed["annotations"])?,
        starts_at: text(&listed["startsAt"]),
        ends_at: text(&listed["endsAt"]),
        state: text(&listed["status"]["state"]),
    })
}
