//! Servers that die: NATS, Prometheus, Alertmanager, the API server, away for a while and flapping. Nothing is opened and
//! nothing is aborted for that reason, nothing is lost, nobody is stormed when he is back, and `status` says what is waited for.
//!
//! The daemon alone is cut off (by a proxy on its links), so stories can run beside each other. `tests/outage --minutes 10`
//! tells the same ones with servers that are away for ten minutes. A full disk: `tests/haproxy/disk.rs`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rig::{http, wait};
use sluice_rollout::{Outcome, Verdict};
use sluice_tests::outage::{away, flap, no_storm};
use sluice_tests::world::{WorldOptions, servers};
use sluice_tests::{Daemon, LIMIT, World, story};
use sluice_wire::view::RolloutView;

pub async fn open(label: &str) -> Result<World> {
    World::with(label, WorldOptions { links: true, ..WorldOptions::default() }).await
}

/// Two short steps: with a server away, the first one would be left.
pub fn short() -> Value {
    json!({"steps": [{"weight": 10, "min": "4s"}, {"weight": 50}], "limits": {"step": {"max": "2h"}}})
}

pub fn long() -> Value {
    json!({"steps": [{"weight": 10, "min": "1h", "max": "2h"}]})
}

/// At the first step, and judged.
pub async fn watched(daemon: &Daemon, rollout: &str) -> Result<()> {
    let judged = |view: &RolloutView| view.watched_seconds.is_some_and(|seconds| seconds > 0.0);
    daemon.wait_for(rollout, "to be watched", judged).await.map(drop)
}

/// `status` names what is waited for.
pub async fn waits_for(daemon: &Daemon, rollout: &str, words: &str) -> Result<()> {
    let says = |view: &RolloutView| view.waits_for.as_ref().is_some_and(|said| said.contains(words));
    daemon.wait_for(rollout, &format!("to wait for {words:?}"), says).await.map(drop)
}

pub async fn promoted(world: &World, daemon: &Daemon) -> Result<()> {
    let ended = daemon.wait_for_end(&world.rollout()).await?;
    let account = daemon.account(&world.rollout()).await;
    ensure!(ended.outcome == Some(Outcome::Promoted), "{ended:?}\n{account}");
    world.wait_weights(&[0.0, 10.0, 50.0, 90.0, 0.0]).await?;
    ensure!(world.finished(1).await?.len() == 1, "told twice");
    ensure!(world.notified("aborting").await?.is_empty(), "an abort was told");
    Ok(())
}

/// Messages that the world's own NATS server has been sent.
async fn messages(world: &World) -> Result<f64> {
    let asked = || async { Ok(world.nats.monitor("varz").await?["in_msgs"].as_f64()) };
    wait::until("the server's own count", LIMIT, asked).await
}

/// The sum of a counter on a server's own page of metrics, over the lines with this label.
async fn counted(url: &str, counter: &str, label: &str) -> Result<f64> {
    let page = http::get_text(&http::client()?, &format!("{url}/metrics")).await?;
    let lines = page.lines().filter(|line| line.starts_with(counter) && line.contains(label));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

#[test]
fn without_nats_nothing_moves_and_what_was_sent_meanwhile_has_its_effect() -> Result<()> {
    story(async {
        let world = open("no-nats").await?;
        world.also("cart").await?;
        let _load = world.load().await?;
        let daemon = world.daemon_with(vec![world.policy(short()), world.policy_for("cart", long())]).await?;
        let (rollout, cart) = (world.rollout(), format!("{}/cart", world.namespace));
        world.bus.announce(&rollout, "v2").await?;
        watched(&daemon, &rollout).await?;

        let link = &world.links()?.nats;
        link.cut().await?;
        // A team and a person do not notice that the daemon is cut off: NATS keeps what they send.
        world.bus.announce(&cart, "v7").await?;
        world.bus.command("ann", &rollout, "pause", json!({"reason": "the bus is down"})).await?;
        waits_for(&daemon, &rollout, "the store, to save what was decided").await?;
        let stands = |view: &RolloutView| view.weight.percent() == 10.0 && view.outcome.is_none();
        daemon.stays(&rollout, "at 10 %", away(), stands).await?;
        let ready = format!("{}/readyz", daemon.url());
        let unready = || async { Ok(http::get_text(&http::client()?, &ready).await.err()) };
        wait::until("it to say that it is not ready", LIMIT, unready).await?;
        flap(link).await?;

        no_storm("NATS", || messages(&world)).await?;
        daemon.wait_for(&rollout, "to pause", |view| view.phase == "paused").await?;
        daemon.wait_for(&cart, "to stand at 10 %", |view| view.phase == "observing").await?;
        world.bus.command("ann", &rollout, "resume", json!({"reason": "it is back"})).await?;
        promoted(&world, &daemon).await?;
        agrees(&daemon, &rollout).await
    })
}

#[test]
fn without_nats_a_canary_that_turns_bad_is_aborted_and_the_record_agrees_afterwards() -> Result<()> {
    story(async {
        let world = open("no-nats-bad").await?;
        let _load = world.load().await?;
        let daemon = world.daemon(long()).await?;
        let rollout = world.rollout();
        world.bus.announce(&rollout, "v2").await?;
        watched(&daemon, &rollout).await?;

        let link = &world.links()?.nats;
        link.cut().await?;
        world.behaviour("v2").set_error_share(0.5);
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        world.wait_alert("aborting").await?;
        waits_for(&daemon, &rollout, "the store, to save what was decided").await?;
        let shut = |view: &RolloutView| view.weight.is_zero() && view.phase == "reverting";
        let told = world.bus.told(&rollout, "finished")?;
        ensure!(told.is_empty(), "{told:?}");
        daemon
            .stays(&rollout, "shut, and unsaved", away(), |view| shut(view) || view.outcome.is_some())
            .await?;
        flap(link).await?;

        let ended = daemon.wait_for_end(&rollout).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        ensure!(world.finished(1).await?.len() == 1, "told twice");
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await?;
        agrees(&daemon, &rollout).await
    })
}

/// The history has each decision once, in order, and the decision record replays, to the end that the rollout came to.
pub async fn agrees(daemon: &Daemon, rollout: &str) -> Result<()> {
    let end = daemon.view(rollout).await?;
    let whole = || async {
        let lines = daemon.history(rollout).await?;
        let last = lines.last().context("no history")?;
        Ok((last.phase == end.phase).then_some(lines))
    };
    let lines = wait::until("the history to have its end", LIMIT, whole).await?;
    let revisions: Vec<u64> = lines.iter().map(|line| line.revision).collect();
    ensure!(revisions.is_sorted(), "{revisions:?}");
    let twice = lines.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "a line stands there twice: {twice:?}");
    daemon.wait_replay(rollout).await
}

#[test]
fn without_the_api_server_nothing_moves_and_then_the_weight_is_written_once() -> Result<()> {
    story(async {
        let world = open("no-api").await?;
        let _load = world.load().await?;
        let daemon = world.daemon(short()).await?;
        let rollout = world.rollout();
        world.bus.announce(&rollout, "v2").await?;
        watched(&daemon, &rollout).await?;

        let link = &world.links()?.api;
        link.cut().await?;
        // The step is passed, and its next weight cannot be written: no endpoint is seen to be gone, nothing is aborted.
        waits_for(&daemon, &rollout, "the API server").await?;
        let stands = |view: &RolloutView| {
            view.read_back.is_some_and(|weight| weight.percent() == 10.0) && view.outcome.is_none()
        };
        daemon.stays(&rollout, "at 10 %", away(), stands).await?;
        flap(link).await?;

        let mark = world.kube.audit.mark()?;
        let asked = || async { Ok(world.kube.audit.requests("sluice", &world.namespace, mark)? as f64) };
        no_storm("the API server", asked).await?;
        promoted(&world, &daemon).await?;
        agrees(&daemon, &rollout).await
    })
}

#[test]
fn without_prometheus_and_alertmanager_nothing_moves_and_on_call_hears_of_it_in_the_end() -> Result<()> {
    story(async {
        let options = WorldOptions { links: true, own_prometheus: true, ..WorldOptions::default() };
        let world = World::with("blind", options).await?;
        let _load = world.load().await?;
        let daemon = world.daemon(short()).await?;
        let rollout = world.rollout();
        world.bus.announce(&rollout, "v2").await?;
        watched(&daemon, &rollout).await?;
        // On a busy machine a canary's first scrapes may come so late that on-call has heard of it.
        world.wait_quiet().await?;

        let (source, sink) = (&world.links()?.prometheus, &world.links()?.alertmanager);
        source.cut().await?;
        sink.cut().await?;
        waits_for(&daemon, &rollout, "on-call, to be told: alertmanager").await?;
        let blind =
            |view: &RolloutView| view.weight.percent() == 10.0 && view.verdict == Some(Verdict::SourceDown);
        daemon.wait_for(&rollout, "to be blind at 10 %", blind).await?;
        daemon.stays(&rollout, "at 10 % and blind", away(), blind).await?;
        ensure!(world.alerts_up().await?.is_empty(), "an alert came through");

        flap(sink).await?;
        let shared = servers::shared().await?;
        let alerts = shared.alertmanager.url();
        no_storm("Alertmanager", || counted(&alerts, "alertmanager_alerts_received_total", "version=\"v2\""))
            .await?;
        let summary = world.wait_alert("blind").await?;
        ensure!(summary.contains("metrics source down"), "{summary}");

        flap(source).await?;
        let own = world.prometheus.as_ref().context("a Prometheus of its own")?.url();
        no_storm("Prometheus", || counted(&own, "prometheus_http_requests_total", "\"/api/v1/query\""))
            .await?;
        promoted(&world, &daemon).await?;
        world.wait_over("blind").await?;
        agrees(&daemon, &rollout).await
    })
}
