//! A pod: a small HTTP service whose errors, latency and exposition a test can change while it runs.
//!
//! `GET /metrics` gives real counters in Prometheus' text format (`http_requests_total{code,method}`,
//! `http_request_duration_seconds{code,method}` as a histogram, both without the requests for `/metrics` itself) and a gauge
//! `queue_length`, if it has one;
//! every other path answers 200 or the error, with the version in header `x-version` and the pod in `x-pod`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::protobuf;

/// Upper bounds of the histogram's buckets, in seconds: those of Prometheus' client libraries.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What `/metrics` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exposition {
    /// All of it.
    #[default]
    Whole,
    /// Its first half, ending in the middle of a line.
    CutInHalf,
    /// 503.
    Unavailable,
}

/// How a version behaves. Shared by all pods of that version; a change counts from the next request on.
#[derive(Debug)]
pub struct Behaviour {
    settings: Mutex<Settings>,
    drawn: AtomicU64,
}

#[derive(Debug, Clone)]
struct Settings {
    error_share: f64,
    error_share_of_posts: Option<f64>,
    queue_length: Option<f64>,
    native_schema: Option<i32>,
    open_telemetry: bool,
    error_code: StatusCode,
    latency: Duration,
    slow: (f64, Duration),
    exposition: Exposition,
}

impl Behaviour {
    /// Answers 200 at once. The seed decides which requests get errors: the same one, the same requests.
    pub fn healthy(seed: u64) -> Arc<Self> {
        let settings = Settings {
            error_share: 0.0,
            error_share_of_posts: None,
            queue_length: None,
            native_schema: None,
            open_telemetry: false,
            error_code: StatusCode::INTERNAL_SERVER_ERROR,
            latency: Duration::ZERO,
            slow: (0.0, Duration::ZERO),
            exposition: Exposition::Whole,
        };
        Arc::new(Self { settings: Mutex::new(settings), drawn: AtomicU64::new(seed) })
    }

    /// The share of requests that get a 500, from 0 to 1; drawn anew for each request.
    pub fn set_error_share(&self, share: f64) {
        self.lock().error_share = share;
    }

    /// The same for POST requests alone.
    pub fn set_error_share_of_posts(&self, share: f64) {
        self.lock().error_share_of_posts = Some(share);
    }

    /// About what the gauge `queue_length` shows, give or take a tenth; it shows none until set.
    pub fn set_queue_length(&self, length: f64) {
        self.lock().queue_length = Some(length);
    }

    /// Shows the latencies as a native histogram of this schema (-4 to 8) to whoever asks for protobuf, and no classic one.
    pub fn set_native_schema(&self, schema: i32) {
        self.lock().native_schema = Some(schema);
    }

    /// With native histograms: shows one histogram by the names of OpenTelemetry's HTTP conventions, and no counter.
    pub fn use_open_telemetry(&self) {
        self.lock().open_telemetry = true;
    }

    /// The status of errors; 500 until set.
    pub fn set_error_code(&self, code: StatusCode) {
        self.lock().error_code = code;
    }

    /// How long every answer takes.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// A share of the answers takes this much longer.
    pub fn set_slow_share(&self, share: f64, more: Duration) {
        self.lock().slow = (share, more);
    }

    /// What `/metrics` answers.
    pub fn set_exposition(&self, exposition: Exposition) {
        self.lock().exposition = exposition;
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uniform in [0, 1): SplitMix64.
    fn draw(&self) -> f64 {
        let mut z = self.drawn.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a pod has counted since its start, or since [`Service::restart_counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    /// Answers with a status of 500 and above.
    pub errors: u64,
}

/// A pod that listens until dropped.
#[derive(Debug)]
pub struct Service {
    /// How it behaves, to be changed at any time.
    pub behaviour: Arc<Behaviour>,
    address: SocketAddr,
    pod: Arc<Pod>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Pod {
    version: String,
    name: String,
    behaviour: Arc<Behaviour>,
    series: Mutex<BTreeMap<(u16, String), Series>>,
}

#[derive(Debug, Default)]
struct Series {
    count: u64,
    seconds: f64,
    /// Not cumulative; the last one is what is above all bounds.
    buckets: [u64; BUCKETS.len() + 1],
    /// By the index of the native bucket at [`FINEST`].
    native: BTreeMap<i32, u64>,
}

/// The schema that latencies are counted at; coarser ones are merged from it.
const FINEST: i32 = 8;

impl Service {
    /// Starts one on a free loopback port, healthy.
    pub async fn start(version: &str, name: &str) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), version, name, Behaviour::healthy(1)).await
    }

    /// Starts one somewhere, for instance at a pod's address inside [`crate::netns`].
    pub async fn start_at(
        address: SocketAddr,
        version: &str,
        name: &str,
        behaviour: Arc<Behaviour>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        let address = listener.local_addr()?;
        let (version, name) = (version.to_owned(), name.to_owned());
        let pod = Arc::new(Pod { version, name, behaviour: behaviour.clone(), series: Mutex::default() });
        let app = axum::Router::new()
            .route("/metrics", axum::routing::get(metrics))
            .fallback(answer)
            .with_state(pod.clone());
        let (stop, stopped) = oneshot::channel();
        // Graceful: the port closes at once, requests under way are answered, idle connections are closed.
        let served = axum::serve(listener, app).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        tokio::spawn(async move {
            let _ = served.await;
        });
        Ok(Self { behaviour, address, pod, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://<address>`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.pod.name
    }

    /// The version that it was started as.
    pub fn version(&self) -> &str {
        &self.pod.version
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        let series = self.pod.lock();
        let sum = |from: u16| {
            series.iter().filter(|((code, _), _)| *code >= from).map(|(_, series)| series.count).sum()
        };
        Counts { requests: sum(0), errors: sum(500) }
    }

    /// Counts from zero again, as after a restart of the process.
    pub fn restart_counters(&self) {
        self.pod.lock().clear();
    }
}

impl Pod {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u16, String), Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, code: StatusCode, method: &Method, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut all = self.lock();
        let series = all.entry((code.as_u16(), method.to_string())).or_default();
        series.count += 1;
        series.seconds += seconds;
        series.buckets[BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
        let index = (seconds.max(1e-6).log2() * f64::from(1 << FINEST)).ceil() as i32;
        *series.native.entry(index).or_default() += 1;
    }

    fn exposition(&self) -> String {
        let all = self.lock();
        let mut text = String::from(
            "# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter\n",
        );
        for ((code, method), series) in &*all {
            let _ =
                writeln!(text, "http_requests_total{{code=\"{code}\",method=\"{method}\"}} {}", series.count);
        }
        let name = "http_request_duration_seconds";
        let _ = writeln!(text, "# HELP {name} Time until the answer.\n# TYPE {name} histogram");
        for ((code, method), series) in &*all {
            let labels = format!("code=\"{code}\",method=\"{method}\"");
            let mut below = 0;
            let bounds = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(series.buckets) {
                below += count;
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let _ = writeln!(
                text,
                "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}",
                series.seconds, series.count
            );
        }
        let queue_length = self.behaviour.lock().queue_length;
        if let Some(length) = queue_length {
            let shown = length * (0.9 + 0.2 * self.behaviour.draw());
            let _ = writeln!(text, "# TYPE queue_length gauge\nqueue_length {shown}");
        }
        text
    }
}

impl Pod {
    fn protobuf(&self, schema: i32, open_telemetry: bool) -> Vec<u8> {
        let all = self.lock();
        let (histogram, code_label, method_label) = if open_telemetry {
            ("http_server_request_duration_seconds", "http_response_status_code", "http_request_method")
        } else {
            ("http_request_duration_seconds", "code", "method")
        };
        let labels = |(code, method): &(u16, String)| {
            vec![(code_label, code.to_string()), (method_label, method.clone())]
        };
        let merged: Vec<_> =
            all.iter().map(|(key, series)| (key, series.seconds, series.at(schema))).collect();
        let natives = merged.iter().map(|(key, sum, counts)| {
            let value = protobuf::Value::Native { schema, sum: *sum, counts };
            protobuf::Series { labels: labels(key), value }
        });
        let natives = protobuf::family(histogram, &natives.collect::<Vec<_>>());
        if open_telemetry {
            return natives;
        }
        let counters = all.iter().map(|(key, series)| protobuf::Series {
            labels: labels(key),
            value: protobuf::Value::Counter(series.count),
        });
        [protobuf::family("http_requests_total", &counters.collect::<Vec<_>>()), natives].concat()
    }
}

impl Series {
    /// Two neighbours of a schema are one bucket of the next coarser.
    fn at(&self, schema: i32) -> BTreeMap<i32, u64> {
        let mut counts = BTreeMap::new();
        for (index, count) in &self.native {
            *counts.entry(((index - 1) >> (FINEST - schema)) + 1).or_default() += count;
        }
        counts
    }
}

async fn answer(State(pod): State<Arc<Pod>>, method: Method) -> Response {
    let begun = Instant::now();
    let settings = pod.behaviour.lock().clone();
    let of_posts = settings.error_share_of_posts.filter(|_| method == Method::POST);
    let share = of_posts.unwrap_or(settings.error_share);
    let fails = share > 0.0 && pod.behaviour.draw() < share;
    let slow = settings.slow.0 > 0.0 && pod.behaviour.draw() < settings.slow.0;
    let takes = settings.latency + if slow { settings.slow.1 } else { Duration::ZERO };
    if !takes.is_zero() {
        tokio::time::sleep(takes).await; // the work that this service pretends to do
    }
    let code = if fails { settings.error_code } else { StatusCode::OK };
    pod.count(code, &method, begun.elapsed());
    (code, [("x-version", pod.version.clone()), ("x-pod", pod.name.clone())], "").into_response()
}

async fn metrics(State(pod): State<Arc<Pod>>, headers: HeaderMap) -> Response {
    let accepts = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let settings = pod.behaviour.lock().clone();
    if let Some(schema) = settings.native_schema.filter(|_| accepts.contains("vnd.google.protobuf")) {
        let shown = pod.protobuf(schema, settings.open_telemetry);
        return ([("content-type", protobuf::CONTENT_TYPE)], shown).into_response();
    }
    let text = pod.exposition();
    let text = match settings.exposition {
        Exposition::Whole => text,
        Exposition::CutInHalf => text[..text.len() / 2].trim_end_matches('\n').to_owned(),
        Exposition::Unavailable => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
