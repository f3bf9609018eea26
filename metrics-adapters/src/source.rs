//! What every source is: asked at one instant for many rollouts, it answers with readings or says what is wrong.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use sluice_wire::policy;

use crate::{
    Ask, Gauges, Http, Reading,
    body::{address, shown_text},
    prometheus::Prometheus,
    scrape::Scrape,
};

/// Where counters are read. Cheap to share; one per server, whatever the number of rollouts.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// For logs and metrics, without secrets: `prometheus http://prometheus:9090`.
    fn name(&self) -> String;

    /// The source's clock less ours, as its answers showed; nothing where both are ours, and zero while they agree as far as
    /// can be told.
    fn clock(&self) -> Clock {
        Clock::default()
    }

    /// Both versions of each rollout at the instant `at_ms` of the source's clock, many rollouts in one query. As many answers as asks, in
    /// their order; one rollout's trouble is not another's.
    async fn read(&self, asks: &[Ask], at_ms: i64) -> Vec<Result<Reading, SourceError>>;

    /// The values of the ask's gauges at one instant, in no order. [`SourceError::Unsupported`] where a source has none.
    async fn gauges(&self, ask: &Ask, at_ms: i64) -> Result<Gauges, SourceError>;

    /// Stable alone, every `step` between two instants, oldest first: the time before the rollout.
    /// [`SourceError::Unsupported`] where the source keeps no history.
    async fn history(
        &self,
        ask: &Ask,
        from_ms: i64,
        to_ms: i64,
        step: Duration,
    ) -> Result<Vec<Reading>, SourceError>;
}

/// How far a source's clock is ahead of ours; behind is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    pub ahead_ms: i64,
    /// The part of it that instants are moved by; what lies beyond is not trusted.
    pub followed_ms: i64,
}

/// Why there is no reading. None of these says anything about the canary.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SourceError {
    #[error("{server} cannot be reached: {why}")]
    Unreachable { server: String, why: String },
    #[error("{server} gave no answer within {limit:?}")]
    Timeout { server: String, limit: Duration },
    #[error("{server} answered HTTP {status}: {body}")]
    Status { server: String, status: u16, body: String },
    #[error("{server} failed {failures} times in a row; it is asked again in {wait_ms} ms")]
    Open { server: String, failures: u32, wait_ms: u64 },
    #[error("{server} has too many questions waiting already; the next read asks again")]
    Busy { server: String },
    #[error("{server} refuses the query: {why}\n  in {query}")]
    Query { server: String, why: String, query: String },
    #[error("{server} answered what is no answer to this question: {why}")]
    Answer { server: String, why: String },
    #[error("{server}: the answer is larger than {most_bytes} bytes; narrow the labels")]
    TooLarge { server: String, most_bytes: usize },
    #[error(
        "{server}: {series} series are more than {most}; label {label:?} alone has {values} values: narrow it with labels: {{match: …}}"
    )]
    TooManySeries { server: String, series: usize, most: usize, label: String, values: usize },
    #[error("{server}: {what} cannot be used: {why}")]
    Config { server: String, what: String, why: String },
    #[error("{0}")]
    Unsupported(String),
}

impl SourceError {
    /// Whether the source itself is away (verdict `source-down`), rather than this question being wrong.
    pub fn is_down(&self) -> bool {
        use SourceError::*;
        match self {
            Unreachable { .. }
            | Timeout { .. }
            | Status { .. }
            | Open { .. }
            | Busy { .. }
            | Answer { .. } => true,
            Query { .. } | TooLarge { .. } | TooManySeries { .. } | Config { .. } => false,
            Unsupported(_) => false,
        }
    }
}

/// What `connect` would refuse of the block, without making a source: for policies that are read and not run yet.
pub fn check(metrics: &policy::Metrics, http: &Http) -> Result<(), SourceError> {
    check_addresses(metrics, http)?;
    match metrics {
        policy::Metrics::Prometheus(prometheus) => Prometheus::check(prometheus).map(drop),
        policy::Metrics::Scrape(_) => Ok(()),
    }
}

/// The source of one policy; see [`Sources`] for many policies.
pub fn connect(metrics: &policy::Metrics, http: &Http) -> Result<Arc<dyn Source>, SourceError> {
    check_addresses(metrics, http)?;
    Ok(match metrics {
        policy::Metrics::Prometheus(prometheus) => Arc::new(Prometheus::connect(prometheus, http)?),
        policy::Metrics::Scrape(scrape) => Arc::new(Scrape::connect(scrape, http)?),
    })
}

/// One source per server, shared by all policies that name it alike: so their rollouts share queries, limits and
/// circuit breaker. Holds no source alive by itself.
#[derive(Debug, Default)]
pub struct Sources {
    http: Http,
    known: Mutex<BTreeMap<String, Weak<dyn Source>>>,
}

impl Sources {
    pub fn new(http: Http) -> Sources {
        Sources { http, known: Mutex::default() }
    }

    /// A source of one's own for this block, for tests; whoever gives it keeps it alive.
    pub fn put(&self, metrics: &policy::Metrics, source: &Arc<dyn Source>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(server_key(metrics), Arc::downgrade(source));
    }

    pub fn connect(&self, metrics: &policy::Metrics) -> Result<Arc<dyn Source>, SourceError> {
        // Before anything is shared: pages of one source may be many policies'.
        check_addresses(metrics, &self.http)?;
        let key = server_key(metrics);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(source);
        }
        let source = connect(metrics, &self.http)?;
        known.retain(|_, source| source.strong_count() > 0);
        known.insert(key, Arc::downgrade(&source));
        Ok(source)
    }
}

/// What may not be asked is said when the policy is taken; a name is checked when it is looked up.
fn check_addresses(metrics: &policy::Metrics, http: &Http) -> Result<(), SourceError> {
    let (field, urls): (_, Vec<&String>) = match metrics {
        policy::Metrics::Prometheus(prometheus) => ("spec.metrics.prometheus.url", vec![&prometheus.url]),
        policy::Metrics::Scrape(scrape) => {
            ("spec.metrics.scrape", scrape.stable.iter().chain(&scrape.canary).collect())
        }
    };
    for url in urls {
        let wrong =
            |why: String| SourceError::Config { server: shown_text(url), what: field.to_owned(), why };
        let url = address(url).map_err(wrong)?;
        http.outbound.check(&url).map_err(|why| wrong(why.to_string()))?;
    }
    check_token(metrics, http)
}

fn check_token(metrics: &policy::Metrics, http: &Http) -> Result<(), SourceError> {
    let policy::Metrics::Prometheus(prometheus) = metrics else { return Ok(()) };
    let Some(file) = &prometheus.token_file else { return Ok(()) };
    http.outbound.check_secret(file).map_err(|why| SourceError::Config {
        server: shown_text(&prometheus.url),
        what: "spec.metrics.prometheus.tokenFile".to_owned(),
        why: why.to_string(),
    })
}

/// What makes two policies' sources one: everything but what is asked there.
fn server_key(metrics: &policy::Metrics) -> String {
    match metrics {
        policy::Metrics::Prometheus(p) => {
            format!("prometheus {} {:?} {:?} {}", p.url, p.headers, p.token_file, p.timeout)
        }
        policy::Metrics::Scrape(s) => format!("scrape {} {}", s.every, s.timeout),
    }
}
