//! People who take over, through both doors of the bus.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rollout::Outcome;
use sluice_tests::bus::Heard;
use sluice_tests::{PolicyText, World, policy, story};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

#[test]
fn an_abort_kept_by_the_bus_takes_the_traffic_away() -> Result<()> {
    story(async {
        let world = World::open("abort-kept").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "customers complain"})).await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        let asked = |line: &HistoryLine| line.event == "override";
        let line = daemon.wait_history(&world.rollout(), "who asked", asked).await?;
        ensure!(
            line.actor.as_deref() == Some("ann")
                && line.accepted == Some(true)
                && line.reason.contains("customers complain"),
            "{line:?}"
        );
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await
    })
}

#[test]
fn an_abort_by_request_is_answered_at_once_and_a_stale_one_is_refused() -> Result<()> {
    story(async {
        let world = World::open("abort-asked").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        let stale = json!({"reason": "too late", "revision": 1});
        let refused = world.bus.request("ann", &world.rollout(), "abort", stale).await?;
        ensure!(
            !refused.accepted && refused.message.contains("revision 1 expected, it is at"),
            "{refused:?}"
        );
        ensure!(daemon.view(&world.rollout()).await?.weight.percent() == 10.0, "a refused abort aborted");

        let answer = world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        ensure!(answer.accepted, "{answer:?}");
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        let again = world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        ensure!(!again.accepted, "a rollout that has ended was aborted again: {again:?}");
        world.wait_put_back().await
    })
}

#[test]
fn a_pause_holds_a_good_release_and_resume_lets_it_go_on() -> Result<()> {
    story(async {
        let world = World::open("pause").await?;
        let _load = world.load().await?;
        let daemon =
            world.standing_at_ten(json!({"steps": [{"weight": 10, "min": "5s"}, {"weight": 50}]})).await?;
        let paused = world.bus.request("ann", &world.rollout(), "pause", json!({"reason": "lunch"})).await?;
        ensure!(paused.accepted, "{paused:?}");
        // Good evidence comes in all the while, more than the step needs.
        let rests = |view: &RolloutView| view.phase == "paused" && view.weight.percent() == 10.0;
        daemon
            .wait_for(&world.rollout(), "to have passed while paused", |view| {
                rests(view) && view.watched_seconds.is_some_and(|seconds| seconds >= 6.0)
            })
            .await?;
        daemon.stays(&world.rollout(), "paused at 10 %", World::A_WHILE, rests).await?;
        world.bus.command("ann", &world.rollout(), "resume", json!({"reason": "back"})).await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(
            ended.outcome == Some(Outcome::Promoted),
            "{ended:?}\n{}",
            daemon.account(&world.rollout()).await
        );
        world.wait_weights(&[0.0, 10.0, 50.0, 90.0, 0.0]).await?;
        for kind in ["paused", "resumed"] {
            world.bus.wait_told(&world.rollout(), kind).await?;
        }
        Ok(())
    })
}

#[test]
fn one_message_aborts_every_rollout_that_it_means() -> Result<()> {
    story(async {
        let world = World::open("abort-all").await?;
        for name in ["cart", "search"] {
            world.also(name).await?;
        }
        let standing = json!({"steps": [{"weight": 10, "min": "10m", "max": "1h"}]});
        let texts: Vec<PolicyText> = ["checkout", "cart", "search"]
            .into_iter()
            .map(|name| labelled(&world, name, standing.clone()))
            .collect();
        let daemon = world.daemon_with(texts).await?;
        let rollout = |name: &str| format!("{}/{name}", world.namespace);
        for name in ["checkout", "cart", "search"] {
            world.bus.announce(&rollout(name), "v2").await?;
        }
        for name in ["checkout", "cart", "search"] {
            daemon.wait_for(&rollout(name), "to stand at 10 %", |view| view.phase == "observing").await?;
        }
        let body = json!({"reason": "database down", "selector": {"tier": "front"}});
        world.bus.command("ann", "_all/_all", "abort", body).await?;
        for name in ["checkout", "cart"] {
            let ended = daemon.wait_for_end(&rollout(name)).await?;
            ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        }
        let spared = daemon.view(&rollout("search")).await?;
        ensure!(spared.weight.percent() == 10.0, "another tier's rollout was aborted: {spared:?}");
        let answer = world.bus.request("ann", "_all/_all", "abort", json!({"reason": "all"})).await?;
        ensure!(answer.accepted && answer.each.len() == 1, "{answer:?}");
        ensure!(
            daemon.wait_for_end(&rollout("search")).await?.outcome == Some(Outcome::Reverted),
            "search went on"
        );
        Ok(())
    })
}

#[test]
fn a_command_delivered_twice_has_its_effect_once_and_its_first_answer_twice() -> Result<()> {
    story(async {
        let world = World::open("twice").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        let pause = json!({"id": "p-1", "reason": "look"});
        let first = world.bus.request("ann", &world.rollout(), "pause", pause.clone()).await?;
        let resume = world.bus.request("ann", &world.rollout(), "resume", json!({"reason": "go"})).await?;
        let again = world.bus.request("ann", &world.rollout(), "pause", pause).await?;
        ensure!(first.accepted && resume.accepted, "{first:?} {resume:?}");
        ensure!(again == first, "the repeat was answered {again:?}, the first {first:?}");
        let view = daemon.view(&world.rollout()).await?;
        ensure!(view.phase == "observing", "the repeat paused it again: {view:?}");
        Ok(())
    })
}

#[test]
fn an_announcement_delivered_twice_starts_one_rollout() -> Result<()> {
    story(async {
        let world = World::open("announced-twice").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        world.bus.announce(&world.rollout(), "v2").await?;
        // A later message is answered after the earlier ones were taken.
        world.bus.announce(&format!("{}/nobody", world.namespace), "v1").await?;
        world.bus.wait_dead(&format!("sluice.event.{}.nobody.announced", world.namespace)).await?;
        world.bus.wait_told(&world.rollout(), "started").await?;
        ensure!(
            world.bus.told(&world.rollout(), "started")?.len() == 1,
            "{:?}",
            world.bus.kinds(&world.rollout())?
        );
        world.wait_weights(&[0.0, 10.0]).await?;
        ensure!(daemon.views().await?.len() == 1, "{:?}", daemon.views().await?);
        let ours =
            |letter: &Heard| letter.header("Sluice-Subject").is_some_and(|from| from.contains("checkout"));
        ensure!(!world.bus.dead().iter().any(ours), "a repeat went to the dead letters");
        Ok(())
    })
}

#[test]
fn a_person_may_promote_skip_set_a_weight_and_never_above_the_step() -> Result<()> {
    story(async {
        let world = World::open("hands").await?;
        let steps = json!({"steps": [{"weight": 10, "min": "10m", "max": "1h"}, {"weight": 25, "min": "10m", "max": "1h"},
            {"weight": 50, "min": "10m", "max": "1h"}], "bake": {"for": "10m"}});
        let daemon = world.standing_at_ten(steps).await?;
        let say =
            async |action: &str, body: Value| world.bus.request("ann", &world.rollout(), action, body).await;
        let refused = say("set-weight", json!({"weight": 40, "reason": "more"})).await?;
        ensure!(!refused.accepted && refused.message.contains("above this step's"), "{refused:?}");
        // Its first rule's weights sum to 100 beside a third backend: the refusal says which weights there are, and that is all.
        let refused = say("set-weight", json!({"weight": 1.5, "reason": "a little"})).await?;
        ensure!(
            !refused.accepted && refused.message.ends_with("nearest to it are 1.11 % and 2 %"),
            "{refused:?}"
        );
        observing(&daemon, &world, 10.0).await?;
        ensure!(
            say("set-weight", json!({"weight": 5, "reason": "less"})).await?.accepted,
            "set-weight was refused"
        );
        world.wait_weight(5.0).await?;
        ensure!(say("resume", json!({"reason": "enough"})).await?.accepted, "resume was refused");
        observing(&daemon, &world, 10.0).await?;
        ensure!(say("promote", json!({"reason": "seen"})).await?.accepted, "promote was refused");
        observing(&daemon, &world, 25.0).await?;
        ensure!(say("promote-full", json!({"reason": "hotfix"})).await?.accepted, "promote-full was refused");
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Promoted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 5.0, 10.0, 25.0, 0.0]).await?;
        Ok(())
    })
}

async fn observing(daemon: &sluice_tests::Daemon, world: &World, percent: f64) -> Result<()> {
    let there = move |view: &RolloutView| {
        view.phase == "observing" && view.read_back.is_some_and(|weight| weight.percent() == percent)
    };
    daemon.wait_for(&world.rollout(), &format!("to stand at {percent} %"), there).await.map(drop)
}

/// A policy of another shop in the same namespace; all but `search` are of the front tier.
fn labelled(world: &World, name: &str, spec: Value) -> PolicyText {
    let usual = world.policy_value(spec).to_string().replace("checkout", name);
    let mut value: Value = serde_json::from_str(&usual).unwrap_or_default();
    policy::merge(&mut value["spec"], json!({"alerts": []}));
    let tier = if name == "search" { "back" } else { "front" };
    policy::merge(&mut value, json!({"metadata": {"labels": {"tier": tier}}}));
    PolicyText::of(&value)
}

/// A command that is kept takes effect even if no daemon runs when it is sent.
#[test]
fn an_abort_sent_while_no_daemon_runs_takes_effect_when_one_does() -> Result<()> {
    story(async {
        let world = World::open("abort-away").await?;
        let mut daemon = world.standing_at_ten(json!({})).await?;
        daemon.stop().await?;
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "while away"})).await?;
        daemon.start_again().await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        Ok(())
    })
}
