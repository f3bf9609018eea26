//! Pods that only count: one server with a page of metrics for each of many pods, whose counters follow the clock. What
//! a scrape finds is known exactly, and no load disturbs what is measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use axum::extract::{Path, State};
use sluice_rig::prometheus::Target;

/// Requests a second of each pod.
pub const RATE: f64 = 20.0;

#[derive(Clone)]
pub struct Counters {
    pub address: SocketAddr,
    pods: Arc<Mutex<BTreeMap<String, Pod>>>,
}

#[derive(Debug, Clone, Copy)]
struct Pod {
    since: Instant,
    /// Requests that failed; they come on top.
    errors: u64,
}

impl Counters {
    pub async fn start(pods: &[String]) -> Result<Counters> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let since = Instant::now();
        let pods = pods.iter().map(|name| (name.clone(), Pod { since, errors: 0 })).collect();
        let counters = Counters { address: listener.local_addr()?, pods: Arc::new(Mutex::new(pods)) };
        let app = axum::Router::new()
            .route("/{pod}/metrics", axum::routing::get(page))
            .with_state(counters.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(counters)
    }

    /// From the next scrape on a pod shows this many failed requests more.
    pub fn fail(&self, pod: &str, errors: u64) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pod) = pods.get_mut(pod) {
            pod.errors += errors;
        }
    }

    /// Each pod as its own target; Prometheus spreads their scrapes over the interval.
    pub fn targets(&self) -> Vec<Target> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let target = |name: &String| {
            let page = format!("/{name}/metrics");
            Target::new(self.address, &[("app", name), ("pod", name), ("__metrics_path__", &page)])
        };
        pods.keys().map(target).collect()
    }
}

async fn page(State(counters): State<Counters>, Path(name): Path<String>) -> String {
    let pods = counters.pods.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::from("# TYPE http_requests_total counter\n");
    if let Some(pod) = pods.get(&name) {
        let good = (pod.since.elapsed().as_secs_f64() * RATE) as u64;
        let _ = writeln!(text, "http_requests_total{{code=\"200\"}} {good}");
        let _ = writeln!(text, "http_requests_total{{code=\"500\"}} {}", pod.errors);
    }
    text
}
