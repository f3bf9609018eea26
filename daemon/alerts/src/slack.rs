//! Slack's incoming webhooks (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
//!
//! The URL is the secret: it stands in a file, is read for each message, and is shown nowhere. A message cannot be taken
//! back or changed, so a firing alert is one message and its end is another. Slack takes one message a second and says
//! with 429 how long to wait when it was too much.

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sluice_outbound::{Client, Outbound};
use sluice_wire::{
    alert::{Alert, AlertStatus},
    policy,
};

use crate::{Pace, Sink, SinkError, outward, outward::HiddenUrl, secret};

/// Slack refuses a section's text above 3,000 characters.
const MOST_TEXT: usize = 2_900;
/// A detail is a line to read on a phone.
const MOST_DETAIL: usize = 300;

#[derive(Debug)]
pub(crate) struct Slack {
    client: Client,
    outbound: Outbound,
    url_file: String,
}

impl Slack {
    pub fn new(block: &policy::Slack, client: Client, outbound: Outbound) -> Result<Slack, SinkError> {
        secret::check(&outbound, Some(&block.url_file))?;
        Ok(Slack { client, outbound, url_file: block.url_file.clone() })
    }

    async fn url(&self) -> Result<HiddenUrl, SinkError> {
        let text = secret::read(&self.outbound, &self.url_file).await?;
        // The parser's own words would show the secret.
        outward::url(text.expose_secret(), &self.outbound).map_err(|_| SinkError::Passing {
            why: format!(
                "{} holds no URL that an alert may go to: put the incoming webhook's URL there",
                self.url_file
            ),
            after: None,
        })
    }
}

#[async_trait]
impl Sink for Slack {
    fn name(&self) -> String {
        format!("slack {}", self.url_file)
    }

    fn repeat(&self) -> Option<Duration> {
        None
    }

    fn pace(&self) -> Pace {
        Pace { per: Duration::from_secs(1), burst: NonZeroU32::MIN }
    }

    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError> {
        let request = self.client.post(self.url().await?.full()).map_err(outward::forbidden)?;
        outward::post("Slack", request, &message(alerts)).await
    }
}

/// One section per alert; `text` is what a notification shows.
fn message(alerts: &[Alert]) -> Value {
    let titles: Vec<String> = alerts.iter().map(|alert| escaped(&alert.title())).collect();
    let blocks: Vec<Value> = alerts.iter().map(section).collect();
    json!({"text": cut(&titles.join("; "), MOST_TEXT), "blocks": blocks})
}

fn section(alert: &Alert) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(&words(alert), MOST_TEXT)}})
}

fn words(alert: &Alert) -> String {
    let sign = match alert.status {
        AlertStatus::Firing => ":red_circle:",
        AlertStatus::Resolved => ":large_green_circle:",
    };
    let mut text = format!("{sign} *{}*\n{}", escaped(&alert.title()), escaped(&alert.summary));
    text.push_str(&format!("\n• attempt: {}", escaped(alert.rollout.attempt())));
    for (name, value) in &alert.details {
        text.push_str(&format!("\n• {}: {}", escaped(name), escaped(&cut(value, MOST_DETAIL))));
    }
    text
}

/// The three characters that Slack reads as control characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most).chain(['…']).collect()
}
