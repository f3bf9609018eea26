//! A weighted proxy between two versions, and the weights' own door, which is what Sluice's webhook target speaks to.
//!
//! ```text
//! traffic ──> entry ──┬─> stable        PUT /weights {"canary": 5, "stable": 95, "fence": "1.7"}, header Sluice-Fence
//!                     └─> canary        GET /weights: what is in effect, in the same form
//! ```
//! The split is exact: of any run of requests each version gets its share, rounded up or down, evenly spaced. A fence
//! lower than the highest seen is refused with 409. The doors are apart, so that no path of the service is taken.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, Uri, header::CONNECTION, uri::PathAndQuery},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use sluice_rollout::{Fence, Weight};
use tokio::time::{Instant, timeout};

use super::loopback::{Door, HttpClient, client, is_loopback};

const FENCE_HEADER: &str = "Sluice-Fence";
const UPSTREAM_LIMIT: Duration = Duration::from_secs(5);
const MOST_FORM_BYTES: usize = 16 * 1024;
/// How many seconds are kept for the picture.
const MOST_SECONDS: usize = 120;

/// What was counted of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub requests: u64,
    pub errors: u64,
    /// Of all answers together.
    pub took: Duration,
}

/// Both versions' tallies in one second, or since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split {
    /// Full seconds since the proxy started.
    pub second: u64,
    pub stable: Tally,
    pub canary: Tally,
}

/// A running proxy. Ends when stopped or dropped.
#[derive(Debug)]
pub struct Proxy {
    entry: Door,
    weights: Door,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Between two base URLs on loopback, all traffic to stable at first.
    pub async fn start(stable: &str, canary: &str) -> io::Result<Proxy> {
        let upstreams = Upstreams { stable: upstream(stable)?, canary: upstream(canary)? };
        let shared =
            Arc::new(Shared { client: client(), upstreams, began: Instant::now(), desk: Mutex::default() });
        let entry = Router::new().fallback(forward).with_state(shared.clone());
        let weights = Router::new()
            .route("/weights", get(weights_in_effect).put(put_weights))
            .layer(DefaultBodyLimit::max(MOST_FORM_BYTES))
            .with_state(shared.clone());
        Ok(Proxy { entry: Door::open(entry).await?, weights: Door::open(weights).await?, shared })
    }

    /// Where the traffic goes in.
    pub fn url(&self) -> String {
        self.entry.url("/")
    }

    /// For the policy: `target: {webhook: {url: …}}`.
    pub fn weights_url(&self) -> String {
        self.weights.url("/weights")
    }

    pub fn weight(&self) -> Weight {
        self.shared.desk().weight
    }

    /// Since the start.
    pub fn total(&self) -> Split {
        self.shared.desk().total
    }

    /// The last two minutes, oldest first; the last entry is still being counted.
    pub fn seconds(&self) -> Vec<Split> {
        self.shared.desk().seconds.iter().copied().collect()
    }

    pub async fn stop(self) {
        self.entry.close().await;
        self.weights.close().await;
    }
}

#[derive(Debug)]
struct Shared {
    client: HttpClient,
    upstreams: Upstreams,
    began: Instant,
    desk: Mutex<Desk>,
}

#[derive(Debug)]
struct Upstreams {
    stable: Uri,
    canary: Uri,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Stable,
    Canary,
}

#[derive(Debug, Default)]
struct Desk {
    weight: Weight,
    /// Hundredths of a percent that the canary is owed.
    owed: u32,
    fence: Option<Fence>,
    rollout: Option<String>,
    abort: Option<String>,
    total: Split,
    seconds: VecDeque<Split>,
}

/// What goes both ways at `/weights`. Numbers are percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Form {
    canary: f64,
    stable: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    abort: Option<String>,
}

fn upstream(url: &str) -> io::Result<Uri> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let uri: Uri = url.parse().map_err(|error| wrong(format!("{url:?} is no URL: {error}")))?;
    if is_loopback(&uri) {
        Ok(uri)
    } else {
        Err(wrong(format!("{url:?} is not on loopback, where the demo stays")))
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let side = shared.desk().choose(shared.second());
    let began = Instant::now();
    let response = shared.ask(side, request).await;
    shared.desk().answered(side, response.status(), began.elapsed(), shared.second());
    response
}

async fn weights_in_effect(State(shared): State<Arc<Shared>>) -> Json<Form> {
    Json(shared.desk().form())
}

async fn put_weights(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(form): Json<Form>,
) -> Response {
    let header = headers.get(FENCE_HEADER).and_then(|value| value.to_str().ok());
    let fence = header.or(form.fence.as_deref()).and_then(|text| text.parse::<Fence>().ok());
    let Some(fence) = fence else {
        return (StatusCode::BAD_REQUEST, format!("give a fence in header {FENCE_HEADER}, for example 1.7"))
            .into_response();
    };
    let weight = match weight_of(&form) {
        Ok(weight) => weight,
        Err(why) => return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
    };
    let mut desk = shared.desk();
    let status = desk.write(weight, fence, form);
    let standing = desk.fence.unwrap_or(fence).to_string();
    (status, [(FENCE_HEADER, standing)], Json(desk.form())).into_response()
}

fn weight_of(form: &Form) -> Result<Weight, String> {
    if (form.canary + form.stable - 100.0).abs() > 1e-6 {
        return Err(format!("canary {} and stable {} are not 100 together", form.canary, form.stable));
    }
    Weight::from_percent(form.canary).map_err(|error| error.to_string())
}

impl Shared {
    async fn ask(&self, side: Side, request: Request) -> Response {
        let sent = match self.upstreams.request(side, request) {
            Ok(request) => timeout(UPSTREAM_LIMIT, self.client.request(request)).await,
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        };
        match sent {
            Ok(Ok(response)) => response.map(Body::new),
            Ok(Err(error)) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
            Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        }
    }

    fn second(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstreams {
    /// The same request to one of the versions.
    fn request(&self, side: Side, mut request: Request) -> Result<Request, axum::http::Error> {
        let base = match side {
            Side::Stable => &self.stable,
            Side::Canary => &self.canary,
        };
        let mut parts = base.clone().into_parts();
        parts.path_and_query =
            request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts)?;
        request.headers_mut().remove(CONNECTION);
        Ok(request)
    }
}

impl Desk {
    /// The canary is owed its weight with every request, and gets one when a whole request is owed.
    fn choose(&mut self, second: u64) -> Side {
        self.owed += self.weight.hundredths();
        let side = if self.owed >= Weight::FULL.hundredths() { Side::Canary } else { Side::Stable };
        if side == Side::Canary {
            self.owed -= Weight::FULL.hundredths();
        }
        self.tally(side, second, |tally| tally.requests += 1);
        side
    }

    fn answered(&mut self, side: Side, status: StatusCode, took: Duration, second: u64) {
        self.tally(side, second, |tally| {
            tally.errors += u64::from(status.is_server_error());
            tally.took += took;
        });
    }

    fn tally(&mut self, side: Side, second: u64, count: impl Fn(&mut Tally)) {
        if self.seconds.back().is_none_or(|split| split.second < second) {
            self.seconds.push_back(Split { second, ..Split::default() });
        }
        if self.seconds.len() > MOST_SECONDS {
            self.seconds.pop_front();
        }
        self.total.second = second;
        count(self.total.side(side));
        if let Some(split) = self.seconds.back_mut() {
            count(split.side(side));
        }
    }

    fn write(&mut self, weight: Weight, fence: Fence, form: Form) -> StatusCode {
        if self.fence.is_some_and(|highest| fence < highest) {
            return StatusCode::CONFLICT;
        }
        if self.weight != weight {
            self.owed = 0;
        }
        (self.weight, self.fence) = (weight, Some(fence));
        (self.rollout, self.abort) = (form.rollout, form.abort);
        StatusCode::OK
    }

    fn form(&self) -> Form {
        Form {
            canary: self.weight.percent(),
            stable: self.weight.rest().percent(),
            rollout: self.rollout.clone(),
            fence: self.fence.map(|fence| fence.to_string()),
            abort: self.abort.clone(),
        }
    }
}

impl Split {
    fn side(&mut self, side: Side) -> &mut Tally {
        match side {
            Side::Stable => &mut self.stable,
            Side::Canary => &mut self.canary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        service::{Behaviour, Service},
        traffic::{fetch, send},
    };

    async fn world() -> (Service, Service, Proxy) {
        let behaviour = |version: &str| Behaviour {
            version: version.into(),
            latency: Duration::from_millis(1),
            error_rate: 0.0,
        };
        let stable = Service::start(behaviour("v1")).await.unwrap();
        let canary = Service::start(behaviour("v2")).await.unwrap();
        let proxy = Proxy::start(&stable.url(), &canary.url()).await.unwrap();
        (stable, canary, proxy)
    }

    async fn put(proxy: &Proxy, canary: f64, fence: &str) -> (u16, String) {
        let body = serde_json::json!({"canary": canary, "stable": 100.0 - canary, "rollout": "demo/shop@1"});
        let request = axum::http::Request::put(proxy.weights_url())
            .header(FENCE_HEADER, fence)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        send(request).await.unwrap()
    }

    #[tokio::test]
    async fn each_version_gets_its_share_exactly_and_the_proxy_counts_it() {
        let (_stable, _canary, proxy) = world().await;
        assert_eq!(fetch(&proxy.url()).await.unwrap(), (200, "v1\n".into()));
        assert_eq!(put(&proxy, 12.5, "1.1").await.0, 200);
        let mut canaries = 0;
        for _ in 0..80 {
            canaries += u32::from(fetch(&proxy.url()).await.unwrap().1 == "v2\n");
        }
        assert_eq!(canaries, 10);
        let total = proxy.total();
        assert_eq!((total.stable.requests, total.canary.requests), (71, 10));
        assert!(total.canary.took >= Duration::from_millis(5));
        assert_eq!(proxy.seconds().iter().map(|split| split.canary.requests).sum::<u64>(), 10);
    }

    #[tokio::test]
    async fn a_lower_fence_is_refused_and_an_equal_one_is_a_repeat() {
        let (_stable, _canary, proxy) = world().await;
        assert_eq!(put(&proxy, 5.0, "1.7").await.0, 200);
        assert_eq!(put(&proxy, 5.0, "1.7").await.0, 200);
        let (status, body) = put(&proxy, 50.0, "1.6").await;
        assert_eq!(status, 409);
        assert!(body.contains(r#""fence":"1.7""#), "{body}");
        let (_, body) = fetch(&proxy.weights_url()).await.unwrap();
        assert_eq!(body, r#"{"canary":5.0,"stable":95.0,"rollout":"demo/shop@1","fence":"1.7"}"#);
        assert_eq!(put(&proxy, 0.0, "2.1").await.0, 200);
        assert_eq!(proxy.weight(), Weight::ZERO);
    }

    #[tokio::test]
    async fn what_is_no_weight_changes_nothing() {
        let (_stable, _canary, proxy) = world().await;
        for (canary, fence, status) in
            [(101.0, "1.1", 422), (0.001, "1.1", 422), (5.0, "", 400), (-1.0, "1.1", 422)]
        {
            assert_eq!(put(&proxy, canary, fence).await.0, status, "{canary} with fence {fence:?}");
        }
        assert_eq!(proxy.weight(), Weight::ZERO);
    }

    #[tokio::test]
    async fn a_version_that_is_gone_is_answered_for_with_502_and_counted() {
        let (_stable, canary, proxy) = world().await;
        canary.stop().await;
        assert_eq!(put(&proxy, 100.0, "1.1").await.0, 200);
        assert_eq!(fetch(&proxy.url()).await.unwrap().0, 502);
        assert_eq!(proxy.total().canary.errors, 1);
    }

    #[tokio::test]
    async fn it_leads_nowhere_but_to_this_machine() {
        assert!(Proxy::start("http://10.0.0.1/", "http://127.0.0.1:1/").await.is_err());
    }
}
