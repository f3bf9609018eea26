//! HAProxy: real requests split over real servers, its runtime API on a unix socket, and its Prometheus exporter.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::binaries;
use crate::folder::Folder;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};

/// Of its runtime API.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How to start it.
#[derive(Debug, Clone, Default)]
pub struct HaproxyOptions {
    /// The servers of the one backend, `app`, reached through [`Haproxy::url`].
    pub servers: Vec<Arm>,
    /// More sections, verbatim (own frontends must listen on loopback).
    pub more: String,
}

/// One server of the backend.
#[derive(Debug, Clone)]
pub struct Arm {
    pub name: String,
    pub address: SocketAddr,
    /// 0 to 256.
    pub weight: u16,
}

impl HaproxyOptions {
    /// Backend `app` with the servers `stable` (weight 256) and `canary` (weight 0).
    pub fn stable_and_canary(stable: SocketAddr, canary: SocketAddr) -> Self {
        let arm = |name: &str, address, weight| Arm { name: name.to_owned(), address, weight };
        Self { servers: vec![arm("stable", stable, 256), arm("canary", canary, 0)], more: String::new() }
    }
}

/// A running HAProxy. Runtime weights are lost when it is started again, as after a reload.
#[derive(Debug)]
pub struct Haproxy {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    entry: Port,
    stats: Port,
    folder: Folder,
}

impl Haproxy {
    /// The backend's name.
    pub const BACKEND: &'static str = "app";

    /// Starts it and waits until its exporter answers.
    pub async fn start(options: HaproxyOptions) -> Result<Self> {
        let (folder, entry, stats) = (Folder::new("haproxy")?, Port::free()?, Port::free()?);
        folder.write("haproxy.cfg", config(&options, &folder, &entry, &stats))?;
        let ready = Ready::Http(format!("http://{}/metrics", stats.address()));
        let server = Recipe::new("haproxy", binaries::packaged("haproxy")?, folder.path(), ready)
            .args(["-db", "-f", "haproxy.cfg"])
            .start()
            .await?;
        Ok(Self { server, entry, stats, folder })
    }

    /// Where requests go in: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.entry.address())
    }

    /// Its Prometheus exporter, at `/metrics`.
    pub fn exporter(&self) -> SocketAddr {
        self.stats.address()
    }

    /// The runtime API's socket, with level admin.
    pub fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }

    /// Gives a command to the runtime API and returns its answer.
    pub async fn command(&self, command: &str) -> Result<String> {
        ask(&self.socket(), command).await
    }

    /// The weight of a server of the backend that is in effect, 0 to 256.
    pub async fn weight(&self, server: &str) -> Result<u16> {
        let answer = self.command(&get_weight(server)).await?;
        weight(&answer).with_context(|| format!("no weight in {answer:?}"))
    }

    /// Keeps what the weights of these servers become, until dropped.
    pub fn log_weights(&self, servers: &[&str]) -> WeightLog {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let question = servers.iter().map(|server| get_weight(server)).collect::<Vec<_>>().join(";");
        let task = tokio::spawn(keep_weights(self.socket(), question, seen.clone()));
        WeightLog { seen, task }
    }

    /// Sets the weight of a server of the backend, as an operator would by hand.
    pub async fn set_weight(&self, server: &str, weight: u16) -> Result<()> {
        let answer = self.command(&format!("set weight {}/{server} {weight}", Self::BACKEND)).await?;
        // It says nothing when it obeys.
        if answer.is_empty() { Ok(()) } else { bail!("{answer}") }
    }
}

/// The time at which weights were first seen, and the weights.
pub type Change = (Instant, Vec<u16>);

/// The weights of some servers as the runtime API told them, each change once, with the time at which it was first seen.
/// Asked for every two milliseconds until dropped.
#[derive(Debug)]
pub struct WeightLog {
    seen: Arc<Mutex<Vec<Change>>>,
    task: JoinHandle<()>,
}

impl WeightLog {
    /// The weights, one after the other, in the order of the servers asked for.
    pub fn weights(&self) -> Vec<Vec<u16>> {
        self.timed().into_iter().map(|(_, weights)| weights).collect()
    }

    /// The same with the time at which each was first seen.
    pub fn timed(&self) -> Vec<Change> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WeightLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_weights(socket: PathBuf, question: String, seen: Arc<Mutex<Vec<Change>>>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    loop {
        ticks.tick().await;
        // While it is being restarted there is nothing to tell.
        let Ok(answer) = ask(&socket, &question).await else { continue };
        let weights: Vec<u16> = answer.lines().filter_map(weight).collect();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !weights.is_empty() && seen.last().is_none_or(|(_, last)| *last != weights) {
            seen.push((Instant::now(), weights));
        }
    }
}

/// Gives a command to a runtime API and returns its answer.
pub(crate) async fn ask(socket: &Path, command: &str) -> Result<String> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.trim().to_owned())
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, ask).await;
    answer
        .with_context(|| format!("no answer within {ANSWER_LIMIT:?}"))
        .and_then(|a| Ok(a?))
        .with_context(|| format!("asking {command:?}"))
}

fn get_weight(server: &str) -> String {
    format!("get weight {}/{server}", Haproxy::BACKEND)
}

/// `<current> (initial <configured>)`
fn weight(line: &str) -> Option<u16> {
    line.split_whitespace().next().and_then(|number| number.parse().ok())
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

fn config(options: &HaproxyOptions, folder: &Folder, entry: &Port, stats: &Port) -> String {
    let backend: String = options
        .servers
        .iter()
        .map(|arm| format!("  server {} {} weight {}\n", arm.name, arm.address, arm.weight))
        .collect();
    format!(
        "global\n  stats socket {} mode 600 level admin\n  stats timeout 10s\n  maxconn 4000\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n\
         frontend exporter\n  bind {}\n  http-request use-service prometheus-exporter if {{ path /metrics }}\n\
         frontend entry\n  bind {}\n  default_backend {backend_name}\n\
         backend {backend_name}\n  balance roundrobin\n{backend}{}\n",
        socket(folder.path()).display(),
        stats.address(),
        entry.address(),
        options.more,
        backend_name = Haproxy::BACKEND,
    )
}
