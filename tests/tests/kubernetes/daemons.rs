//! Several daemons on one NATS: they share the rollouts, and when one dies, freezes or leaves, another goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::{kube::Write, wait};
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, LIMIT, World, story};

/// The first step lasts until somebody ends it.
fn long() -> serde_json::Value {
    json!({"steps": [{"weight": 10, "min": "10m", "max": "1h"}, {"weight": 50}]})
}

async fn two(world: &World, spec: &serde_json::Value) -> Result<[Daemon; 2]> {
    let start = |name: &'static str| world.daemon_named(name, vec![world.policy(spec.clone())]);
    Ok([start("left").await?, start("right").await?])
}

/// The owner first, then the other; each knows both by then.
async fn by_owner(world: &World, daemons: [Daemon; 2]) -> Result<(Daemon, Daemon)> {
    let [left, right] = daemons;
    let standing =
        left.wait_for(&world.rollout(), "to stand at 10 %", |view| view.phase == "observing").await?;
    let is_left = standing.owner.as_deref() == Some("left");
    Ok(if is_left { (left, right) } else { (right, left) })
}

async fn standing(world: &World) -> Result<(Daemon, Daemon)> {
    let daemons = two(world, &long()).await?;
    world.bus.announce(&world.rollout(), "v2").await?;
    by_owner(world, daemons).await
}

async fn taken_over(world: &World, by: &Daemon) -> Result<()> {
    let (rollout, name) = (world.rollout(), by.name.clone());
    by.wait_for(&rollout, "to be taken over", |view| view.owner.as_deref() == Some(&name)).await.map(drop)
}

async fn put_back_by(world: &World, daemon: &Daemon) -> Result<()> {
    let ended = daemon.wait_for_end(&world.rollout()).await?;
    ensure!(
        ended.outcome == Some(Outcome::Reverted),
        "{ended:?}\n{}",
        daemon.account(&world.rollout()).await
    );
    world.wait_weights(&[0.0, 10.0, 0.0]).await?;
    world.wait_put_back().await?;
    ensure!(world.finished(1).await?.len() == 1, "told twice");
    Ok(())
}

/// That all of so many are one daemon's happens once in 500 million runs; usually two or three are begun.
const MANY: u32 = 30;

#[test]
fn two_daemons_share_the_rollouts_and_each_shows_and_commands_all_of_them() -> Result<()> {
    story(async {
        let world = World::open("share").await?;
        let names: Vec<String> = (1..=MANY).map(|number| format!("pay{number}")).collect();
        let mut policies = vec![world.policy(long())];
        policies.extend(names.iter().map(|name| world.policy_for(name, long())));
        let left = world.daemon_named("left", policies.clone()).await?;
        let right = world.daemon_named("right", policies).await?;
        // Whose a rollout is follows from its name: some are the one's, some the other's.
        let mut owners = std::collections::BTreeMap::new();
        for name in &names {
            world.also(name).await?;
            let rollout = format!("{}/{name}", world.namespace);
            world.bus.announce(&rollout, "v2").await?;
            let seen = |daemon: &'static str| format!("to stand at 10 % as {daemon} sees it");
            let stands = |view: &sluice_wire::view::RolloutView| view.phase == "observing";
            let by_left = left.wait_for(&rollout, &seen("left"), stands).await?;
            let by_right = right.wait_for(&rollout, &seen("right"), stands).await?;
            ensure!(by_left.owner == by_right.owner && by_left.owner.is_some(), "{by_left:?} {by_right:?}");
            owners.insert(by_left.owner.unwrap_or_default(), rollout);
            if owners.len() == 2 {
                break;
            }
        }
        ensure!(owners.len() == 2, "all are one's: {owners:?}");
        // What is commanded over HTTP at one daemon is carried out by the other.
        for (owner, rollout) in &owners {
            let other = if owner == "left" { &right } else { &left };
            let paused = other.cli(&["pause", rollout, "--reason", "to look"]).await?;
            ensure!(paused.code == 0, "{paused:?}\n{}", other.log());
            left.wait_for(rollout, "to pause", |view| view.phase == "paused").await?;
        }
        // One stored command reaches the rollouts of both.
        let all = format!("{}/_all", world.namespace);
        world.bus.command("ann", &all, "abort", json!({"reason": "the database is down"})).await?;
        for rollout in owners.values() {
            let ended = right.wait_for_end(rollout).await?;
            ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        }
        Ok(())
    })
}

#[test]
fn the_owner_is_killed_under_way_and_the_other_finishes() -> Result<()> {
    story(async {
        let world = World::open("killed").await?;
        let _load = world.load().await?;
        let steps = json!({"steps": [{"weight": 10}, {"weight": 25, "min": "5s"}, {"weight": 50}]});
        let [left, right] = two(&world, &steps).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        let view =
            left.wait_for(&world.rollout(), "to stand at 25 %", |view| view.weight.percent() == 25.0).await?;
        let (mut owner, other) =
            if view.owner.as_deref() == Some("left") { (left, right) } else { (right, left) };
        world.wait_weight(25.0).await?;
        owner.kill9();
        let ended = other.wait_for_end(&world.rollout()).await?;
        let account = other.account(&world.rollout()).await;
        ensure!(
            ended.outcome == Some(Outcome::Promoted) && ended.owner.as_deref() == Some(&other.name),
            "{account}"
        );
        world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
        ensure!(world.finished(1).await?.len() == 1, "told twice");
        ensure!(world.notified("aborting").await?.is_empty(), "an abort was told");
        Ok(())
    })
}

#[test]
fn an_abort_that_is_asked_of_a_frozen_owner_is_kept_for_whoever_takes_over() -> Result<()> {
    story(async {
        let world = World::open("asked").await?;
        let (owner, other) = standing(&world).await?;
        owner.server.freeze()?;
        let (rollout, url) = (world.rollout(), world.nats.url());
        let args = ["abort", &rollout, "--reason", "bad", "--nats", &url, "--user", "ann"];
        let asked = sluice_tests::cli::sluice(&args, &[]).await?;
        ensure!(asked.code == 0 && asked.text().contains("kept on the bus"), "{asked:?}");
        put_back_by(&world, &other).await?;
        owner.server.thaw()
    })
}

#[test]
fn an_abort_that_is_stored_while_the_owner_is_dead_takes_effect_after_the_takeover() -> Result<()> {
    story(async {
        let world = World::open("dead").await?;
        let (mut owner, other) = standing(&world).await?;
        owner.kill9();
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        put_back_by(&world, &other).await
    })
}

/// Long enough to be taken for dead, and to have everything under way time out.
const FROZEN_FOR: Duration = Duration::from_secs(60);

#[test]
fn a_former_owner_that_wakes_up_late_changes_nothing() -> Result<()> {
    story(async {
        let world = World::open("frozen").await?;
        let (owner, other) = standing(&world).await?;
        owner.server.freeze()?;
        let frozen = Instant::now();
        taken_over(&world, &other).await?;
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        put_back_by(&world, &other).await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        // The freeze is the subject.
        tokio::time::sleep(FROZEN_FOR.saturating_sub(frozen.elapsed())).await;
        let settled = || async { Ok(other.has_nothing_left().await?.then_some(())) };
        wait::until("whoever took over to have done everything", LIMIT, settled).await?;
        let mark = world.kube.audit.mark()?;
        owner.server.thaw()?;
        let disowned = || async { Ok(owner.log().contains("no longer ours").then_some(())) };
        wait::until("the former owner to see it", LIMIT, disowned).await?;
        let is_over = |view: &sluice_wire::view::RolloutView| view.phase == "reverted";
        other.stays(&world.rollout(), "reverted", World::A_WHILE, is_over).await?;
        // The abort of before may reach it before its doubts do. It waits for no record: its weight 0 goes out, and the test of
        // the fence in its patch fails.
        let writes = world.kube.audit.by("sluice", &world.namespace, mark)?;
        let fenced_off = |write: &Write| write.resource == "httproutes" && write.code == 422;
        ensure!(writes.iter().all(fenced_off), "the former owner wrote: {writes:?}");
        ensure!(world.bus.told(&world.rollout(), "finished")?.len() == 1, "told again");
        world.wait_notified("aborting", &["firing", "resolved"]).await
    })
}

#[test]
fn a_daemon_that_is_stopped_hands_its_rollouts_over() -> Result<()> {
    story(async {
        let world = World::open("handover").await?;
        let (mut owner, other) = standing(&world).await?;
        owner.stop().await?;
        taken_over(&world, &other).await?;
        let log = other.log();
        ensure!(!log.contains("cannot be taken over"), "{log}");
        let answer = world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        ensure!(answer.accepted, "{answer:?}");
        put_back_by(&world, &other).await
    })
}

#[test]
fn a_daemon_that_restarts_under_its_name_has_its_rollouts_back() -> Result<()> {
    story(async {
        let world = World::open("back").await?;
        let (mut owner, other) = standing(&world).await?;
        // However long a busy machine takes for the restart, nobody takes over meanwhile.
        other.server.freeze()?;
        owner.kill9();
        owner.start_again().await?;
        other.server.thaw()?;
        let answer = world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        ensure!(answer.accepted, "{answer:?}");
        let ended = owner.wait_for_end(&world.rollout()).await?;
        ensure!(ended.owner.as_deref() == Some(&owner.name), "{ended:?}");
        put_back_by(&world, &owner).await
    })
}

#[test]
fn of_two_daemons_with_one_name_the_older_stops_and_says_why() -> Result<()> {
    story(async {
        let world = World::open("namesake").await?;
        let older = world.daemon_named("only", vec![world.policy(long())]).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        older.wait_for(&world.rollout(), "to stand at 10 %", |view| view.phase == "observing").await?;
        let newer = world.daemon_named("only", vec![world.policy(long())]).await?;
        let ended = || async { Ok((!older.server.is_running()).then_some(())) };
        wait::until("the older one to end", LIMIT, ended).await?;
        ensure!(older.log().contains("another daemon named only has started since"), "{}", older.log());
        let answer = world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        ensure!(answer.accepted, "{answer:?}");
        put_back_by(&world, &newer).await
    })
}
