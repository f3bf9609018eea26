//! Prometheus: scrapes what it is told, answers queries, and can go away and come back on the same port and data.
//!
//! It takes up changes of its targets on a clock of its own, every 5 s: so the first scrape comes some 5 s after a start,
//! and a target that was added or taken away shows as late.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::binaries;
use crate::folder::{self, Folder};
use crate::http;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};
use crate::wait;

const TARGETS: &str = "targets.json";

/// One thing to scrape, at `/metrics`, and the labels that its samples get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    pub labels: Vec<(String, String)>,
}

impl Target {
    /// A target with labels of its own.
    pub fn new(address: SocketAddr, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { address, labels }
    }

    /// A pod, with the labels that Kubernetes' service discovery is usually told to give.
    pub fn pod(address: SocketAddr, namespace: &str, app: &str, pod: &str) -> Self {
        Self::new(address, &[("namespace", namespace), ("app", app), ("pod", pod)])
    }
}

/// What a Prometheus scrapes. Changes are seen without a restart, after 5 s at most.
#[derive(Debug, Clone)]
pub struct Targets {
    path: PathBuf,
}

impl Targets {
    /// A file of one's own, which [`PrometheusOptions::more`] names under `file_sd_configs`.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Scrape these from now on, and no others.
    pub fn set(&self, targets: &[Target]) -> Result<()> {
        folder::replace(&self.path, targets_file(targets))
    }
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// From 100 ms up.
    pub scrape_interval: Duration,
    pub targets: Vec<Target>,
    /// A whole rules file.
    pub rules: Option<String>,
    /// More lines of its configuration, verbatim (for instance `alerting:`).
    pub more: String,
    /// Asks targets for protobuf and keeps native histograms.
    pub native_histograms: bool,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(1),
            targets: Vec::new(),
            rules: None,
            more: String::new(),
            native_histograms: false,
        }
    }
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    scrape_interval: Duration,
    client: reqwest::Client,
    port: Port,
    folder: Folder,
}

impl Prometheus {
    /// Starts it and waits for `/-/ready`.
    pub async fn start(options: PrometheusOptions) -> Result<Self> {
        let (folder, port) = (Folder::new("prometheus")?, Port::free()?);
        folder.write(TARGETS, targets_file(&options.targets))?;
        folder.write("rules.yml", options.rules.as_deref().unwrap_or("groups: []\n"))?;
        folder.write("prometheus.yml", config(&options))?;
        let ready = Ready::Http(format!("http://{}/-/ready", port.address()));
        let server = Recipe::new("prometheus", binaries::packaged("prometheus")?, folder.path(), ready)
            .args([
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--storage.tsdb.retention.time=1d",
            ])
            .args([format!("--web.listen-address={}", port.address())])
            .args(["--scrape.discovery-reload-interval=100ms"]) // 5 s otherwise
            .args(options.native_histograms.then_some("--enable-feature=native-histograms"))
            .start()
            .await?;
        let scrape_interval = options.scrape_interval;
        Ok(Self { server, scrape_interval, client: http::client()?, port, folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The list of what it scrapes, which can be changed while it runs (and while it does not).
    pub fn targets(&self) -> Targets {
        Targets { path: self.folder.path().join(TARGETS) }
    }

    /// An instant query; gives `data` of the answer.
    pub async fn query(&self, promql: &str) -> Result<Value> {
        let url = format!("{}/api/v1/query", self.url());
        let text = http::answer(&url, self.client.post(&url).form(&[("query", promql)]).send().await).await?;
        let mut answer: Value = serde_json::from_str(&text)?;
        Ok(answer["data"].take())
    }

    /// The value of a query whose answer is one series; `None` if it is none.
    pub async fn value(&self, promql: &str) -> Result<Option<f64>> {
        let data = self.query(promql).await?;
        let result = data["result"].as_array().with_context(|| format!("no vector: {data}"))?;
        match result.as_slice() {
            [] => Ok(None),
            [one] => one["value"][1].as_str().context("no value")?.parse().map(Some).context("no number"),
            many => bail!("{promql} gives {} series, not one", many.len()),
        }
    }

    /// Waits until a query of one series gives what `holds` accepts.
    pub async fn wait_for(&self, promql: &str, limit: Duration, holds: impl Fn(f64) -> bool) -> Result<f64> {
        wait::until(promql, limit, || async {
            let value = self.value(promql).await?;
            if value.is_some_and(&holds) { Ok(value) } else { bail!("it is {value:?}") }
        })
        .await
    }

    /// Waits until exactly `count` targets are being scraped well. Samples from before a restart do not count, though
    /// queries go on showing them for five minutes.
    pub async fn wait_until_up(&self, count: usize, limit: Duration) -> Result<()> {
        let fresh = (3 * self.scrape_interval).max(Duration::from_secs(1)).as_secs_f64();
        let up = format!("count((up == 1) and (time() - timestamp(up) < {fresh}))");
        self.wait_for(&up, limit, |up| (up - count as f64).abs() < 0.5).await.map(drop)
    }
}

fn config(options: &PrometheusOptions) -> String {
    let interval = options.scrape_interval.as_millis();
    format!(
        "global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms, evaluation_interval: {interval}ms}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs:\n- job_name: pods\n  file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]\n{}",
        options.more
    )
}

fn targets_file(targets: &[Target]) -> String {
    let group = |target: &Target| {
        let labels: serde_json::Map<_, _> =
            target.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        json!({"targets": [target.address.to_string()], "labels": labels})
    };
    Value::from_iter(targets.iter().map(group)).to_string()
}
