//! The command line over a real NATS server, Debian's and the newest: the same words, the same exit codes.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::demo::release::{Kind, World};
use sluice_rig::nats::{Nats, NatsOptions};
use tokio::process::{Child, Command};

use super::cli::{Ran, binary, ran};

const LIMIT: Duration = Duration::from_secs(180);

/// A server, a world to shift traffic in, and a folder.
struct Site {
    nats: Nats,
    world: World,
    dir: tempfile::TempDir,
}

impl Site {
    async fn new(options: NatsOptions) -> Site {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nats = Nats::start(options).await.unwrap();
        let world = World::with_load(Kind::Good, 50).await.unwrap();
        let site = Site { nats, world, dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(site.dir.path().join("policies")).unwrap();
        std::fs::write(site.dir.path().join("policies/checkout.yaml"), site.policy().to_string()).unwrap();
        site
    }

    /// Its first step is held by a gate, so that it stands still until a person comes.
    fn policy(&self) -> Value {
        let urls = self.world.urls();
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {
                "target": {"webhook": {"url": urls.weights}},
                "metrics": {"scrape": {"stable": [urls.stable_metrics], "canary": [urls.canary_metrics]}},
                // Longer than any test looks at it.
                "steps": [{"weight": 5, "min": "20m"}, {"weight": 50}],
                "gates": [{"name": "ann-says-yes", "approval": {}}],
            },
        })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = binary(&line.split(' ').collect::<Vec<_>>());
        command.env("SLUICE_NATS", self.nats.url()).current_dir(self.dir.path());
        command
    }

    async fn sluice(&self, line: &str) -> Ran {
        ran(self.command(line)).await
    }

    fn daemon(&self) -> Child {
        let line = "run --policies policies --listen 127.0.0.1:0 --daemon one";
        self.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Asks until it is so.
    async fn until(&self, line: &str, so: impl Fn(&Ran) -> bool) -> Ran {
        let asking = async {
            loop {
                let ran = self.sluice(line).await;
                if so(&ran) {
                    return ran;
                }
            }
        };
        tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("`sluice {line}` never said so"))
    }
}

async fn the_command_line_speaks_over_the_bus(options: NatsOptions) {
    let site = Site::new(options).await;
    let nobody = site.sluice("status").await;
    assert!(nobody.code == 3 && nobody.err.contains("no daemon is running"), "{nobody:?}");
    let made = site.sluice("init -o json").await;
    assert!(made.code == 0 && made.out.contains("SLUICE_OVERRIDES"), "{made:?}");
    let again = site.sluice("init").await;
    assert!(
        again.code == 0 && again.out.starts_with("everything is there already, and as it should be\n"),
        "{again:?}"
    );
    let named = site.sluice("init --daemon sluice-0,sluice-1").await;
    assert!(named.code == 0 && named.out.contains("sluice-sluice-1 of stream SLUICE_OVERRIDES"), "{named:?}");
    let kept = site.sluice("abort shop/checkout --reason early").await;
    assert!(kept.code == 0 && kept.out.contains("kept on the bus"), "{kept:?}");
    let lost = site.sluice("promote shop/checkout").await;
    assert_eq!(lost.code, 3, "{lost:?}");

    let _daemon = site.daemon();
    site.until("status -o json", |ran| ran.code == 0).await;
    let unknown = site.sluice("status shop/nothing").await;
    assert!(unknown.code == 2 && unknown.err.contains("shop/nothing"), "{unknown:?}");
    let refused = site.sluice("start shop/nothing --wait").await;
    assert!(refused.code == 1 && refused.out.contains("no policy shop/nothing"), "{refused:?}");

    let start =
        site.command("start shop/checkout --version v2 --wait").stdout(Stdio::piped()).spawn().unwrap();
    let gated = site.until("status shop/checkout -o json", |ran| ran.code == 0).await;
    assert_eq!(gated.json()["phase"], "gated", "{gated:?}");
    let stale = site.sluice("abort shop/checkout --revision 99").await;
    assert!(stale.code == 1 && stale.out.contains("revision 99 expected"), "{stale:?}");
    let explained = site.sluice("explain shop/checkout").await;
    assert!(explained.code == 0 && explained.out.contains("ann-says-yes"), "{explained:?}");
    let aborted = site.sluice("abort shop/checkout --reason enough").await;
    assert_eq!(aborted.code, 0, "{aborted:?}");

    let ended =
        tokio::time::timeout(LIMIT, start.wait_with_output()).await.expect("the wait goes on").unwrap();
    let told = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("ann asked for abort: enough"), "{told}");
    let watched = site.sluice("watch shop/checkout").await;
    assert_eq!(watched.code, 1, "{watched:?}");
    site.until("history shop/checkout", |ran| ran.out.contains("refused: revision 99 expected")).await;
}

/// Watched, interrupted by a clean restart, aborted by a person: all of it stands in one record on the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_nats_goes_on_after_a_restart_and_replays() {
    let site = Site::new(NatsOptions::latest()).await;
    let mut policy = site.policy();
    policy["spec"]["gates"] = json!([]);
    policy["spec"]["metrics"]["scrape"]["every"] = json!("300ms");
    std::fs::write(site.dir.path().join("policies/checkout.yaml"), policy.to_string()).unwrap();
    site.sluice("init").await;
    let mut first = site.daemon();
    site.until("status -o json", |ran| ran.code == 0).await;
    site.sluice("start shop/checkout --version v2").await;
    let judged = |ran: &Ran| ran.code == 0 && ran.json()["evidence"]["windows"].as_u64() >= Some(3);
    site.until("status shop/checkout -o json", judged).await;
    terminate(&first);
    tokio::time::timeout(LIMIT, first.wait()).await.expect("the daemon does not stop").unwrap();

    let _second = site.daemon();
    site.until("status shop/checkout -o json", judged).await;
    site.sluice("abort shop/checkout --reason enough").await;
    site.until("status shop/checkout -o json", |ran| ran.json()["phase"] == "reverted").await;
    let complete = |ran: &Ran| ran.out.contains("ends reverted");
    let replayed = site.until("replay shop/checkout", complete).await;
    assert_eq!(replayed.code, 0, "{replayed:?}");
    assert!(
        replayed.out.contains("the same, bit for bit") && replayed.out.contains("2 starts"),
        "{replayed:?}"
    );
    // What follows the end may still be added to it, between one look and the other.
    let agrees = async {
        loop {
            let exported = site.sluice("record shop/checkout").await;
            std::fs::write(site.dir.path().join("record"), &exported.out).unwrap();
            let offline = site.sluice("replay record").await;
            if offline.out == site.sluice("replay shop/checkout").await.out && offline.code == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, agrees).await.expect("the exported record replays otherwise");
}

/// What systemd and Kubernetes send.
fn terminate(daemon: &Child) {
    let id = daemon.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_debians_nats() {
    the_command_line_speaks_over_the_bus(NatsOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_newest_nats() {
    the_command_line_speaks_over_the_bus(NatsOptions::latest()).await;
}
