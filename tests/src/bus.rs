//! NATS as a team and a person use it: releases announced, commands through both doors, and all that Sluice tells.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::{ConnectOptions, HeaderMap, Message};
use futures::StreamExt;
use serde_json::{Value, json};
use sluice_rig::wait;
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::message::{ANNOUNCED, Answer, Told};
use sluice_wire::subject;
use tokio::task::JoinHandle;

use crate::LIMIT;

/// The streams of what is announced and commanded.
const INTO: [&str; 2] = ["SLUICE_EVENTS", "SLUICE_OVERRIDES"];

/// Of the server, however busy the machine is; what was lost on the way to a cluster is sent again after it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A client that has listened to everything Sluice tells since it was connected.
#[derive(Debug)]
pub struct Bus {
    client: async_nats::Client,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

/// A message of Sluice's, as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Heard {
    /// A header by its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The CloudEvent in it.
    pub fn event(&self) -> Result<CloudEvent> {
        CloudEvent::read(&self.headers, &self.body)
            .with_context(|| format!("{} is no CloudEvent", self.subject))
    }

    /// What the CloudEvent in it says.
    pub fn told(&self) -> Result<Told> {
        serde_json::from_value(self.event()?.data)
            .with_context(|| format!("{} tells nothing of ours", self.subject))
    }
}

impl Bus {
    /// Connects and listens to `sluice.out.>`, `sluice.dead` and replies. Before the daemon starts, nothing is missed.
    pub async fn connect(url: &str) -> Result<Bus> {
        sluice_rig::http::install_crypto();
        let servers: Vec<&str> = url.split(',').collect();
        let patient =
            ConnectOptions::new().request_timeout(Some(ANSWER_LIMIT)).connection_timeout(ANSWER_LIMIT);
        let client = patient.connect(servers).await.with_context(|| format!("connecting to {url}"))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut subscriptions = Vec::new();
        for pattern in ["sluice.out.>", "sluice.dead", "sluice.dead.>", "sluice.reply.>"] {
            subscriptions.push(client.subscribe(pattern).await?);
        }
        client.flush().await?;
        let all = futures::stream::select_all(subscriptions);
        let into = heard.clone();
        let task = tokio::spawn(all.for_each(move |message| {
            lock(&into).push(kept(message));
            std::future::ready(())
        }));
        Ok(Bus { client, heard, task })
    }

    /// The plain client, for what has no word here.
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// Announces a release of a policy (`namespace/name`) and waits until the stream has it. The id is `attempt`'s own, so
    /// announcing the same attempt again is a repeat.
    pub async fn announce(&self, rollout: &str, attempt: &str) -> Result<()> {
        self.announce_as(rollout, attempt, json!({"attempt": attempt, "version": attempt})).await
    }

    /// The same with data and id of one's own.
    pub async fn announce_as(&self, rollout: &str, id: &str, data: Value) -> Result<()> {
        let (namespace, name) = split(rollout)?;
        let event = json!({"specversion": "1.0", "id": id, "source": "ci", "type": ANNOUNCED,
            "subject": rollout, "datacontenttype": "application/json", "data": data});
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/cloudevents+json");
        self.store(&subject::event(namespace, name, "announced"), headers, event.to_string().into_bytes())
            .await
    }

    /// Any bytes to any subject that a stream keeps; waits until it has them.
    pub async fn store(&self, subject: &str, headers: HeaderMap, body: Vec<u8>) -> Result<()> {
        let mut jetstream = async_nats::jetstream::new(self.client.clone());
        jetstream.set_timeout(ANSWER_LIMIT);
        let kept = jetstream.publish_with_headers(subject.to_owned(), headers, body.into()).await?;
        kept.await.with_context(|| format!("{subject} was not kept by a stream")).map(drop)
    }

    /// A person's command through the stored door. `rollout` is `namespace/name`, either may be `_all`.
    pub async fn command(&self, user: &str, rollout: &str, action: &str, body: Value) -> Result<()> {
        let (namespace, name) = split(rollout)?;
        let to = subject::person(subject::OVERRIDE, user, namespace, name, action);
        self.store(&to, HeaderMap::new(), body.to_string().into_bytes()).await
    }

    /// A person's command through the door that answers at once.
    pub async fn request(&self, user: &str, rollout: &str, action: &str, body: Value) -> Result<Answer> {
        let (namespace, name) = split(rollout)?;
        let to = subject::person(subject::REQUEST, user, namespace, name, action);
        let answer =
            self.client.request(to.clone(), body.to_string().into()).await.with_context(|| to.clone())?;
        serde_json::from_slice(&answer.payload)
            .with_context(|| format!("{to} was answered {}", String::from_utf8_lossy(&answer.payload)))
    }

    /// Messages of both doors that the server has handed out or has yet to hand out, and that nobody has acknowledged.
    pub async fn unacknowledged(&self) -> Result<u64> {
        let mut waiting = 0;
        for stream in INTO {
            for consumer in self.consumers(stream).await? {
                waiting += consumer["num_pending"].as_u64().context("num_pending")?;
                waiting += consumer["num_ack_pending"].as_u64().context("num_ack_pending")?;
            }
        }
        Ok(waiting)
    }

    /// What a daemon that died had in hand, the server hands out again after this. To be asked once the daemon has its consumers.
    pub async fn hand_out_again_after(&self, wait: Duration) -> Result<()> {
        for stream in INTO {
            for mut consumer in self.consumers(stream).await? {
                consumer["config"]["ack_wait"] = json!(u64::try_from(wait.as_nanos())?);
                let name = consumer["name"].as_str().context("a consumer's name")?;
                let wanted = json!({"stream_name": stream, "config": consumer["config"]});
                let answer = self.ask(&format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), wanted).await?;
                ensure!(answer["error"].is_null(), "{answer}");
            }
        }
        Ok(())
    }

    async fn consumers(&self, stream: &str) -> Result<Vec<Value>> {
        let answer = self.ask(&format!("CONSUMER.LIST.{stream}"), json!({"offset": 0})).await?;
        answer["consumers"].as_array().cloned().with_context(|| format!("no consumers: {answer}"))
    }

    async fn ask(&self, what: &str, body: Value) -> Result<Value> {
        let answer = self.client.request(format!("$JS.API.{what}"), body.to_string().into()).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }

    /// Everything heard so far, in order.
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.heard).clone()
    }

    /// What was told of a rollout (`namespace/name`), in order; `kind` is the subject's last token, such as `finished`. What
    /// came twice under one id is one: at least once is the promise.
    pub fn told(&self, rollout: &str, kind: &str) -> Result<Vec<Told>> {
        let (namespace, name) = split(rollout)?;
        let subject = subject::out(namespace, name, kind);
        let (mut ids, mut told) = (BTreeSet::new(), Vec::new());
        for heard in self.heard().iter().filter(|heard| heard.subject == subject) {
            if ids.insert(heard.event()?.id) {
                told.push(heard.told()?);
            }
        }
        Ok(told)
    }

    /// The last tokens of all subjects under which a rollout was told of, in order.
    pub fn kinds(&self, rollout: &str) -> Result<Vec<String>> {
        let (namespace, name) = split(rollout)?;
        let prefix = subject::out(namespace, name, "");
        Ok(self
            .heard()
            .iter()
            .filter_map(|heard| heard.subject.strip_prefix(&prefix).map(str::to_owned))
            .collect())
    }

    /// Waits until something of this kind was told of a rollout, and gives the first.
    pub async fn wait_told(&self, rollout: &str, kind: &str) -> Result<Told> {
        wait::until(&format!("{kind} of {rollout}"), LIMIT, || async {
            match self.told(rollout, kind)?.into_iter().next() {
                Some(told) => Ok(Some(told)),
                None => bail!("told were {:?}", self.kinds(rollout)?),
            }
        })
        .await
    }

    /// The dead letters so far.
    pub fn dead(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.subject.starts_with(subject::DEAD)).collect()
    }

    /// Waits for a dead letter that came from this subject.
    pub async fn wait_dead(&self, from: &str) -> Result<Heard> {
        wait::until(&format!("a dead letter from {from}"), LIMIT, || async {
            Ok(self.dead().into_iter().find(|letter| letter.header("Sluice-Subject") == Some(from)))
        })
        .await
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn kept(message: Message) -> Heard {
    let headers = message.headers.iter().flat_map(HeaderMap::iter);
    let pairs = headers
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())));
    Heard { subject: message.subject.to_string(), headers: pairs.collect(), body: message.payload.to_vec() }
}

fn split(rollout: &str) -> Result<(&str, &str)> {
    rollout.split_once('/').with_context(|| format!("{rollout} is not namespace/name"))
}

fn lock(heard: &Mutex<Vec<Heard>>) -> MutexGuard<'_, Vec<Heard>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
