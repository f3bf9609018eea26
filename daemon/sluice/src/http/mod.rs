//! The HTTP door: what people, CI and Prometheus may ask of a running daemon.
//!
//! ```text
//!   connection ──▶ guard ──────────────▶ reading, streaming ──▶ Control
//!   (limits)       (who, from where,     commanding, announcing
//!                   how often)           probing
//! ```
//!
//! Promises: each request ends within a time limit and a size limit; each fault is JSON with `error` and `remedy`; each
//! route stands in `/openapi.json`. Without a token file only this host may write, and no browser on behalf of another
//! site ever. Nothing here decides about a rollout, keeps state, or knows where `Control` gets its answers.

mod announcing;
mod body;
mod commanding;
mod connection;
mod fault;
mod guard;
mod openapi;
mod options;
mod probing;
mod reading;
mod streaming;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use sluice_bus::Doors;
use sluice_wire::cloudevent::MOST_BYTES;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use openapi::document as openapi_document;
pub use options::{HttpLimits, HttpOptions, Rate};
pub use tls::{Tls, TlsFiles};
pub use tokens::check_tokens;

use crate::control::Control;
use fault::Fault;
use guard::Guard;

/// What every handler gets.
#[derive(Clone)]
struct House {
    control: Arc<dyn Control>,
    doors: Option<Arc<dyn Doors>>,
    guard: Arc<Guard>,
    streams: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    shutdown: CancellationToken,
    limits: HttpLimits,
}

/// Serves until `shutdown` is cancelled, then lets what runs come to its end for a few seconds.
pub async fn serve(
    listener: TcpListener,
    control: Arc<dyn Control>,
    options: HttpOptions,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let limits = options.limits;
    let house = House {
        control,
        doors: options.doors,
        guard: Arc::new(Guard::new(options.tokens, &limits)),
        streams: Arc::new(Semaphore::new(limits.streams)),
        commands: Arc::new(Semaphore::new(limits.waiting_commands)),
        shutdown: shutdown.clone(),
        limits,
    };
    connection::accept(listener, options.tls, router(house), limits, shutdown).await
}

fn router(house: House) -> Router {
    let routes = routes().into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route));
    routes
        .fallback(|| async { Fault::no_such_path() })
        .method_not_allowed_fallback(|| async { Fault::no_such_method() })
        .layer(from_fn_with_state(house.clone(), guard::guarded))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(house)
}

/// All routes. A test compares them with the OpenAPI document.
fn routes() -> Vec<(&'static str, MethodRouter<House>)> {
    vec![
        ("/healthz", get(probing::healthz)),
        ("/readyz", get(probing::readyz)),
        ("/metrics", get(probing::metrics)),
        ("/openapi.json", get(openapi::served)),
        ("/api/v1/rollouts", get(reading::list)),
        ("/api/v1/rollouts/{namespace}/{name}", get(reading::one)),
        ("/api/v1/rollouts/{namespace}/{name}/history", get(reading::history)),
        ("/api/v1/rollouts/{namespace}/{name}/record", get(reading::record)),
        ("/api/v1/rollouts/{namespace}/{name}/{action}", post(commanding::command)),
        ("/api/v1/watch", get(streaming::watch)),
        ("/events", get(streaming::events).post(announcing::anywhere)),
        ("/events/{namespace}/{name}", post(announcing::addressed)),
    ]
}
