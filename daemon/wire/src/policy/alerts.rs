//! `alerts:` who is told, one entry a sink.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AlertSink {
    Alertmanager(Alertmanager),
    Slack(Slack),
    Webhook(AlertWebhook),
}

/// Alertmanager's API v2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alertmanager {
    /// One URL, or `urls` for every replica of a cluster. With or without a path prefix, without `/api/v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// File with a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// Labels added to every alert, such as `{team: shop}`. `severity` may be replaced here; Sluice's other labels may not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How often a firing alert is posted again: 1s to 1h. Without news Alertmanager forgets it after four times this.
    #[serde(default = "one_minute")]
    pub repeat: Span,
    /// How long an alert stays up at least: longer than the route's `group_wait` (30s there by default), since Alertmanager
    /// tells nobody of an alert that ends before. An abort is put back within a second. 0 to 1h.
    #[serde(default = "one_minute")]
    pub at_least: Span,
}

/// A Slack incoming webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slack {
    /// File that holds the webhook's URL: it is a secret. Read again for each message.
    pub url_file: String,
}

/// A POST of the alerts as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertWebhook {
    pub url: String,
    /// File with a bearer token. Read again for each POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
}

/// Labels that make up an alert's identity.
pub const OWN_LABELS: [&str; 5] = ["alertname", "namespace", "rollout", "attempt", "kind"];

impl AlertSink {
    /// The field (below this entry) that is wrong, and the remedy.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            AlertSink::Alertmanager(alertmanager) => alertmanager.check(),
            AlertSink::Slack(slack) if slack.url_file.is_empty() => {
                Err(("slack.urlFile", "name the file that holds the incoming webhook's URL".to_owned()))
            }
            AlertSink::Slack(_) => Ok(()),
            AlertSink::Webhook(webhook) => check_url(&webhook.url).map_err(|why| ("webhook.url", why)),
        }
    }
}

impl Alertmanager {
    /// Every replica once.
    pub fn replicas(&self) -> Vec<&str> {
        let mut replicas: Vec<&str> = Vec::new();
        for url in self.url.iter().chain(&self.urls) {
            if !replicas.contains(&url.as_str()) {
                replicas.push(url);
            }
        }
        replicas
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.replicas().is_empty() {
            return Err(("alertmanager", "give `url`, or `urls` with every replica".to_owned()));
        }
        for url in self.replicas() {
            check_url(url).map_err(|why| ("alertmanager.url", why))?;
        }
        for name in self.labels.keys() {
            check_label(name).map_err(|why| ("alertmanager.labels", why))?;
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.repeat.0) {
            return Err(("alertmanager.repeat", format!("{} is out of range: give 1s to 1h", self.repeat)));
        }
        if self.at_least.0 > Duration::from_secs(3600) {
            return Err(("alertmanager.atLeast", format!("{} is out of range: give 0 to 1h", self.at_least)));
        }
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(()),
        Some(_) | None => Err(format!("{url:?} is no URL: write for example http://alertmanager:9093")),
    }
}

fn check_label(name: &str) -> Result<(), String> {
    let fine = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fine {
        return Err(format!("{name:?} is no label name: use letters, digits and '_', and no digit first"));
    }
    if OWN_LABELS.contains(&name) {
        return Err(format!("{name:?} is set by Sluice: choose another name"));
    }
    Ok(())
}

fn one_minute() -> Span {
    Span::from_secs(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> AlertSink {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_sink_that_cannot_work_is_refused_with_its_field() {
        for (yaml, field) in [
            ("alertmanager: {}", "alertmanager"),
            ("alertmanager: {url: 'am:9093'}", "alertmanager.url"),
            ("alertmanager: {url: 'http://am', labels: {alertname: x}}", "alertmanager.labels"),
            ("alertmanager: {url: 'http://am', labels: {a-b: x}}", "alertmanager.labels"),
            ("alertmanager: {url: 'http://am', repeat: 10ms}", "alertmanager.repeat"),
            ("alertmanager: {url: 'http://am', atLeast: 2h}", "alertmanager.atLeast"),
            ("slack: {urlFile: ''}", "slack.urlFile"),
            ("webhook: {url: 'ftp://x'}", "webhook.url"),
        ] {
            assert_eq!(parse(yaml).check().map_err(|(field, _)| field), Err(field), "{yaml}");
        }
    }

    #[test]
    fn replicas_are_those_of_url_and_urls_once_each() {
        let sink = parse(
            "alertmanager: {url: 'http://a', urls: ['http://b', 'http://a'], labels: {severity: page}}",
        );
        assert_eq!(sink.check(), Ok(()));
        let AlertSink::Alertmanager(alertmanager) = sink else { panic!("not an Alertmanager") };
        assert_eq!(alertmanager.replicas(), ["http://a", "http://b"]);
    }
}
