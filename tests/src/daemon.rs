//! `sluice run` as a process of its own: started with a folder of policies, stopped or killed and started again on the
//! same port, data and name, asked over HTTP and over the command line.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_rig::folder::{self, Folder};
use sluice_rig::ports::Port;
use sluice_rig::server::{Ready, Recipe};
use sluice_rig::{Server, binaries, http, wait};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

use crate::cli::{self, Output};
use crate::disk::{self, Disk};
use crate::{LIMIT, PolicyText, binary};

/// A daemon promises to end within this after SIGTERM…
const STOP_PROMISE: Duration = Duration::from_secs(5);
/// …and gets this much more from a busy machine.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// How often it is asked where nothing is to change.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where messages and state are kept.
#[derive(Debug, Clone, Default)]
pub enum BusChoice {
    /// In the daemon's own folder; it outlives a stop or kill of the daemon.
    #[default]
    Embedded,
    /// A NATS server's URL.
    Nats(String),
}

/// How to start one.
#[derive(Debug, Clone)]
pub struct DaemonOptions {
    /// Written into the daemon's policies folder before it starts.
    pub policies: Vec<PolicyText>,
    pub bus: BusChoice,
    pub kubeconfig: Option<PathBuf>,
    /// The same at every start.
    pub name: String,
    /// `$SLUICE_LOG`
    pub log: String,
    /// More arguments of `sluice run`, verbatim.
    pub more: Vec<String>,
    /// More variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// A disk of so many kilobytes for the embedded bus, which can be filled. It is gone with the process.
    pub disk_kilobytes: Option<u32>,
}

impl Default for DaemonOptions {
    fn default() -> Self {
        DaemonOptions {
            policies: Vec::new(),
            bus: BusChoice::Embedded,
            kubeconfig: None,
            name: "rig".to_owned(),
            log: "info".to_owned(),
            more: Vec::new(),
            environment: Vec::new(),
            disk_kilobytes: None,
        }
    }
}

impl DaemonOptions {
    /// On a NATS server, with policies.
    pub fn nats(url: &str, policies: Vec<PolicyText>) -> Self {
        DaemonOptions { bus: BusChoice::Nats(url.to_owned()), policies, ..Self::default() }
    }

    /// With the embedded bus, and policies.
    pub fn embedded(policies: Vec<PolicyText>) -> Self {
        DaemonOptions { policies, ..Self::default() }
    }
}

/// A running daemon; dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    /// The process: freeze, thaw, its log and id.
    pub server: Server,
    pub name: String,
    port: Port,
    client: reqwest::Client,
    folder: Folder,
}

impl Daemon {
    /// Starts it and waits until `/readyz` says so; a failed start shows the end of its log.
    pub async fn start(options: DaemonOptions) -> Result<Daemon> {
        let (folder, port) = (Folder::new("sluice")?, Port::free()?);
        std::fs::create_dir(folder.path().join("policies"))?;
        std::fs::create_dir(folder.path().join("data"))?;
        for policy in &options.policies {
            folder.write(&policy_file(&policy.file), &policy.yaml)?;
        }
        let server = recipe(&options, &folder, &port).await?.start().await?;
        Ok(Daemon { server, name: options.name, port, client: http::client()?, folder })
    }

    /// SIGTERM; an error if it does not end by itself in time.
    pub async fn stop(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.server.stop().await?;
        let took = begun.elapsed();
        ensure!(took < STOP_PROMISE + STOP_SLACK, "it took {took:?} to end; it promises {STOP_PROMISE:?}");
        Ok(())
    }

    /// SIGKILL: a power cut.
    pub fn kill9(&mut self) {
        self.server.kill();
    }

    /// Fills the disk of its own ([`DaemonOptions::disk_kilobytes`]) to the last byte.
    pub fn fill_disk(&self) -> Result<()> {
        Disk::of(&self.server, &self.folder.path().join("data"))?.fill()
    }

    /// Makes room again.
    pub fn empty_disk(&self) -> Result<()> {
        Disk::of(&self.server, &self.folder.path().join("data"))?.empty()
    }

    /// On the same port, data, policies and name, and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.server.start_again().await
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// All of its log so far, over all its starts.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Writes (or replaces) a policy's file while it runs; the daemon reads the folder every two seconds.
    pub fn write_policy(&self, policy: &PolicyText) -> Result<()> {
        folder::replace(&self.folder.path().join(policy_file(&policy.file)), &policy.yaml)
    }

    /// The policies folder, for `sluice validate`.
    pub fn policies(&self) -> PathBuf {
        self.folder.path().join("policies")
    }

    /// The command line, over this daemon's HTTP API, as user `tester`.
    pub async fn cli(&self, args: &[&str]) -> Result<Output> {
        cli::sluice(args, &self.environment()).await
    }

    /// What a shell would export to reach this daemon.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("SLUICE_SERVER", self.url()), ("SLUICE_USER", "tester".to_owned())]
    }

    /// A GET of the HTTP API.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.url());
        let text = http::get_text(&self.client, &url).await?;
        serde_json::from_str(&text).with_context(|| format!("{url} answered {text}"))
    }

    /// A POST of JSON; status and body of the answer, whatever they are.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.client.post(format!("{}{path}", self.url())).json(body).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or_default()))
    }

    /// The latest rollout of a policy (`namespace/name`), or an attempt (`namespace/name@attempt`).
    pub async fn view(&self, rollout: &str) -> Result<RolloutView> {
        self.get(&path(rollout, "")).await
    }

    /// Every rollout that it knows, newest first.
    pub async fn views(&self) -> Result<Vec<RolloutView>> {
        self.get("/api/v1/rollouts").await
    }

    /// Oldest first.
    pub async fn history(&self, rollout: &str) -> Result<Vec<HistoryLine>> {
        self.get(&path(rollout, "/history")).await
    }

    /// Our own metrics.
    pub async fn metrics(&self) -> Result<String> {
        http::get_text(&self.client, &format!("{}/metrics", self.url())).await
    }

    /// Polls until the rollout's view is as wanted. A failure shows the last view, the history and the log's end.
    pub async fn wait_for(
        &self,
        rollout: &str,
        what: &str,
        holds: impl Fn(&RolloutView) -> bool,
    ) -> Result<RolloutView> {
        let found = wait::until(&format!("{rollout} {what}"), LIMIT, || async {
            let view = self.view(rollout).await?;
            if holds(&view) {
                return Ok(Some(view));
            }
            bail!(
                "it is {} at {} (step {:?}, {:?}): {}",
                view.phase,
                view.weight,
                view.step,
                view.verdict,
                view.reason
            )
        })
        .await;
        match found {
            Ok(view) => Ok(view),
            Err(error) => Err(error.context(self.account(rollout).await)),
        }
    }

    /// Polls until the rollout's history has a line as wanted, and gives the first such.
    pub async fn wait_history(
        &self,
        rollout: &str,
        what: &str,
        wanted: impl Fn(&HistoryLine) -> bool,
    ) -> Result<HistoryLine> {
        let found = wait::until(&format!("{what} in the history of {rollout}"), LIMIT, || async {
            Ok(self.history(rollout).await?.into_iter().find(|line| wanted(line)))
        })
        .await;
        match found {
            Ok(line) => Ok(line),
            Err(error) => Err(error.context(self.account(rollout).await)),
        }
    }

    /// Looks again and again for `span`, and fails as soon as the rollout's view is not as it should stay.
    pub async fn stays(
        &self,
        rollout: &str,
        what: &str,
        span: Duration,
        holds: impl Fn(&RolloutView) -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < span {
            let view = self.view(rollout).await?;
            if !holds(&view) {
                let now =
                    format!("{} at {} (step {:?}): {}", view.phase, view.weight, view.step, view.reason);
                bail!("{rollout} did not stay {what}: {now}\n{}", self.account(rollout).await);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until the decision record is whole and replays: its last batch is written behind the end that the view shows.
    pub async fn wait_replay(&self, rollout: &str) -> Result<()> {
        wait::until(&format!("the record of {rollout} to replay"), LIMIT, || async {
            let replayed = self.cli(&["replay", rollout]).await?;
            if replayed.code == 0 { Ok(Some(())) } else { bail!("{replayed:?}") }
        })
        .await
    }

    /// Until its end, whatever it is.
    pub async fn wait_for_end(&self, rollout: &str) -> Result<RolloutView> {
        self.wait_for(rollout, "to end", |view| view.outcome.is_some()).await
    }

    /// What a person would look at when a story fails: history, evidence and the log's end.
    pub async fn account(&self, rollout: &str) -> String {
        let history = self.history(rollout).await.unwrap_or_default();
        let lines: Vec<String> = history.iter().map(told).collect();
        let evidence = self.view(rollout).await.map(|view| view.evidence.to_string()).unwrap_or_default();
        format!(
            "history of {rollout}:\n{}\nevidence: {evidence}\nlog:\n{}",
            lines.join("\n"),
            self.server.log_tail()
        )
    }
}

fn told(line: &HistoryLine) -> String {
    format!(
        "{:>4} {:<10} {:>6} {} | {} | {:?}",
        line.revision, line.phase, line.weight, line.event, line.reason, line.effects
    )
}

fn policy_file(name: &str) -> String {
    format!("policies/{name}")
}

/// `namespace/name@attempt` as a path of the API.
fn path(rollout: &str, below: &str) -> String {
    match rollout.split_once('@') {
        Some((name, attempt)) => format!("/api/v1/rollouts/{name}{below}?attempt={attempt}"),
        None => format!("/api/v1/rollouts/{rollout}{below}"),
    }
}

async fn recipe(options: &DaemonOptions, folder: &Folder, port: &Port) -> Result<Recipe> {
    let ready = Ready::Http(format!("http://{}/readyz", port.address()));
    let listen = port.address().to_string();
    let sluice = binary::sluice().await?;
    let recipe = match options.disk_kilobytes {
        None => Recipe::new("sluice", sluice, folder.path(), ready),
        Some(kilobytes) => Recipe::new("sluice", binaries::packaged("unshare")?, folder.path(), ready)
            .args(disk::mounted(kilobytes))
            .args([sluice.display().to_string()]),
    };
    let recipe = recipe
        .env("SLUICE_LOG", &options.log)
        .env("NO_COLOR", "1")
        .args(["run", "--policies", "policies", "--listen", &listen, "--daemon", &options.name])
        .args(options.more.clone());
    let recipe = options.environment.iter().fold(recipe, |recipe, (name, value)| recipe.env(name, value));
    let recipe = match &options.bus {
        BusChoice::Embedded => recipe.args(["--data", "data"]),
        BusChoice::Nats(url) => recipe.args(["--nats", url]),
    };
    Ok(match &options.kubeconfig {
        Some(file) => recipe.args(["--kubeconfig".to_owned(), file.display().to_string()]),
        None => recipe,
    })
}
