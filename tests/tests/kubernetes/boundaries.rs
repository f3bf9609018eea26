//! The daemon dies, as by a power cut, at every boundary of its order, and at random instants; an init system starts it again
//! each time. Afterwards everything is counted: each effect came about once, no weight was ever above its step's, one end was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use serde_json::{Value, json};
use sluice_rig::wait;
use sluice_rollout::{Outcome, Weight};
use sluice_tests::world::IMAGE;
use sluice_tests::{Daemon, Deaths, LIMIT, World, story};
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::message::Told;

/// What every rollout crosses, and one story with all of its boundaries is enough for.
const BEGINNING: [&str; 13] = [
    "message-read announcement",
    "target-claimed",
    "charter-saved",
    "open-noted",
    "state-created",
    "message-answered announcement",
    ACKNOWLEDGED,
    "stepped requested",
    "saved requested",
    "effect-begins scale-workload",
    "effect-performed scale-workload",
    "effect-begins scale-workload stable",
    "effect-performed scale-workload stable",
];

/// A message is acknowledged beside the rollout's own course, and comes to this once: who dies of something else while the
/// acknowledgement is on its way never stands here, nor between a command's save and its acknowledgement. A story without
/// other deaths does.
const ACKNOWLEDGED: &str = "message-acknowledged announcement";

#[test]
fn a_good_release_is_promoted_though_the_daemon_dies_at_every_boundary() -> Result<()> {
    story(async {
        let world = World::open("dies-good").await?;
        let _load = world.load().await?;
        let deaths = Deaths::everywhere_but(&[ACKNOWLEDGED])?;
        let mut daemon = mortal(&world, &deaths, json!({})).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        let died = daemon.outlive_deaths(&world.bus).await?;
        told(&deaths, died)?;

        promoted_once(&world, &daemon).await?;
        // A start that comes to nothing on a busy machine is a death, too.
        ensure!(died + 1 >= deaths.met()?.len(), "{died} deaths, {:?}", deaths.met()?);
        // The next stories come to these: who dies before it is the latest attempt is taken up, and what only an abort or a person does.
        deaths.missed_only(&["acknowledged", "made-current", "outrun"])?;
        deaths.include_effects(&["set-traffic", "release-traffic"])?;
        deaths.include_effects(&["scale-workload", "scale-workload stable", "scale-workload zero"])?;
        deaths.include_effects(&["promote-workload", "publish", "publish finished"])
    })
}

#[test]
fn a_bad_release_is_put_back_though_the_daemon_dies_at_every_boundary() -> Result<()> {
    story(async {
        let world = World::open("dies-bad").await?;
        world.behaviour("v2").set_error_share(0.3);
        let _load = world.load().await?;
        let deaths = Deaths::everywhere_but(&BEGINNING)?;
        let mut daemon = mortal(&world, &deaths, json!({})).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        let died = daemon.outlive_deaths(&world.bus).await?;
        told(&deaths, died)?;

        put_back_once(&world, &daemon).await?;
        deaths.include(&["outrun"])?;
        deaths.include_effects(&["set-traffic abort", "watch-drain", "alert", "resolve-alert"])?;
        deaths.include_effects(&["publish finished"])
    })
}

#[test]
fn a_person_who_aborts_is_obeyed_though_the_daemon_dies_at_every_boundary() -> Result<()> {
    story(async {
        let deaths = Deaths::everywhere_but(&BEGINNING)?;
        let (world, daemon) = aborted_by_a_person("dies-asked", &deaths).await?;
        put_back_once(&world, &daemon).await?;
        deaths.include(&["message-read command", "message-answered command"])?;
        deaths.include(&["made-current", "saved override", "outrun"])?;
        let paused = ids(&world)?.remove("paused").unwrap_or_default();
        ensure!(paused.len() == 1, "it was paused {} times", paused.len());
        Ok(())
    })
}

/// Where only this story dies: a gate is asked, and stable's template is put back before the traffic moves.
const GATE_AND_RESTORING: [&str; 6] = [
    "effect-begins ask-gate",
    "effect-performed ask-gate",
    "stepped gate-answered",
    "saved gate-answered",
    "effect-begins restore-workload",
    "effect-performed restore-workload",
];

#[test]
fn a_person_who_aborts_a_promotion_is_obeyed_though_the_daemon_dies_at_its_gate_and_while_it_restores()
-> Result<()> {
    story(async {
        let deaths = Deaths::at(&GATE_AND_RESTORING)?;
        let world = World::open("dies-restoring").await?;
        let spec = json!({
            "gates": [{"name": "calendar", "freeze": {"dates": ["2000-01-01..2000-01-02"]}}],
            "steps": [{"weight": 10, "min": "10m", "max": "1h"}],
            // Nobody does it, so it stands there until it is aborted.
            "workloads": {"promote": "external"},
        });
        let mut daemon = mortal(&world, &deaths, spec).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        daemon.outlive_until(|| world.weights().last() == Some(&10.0)).await?;
        world.bus.command("ann", &world.rollout(), "promote-full", json!({"reason": "seen"})).await?;
        daemon.outlive_until(|| is_told(&world, "promoting")).await?;
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        let died = daemon.outlive_deaths(&world.bus).await?;
        told(&deaths, died)?;

        put_back_once(&world, &daemon).await?;
        deaths.were(&GATE_AND_RESTORING)
    })
}

#[test]
fn a_daemon_that_dies_as_soon_as_it_has_acknowledged_a_message_has_lost_nothing() -> Result<()> {
    story(async {
        let deaths = Deaths::at(&["message-acknowledged", "acknowledged"])?;
        let (world, daemon) = aborted_by_a_person("dies-acknowledged", &deaths).await?;
        deaths.were(&[ACKNOWLEDGED, "acknowledged", "message-acknowledged command"])?;
        put_back_once(&world, &daemon).await
    })
}

#[test]
fn a_daemon_that_forgets_what_is_outstanding_when_it_dies_is_found_out() -> Result<()> {
    story(async {
        let place = "effect-begins publish finished";
        let deaths = Deaths::at(&[place])?.with_fault("ForgetWhatIsOutstanding");
        let (world, daemon) = aborted_by_a_person("forgets", &deaths).await?;
        deaths.were(&[place])?;
        let Err(found) = ended_once(&world, &daemon, Outcome::Reverted).await else {
            bail!("what it forgot was not found")
        };
        ensure!(format!("{found:#}").contains("told of the end 0 times"), "{found:#}");
        Ok(())
    })
}

/// Deaths of the random story.
const RANDOM: u64 = 12;
/// The longest life between two of them: from before the daemon is ready until well after it.
const LONGEST_LIFE_MS: u64 = 2_000;

#[test]
fn a_good_release_is_promoted_though_the_daemon_dies_at_random_instants() -> Result<()> {
    story(async {
        let seed = seed()?;
        let world = World::open("dies-random").await?;
        let _load = world.load().await?;
        let mut daemon = world.daemon(patient(json!({}))).await?;
        world.bus.hand_out_again_after(AGAIN).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        let mut random = seed;
        for _ in 0..RANDOM {
            // The instant is the subject.
            tokio::time::sleep(Duration::from_millis(next(&mut random) % LONGEST_LIFE_MS)).await;
            daemon.kill9();
            daemon.revived()?;
        }
        daemon.outlive_deaths(&world.bus).await?;
        promoted_once(&world, &daemon).await.with_context(|| format!("SLUICE_DEATHS_SEED={seed}"))
    })
}

/// Spans that many restarts do not use up.
fn patient(spec: Value) -> Value {
    let mut patient = json!({"limits": {"troubleAfter": "5m"}});
    sluice_tests::policy::merge(&mut patient, spec);
    patient
}

/// A message that its daemon had in hand when it died comes again after this.
const AGAIN: Duration = Duration::from_secs(2);

async fn mortal(world: &World, deaths: &Deaths, spec: Value) -> Result<Daemon> {
    let daemon = world.mortal(deaths, patient(spec)).await?;
    world.bus.hand_out_again_after(AGAIN).await?;
    Ok(daemon)
}

/// A rollout that stands at 10 %, until a person pauses and then aborts it by stored commands.
async fn aborted_by_a_person(label: &str, deaths: &Deaths) -> Result<(World, Daemon)> {
    let world = World::open(label).await?;
    let long = json!({"steps": [{"weight": 10, "min": "10m", "max": "1h"}, {"weight": 50}]});
    let mut daemon = mortal(&world, deaths, long).await?;
    world.bus.announce(&world.rollout(), "v2").await?;
    daemon.outlive_until(|| world.weights().last() == Some(&10.0)).await?;
    world.bus.command("ann", &world.rollout(), "pause", json!({"reason": "looking"})).await?;
    daemon.outlive_until(|| is_told(&world, "paused")).await?;
    world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
    let died = daemon.outlive_deaths(&world.bus).await?;
    told(deaths, died)?;
    Ok((world, daemon))
}

fn is_told(world: &World, kind: &str) -> bool {
    world.bus.kinds(&world.rollout()).is_ok_and(|kinds| kinds.iter().any(|told| told == kind))
}

async fn promoted_once(world: &World, daemon: &Daemon) -> Result<()> {
    world.wait_weights(&[0.0, 10.0, 25.0, 50.0, 90.0, 0.0]).await?;
    ended_once(world, daemon, Outcome::Promoted).await?;
    let told = ids(world)?;
    for (kind, times) in [("step-reached", 3), ("step-passed", 3), ("baking", 1), ("promoting", 1)] {
        let ids = told.get(kind).map_or(0, BTreeSet::len);
        ensure!(ids == times, "{kind} was told {ids} times: {told:?}");
    }
    world.wait_field("deployment/checkout", IMAGE, json!("registry.example/checkout:v2")).await?;
    world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await?;
    ensure!(world.notified("aborting").await?.is_empty(), "on-call was told of an abort");
    Ok(())
}

async fn put_back_once(world: &World, daemon: &Daemon) -> Result<()> {
    let weights = world.wait_shut().await?;
    let rises = |from: usize| weights[from..].windows(2).any(|pair| pair[1] > pair[0]);
    let top = weights.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1));
    ensure!(!rises(top.map_or(0, |(place, _)| place)), "it rose after it had been taken down: {weights:?}");
    ended_once(world, daemon, Outcome::Reverted).await?;
    world.wait_notified("aborting", &["firing", "resolved"]).await?;
    world.wait_quiet().await?;
    world.wait_put_back().await
}

/// What holds of every rollout, however often its daemon died.
async fn ended_once(world: &World, daemon: &Daemon, outcome: Outcome) -> Result<()> {
    let view = daemon.view(&world.rollout()).await?;
    ensure!(view.outcome == Some(outcome), "{view:?}\n{}", daemon.account(&world.rollout()).await);
    let kept = kept(world).await?;
    let told = heard(world, &kept).await?;
    let ends = told.get("finished").map_or(0, BTreeSet::len);
    ensure!(ends == 1, "told of the end {ends} times: {told:?}");
    ensure!(told.get("started").map_or(0, BTreeSet::len) == 1, "begun more than once: {told:?}");
    let all = told.values().flatten().count();
    let once: BTreeSet<&String> = kept.iter().collect();
    ensure!(once.len() == kept.len() && kept.len() == all, "the stream keeps {kept:?} of {told:?}");
    ensure!(world.bus.dead().is_empty(), "dead letters: {:?}", world.bus.dead());
    never_above_its_step(world, daemon).await?;
    daemon.told_history_once(&world.rollout()).await
}

/// The ids of all events that were heard of the rollout, by kind: one that came twice is one.
fn ids(world: &World) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut ids = BTreeMap::<String, BTreeSet<String>>::new();
    for heard in world.bus.heard() {
        if let Some((_, kind)) =
            heard.subject.rsplit_once('.').filter(|_| heard.subject.starts_with("sluice.out."))
        {
            ids.entry(kind.to_owned()).or_default().insert(heard.event()?.id);
        }
    }
    Ok(ids)
}

/// The same, once all that the stream keeps has come here, too.
async fn heard(world: &World, kept: &[String]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    wait::until("what the stream keeps to be heard", LIMIT, || async {
        let told = ids(world)?;
        let missing = kept.iter().filter(|id| !told.values().any(|ids| ids.contains(*id))).count();
        ensure!(missing == 0, "{missing} of {kept:?} have not been heard: {told:?}");
        Ok(Some(told))
    })
    .await
}

/// The ids of all events that the stream keeps.
async fn kept(world: &World) -> Result<Vec<String>> {
    let jetstream = async_nats::jetstream::new(world.bus.client().clone());
    let mut stream = jetstream.get_stream("SLUICE_OUT").await?;
    let count = stream.info().await?.state.messages;
    let config = async_nats::jetstream::consumer::pull::Config::default();
    let consumer = stream.create_consumer(config).await?;
    let limit = usize::try_from(count)?;
    let messages = consumer.fetch().max_messages(limit).expires(LIMIT).messages().await?;
    let bodies: Vec<_> = messages.try_collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    bodies.iter().map(|message| Ok(CloudEvent::read(&[], &message.payload)?.id)).collect()
}

/// Invariant 1: what the API server's watch told was never above what had been decided by then, which the events say.
async fn never_above_its_step(world: &World, daemon: &Daemon) -> Result<()> {
    let lines = daemon.history(&world.rollout()).await?;
    let decided: BTreeSet<u64> = lines.iter().map(|line| (100.0 * line.weight).round() as u64).collect();
    let reached: Vec<Told> = world.bus.told(&world.rollout(), "step-reached")?;
    let most = reached.iter().map(|told| told.weight).max().unwrap_or(Weight::ZERO);
    for weight in world.weights() {
        ensure!(
            weight == 0.0 || decided.contains(&((100.0 * weight).round() as u64)),
            "{weight} % was written, and never decided: {decided:?}; the highest step told of is {most}"
        );
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "figures for whoever asks for them; the test runner keeps them otherwise"
)]
fn told(deaths: &Deaths, died: usize) -> Result<()> {
    println!("{died} deaths, at {:?}", deaths.met()?);
    Ok(())
}

/// `$SLUICE_DEATHS_SEED`, or one of this run, which a failure prints.
fn seed() -> Result<u64> {
    match std::env::var("SLUICE_DEATHS_SEED") {
        Ok(text) => text.parse().with_context(|| format!("SLUICE_DEATHS_SEED is no number: {text:?}")),
        Err(_) => Ok(u64::from(std::process::id()) << 32
            | u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos())),
    }
}

/// Splitmix64 (Steele, Lea and Flood, 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
