//! The world of one release: two versions of a service, a proxy between them, and users.
//!
//! ```text
//! load ──> proxy ──┬─> v1 (stable)   /metrics
//!   weights <─ PUT └─> v2 (canary)   /metrics
//! ```

use std::{io, time::Duration};

use super::{
    proxy::Proxy,
    service::{Behaviour, Service},
    traffic::{Load, Sent},
};

/// What users of a good version wait for in the middle.
const LATENCY: Duration = Duration::from_millis(5);
/// No real service is free of errors.
const USUAL_ERRORS: f64 = 0.002;
/// Enough to decide within seconds, and little enough for a laptop with four worlds at once.
const PER_SECOND: u32 = 400;

/// How the new version compares with the old one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Good,
    /// This share of its requests fails, from 0 to 1.
    Errors(f64),
    /// Each request takes so many times as long.
    Slow(f64),
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// Where the traffic goes in.
    pub entry: String,
    /// For `target: {webhook: {url: …}}`.
    pub weights: String,
    /// For `metrics: {scrape: {stable: […], canary: […]}}`.
    pub stable_metrics: String,
    pub canary_metrics: String,
}

/// Ends when stopped or dropped.
#[derive(Debug)]
pub struct World {
    kind: Kind,
    stable: Service,
    canary: Service,
    proxy: Proxy,
    load: Load,
}

impl World {
    /// With 400 requests a second. Must be called within a tokio runtime.
    pub async fn start(kind: Kind) -> io::Result<World> {
        World::with_load(kind, PER_SECOND).await
    }

    pub async fn with_load(kind: Kind, per_second: u32) -> io::Result<World> {
        let stable = Service::start(kind.stable()).await?;
        let canary = Service::start(kind.canary()).await?;
        let proxy = Proxy::start(&stable.url(), &canary.url()).await?;
        let load = Load::start(&proxy.url(), per_second)?;
        Ok(World { kind, stable, canary, proxy, load })
    }

    pub fn urls(&self) -> Urls {
        Urls {
            entry: self.proxy.url(),
            weights: self.proxy.weights_url(),
            stable_metrics: self.stable.metrics_url(),
            canary_metrics: self.canary.metrics_url(),
        }
    }

    /// What the proxy saw, for the picture.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// What the users saw.
    pub fn sent(&self) -> Sent {
        self.load.sent()
    }

    /// The new version replaces the old one where that stands, as a promotion does.
    pub fn replace_stable(&self) {
        self.stable.replace(self.kind.canary());
    }

    pub fn stable_version(&self) -> String {
        self.stable.version()
    }

    /// Users first, then the proxy, then the versions.
    pub async fn stop(self) {
        self.load.stop().await;
        self.proxy.stop().await;
        tokio::join!(self.stable.stop(), self.canary.stop());
    }
}

impl Kind {
    fn stable(self) -> Behaviour {
        Behaviour { version: "v1".to_owned(), latency: LATENCY, error_rate: USUAL_ERRORS }
    }

    fn canary(self) -> Behaviour {
        let good = Behaviour { version: "v2".to_owned(), ..self.stable() };
        match self {
            Kind::Good => good,
            Kind::Errors(error_rate) => Behaviour { error_rate, ..good },
            Kind::Slow(factor) => Behaviour { latency: LATENCY.mul_f64(factor.clamp(0.0, 100.0)), ..good },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        proxy::{Split, Tally},
        traffic::{fetch, send},
    };

    async fn open_the_gate(world: &World) {
        let request = axum::http::Request::put(world.urls().weights)
            .header("Sluice-Fence", "1.1")
            .header("content-type", "application/json")
            .body(r#"{"canary": 50, "stable": 50}"#.into())
            .unwrap();
        assert_eq!(send(request).await.unwrap().0, 200);
    }

    /// Waits until both versions have answered a few hundred requests.
    async fn seen(world: &World) -> Split {
        let limit = Duration::from_secs(120);
        tokio::time::timeout(limit, async {
            while world.proxy().total().canary.requests < 300 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        world.proxy().total()
    }

    #[tokio::test]
    async fn a_version_with_errors_shows_them_at_the_proxy_and_in_its_metrics() {
        let world = World::start(Kind::Errors(0.25)).await.unwrap();
        open_the_gate(&world).await;
        let split = seen(&world).await;
        assert!(split.canary.errors >= 40, "{split:?}");
        // Stable may have answered many more: its share counts.
        let share = |tally: Tally| tally.errors as f64 / tally.requests as f64;
        assert!(share(split.stable) < 0.5 * share(split.canary), "{split:?}");
        let (status, page) = fetch(&world.urls().canary_metrics).await.unwrap();
        assert_eq!(status, 200);
        assert!(page.contains("http_requests_total{method=\"GET\",code=\"500\"}"), "{page}");
        world.stop().await;
    }

    #[tokio::test]
    async fn a_slow_version_takes_longer_and_a_promoted_one_stands_where_stable_stood() {
        let world = World::start(Kind::Slow(20.0)).await.unwrap();
        open_the_gate(&world).await;
        let split = seen(&world).await;
        // A busy machine makes both slower still, and never quicker than they were made.
        let mean = split.canary.took.as_secs_f64() / split.canary.requests as f64;
        assert!(mean > 10.0 * LATENCY.as_secs_f64(), "{split:?}");
        world.replace_stable();
        assert_eq!(world.stable_version(), "v2");
        world.stop().await;
    }
}
