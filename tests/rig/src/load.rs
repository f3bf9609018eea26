//! Requests at a steady rate, whether the answers come or not (open loop, so a slow version does not get fewer). What
//! cannot be sent because too many are under way is skipped and counted.
//!
//! Only to loopback, or to pods inside a network of one's own ([`crate::netns`]); anything else is refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Method, Url};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::{http, netns};

const MOST_UNDER_WAY: usize = 512;
const TICK: Duration = Duration::from_millis(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What came of the requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub sent: u64,
    pub by_code: BTreeMap<u16, u64>,
    /// By the header `x-version` of the answer, which [`crate::Service`] sets.
    pub by_version: BTreeMap<String, u64>,
    /// No answer: refused, broken off, too late.
    pub failed: u64,
    /// Not sent, because too many were under way, or because there was nowhere to send to.
    pub skipped: u64,
}

impl Report {
    /// The answers of a version as a share of all answers with a version.
    pub fn share(&self, version: &str) -> f64 {
        let all: u64 = self.by_version.values().sum();
        self.by_version.get(version).copied().unwrap_or_default() as f64 / all.max(1) as f64
    }

    /// What has come since an earlier report of the same load.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        fn less<K: Ord + Clone>(now: &BTreeMap<K, u64>, then: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
            now.iter()
                .map(|(key, count)| (key.clone(), count - then.get(key).copied().unwrap_or_default()))
                .collect()
        }
        Self {
            sent: self.sent - earlier.sent,
            by_code: less(&self.by_code, &earlier.by_code),
            by_version: less(&self.by_version, &earlier.by_version),
            failed: self.failed - earlier.failed,
            skipped: self.skipped - earlier.skipped,
        }
    }
}

/// Load that runs until stopped or dropped.
#[derive(Debug)]
pub struct Load {
    report: Arc<Mutex<Report>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Load {
    /// Sends `per_second` GET requests to one URL.
    pub fn start(url: &str, per_second: f64) -> Result<Self> {
        let url = allowed(url)?;
        Self::run(per_second, Vec::new(), move |_| Some(url.clone()))
    }

    /// The same with headers on every request, such as `Host` for a gateway.
    pub fn with_headers(url: &str, per_second: f64, headers: &[(&str, &str)]) -> Result<Self> {
        let url = allowed(url)?;
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::run(per_second, headers, move |_| Some(url.clone()))
    }

    /// Sends `per_second` POST requests to one URL.
    pub fn posting(url: &str, per_second: f64) -> Result<Self> {
        let url = allowed(url)?;
        Self::run_as(Method::POST, per_second, Vec::new(), move |_| Some(url.clone()))
    }

    /// Asks `pick` where each request goes: a test that plays the router itself. `pick` gets the request's number; see
    /// [`spread`]. A URL that is not allowed counts as skipped.
    pub fn choosing(per_second: f64, pick: impl Fn(u64) -> Option<String> + Send + 'static) -> Result<Self> {
        Self::run(per_second, Vec::new(), move |number| pick(number).and_then(|url| allowed(&url).ok()))
    }

    fn run(
        per_second: f64,
        headers: Vec<(String, String)>,
        pick: impl Fn(u64) -> Option<Url> + Send + 'static,
    ) -> Result<Self> {
        Self::run_as(Method::GET, per_second, headers, pick)
    }

    fn run_as(
        method: Method,
        per_second: f64,
        headers: Vec<(String, String)>,
        pick: impl Fn(u64) -> Option<Url> + Send + 'static,
    ) -> Result<Self> {
        let report = Arc::new(Mutex::new(Report::default()));
        let (stop, stopped) = oneshot::channel();
        let slots = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        let sender = Sender { client: http::client()?, method, headers, report: report.clone(), slots };
        let task = tokio::spawn(sender.run(per_second, pick, stopped));
        Ok(Self { report, stop: Some(stop), task })
    }

    /// What has come of it so far.
    pub fn report(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Sends no more, waits for the answers under way, and gives the whole report.
    pub async fn stop(mut self) -> Result<Report> {
        drop(self.stop.take());
        (&mut self.task).await.context("the load's task failed")?;
        Ok(self.report())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A number in [0, 1) for each request, evenly spread over any stretch of requests: request `n` goes to the canary if
/// `spread(n)` is below its share.
pub fn spread(number: u64) -> f64 {
    // Multiples of the golden ratio, modulo 1.
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64
}

fn allowed(url: &str) -> Result<Url> {
    let parsed = Url::parse(url).with_context(|| format!("{url} is no URL"))?;
    let host = parsed.host_str().unwrap_or_default();
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback && !netns::is_enclosed() {
        bail!("{url}: load goes to loopback only, or to pods inside a network of one's own");
    }
    Ok(parsed)
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sender {
    client: reqwest::Client,
    method: Method,
    headers: Vec<(String, String)>,
    report: Arc<Mutex<Report>>,
    slots: Arc<Semaphore>,
}

impl Sender {
    async fn run(
        self,
        per_second: f64,
        pick: impl Fn(u64) -> Option<Url>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        let mut under_way = JoinSet::new();
        let mut number = 0u64;
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                _ = ticks.tick() => {}
            }
            while (number as f64) < begun.elapsed().as_secs_f64() * per_second {
                self.send(&mut under_way, pick(number));
                number += 1;
            }
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    fn send(&self, under_way: &mut JoinSet<()>, url: Option<Url>) {
        let (Some(url), Ok(slot)) = (url, self.slots.clone().try_acquire_owned()) else {
            lock(&self.report).skipped += 1;
            return;
        };
        lock(&self.report).sent += 1;
        let mut request = self.client.request(self.method.clone(), url).timeout(ANSWER_LIMIT);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let report = self.report.clone();
        under_way.spawn(async move {
            let answer = request.send().await;
            note(&report, answer).await;
            drop(slot);
        });
    }
}

async fn note(report: &Mutex<Report>, answer: reqwest::Result<reqwest::Response>) {
    let Ok(answer) = answer else {
        lock(report).failed += 1;
        return;
    };
    let code = answer.status().as_u16();
    let version = answer.headers().get("x-version").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let whole = answer.bytes().await.is_ok(); // read to the end, so that the connection can be used again
    let mut report = lock(report);
    if !whole {
        report.failed += 1;
        return;
    }
    *report.by_code.entry(code).or_default() += 1;
    if let Some(version) = version {
        *report.by_version.entry(version).or_default() += 1;
    }
}
