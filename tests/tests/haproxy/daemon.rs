//! `sluice run` as a process of its own, with the embedded bus in a file, and what a person can ask of it: the command line
//! and HTTP.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_rig::folder::{self, Folder};
use sluice_rig::ports::Port;
use sluice_rig::server::{Ready, Recipe};
use sluice_rig::{Server, http, wait};
use sluice_wire::message::Answer;
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

pub const NAMESPACE: &str = "shop";
/// Longer than any story; what takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(120);

pub struct Daemon {
    pub server: Server,
    pub client: reqwest::Client,
    port: Port,
    folder: Folder,
}

/// How a command of the command line ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Daemon {
    /// Runs with these policies, until dropped.
    pub async fn run(policies: &[Value]) -> Result<Daemon> {
        let (folder, port) = (Folder::new("sluice")?, Port::free()?);
        std::fs::create_dir(folder.path().join("policies"))?;
        for policy in policies {
            write_policy(&folder, policy)?;
        }
        let ready = Ready::Http(format!("http://{}/readyz", port.address()));
        let server = Recipe::new("sluice", binary()?, folder.path(), ready)
            .args(["run", "--policies", "policies", "--data", "data", "--daemon", "host"])
            .args(["--listen".to_owned(), port.address().to_string()])
            .start()
            .await?;
        Ok(Daemon { server, client: http::client()?, port, folder })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// `sluice ARGS --server …`, to its end.
    pub async fn cli(&self, args: &[&str]) -> Result<Ended> {
        let output = tokio::process::Command::new(binary()?)
            .args(args)
            .args(["--server", &self.url(), "--user", "ann"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, output).await.with_context(|| {
            format!("sluice {} has not ended; the daemon says:\n{}", args.join(" "), self.server.log_tail())
        })??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().context("ended by a signal")?;
        Ok(Ended { code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Announces a release as CI would, and follows it to its end.
    pub async fn start_and_wait(&self, name: &str, version: &str) -> Result<Ended> {
        let rollout = format!("{NAMESPACE}/{name}");
        self.cli(&["start", &rollout, "--version", version, "--attempt", version, "--wait"]).await
    }

    /// Announces a release over HTTP; the attempt is named like the version.
    pub async fn announce(&self, name: &str, version: &str) -> Result<Reply> {
        let data = json!({"version": version, "attempt": version});
        self.post(&format!("/events/{NAMESPACE}/{name}"), &event(version, data)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.post_bytes(path, "application/cloudevents+json", body.to_string().into_bytes()).await
    }

    pub async fn post_bytes(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Reply> {
        self.send(self.client.post(format!("{}{path}", self.url())).header("Content-Type", kind).body(body)).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply> {
        let response = request.timeout(LIMIT).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).with_context(|| format!("{status}, no JSON: {text}"))?;
        Ok(Reply { status, body })
    }

    /// A person's command over HTTP.
    pub async fn command(&self, name: &str, action: &str, body: Value) -> Result<Answer> {
        let path = format!("/api/v1/rollouts/{NAMESPACE}/{name}/{action}");
        let reply = self.post_bytes(&path, "application/json", body.to_string().into_bytes()).await?;
        serde_json::from_value(reply.body.clone()).with_context(|| format!("no answer: {reply:?}"))
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let value = http::get_json(&self.client, &format!("{}{path}", self.url())).await?;
        serde_json::from_value(value.clone()).with_context(|| format!("{path}: {value}"))
    }

    pub async fn view(&self, name: &str) -> Result<RolloutView> {
        self.get(&format!("/api/v1/rollouts/{NAMESPACE}/{name}")).await
    }

    pub async fn history(&self, name: &str, attempt: &str) -> Result<Vec<HistoryLine>> {
        self.get(&format!("/api/v1/rollouts/{NAMESPACE}/{name}/history?attempt={attempt}")).await
    }

    /// Waits until a rollout stands as it should; the error shows how it stood last, and what the daemon said.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&RolloutView) -> bool) -> Result<RolloutView> {
        let look = || async {
            let view = self.view(name).await?;
            if holds(&view) { Ok(Some(view)) } else { bail!("{}", brief(&view)) }
        };
        let seen = wait::until(&format!("{name}: {what}"), LIMIT, look).await;
        seen.with_context(|| format!("the daemon says:\n{}", self.server.log_tail()))
    }

    /// Waits until the canary of a rollout has this weight, read back.
    pub async fn until_weight(&self, name: &str, percent: f64) -> Result<RolloutView> {
        let reached = |view: &RolloutView| view.read_back.is_some_and(|weight| weight.percent() == percent);
        self.until(name, &format!("weight {percent} %"), reached).await
    }

    pub async fn until_ended(&self, name: &str, attempt: &str) -> Result<RolloutView> {
        let ended = |view: &RolloutView| view.outcome.is_some() && view.rollout.attempt() == attempt;
        self.until(name, &format!("the end of {attempt}"), ended).await
    }

    /// What the daemon told about a rollout (server-sent events from the beginning), the terminal event of this attempt
    /// and what follows it within a moment included.
    pub async fn told(&self, name: &str, attempt: &str) -> Result<Vec<Value>> {
        let url = format!("{}/events?namespace={NAMESPACE}&name={name}&after=0", self.url());
        let mut stream = self.client.get(url).timeout(LIMIT).send().await?.bytes_stream();
        let (mut text, mut told) = (String::new(), Vec::new());
        let ours = format!("{NAMESPACE}/{name}@{attempt}");
        loop {
            let ended = told.iter().any(|event| is_terminal(event, &ours));
            // Once the end is there, whatever else is kept comes without a pause.
            let patience = if ended { Duration::from_millis(500) } else { LIMIT };
            match tokio::time::timeout(patience, stream.next()).await {
                Ok(Some(part)) => text.push_str(&String::from_utf8_lossy(&part?)),
                Ok(None) | Err(_) if ended => return Ok(told),
                Ok(None) | Err(_) => bail!("the events ended before {ours} did: {told:?}"),
            }
            while let Some(end) = text.find("\n\n") {
                let frame: String = text.drain(..end + 2).collect();
                let data = frame.lines().find_map(|line| line.strip_prefix("data:"));
                told.extend(data.map(serde_json::from_str::<Value>).transpose()?);
            }
        }
    }

    /// Replaces (or adds) a policy file, as an operator would.
    pub fn set_policy(&self, policy: &Value) -> Result<()> {
        write_policy(&self.folder, policy)
    }
}

fn is_terminal(event: &Value, rollout: &str) -> bool {
    event["type"] == "dev.sluice.rollout.finished" && event["data"]["rollout"] == rollout
}

fn write_policy(folder: &Folder, policy: &Value) -> Result<()> {
    let name = policy["metadata"]["name"].as_str().context("a policy without a name")?;
    // JSON is YAML.
    folder::replace(&folder.path().join(format!("policies/{name}.yaml")), policy.to_string())
}

/// A release announcement; `id` is the message's own.
pub fn event(id: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "ci", "type": "dev.sluice.release.announced", "data": data})
}

pub fn brief(view: &RolloutView) -> String {
    let RolloutView { rollout, phase, step, weight, read_back, verdict, reason, waits_for, .. } = view;
    format!("{rollout} {phase} step {step:?} weight {weight} read back {read_back:?} {verdict:?}: {reason}; {waits_for:?}")
}

/// The binary under test: `$SLUICE_BIN`, or this repository's own.
pub fn binary() -> Result<PathBuf> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/sluice");
    let path = std::env::var_os("SLUICE_BIN").map_or_else(|| PathBuf::from(built), PathBuf::from);
    if !path.is_file() {
        bail!("{} is missing: run `cargo build -p sluice`", path.display());
    }
    Ok(path.canonicalize()?)
}
