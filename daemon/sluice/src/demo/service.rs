//! One version of a small HTTP service with metrics of its own, as a Rust team would write it.
//!
//! `GET /` takes its time and answers the version, or 500 as often as its behaviour says. `GET /metrics` is what
//! `prometheus-client` writes (OpenMetrics text): `http_requests_total{method,code}`, `http_request_duration_seconds`,
//! `process_start_time_seconds`. A scrape sees whole requests: none is counted in one metric and not yet in the other.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::{Instant, sleep};

use super::loopback::Door;

/// In seconds; finer than a library's usual ones, since this service is quick.
const BUCKETS: [f64; 13] =
    [0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0];
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a version is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    pub version: String,
    /// The median; one request in fifty takes three times as long and more.
    pub latency: Duration,
    /// Share of requests that are answered with 500, from 0 to 1.
    pub error_rate: f64,
}

/// A running version. Ends when stopped or dropped.
#[derive(Debug)]
pub struct Service {
    door: Door,
    process: Arc<RwLock<Process>>,
}

impl Service {
    pub async fn start(behaviour: Behaviour) -> io::Result<Service> {
        let process = Arc::new(RwLock::new(Process::new(behaviour)));
        let routes =
            Router::new().route("/", get(work)).route("/metrics", get(metrics)).with_state(process.clone());
        Ok(Service { door: Door::open(routes).await?, process })
    }

    pub fn url(&self) -> String {
        self.door.url("/")
    }

    pub fn metrics_url(&self) -> String {
        self.door.url("/metrics")
    }

    pub fn version(&self) -> String {
        read(&self.process).behaviour.version.clone()
    }

    /// Another version takes over at the same address, as after a deployment: its counters begin at 0.
    pub fn replace(&self, behaviour: Behaviour) {
        *self.process.write().unwrap_or_else(PoisonError::into_inner) = Process::new(behaviour);
    }

    pub async fn stop(self) {
        self.door.close().await;
    }
}

/// A version and what it has counted. Requests hold the lock for reading while they count, a scrape for writing.
#[derive(Debug)]
struct Process {
    behaviour: Behaviour,
    /// Seeded with the version's name: the same requests meet the same fates, so that a demo repeats itself.
    chance: Mutex<fastrand::Rng>,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    registry: Registry,
    requests: Family<Labels, Counter>,
    duration: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    code: u16,
}

/// What will come of one request.
#[derive(Debug, Clone)]
struct Fate {
    version: String,
    takes: Duration,
    fails: bool,
}

type Shared = State<Arc<RwLock<Process>>>;

async fn work(State(process): Shared) -> Response {
    let began = Instant::now();
    let fate = read(&process).next_fate();
    sleep(fate.takes).await;
    let code = if fate.fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    read(&process).meters.count(code, began.elapsed());
    (code, fate.version).into_response()
}

async fn metrics(State(process): Shared) -> Response {
    let mut page = String::new();
    let written = {
        let process = process.write().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut page, &process.meters.registry)
    };
    match written {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn read(process: &RwLock<Process>) -> std::sync::RwLockReadGuard<'_, Process> {
    process.read().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    fn new(behaviour: Behaviour) -> Process {
        // Hashed, since seeds that lie close together make sequences that resemble each other.
        let mut seed = DefaultHasher::new();
        behaviour.version.hash(&mut seed);
        let chance = Mutex::new(fastrand::Rng::with_seed(seed.finish()));
        Process { behaviour, chance, meters: Meters::new() }
    }

    fn next_fate(&self) -> Fate {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        Fate {
            version: format!("{}\n", self.behaviour.version),
            takes: self.behaviour.latency.mul_f64(slowness(chance.f64())),
            fails: chance.f64() < self.behaviour.error_rate,
        }
    }
}

/// From a number between 0 and 1: mostly 0.6 to 1.4 with 1 in the middle, and a long tail.
fn slowness(rank: f64) -> f64 {
    let usual = 0.6 + 0.8 * rank;
    if rank < 0.98 { usual } else { 2.0 * usual + 50.0 * (rank - 0.98) }
}

impl Meters {
    fn new() -> Meters {
        let requests = Family::default();
        let duration = Histogram::new(BUCKETS);
        let started: Gauge<f64, AtomicU64> = Gauge::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let mut registry = Registry::default();
        // The encoder adds `_total`.
        registry.register("http_requests", "Requests by method and status code", requests.clone());
        registry.register("http_request_duration_seconds", "How long requests took", duration.clone());
        registry.register("process_start_time_seconds", "Start of the process, in Unix time", started);
        Meters { registry, requests, duration }
    }

    fn count(&self, code: StatusCode, took: Duration) {
        self.requests.get_or_create(&Labels { method: "GET", code: code.as_u16() }).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::traffic::fetch;

    fn behaviour(error_rate: f64) -> Behaviour {
        Behaviour { version: "v1".into(), latency: Duration::from_millis(1), error_rate }
    }

    async fn counted(service: &Service, name: &str) -> f64 {
        let (_, page) = fetch(&service.metrics_url()).await.unwrap();
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    #[tokio::test]
    async fn what_it_answered_is_what_it_says_to_have_counted() {
        let service = Service::start(behaviour(0.3)).await.unwrap();
        let mut errors = 0;
        for _ in 0..200 {
            let (code, body) = fetch(&service.url()).await.unwrap();
            assert_eq!(body, "v1\n");
            errors += u32::from(code == 500);
        }
        assert!((35..=85).contains(&errors), "{errors} of 200 failed at a rate of 30 %");
        assert_eq!(counted(&service, "http_requests_total{").await, 200.0);
        assert_eq!(
            counted(&service, "http_requests_total{method=\"GET\",code=\"500\"}").await,
            f64::from(errors)
        );
        assert_eq!(counted(&service, "http_request_duration_seconds_count").await, 200.0);
        assert_eq!(counted(&service, "http_request_duration_seconds_bucket{le=\"+Inf\"}").await, 200.0);
        service.stop().await;
    }

    #[tokio::test]
    async fn another_version_begins_to_count_anew_at_the_same_address() {
        let service = Service::start(behaviour(0.0)).await.unwrap();
        fetch(&service.url()).await.unwrap();
        let started = counted(&service, "process_start_time_seconds").await;
        service.replace(Behaviour { version: "v2".into(), ..behaviour(0.0) });
        assert_eq!(counted(&service, "http_requests_total{").await, 0.0);
        assert!(counted(&service, "process_start_time_seconds").await > started);
        assert_eq!(fetch(&service.url()).await.unwrap().1, "v2\n");
        assert_eq!(service.version(), "v2");
    }

    #[test]
    fn fates_come_as_often_as_they_should_and_not_in_step_with_another_version() {
        let [one, other] = ["v1", "v2"]
            .map(|version| Process::new(Behaviour { version: version.into(), ..behaviour(0.05) }));
        let fates: Vec<[bool; 2]> =
            (0..20_000).map(|_| [one.next_fate().fails, other.next_fate().fails]).collect();
        let failed = |of: fn(&[bool; 2]) -> bool| fates.iter().filter(|fate| of(fate)).count();
        assert!((900..1_100).contains(&failed(|fate| fate[0])), "{}", failed(|fate| fate[0]));
        assert!((900..1_100).contains(&failed(|fate| fate[1])), "{}", failed(|fate| fate[1]));
        assert!(
            (20..90).contains(&failed(|fate| fate[0] && fate[1])),
            "{}",
            failed(|fate| fate[0] && fate[1])
        );
    }

    #[test]
    fn the_median_is_what_was_asked_for_and_the_tail_is_long() {
        assert!((slowness(0.5) - 1.0).abs() < 1e-9);
        assert!(slowness(0.97) < 1.4 && slowness(0.985) > 2.7 && slowness(1.0) < 4.0);
    }
}
