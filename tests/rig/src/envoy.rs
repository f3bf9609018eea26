//! Envoy: the data plane of [`Contour`]. It splits real requests over real pods, at random per request; a new weight is
//! in effect 30 to 250 ms after the write. Inside [`crate::netns`] only.

use std::net::SocketAddr;

use anyhow::Result;

use crate::binaries;
use crate::contour::Contour;
use crate::folder::Folder;
use crate::http;
use crate::netns;
use crate::server::{Ready, Recipe, Server};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    entry: SocketAddr,
    stats: SocketAddr,
    _folder: Folder,
}

impl Envoy {
    /// Starts it and waits until it listens for the Gateway. Contour opens that listener when the first HTTPRoute is
    /// attached, so apply the route before.
    pub async fn start(contour: &Contour) -> Result<Self> {
        netns::guard()?;
        let folder = Folder::new("envoy")?;
        let bootstrap = contour.bootstrap().await?;
        let entry = contour.entry();
        let server = Recipe::new("envoy", binaries::built("envoy")?, folder.path(), Ready::Accepts(entry))
            .args(["--config-path".to_owned(), bootstrap.display().to_string()])
            .args(["--service-cluster", "default", "--service-node", "rig"])
            .args(["--concurrency", "2", "--log-level", "warning", "--disable-hot-restart"])
            .start()
            .await?;
        Ok(Self { server, entry, stats: contour.stats(), _folder: folder })
    }

    /// Where requests go in: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.entry)
    }

    /// What a Prometheus would scrape, at path [`Envoy::METRICS`].
    pub fn exporter(&self) -> SocketAddr {
        self.stats
    }

    /// The path of its exposition.
    pub const METRICS: &'static str = "/stats/prometheus";

    /// Its exposition.
    pub async fn metrics(&self) -> Result<String> {
        http::get_text(&http::client()?, &format!("http://{}{}", self.stats, Self::METRICS)).await
    }
}
