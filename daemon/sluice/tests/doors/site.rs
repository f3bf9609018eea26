//! A daemon as a process on the embedded bus, with a service, policies and a folder for everybody's files.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::demo::release::{Kind, World};
use sluice_rig::ports::Port;
use tokio::process::Child;

use super::cli::{Ran, binary, ran};

/// Generous: the machine may be busy. Nothing waits this long when all is well.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// A daemon as a process, with a policy whose rollout waits at a gate, and a folder for everybody's files.
pub struct Site {
    pub world: World,
    pub dir: tempfile::TempDir,
    pub port: Port,
    pub more: Vec<String>,
    pub daemon: Option<Child>,
}

impl Site {
    pub async fn closed() -> Site {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let world = World::with_load(Kind::Good, 20).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        Site { world, dir, port: Port::free().unwrap(), more: Vec::new(), daemon: None }
    }

    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn policy(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let urls = self.world.urls();
        let mut policy = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "target": {"webhook": {"url": urls.weights}},
                "metrics": {"scrape": {"stable": [urls.stable_metrics], "canary": [urls.canary_metrics]}},
                "steps": [{"weight": 5}, {"weight": 50}],
                "gates": [{"name": "somebody-says-yes", "approval": {}}],
            },
        });
        change(&mut policy["spec"]);
        self.put(&format!("policies/{name}.yaml"), policy.to_string());
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    pub async fn open(&mut self) {
        let listen = self.port.address().to_string();
        let line =
            ["run", "--policies", "policies", "--data", "data", "--listen", &listen, "--daemon", "one"];
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = binary(&[&line[..], &more[..]].concat());
        command.current_dir(self.dir.path()).env("SLUICE_LOG", "trace").stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let ready = format!("{}/readyz", self.url());
        self.until(|| async { reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200) }).await;
    }

    pub async fn until<F: Future<Output = bool>>(&self, so: impl Fn() -> F) {
        let asking = async {
            while !so().await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let never = |_| panic!("it never was so\n{}", self.log());
        tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(never);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub async fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().await.unwrap();
    }

    pub async fn sluice(&self, line: &str) -> Ran {
        let mut command = binary(&line.split(' ').collect::<Vec<_>>());
        command.env("SLUICE_SERVER", self.url()).current_dir(self.dir.path());
        ran(command).await
    }

    /// Asks until it goes well: on a slow disk an abort is answered before it is saved, and what follows it is refused until then.
    pub async fn until_taken(&self, line: &str) -> Ran {
        self.until_said(line, |ran| ran.code == 0).await
    }

    /// Asks until the answer is as wanted: a history is written behind what it tells.
    pub async fn until_said(&self, line: &str, wanted: impl Fn(&Ran) -> bool) -> Ran {
        let asking = async {
            loop {
                let ran = self.sluice(line).await;
                if wanted(&ran) {
                    return ran;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let never = |_| panic!("`sluice {line}` never said so\n{}", self.log());
        tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(never)
    }

    pub async fn phase(&self, rollout: &str) -> String {
        let view = self.sluice(&format!("status {rollout} -o json")).await;
        view.json()["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Sends a command's body as it stands, as whoever has copied it would.
    pub async fn send(&self, action: &str, user: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/api/v1/rollouts/shop/checkout/{action}", self.url());
        let asked =
            reqwest::Client::new().post(url).header("Sluice-User", user).json(body).send().await.unwrap();
        (asked.status().as_u16(), asked.json().await.unwrap())
    }
}
