//! What the API server reports about some objects, kept in order. This is how a test sees every weight that was ever
//! written, also one that was overwritten at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait;

const BEGUN_WITHIN: Duration = Duration::from_secs(120);

/// One event of the watch.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `ADDED`, `MODIFIED` or `DELETED`. What is there at the start comes as `ADDED`.
    pub kind: String,
    pub object: Value,
    /// When it arrived here.
    pub at: Instant,
}

impl Seen {
    /// `metadata.name`
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// A running watch. If the API server goes away it comes back with it (and what is there comes as `ADDED` again).
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) async fn start(url: String, token: String) -> Result<Self> {
        // No time limit here: a watch is one request that lasts.
        let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build()?;
        // A busy API server may close a connection before it has greeted.
        let ask = || async { connect(&client, &url, &token).await.map(Some) };
        let first = wait::until("the watch to begin", BEGUN_WITHIN, ask).await?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        let log = Log { seen: seen.clone(), counter };
        let task = tokio::spawn(follow(client, url, token, first, log));
        Ok(Self { seen, count, task })
    }

    /// All events so far, in order.
    pub fn events(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Reads the events after the first `known` ones.
    pub fn events_after(&self, known: usize) -> Vec<Seen> {
        lock(&self.seen).iter().skip(known).cloned().collect()
    }

    /// The object of this name as last seen; `None` if it is not there (any more).
    pub fn latest(&self, name: &str) -> Option<Value> {
        let seen = lock(&self.seen);
        let last = seen.iter().rev().find(|seen| seen.name() == name)?;
        (last.kind != "DELETED").then(|| last.object.clone())
    }

    /// Comes back when there are more events than `known` (or never, when the watch has ended).
    pub async fn changed(&self, known: usize) {
        if self.count.clone().wait_for(|count| *count > known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The values that a field of one object had, one after the other, each once; `pointer` is a JSON pointer such as
    /// `/spec/rules/0/backendRefs/1/weight`. An absent field is `Null`.
    pub fn values(&self, name: &str, pointer: &str) -> Vec<Value> {
        let field = |seen: &Seen| seen.object.pointer(pointer).cloned().unwrap_or_default();
        let mut values: Vec<Value> = lock(&self.seen)
            .iter()
            .filter(|seen| seen.kind != "DELETED" && seen.name() == name)
            .map(field)
            .collect();
        values.dedup();
        values
    }

    /// Waits until an event has come that `wanted` accepts, and gives the first such.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        wait::until(what, limit, || async {
            let seen = lock(&self.seen);
            match seen.iter().find(|seen| wanted(seen)) {
                Some(seen) => Ok(Some(seen.clone())),
                None => bail!("none of {} events is the one, the last is {:?}", seen.len(), seen.last()),
            }
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> std::sync::MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the task writes what it has seen.
struct Log {
    seen: Arc<Mutex<Vec<Seen>>>,
    counter: watch::Sender<usize>,
}

impl Log {
    fn add(&self, event: Seen) {
        let mut seen = lock(&self.seen);
        seen.push(event);
        self.counter.send_replace(seen.len());
    }
}

async fn connect(client: &reqwest::Client, url: &str, token: &str) -> Result<reqwest::Response> {
    let response = client.get(url).query(&[("watch", "true")]).bearer_auth(token).send().await;
    let response = response.with_context(|| format!("watching {url}"))?;
    response.error_for_status().with_context(|| format!("watching {url}"))
}

async fn follow(client: reqwest::Client, url: String, token: String, first: reqwest::Response, log: Log) {
    let mut response = first;
    loop {
        read(response, &log).await;
        let again = || async { connect(&client, &url, &token).await.map(Some) };
        match wait::until("the watch to come back", Duration::from_secs(600), again).await {
            Ok(next) => response = next,
            Err(_) => return,
        }
    }
}

/// Reads one response to its end: a JSON object a line.
async fn read(response: reqwest::Response, log: &Log) {
    let mut chunks = response.bytes_stream();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { continue };
            let kind = event["type"].as_str().unwrap_or_default().to_owned();
            log.add(Seen { kind, object: event["object"].take(), at: Instant::now() });
        }
    }
}
