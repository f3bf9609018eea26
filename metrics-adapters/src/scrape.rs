//! `/metrics` of each pod, read by Sluice itself, both versions at one instant: no Prometheus needed.
//!
//! Promises: a pod is read whole or not at all; what could not be read is a complaint; if no pod answers, the source is
//! down. All pods are asked at once, within a limit; each has a time limit and a size limit.
//!
//! Never here: history (there is none), and a pod's own timestamps (both versions get the instant of the read).

mod exposition;
mod families;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use reqwest::header::ACCEPT;
use sluice_analyzers::Arm;
use sluice_outbound::Client;
use sluice_wire::policy;
use url::Url;

use self::families::Counted;
pub(crate) use self::families::Shape;
use crate::{
    Ask, AskError, Gauges, Http, PodSample, Reading, Source, SourceError,
    ask::Place,
    body::{address, fetch, forbidden, head},
    reading::{Complaints, arm_name},
    strata,
};

const FORMATS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4";
const MOST_BYTES: usize = 8 << 20;
/// Pods at once, for each query that Prometheus would get.
const PODS_PER_QUERY: usize = 8;
/// Pods whose number of families is remembered.
const MOST_REMEMBERED: usize = 50_000;

/// Where each version's pods are.
pub(crate) fn pages(block: &policy::Scrape) -> Result<[Place; 2], AskError> {
    let strata = strata::labels("spec.metrics.scrape.strata", block.strata.as_ref(), block.preset)?;
    let Some(shape) = Shape::of(block.preset, strata) else {
        let why =
            "pods show http or openTelemetry metrics themselves; the other presets need prometheus: {url: …}";
        return Err(AskError::new("spec.metrics.scrape.preset", why));
    };
    let one = |arm, urls| Ok(Place::Pages { urls: addresses(arm, urls)?, shape: shape.clone() });
    Ok([one("stable", &block.stable)?, one("canary", &block.canary)?])
}

fn addresses(arm: &str, urls: &[String]) -> Result<Vec<Url>, AskError> {
    let field = |place: usize| format!("spec.metrics.scrape.{arm}[{place}]");
    if urls.is_empty() {
        return Err(AskError::new(format!("spec.metrics.scrape.{arm}"), "name at least one URL of /metrics"));
    }
    let mut known: Vec<Url> = Vec::new();
    for (place, text) in urls.iter().enumerate() {
        let url = address(text).map_err(|why| AskError::new(field(place), why))?;
        if known.contains(&url) {
            return Err(AskError::new(
                field(place),
                format!("{text:?} stands there twice: its requests would count twice"),
            ));
        }
        known.push(url);
    }
    Ok(known)
}

#[derive(Debug)]
pub(crate) struct Scrape {
    client: Client,
    every_ms: i64,
    timeout: Duration,
    at_once: usize,
    /// How many families, and series of ours, each pod showed last: to notice a cut between two lines.
    sizes: Mutex<BTreeMap<String, (usize, usize)>>,
}

/// One page of one ask.
#[derive(Debug, Clone, Copy)]
struct Page<'a> {
    ask: usize,
    arm: Arm,
    url: &'a Url,
    shape: &'a Shape,
}

impl Scrape {
    pub(crate) fn connect(block: &policy::Scrape, http: &Http) -> Result<Scrape, SourceError> {
        Ok(Scrape {
            client: http.client("scrape", block.timeout.0)?,
            every_ms: i64::try_from(block.every.0.as_millis()).unwrap_or(i64::MAX).max(100),
            timeout: block.timeout.0,
            at_once: http.concurrency.max(1) * PODS_PER_QUERY,
            sizes: Mutex::default(),
        })
    }

    async fn page(&self, page: Page<'_>, at_ms: i64) -> Result<Counted, SourceError> {
        let pod = pod_name(page.url);
        let request = self.client.get(page.url.clone()).map_err(|why| forbidden(&pod, &why))?;
        let request = request.header(ACCEPT, FORMATS);
        let body = fetch(&pod, request, self.timeout, MOST_BYTES).await?;
        if body.status != 200 {
            return Err(SourceError::Status { server: pod, status: body.status, body: head(&body.bytes) });
        }
        let answer = |why: String| SourceError::Answer { server: pod.clone(), why };
        let read = page.shape.read(page.arm, &pod, at_ms, &body.content_type, &body.bytes);
        let counted = read.map_err(|fault| answer(fault.to_string()))?;
        self.check_size(&pod, counted.size).map_err(answer)?;
        Ok(counted)
    }

    /// A process never shows fewer families or series than before, so it restarted, or the text was cut between two
    /// lines. The second time in a row it is believed.
    fn check_size(&self, pod: &str, now: (usize, usize)) -> Result<(), String> {
        let mut known = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED && !known.contains_key(pod) {
            known.clear();
        }
        match known.insert(pod.to_owned(), now) {
            Some(before) if now.0 < before.0 || now.1 < before.1 => Err(format!(
                "it shows {} metric families and {} series of ours, {} and {} before: perhaps it was cut",
                now.0, now.1, before.0, before.1
            )),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Source for Scrape {
    fn name(&self) -> String {
        "scrape".to_owned()
    }

    async fn read(&self, asks: &[Ask], at_ms: i64) -> Vec<Result<Reading, SourceError>> {
        let mut reads = Vec::new();
        for page in asks.iter().enumerate().flat_map(|(place, ask)| pages_of(place, ask)) {
            reads.push(async move { (page, self.page(page, at_ms).await) }.boxed());
        }
        let read: Vec<(Page<'_>, Result<Counted, SourceError>)> =
            stream::iter(reads).buffer_unordered(self.at_once).collect().await;
        let mut tallies: Vec<Tally> = asks.iter().map(|_| Tally::default()).collect();
        read.into_iter().for_each(|(page, counted)| tallies[page.ask].take(page, counted));
        tallies
            .into_iter()
            .map(|tally| tally.into_reading(at_ms, at_ms.saturating_add(self.every_ms)))
            .collect()
    }

    async fn gauges(&self, _: &Ask, _: i64) -> Result<Gauges, SourceError> {
        Err(SourceError::Unsupported("direct scrape reads no gauges".to_owned()))
    }

    async fn history(&self, _: &Ask, _: i64, _: i64, _: Duration) -> Result<Vec<Reading>, SourceError> {
        Err(SourceError::Unsupported(
            "direct scrape keeps no history: the rollout begins without a baseline".to_owned(),
        ))
    }
}

fn pages_of(place: usize, ask: &Ask) -> Vec<Page<'_>> {
    let mut pages = Vec::new();
    for (arm, at) in ask.arms() {
        if let Place::Pages { urls, shape } = at {
            pages.extend(urls.iter().map(|url| Page { ask: place, arm, url, shape }));
        }
    }
    pages
}

/// What one ask's pods answered.
#[derive(Debug, Default)]
struct Tally {
    pods: Vec<PodSample>,
    complaints: Complaints,
    failed: Option<SourceError>,
}

impl Tally {
    fn take(&mut self, page: Page<'_>, counted: Result<Counted, SourceError>) {
        let name = format!("{} pod {}", arm_name(page.arm), pod_name(page.url));
        match counted {
            Ok(counted) => {
                counted.complaint.into_iter().for_each(|why| self.complaints.add(format!("{name}: {why}")));
                self.pods.push(counted.sample);
            }
            Err(error) => {
                self.complaints.add(format!("{name}: {error}"));
                self.failed = Some(error);
            }
        }
    }

    fn into_reading(mut self, at_ms: i64, next_ms: i64) -> Result<Reading, SourceError> {
        match (self.pods.is_empty(), self.failed) {
            (true, Some(error)) => Err(error),
            (true, None) => {
                Err(SourceError::Unsupported("the ask is for Prometheus, not for pages".to_owned()))
            }
            (false, _) => {
                self.pods.sort_by(|a, b| (a.arm, &a.pod).cmp(&(b.arm, &b.pod)));
                Ok(Reading { at_ms, pods: self.pods, complaints: self.complaints.into_words(), next_ms })
            }
        }
    }
}

/// What a page would be read as.
#[cfg(feature = "bodies")]
pub(crate) fn read_page(
    preset: policy::Preset,
    (arm, pod): (Arm, &str),
    at_ms: i64,
    content_type: &str,
    bytes: &[u8],
) -> Option<Result<PodSample, String>> {
    let strata = vec!["method".to_owned()];
    let read = Shape::of(preset, strata)?.read(arm, pod, at_ms, content_type, bytes);
    Some(read.map(|counted| counted.sample).map_err(|fault| fault.to_string()))
}

/// Host and port; the path too where it is not the usual one.
fn pod_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let path = if url.path() == "/metrics" { "" } else { url.path() };
    format!("{host}{port}{path}")
}
