//! Prometheus' HTTP API, and whatever speaks it.
//!
//! ```text
//! asks ── by template, 50 at a time ──> batch: one PromQL expression ──POST──> answer: rows ──> tally: pods ──> readings
//!            │ refused?                                                                                          │
//!            └── asked again one by one                                                    phase: when to read next
//! ```
//!
//! Promises: one instant query for many rollouts, always with `time`; one rollout's wrong query spoils no other's; at
//! most [`Http::concurrency`] queries at once and one per rollout; a server that keeps failing is left alone for
//! seconds, then probed; an answer is read up to a bound. A redirect is not followed, and the token's file is read again
//! for every query, so that a rotated token works.
//!
//! Never here: `rate()` or `increase()`, which extrapolate and lose a series' first sample.

mod answer;
mod batch;
mod families;
mod flight;
mod gauges;
mod native;
mod preset;
mod selector;
mod tally;
mod template;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sluice_analyzers::Arm;
use sluice_outbound::Client;
use sluice_rollout::RolloutId;
use sluice_wire::policy;
use url::Url;

use self::{
    answer::{Asked, Rows},
    batch::{Batch, Slot},
    flight::Gate,
};
pub(crate) use self::{
    families::{Families, families},
    gauges::gauges,
    preset::pods_of,
};
use crate::{
    Ask, Clock, Gauges, Http, Reading, Source, SourceError,
    ask::Place,
    body::{Body, address, fetch, forbidden, shown},
    offset::Offset,
    phase::Phase,
};

/// Rollouts in one query.
const MOST_ASKS: usize = 50;
/// Rollouts whose scrape phases are remembered.
const MOST_PHASES: usize = 50_000;
/// A rollout that nobody read for so long is over.
const PHASE_KEPT_MS: i64 = 900_000;
/// Prometheus refuses more than 11,000 points a series; this much is also quickly answered.
const MOST_POINTS: i64 = 1_000;
/// Queries for history and gauges at once.
const ASIDE: usize = 3;
/// History of at most so many queries.
const MOST_CHUNKS: usize = 100;

pub(crate) struct Prometheus {
    name: String,
    url: Url,
    headers: HeaderMap,
    token_file: Option<String>,
    timeout: Duration,
    most_bytes: usize,
    concurrency: usize,
    client: Client,
    gate: Gate,
    /// What no verdict waits for: history and gauges. Of its own, so that an abort's counters never queue behind them, and
    /// their failures do not close the counters' circuit.
    aside: Gate,
    phases: Mutex<Phases>,
    offset: Mutex<Offset>,
}

#[derive(Debug, Default)]
struct Phases {
    of: BTreeMap<RolloutId, Phase>,
    /// The interval learned last, for rollouts that are new here.
    every_ms: Option<i64>,
}

/// The address may hold a password, the headers may hold a token.
impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus")
            .field("name", &self.name)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

type Readings = Vec<(usize, Result<Reading, SourceError>)>;

impl Prometheus {
    /// The address and the headers, if both can be used.
    pub(crate) fn check(block: &policy::Prometheus) -> Result<(Url, HeaderMap), SourceError> {
        let wrong = |what: &str, why: String| SourceError::Config {
            server: "prometheus".into(),
            what: what.into(),
            why,
        };
        let url = address(&block.url).map_err(|why| wrong("spec.metrics.prometheus.url", why))?;
        let headers =
            (&block.headers.clone().into_iter().collect::<std::collections::HashMap<_, _>>()).try_into();
        let headers = headers.map_err(|_| {
            wrong("spec.metrics.prometheus.headers", "a name or value is no HTTP header".into())
        })?;
        Ok((url, headers))
    }

    pub(crate) fn connect(block: &policy::Prometheus, http: &Http) -> Result<Prometheus, SourceError> {
        let (url, headers) = Prometheus::check(block)?;
        let name = format!("prometheus {}", shown(&url));
        Ok(Prometheus {
            client: http.client(&name, block.timeout.0)?,
            gate: Gate::new(&name, http.concurrency, block.timeout.0),
            aside: Gate::new(&name, ASIDE, block.timeout.0),
            name,
            url,
            headers,
            token_file: block.token_file.clone(),
            timeout: block.timeout.0,
            most_bytes: http.most_bytes,
            concurrency: http.concurrency.max(1),
            phases: Mutex::default(),
            offset: Mutex::default(),
        })
    }

    /// A batch; if the question is refused, each of its asks alone.
    async fn read_batch(&self, asks: &[(usize, &Ask)], at_ms: i64) -> Readings {
        let together = match self.instant(asks, at_ms).await {
            Ok(readings) => {
                return asks.iter().map(|(place, _)| *place).zip(readings.into_iter().map(Ok)).collect();
            }
            Err(error) => error,
        };
        if asks.len() == 1 || !one_by_one_helps(&together) {
            return asks.iter().map(|(place, _)| (*place, Err(together.clone()))).collect();
        }
        tracing::warn!(source = %self.name, error = %together, asks = asks.len(), "a batch failed; asking one by one");
        let mut singly = Vec::with_capacity(asks.len());
        for ask in asks {
            singly.push(self.read_one(*ask, at_ms).boxed());
        }
        self.at_once(singly).await
    }

    async fn read_one(&self, ask: (usize, &Ask), at_ms: i64) -> (usize, Result<Reading, SourceError>) {
        let reading = self.instant(&[ask], at_ms).await;
        (ask.0, reading.map(|mut one| one.pop().unwrap_or_default()))
    }

    /// As many as the limit allows.
    async fn at_once<T>(&self, reads: Vec<BoxFuture<'_, T>>) -> Vec<T> {
        stream::iter(reads).buffer_unordered(self.concurrency).collect().await
    }

    /// One instant query; as many readings as asks.
    async fn instant(&self, asks: &[(usize, &Ask)], at_ms: i64) -> Result<Vec<Reading>, SourceError> {
        let slots = asks
            .iter()
            .enumerate()
            .map(|(place, (_, ask))| self.slots(place, ask, &[Arm::Stable, Arm::Canary]));
        let mut batch = Batch::of(slots.collect::<Result<Vec<_>, _>>()?.concat());
        let query = batch.query.clone();
        let body =
            self.post(&self.gate, "api/v1/query", &[("query", &query), ("time", &self.time(at_ms))]).await?;
        let mut readings = at_instant(&self.name, &mut batch, asks.len(), at_ms, &body)?;
        for (reading, (_, ask)) in readings.iter_mut().zip(asks) {
            reading.next_ms = self.next(&ask.rollout, at_ms, reading);
        }
        Ok(readings)
    }

    fn slots<'a>(&self, place: usize, ask: &'a Ask, arms: &[Arm]) -> Result<Vec<Slot<'a>>, SourceError> {
        slots(&self.name, place, ask, arms)
    }

    async fn range(
        &self,
        ask: &Ask,
        from_ms: i64,
        to_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<Reading>, SourceError> {
        let mut batch = Batch::of(self.slots(0, ask, &[Arm::Stable])?);
        let query = batch.query.clone();
        let (start, end, step) = (seconds(from_ms), seconds(to_ms), seconds(step_ms));
        let fields = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
        let body = self.post(&self.aside, "api/v1/query_range", &fields).await?;
        over_a_range(&self.name, &mut batch, step_ms, &body)
    }

    /// Sends a form, as often as the circuit breaker and the limit allow.
    async fn post(&self, gate: &Gate, path: &str, fields: &[(&str, &str)]) -> Result<Body, SourceError> {
        let pass = gate.enter().await?;
        let request = async {
            let request = self.client.post(self.endpoint(path)).map_err(|why| forbidden(&self.name, &why))?;
            let mut request = request.headers(self.headers.clone());
            if let Some(token) = self.token().await? {
                request = request.bearer_auth(token.expose_secret());
            }
            let timeout = format!("{}ms", self.timeout.as_millis());
            // Thanos is not to leave out what it cannot reach; VictoriaMetrics is not to answer from its cache.
            let always = [("timeout", timeout.as_str()), ("partial_response", "false"), ("nocache", "1")];
            let form: Vec<(&str, &str)> = fields.iter().copied().chain(always).collect();
            fetch(&self.name, request.form(&form), self.timeout, self.most_bytes).await
        };
        let sent_ms = now_ms();
        let outcome = request.await;
        if let Ok(Body { date_ms: Some(date_ms), .. }) = &outcome {
            self.offset().learn(sent_ms, now_ms(), *date_ms);
        }
        let server_fails = outcome.as_ref().map_or_else(SourceError::is_down, |body| body.status >= 500);
        pass.leave(!server_fails);
        outcome
    }

    fn endpoint(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url
    }

    async fn token(&self) -> Result<Option<SecretString>, SourceError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        self.client.secret(file).await.map(Some).map_err(|error| SourceError::Config {
            server: self.name.clone(),
            what: "the token file".to_owned(),
            why: error.to_string(),
        })
    }

    /// The instant to be asked for. Where the source's clock is behind, by ours: what is newest there is meant, and if it was
    /// a proxy's date that is behind, nothing is lost.
    fn time(&self, at_ms: i64) -> String {
        seconds(at_ms.saturating_sub(self.offset().followed_ms().min(0)))
    }

    fn offset(&self) -> MutexGuard<'_, Offset> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, rollout: &RolloutId, at_ms: i64, reading: &Reading) -> i64 {
        let mut phases = self.phases();
        if phases.of.len() >= MOST_PHASES && !phases.of.contains_key(rollout) {
            phases.of.retain(|_, phase| phase.read_ms > at_ms - PHASE_KEPT_MS);
        }
        let known = phases.every_ms;
        let mut phase = phases.of.remove(rollout).unwrap_or_default();
        let next = phase.next(at_ms, &reading.pods, known);
        phases.every_ms = phase.every_ms().or(known);
        if phases.of.len() < MOST_PHASES {
            phases.of.insert(rollout.clone(), phase);
        }
        next
    }

    fn phases(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for Prometheus {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn clock(&self) -> Clock {
        let offset = *self.offset();
        Clock { ahead_ms: offset.millis(), followed_ms: offset.followed_ms() }
    }

    async fn read(&self, asks: &[Ask], at_ms: i64) -> Vec<Result<Reading, SourceError>> {
        let mut templates: BTreeMap<&str, Vec<(usize, &Ask)>> = BTreeMap::new();
        let flights = self.gate.board(asks);
        for (place, ask) in asks.iter().enumerate().filter(|(place, _)| flights.has(*place)) {
            templates.entry(&ask.template).or_default().push((place, ask));
        }
        let mut reads = Vec::new();
        for batch in templates.values().flat_map(|asks| asks.chunks(MOST_ASKS)) {
            reads.push(self.read_batch(batch, at_ms).boxed());
        }
        let mut answers: Vec<Option<Result<Reading, SourceError>>> = asks.iter().map(|_| None).collect();
        let done = self.at_once(reads).await;
        done.into_iter().flatten().for_each(|(place, reading)| answers[place] = Some(reading));
        let busy = || Err(SourceError::Busy { server: self.name.clone() });
        answers.into_iter().map(|answer| answer.unwrap_or_else(busy)).collect()
    }

    async fn gauges(&self, ask: &Ask, at_ms: i64) -> Result<Gauges, SourceError> {
        let query = gauges::query(&ask.gauges);
        let body =
            self.post(&self.aside, "api/v1/query", &[("query", &query), ("time", &self.time(at_ms))]).await?;
        let rows = answer::read(&Asked { server: &self.name, query: &query, range: false }, &body)?;
        Ok(gauges::readings(&ask.gauges, &rows))
    }

    async fn history(
        &self,
        ask: &Ask,
        from_ms: i64,
        to_ms: i64,
        step: Duration,
    ) -> Result<Vec<Reading>, SourceError> {
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1_000);
        let mut readings = Vec::new();
        let mut start = from_ms;
        for _ in 0..MOST_CHUNKS {
            if start > to_ms {
                break;
            }
            let end = to_ms.min(start.saturating_add(step_ms.saturating_mul(MOST_POINTS - 1)));
            readings.extend(self.range(ask, start, end, step_ms).await?);
            start = end.saturating_add(step_ms);
        }
        Ok(readings)
    }
}

fn slots<'a>(server: &str, place: usize, ask: &'a Ask, arms: &[Arm]) -> Result<Vec<Slot<'a>>, SourceError> {
    let slot = |(arm, of): (Arm, &'a Place)| match of {
        Place::Series(families) => Ok(Slot { ask: place, arm, families }),
        Place::Pages { .. } => {
            Err(SourceError::Unsupported(format!("{server}: the ask is for pages to scrape")))
        }
    };
    ask.arms().into_iter().filter(|(arm, _)| arms.contains(arm)).map(slot).collect()
}

/// The answer to an instant query; `next_ms` is left 0.
fn at_instant(
    server: &str,
    batch: &mut Batch<'_>,
    asks: usize,
    at_ms: i64,
    body: &Body,
) -> Result<Vec<Reading>, SourceError> {
    let query = batch.query.clone();
    let rows = answer::read(&Asked { server, query: &query, range: false }, body)?;
    let values = rows.rows.iter().filter_map(|row| Some((row, &row.points.first()?.1)));
    let mut readings = tally::readings(batch, asks, at_ms, values);
    readings.iter_mut().for_each(|reading| weaken(reading, &rows));
    Ok(readings)
}

/// The answer to a range query for one ask, an instant each.
fn over_a_range(
    server: &str,
    batch: &mut Batch<'_>,
    step_ms: i64,
    body: &Body,
) -> Result<Vec<Reading>, SourceError> {
    let query = batch.query.clone();
    let rows = answer::read(&Asked { server, query: &query, range: true }, body)?;
    let mut instants: BTreeMap<i64, Vec<(&answer::Row<'_>, &answer::Point<'_>)>> = BTreeMap::new();
    for row in &rows.rows {
        row.points.iter().for_each(|(at, value)| instants.entry(*at).or_default().push((row, value)));
    }
    let mut readings = Vec::with_capacity(instants.len());
    for (at_ms, values) in instants {
        let mut reading = tally::readings(batch, 1, at_ms, values.into_iter()).pop().unwrap_or_default();
        weaken(&mut reading, &rows);
        reading.next_ms = at_ms.saturating_add(step_ms);
        readings.push(reading);
    }
    Ok(readings)
}

/// One ask's queries, for bodies without a server: an instant query, and a range query for stable alone.
#[cfg(feature = "bodies")]
#[derive(Debug)]
pub(crate) struct Queries<'a> {
    instant: Batch<'a>,
    range: Batch<'a>,
}

#[cfg(feature = "bodies")]
impl<'a> Queries<'a> {
    pub(crate) fn of(ask: &'a Ask) -> Result<Queries<'a>, SourceError> {
        let batch = |arms: &[Arm]| slots("prometheus", 0, ask, arms).map(Batch::of);
        Ok(Queries { instant: batch(&[Arm::Stable, Arm::Canary])?, range: batch(&[Arm::Stable])? })
    }

    pub(crate) fn instant(&mut self, at_ms: i64, body: &Body) -> Result<Vec<Reading>, SourceError> {
        at_instant("prometheus", &mut self.instant, 1, at_ms, body)
    }

    pub(crate) fn range(&mut self, step_ms: i64, body: &Body) -> Result<Vec<Reading>, SourceError> {
        over_a_range("prometheus", &mut self.range, step_ms, body)
    }
}

/// What the answer to an ask's gauges would be read as.
#[cfg(feature = "bodies")]
pub(crate) fn read_gauges(ask: &Ask, body: &Body) -> Result<Gauges, SourceError> {
    let query = gauges::query(&ask.gauges);
    let rows = answer::read(&Asked { server: "prometheus", query: &query, range: false }, body)?;
    Ok(gauges::readings(&ask.gauges, &rows))
}

/// Labels of an exposition's line, behind the opening brace: the quoting is that of PromQL. Gives what follows, too.
pub(crate) fn read_labels(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let (matchers, rest) = selector::Selector::parse_labels(text).map_err(|error| error.to_string())?;
    match matchers.iter().find(|matcher| matcher.op != selector::Op::Is) {
        Some(matcher) => Err(format!("{matcher} is no label")),
        None => Ok((matchers.into_iter().map(|matcher| (matcher.label, matcher.value)).collect(), rest)),
    }
}

/// Whether it may be one ask that spoils the batch.
fn one_by_one_helps(error: &SourceError) -> bool {
    use SourceError::*;
    match error {
        Query { .. } | TooLarge { .. } | TooManySeries { .. } | Timeout { .. } | Unsupported(_) => true,
        Unreachable { .. } | Status { .. } | Open { .. } | Busy { .. } | Answer { .. } | Config { .. } => {
            false
        }
    }
}

/// Warnings mean that something may be missing.
fn weaken(reading: &mut Reading, rows: &Rows<'_>) {
    let warned = rows.warnings.iter().take(3).map(|warning| format!("the server warns: {warning}"));
    reading.complaints.extend(warned);
}

/// Our clock, for nothing but how far the source's is from it.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Prometheus' times are seconds.
fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

#[cfg(test)]
mod tests;
