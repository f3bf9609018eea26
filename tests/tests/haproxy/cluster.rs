//! NATS as a cluster of three. In the midst of two rollouts the streams' leaders move, then a node is killed: nothing is lost,
//! nothing has its effect twice, and it is told for how long messages stood still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rig::{NatsCluster, wait};
use sluice_rollout::Outcome;
use sluice_tests::{Bus, Daemon, DaemonOptions, LIMIT, cli, story};
use sluice_wire::view::RolloutView;
use tokio::task::JoinHandle;

use crate::shop::Shop;

const STREAMS: [&str; 5] =
    ["KV_SLUICE_STATE", "SLUICE_EVENTS", "SLUICE_OVERRIDES", "SLUICE_OUT", "SLUICE_DEAD"];

#[test]
fn a_node_is_killed_and_leaders_move_while_rollouts_run() -> Result<()> {
    story(async {
        let mut cluster = NatsCluster::start().await?;
        let urls = cluster.urls();
        let init = ["init", "--replicas", "3", "--daemon", "rig", "--nats", &urls];
        // A leader that has just been elected does not know yet how much room the others have.
        wait::until("the streams to be made", LIMIT, || async {
            let made = cli::sluice(&init, &[]).await?;
            ensure!(made.code == 0, "{made:?}");
            Ok(Some(()))
        })
        .await?;
        let (good, bad) = (Shop::open("cluster-good").await?, Shop::open("cluster-bad").await?);
        // The good one waits for a person before it leaves these steps, however slow the machine is.
        let waiting = good.policy_with(|spec| {
            spec["steps"] =
                json!([{"weight": 5}, {"weight": 25, "pause": true}, {"weight": 50, "pause": true}]);
        });
        let policies = vec![waiting, bad.policy()];
        let daemon = Daemon::start(DaemonOptions::nats(&urls, policies)).await?;
        let bus = Arc::new(Bus::connect(&urls).await?);
        let pulse = Pulse::start(bus.clone());
        for shop in [&good, &bad] {
            bus.announce(&shop.rollout(), "v2").await?;
        }

        waits_at(&daemon, &good, 25.0).await?;
        for stream in STREAMS {
            move_leader(&bus, stream).await?;
        }
        go_on(&bus, &good, "25 %").await?;
        waits_at(&daemon, &good, 50.0).await?;
        let leader = cluster.leader("KV_SLUICE_STATE", None).await?;
        cluster.kill(leader)?;
        bad.canary.behaviour.set_error_share(0.5);
        go_on(&bus, &good, "50 %").await?;

        let ended = daemon.wait_for_end(&bad.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{}", daemon.account(&bad.rollout()).await);
        let ended = daemon.wait_for_end(&good.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Promoted), "{}", daemon.account(&good.rollout()).await);
        good.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        let stored = pulse.stop().await?;
        each_is_answered_once(&bus, stored).await?;
        for shop in [&good, &bad] {
            let what = format!("the end of {} to be told", shop.rollout());
            let told = || async { Ok(Some(finished(&bus, shop).await?).filter(|told| *told > 0)) };
            let told = wait::until(&what, LIMIT, told).await?;
            ensure!(told == 1, "{} was told its end {told} times", shop.rollout());
        }
        daemon.wait_replay(&good.rollout()).await
    })
}

async fn waits_at(daemon: &Daemon, shop: &Shop, percent: f64) -> Result<()> {
    let waits = |view: &RolloutView| view.phase == "paused" && view.weight.percent() == percent;
    daemon.wait_for(&shop.rollout(), &format!("to wait at {percent} %"), waits).await.map(drop)
}

/// Stored until it has had its effect, whoever leads.
async fn go_on(bus: &Bus, shop: &Shop, at: &str) -> Result<()> {
    // Sent again after a lost answer, it is the same command.
    let body = json!({"reason": "seen", "id": format!("go on from {at}")});
    let sent = || async { bus.command("ann", &shop.rollout(), "resume", body.clone()).await.map(Some) };
    wait::until("a stream to take a command", LIMIT, sent).await
}

/// Another node leads this stream from now on.
async fn move_leader(bus: &Bus, stream: &str) -> Result<()> {
    let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
    // While the nodes of a busy machine elect one, there is none that could answer.
    wait::until(&format!("the leader of {stream} to move"), LIMIT, || async {
        let answer = bus.client().request(subject.clone(), "".into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(answer["success"] == true, "{stream}: {answer}");
        Ok(Some(()))
    })
    .await
}

/// A team that announces releases of a policy that nobody has, again and again, each under an id of its own and until a stream
/// has it. Each must end among the dead letters, once.
struct Pulse {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Stored>>,
}

struct Stored {
    ids: Vec<String>,
    /// The longest time that storing one took.
    longest: Duration,
}

impl Pulse {
    fn start(bus: Arc<Bus>) -> Pulse {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(beat(bus, stop.clone()));
        Pulse { stop, task }
    }

    async fn stop(self) -> Result<Stored> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn beat(bus: Arc<Bus>, stop: Arc<AtomicBool>) -> Result<Stored> {
    let mut stored = Stored { ids: Vec::new(), longest: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let (id, begun) = (format!("pulse-{}", stored.ids.len()), Instant::now());
        let sent = || async { bus.announce_as("shop/nobodys", &id, json!({"version": id})).await.map(Some) };
        wait::until("a stream to take a message", LIMIT, sent).await?;
        stored.longest = stored.longest.max(begun.elapsed());
        stored.ids.push(id);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(stored)
}

/// Every stored message is a dead letter, and none is two. (One that was sent again after a lost answer stands in the stream
/// of events twice, under one id: NATS was given none.)
async fn each_is_answered_once(bus: &Bus, stored: Stored) -> Result<()> {
    let sent = || async { Ok(Some(ids_in(bus, "SLUICE_EVENTS").await?)) };
    let sent = wait::until("the stream of events to be read", LIMIT, sent).await?;
    ensure!(stored.ids.iter().all(|id| sent.contains_key(id)), "of {} not all were kept", stored.ids.len());
    let buried = wait::until("all dead letters", LIMIT, || async {
        let buried = ids_in(bus, "SLUICE_DEAD").await?;
        let missing =
            sent.iter().filter(|(id, times)| buried.get(*id).is_none_or(|there| there < times)).count();
        ensure!(missing == 0, "{missing} of {} are missing", sent.len());
        Ok(Some(buried))
    })
    .await?;
    ensure!(buried == sent, "some were buried more often than they were sent: {buried:?}, {sent:?}");
    told(stored.ids.len(), stored.longest);
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "a figure for whoever asks for it; the test runner keeps it otherwise"
)]
fn told(messages: usize, longest: Duration) {
    println!(
        "cluster: {messages} messages, none lost, none twice; they stood still for {longest:.1?} at most"
    );
}

/// How often each CloudEvent's id stands in a stream.
async fn ids_in(bus: &Bus, stream: &str) -> Result<BTreeMap<String, usize>> {
    let mut ids = BTreeMap::new();
    for body in bodies(bus, stream).await? {
        let event: Value = serde_json::from_slice(&body)?;
        let id = event["id"].as_str().context("an event without an id")?.to_owned();
        *ids.entry(id).or_default() += 1;
    }
    ids.retain(|id: &String, _| id.starts_with("pulse-"));
    Ok(ids)
}

/// Terminal events of a shop's rollout, as the stream has them.
async fn finished(bus: &Bus, shop: &Shop) -> Result<usize> {
    let bodies = bodies(bus, "SLUICE_OUT").await?;
    let events = bodies.iter().filter_map(|body| serde_json::from_slice::<Value>(body).ok());
    let ours = |event: &Value| {
        event["type"] == "dev.sluice.rollout.finished" && event["data"]["rollout"] == shop.attempt("v2")
    };
    Ok(events.filter(ours).count())
}

async fn bodies(bus: &Bus, stream: &str) -> Result<Vec<Vec<u8>>> {
    let mut stream = async_nats::jetstream::new(bus.client().clone()).get_stream(stream).await?;
    let (first, last) = {
        let state = &stream.info().await?.state;
        (state.first_sequence, state.last_sequence)
    };
    let mut bodies = Vec::new();
    for sequence in first..=last {
        bodies.push(stream.get_raw_message(sequence).await?.payload.to_vec());
    }
    Ok(bodies)
}
