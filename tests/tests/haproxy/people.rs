//! People and newer releases intervene, by message, and are answered.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rollout::{Outcome, Verdict};
use sluice_tests::story;
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

use crate::house::{announce, announcement, command, kinds, run, start_and_wait, told, until_weight};
use crate::shop::Shop;

#[test]
fn an_abort_shuts_the_gate_and_is_remembered_with_who_and_why() -> Result<()> {
    story(async {
        let shop = Shop::open("aborted").await?;
        let daemon = run(vec![shop.policy_that_stands_at(1)]).await?;
        let (ended, aborted) = tokio::join!(start_and_wait(&daemon, &shop, "v2"), async {
            until_weight(&daemon, &shop, 25.0).await?;
            daemon.cli(&["abort", &shop.rollout(), "--reason", "customers report empty baskets"]).await
        });

        let (ended, aborted) = (ended?, aborted?);
        ensure!(aborted.code == 0, "{}", aborted.text());
        ensure!(ended.code == 1, "{}", ended.text());
        shop.weights_were(&[0.0, 5.0, 25.0, 0.0]).await?;
        let asked = |line: &HistoryLine| line.event == "override";
        let line = daemon.wait_history(&shop.attempt("v2"), "who asked", asked).await?;
        ensure!(
            line.actor.as_deref() == Some("tester")
                && line.reason.contains("empty baskets")
                && line.accepted == Some(true),
            "{line:#?}"
        );
        Ok(())
    })
}

#[test]
fn a_pause_holds_a_step_that_has_passed_and_resume_lets_it_go_on() -> Result<()> {
    story(async {
        let shop = Shop::open("paused").await?;
        let policy = shop.policy_with(|spec| spec["steps"][0]["min"] = json!("5s"));
        let daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;
        let paused = command(&daemon, &shop.rollout(), "pause", json!({"reason": "lunch"})).await?;
        ensure!(paused.accepted && paused.phase.as_deref() == Some("paused"), "{paused:?}");

        let passed = |view: &RolloutView| {
            view.verdict == Some(Verdict::Pass)
                && view.watched_seconds > view.needed_seconds.map(|needed| 2.0 * needed)
        };
        let view = daemon.wait_for(&shop.rollout(), "to have seen more than enough", passed).await?;
        assert_eq!((view.phase.as_str(), view.weight.percent()), ("paused", 5.0));
        let again = command(&daemon, &shop.rollout(), "pause", json!({"reason": "a second time"})).await?;
        ensure!(!again.accepted && again.message.contains("already paused"), "{again:?}");
        shop.weights_were(&[0.0, 5.0]).await?;

        let resumed = command(&daemon, &shop.rollout(), "resume", json!({"reason": "back"})).await?;
        ensure!(resumed.accepted, "{resumed:?}");
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        shop.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        Ok(())
    })
}

#[test]
fn a_command_about_a_revision_that_is_gone_is_refused_and_says_where_it_is() -> Result<()> {
    story(async {
        let shop = Shop::open("revision").await?;
        let daemon = run(vec![shop.policy()]).await?;
        announce(&daemon, &shop, "v2").await?;
        let view = until_weight(&daemon, &shop, 5.0).await?;
        let stale = json!({"reason": "seen on the page", "revision": view.revision - 1});
        let answer = command(&daemon, &shop.rollout(), "promote", stale).await?;
        ensure!(!answer.accepted && answer.message.contains("expected, it is at"), "{answer:?}");
        let nobodys = json!({"reason": "x", "attempt": "v1"});
        let (status, fault) =
            daemon.post(&format!("/api/v1/rollouts/{}/abort", shop.rollout()), &nobodys).await?;
        ensure!(
            status == 404 && fault["error"].as_str().is_some_and(|error| error.contains("@v1")),
            "{status} {fault}"
        );
        ensure!(daemon.view(&shop.rollout()).await?.outcome.is_none());
        Ok(())
    })
}

#[test]
fn one_message_aborts_all_that_match_and_no_others() -> Result<()> {
    story(async {
        let (one, two, three) =
            (Shop::open("all-one").await?, Shop::open("all-two").await?, Shop::open("all-three").await?);
        let shops = [&one, &two, &three];
        let daemon = run(shops.map(|shop| shop.policy_that_stands_at(0)).to_vec()).await?;
        for shop in shops {
            announce(&daemon, shop, "v2").await?;
        }
        for shop in shops {
            until_weight(&daemon, shop, 5.0).await?;
        }

        let narrow = daemon.cli(&["abort", "--all", "-l", "team=all-three", "--reason", "that one"]).await?;
        ensure!(narrow.code == 0, "{}", narrow.text());
        assert_eq!(daemon.wait_for_end(&three.rollout()).await?.outcome, Some(Outcome::Reverted));
        for shop in [&one, &two] {
            assert_eq!(daemon.view(&shop.rollout()).await?.weight.percent(), 5.0);
        }

        let all = daemon.cli(&["abort", "--all", "--reason", "the database is down"]).await?;
        ensure!(all.code == 0, "{}", all.text());
        for shop in [&one, &two] {
            assert_eq!(daemon.wait_for_end(&shop.rollout()).await?.outcome, Some(Outcome::Reverted));
        }
        for shop in shops {
            shop.weights_were(&[0.0, 5.0, 0.0]).await?;
        }
        Ok(())
    })
}

#[test]
fn a_newer_release_puts_the_running_one_back_and_takes_its_place() -> Result<()> {
    story(async {
        let shop = Shop::open("superseded").await?;
        let policy = shop.policy_with(|spec| spec["steps"][1]["min"] = json!("6s"));
        let daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 25.0).await?;

        announce(&daemon, &shop, "v3").await?;
        let third = |view: &RolloutView| view.rollout.attempt() == "v3" && !view.weight.is_zero();
        daemon.wait_for(&shop.rollout(), "to have opened v3", third).await?;
        let late = json!({"reason": "meant for the one before", "attempt": "v2"});
        let late = command(&daemon, &shop.rollout(), "abort", late).await?;
        ensure!(!late.accepted && late.message.contains("no longer current"), "{late:?}");

        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        let former = daemon.view(&shop.attempt("v2")).await?;
        assert_eq!(former.outcome, Some(Outcome::Reverted));
        ensure!(former.reason.contains("v3"), "{}", former.reason);
        shop.weights_were(&[0.0, 5.0, 25.0, 0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        Ok(())
    })
}

#[test]
fn a_newer_release_waits_or_is_refused_where_the_policy_says_so() -> Result<()> {
    story(async {
        let (queue, refuse) = (Shop::open("queue").await?, Shop::open("refuse").await?);
        let policies = vec![
            queue.policy_with(|spec| spec["onNewRelease"] = json!("queue")),
            refuse.policy_with(|spec| spec["onNewRelease"] = json!("refuse")),
        ];
        let daemon = run(policies).await?;
        for shop in [&queue, &refuse] {
            announce(&daemon, shop, "v2").await?;
            until_weight(&daemon, shop, 5.0).await?;
        }
        let (status, answer) =
            daemon.post(&format!("/events/{}", refuse.rollout()), &announcement("v3")).await?;
        ensure!(
            status == 409 && answer["message"].as_str().is_some_and(|why| why.contains("refuse")),
            "{status} {answer}"
        );
        announce(&daemon, &queue, "v3").await?;
        let make_room = json!({"reason": "make room", "attempt": "v2"});
        command(&daemon, &queue.rollout(), "abort", make_room).await?;

        let third = |view: &RolloutView| view.rollout.attempt() == "v3" && view.outcome.is_some();
        let view = daemon.wait_for(&queue.rollout(), "to have v3 at its end", third).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&queue.rollout()).await);
        let view = daemon.wait_for_end(&refuse.rollout()).await?;
        assert_eq!((view.rollout.attempt(), view.outcome), ("v2", Some(Outcome::Promoted)));
        Ok(())
    })
}

#[test]
fn a_message_that_comes_twice_has_its_effect_once() -> Result<()> {
    story(async {
        let shop = Shop::open("twice").await?;
        let daemon = run(vec![shop.policy_that_stands_at(0)]).await?;
        let first = announce(&daemon, &shop, "v2").await?;
        assert_eq!(announce(&daemon, &shop, "v2").await?, first);
        until_weight(&daemon, &shop, 5.0).await?;
        assert_eq!(announce(&daemon, &shop, "v2").await?, first);

        // HAProxy hangs, so that the rollout is still in hand when the same command comes again.
        shop.haproxy.server.freeze()?;
        let abort = json!({"id": "button-1", "reason": "once"});
        let answer = command(&daemon, &shop.rollout(), "abort", abort.clone()).await?;
        ensure!(answer.accepted, "{answer:?}");
        let again = command(&daemon, &shop.rollout(), "abort", abort.clone()).await?;
        ensure!(again.accepted, "the repeat of an accepted abort was told something else: {again:?}");
        shop.haproxy.server.thaw()?;
        daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(announce(&daemon, &shop, "v2").await?, first, "the repeat began something new");
        let late = command(&daemon, &shop.rollout(), "abort", abort).await?;
        assert_eq!(late, answer, "after the end the repeat was told something else");

        assert_eq!(daemon.view(&shop.rollout()).await?.outcome, Some(Outcome::Reverted));
        shop.weights_were(&[0.0, 5.0, 0.0]).await?;
        let told = told(&daemon, &shop, "v2").await?;
        assert_eq!(kinds(&told).iter().filter(|kind| *kind == "started").count(), 1);
        crate::house::once_each(&told)
    })
}
