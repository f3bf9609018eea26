//! The daemon's power is cut. What was decided holds, what was outstanding is done, and nothing counts twice.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, LIMIT, story};
use sluice_wire::view::RolloutView;

use crate::house::{announce, command, kinds, once_each, run, told, until_weight};
use crate::shop::{Shop, USERS};

#[test]
fn killed_in_the_middle_of_a_step_it_goes_on_where_it_stood() -> Result<()> {
    story(async {
        let shop = Shop::open("killed").await?;
        let mut daemon = run(vec![shop.policy()]).await?;
        let (url, rollout) = (daemon.url(), shop.rollout());
        let waiting = tokio::spawn(async move {
            let args = ["start", &rollout, "--version", "v2", "--attempt", "v2", "--wait", "--server", &url];
            sluice_tests::cli::sluice(&args, &[]).await
        });
        until_weight(&daemon, &shop, 25.0).await?;

        daemon.kill9();
        daemon.start_again().await?;

        // The job that waits has lost its daemon for a moment, and waits on.
        let ended = waiting.await??;
        ensure!(ended.code == 0, "{}\n{}", ended.text(), daemon.account(&shop.rollout()).await);
        shop.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await?;
        shop.share_was_the_weights()?;
        once_each(&told(&daemon, &shop, "v2").await?)
    })
}

#[test]
fn what_passed_while_it_was_dead_counts_once() -> Result<()> {
    story(async {
        let mut shop = Shop::open("counted").await?;
        let policy = shop.policy_with(|spec| spec["steps"][1]["min"] = json!("6s"));
        let mut daemon = run(vec![policy]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 25.0).await?;
        // So that it stays at this weight for as long as we look.
        let paused =
            command(&daemon, &shop.rollout(), "pause", json!({"reason": "a look at the counters"})).await?;
        ensure!(paused.accepted, "{}", paused.message);

        shop.send_users_away();
        let before = uncounted(&daemon, &shop).await?;
        shop.let_users_in(USERS)?;
        daemon.kill9();
        let then = shop.canary.counts().requests;
        let more = || async { Ok((shop.canary.counts().requests > then + 100).then_some(())) };
        wait::until("a hundred requests that nobody watches", LIMIT, more).await?;
        daemon.start_again().await?;
        shop.send_users_away();

        let after = uncounted(&daemon, &shop).await?;
        assert_eq!(
            after,
            before,
            "requests lost or counted twice\n{}",
            daemon.account(&shop.rollout()).await
        );

        shop.let_users_in(USERS)?;
        command(&daemon, &shop.rollout(), "resume", json!({"reason": "seen"})).await?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        Ok(())
    })
}

/// Nothing is decided for longer than a minute: the time that was watched is in the store all the same.
#[test]
fn no_more_than_a_minute_is_watched_twice() -> Result<()> {
    story(async {
        let shop = Shop::open("watched").await?;
        let steps = json!([{"weight": 5, "min": "10m", "max": "1h"}]);
        let mut daemon = run(vec![shop.policy_with(|spec| spec["steps"] = steps)]).await?;
        announce(&daemon, &shop, "v2").await?;
        let rollout = shop.rollout();
        let long = |view: &RolloutView| view.watched_seconds.is_some_and(|watched| watched >= 70.0);
        let view = daemon.wait_for(&rollout, "to be watched for longer than a minute", long).await?;
        daemon.kill9();
        daemon.start_again().await?;
        daemon.wait_for(&rollout, "to be watched on", long).await?;
        let taken = || async { Ok(Some(starts(&daemon, &rollout).await?).filter(|taken| taken.len() > 1)) };
        let taken = wait::until("the second start in the record", LIMIT, taken).await?;
        ensure!(taken.len() == 2, "{taken:#?}");
        let kept = taken[1]["state"]["watch"]["counted_ms"].as_f64().context("no watch")? / 1000.0;
        let watched = view.watched_seconds.unwrap_or_default();
        ensure!(kept > 0.0 && watched - kept < 65.0, "{kept} s of {watched} s were kept: {:#}", taken[1]);
        daemon.wait_replay(&rollout).await
    })
}

/// What each start of a daemon took up, as the decision record has it.
async fn starts(daemon: &Daemon, rollout: &str) -> Result<Vec<Value>> {
    let record = daemon.cli(&["record", rollout]).await?;
    let lines = record.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.map(|line| line["entry"]["taken"].clone()).filter(Value::is_object).collect())
}

#[test]
fn killed_while_it_aborts_it_aborts_to_the_end() -> Result<()> {
    story(async {
        let shop = Shop::open("abort-killed").await?;
        let mut daemon = run(vec![shop.policy_that_stands_at(1)]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 25.0).await?;

        // HAProxy hangs, so that weight 0 is decided but cannot be written.
        shop.haproxy.server.freeze()?;
        let answer = command(&daemon, &shop.rollout(), "abort", json!({"reason": "empty baskets"})).await?;
        ensure!(answer.accepted, "{}", answer.message);
        daemon.kill9();
        daemon.start_again().await?;
        let view = daemon.view(&shop.rollout()).await?;
        assert_eq!((view.phase.as_str(), view.outcome), ("reverting", None));
        shop.haproxy.server.thaw()?;

        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Reverted));
        ensure!(view.reason.contains("empty baskets"), "{}", view.reason);
        shop.weights_were(&[0.0, 5.0, 25.0, 0.0]).await?;
        once_each(&told(&daemon, &shop, "v2").await?)
    })
}

#[test]
fn killed_between_weight_0_and_its_save_the_mark_on_the_target_wins() -> Result<()> {
    story(async {
        let shop = Shop::open("marked").await?;
        let mut daemon = run(vec![shop.policy_that_stands_at(1)]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 25.0).await?;
        daemon.kill9();

        // What that daemon would have left: weight 0 and the mark beside the socket, but no save.
        shop.haproxy.set_weight("stable", 256).await?;
        shop.haproxy.set_weight("canary", 0).await?;
        mark_abort(&shop, "too many errors")?;
        daemon.start_again().await?;

        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Reverted), "{}", daemon.account(&shop.rollout()).await);
        ensure!(view.reason.contains("too many errors"), "{}", view.reason);
        shop.weights_were(&[0.0, 5.0, 25.0, 0.0]).await?;
        let kinds = kinds(&told(&daemon, &shop, "v2").await?);
        ensure!(kinds.ends_with(&["finished".to_owned(), "drained".to_owned()]), "{kinds:?}");
        Ok(())
    })
}

/// Requests that the canary answered and the evidence does not have, once the daemon has read all that there is: nobody
/// sends any, and some windows in a row brought none.
async fn uncounted(daemon: &Daemon, shop: &Shop) -> Result<i64> {
    tokio::time::timeout(LIMIT, stands_still(daemon, shop))
        .await
        .context("the evidence never stands still")?
}

async fn stands_still(daemon: &Daemon, shop: &Shop) -> Result<i64> {
    let mut still: Option<(u64, u64, u64)> = None;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
        // Just after a start the evidence has not been loaded yet.
        let Ok((windows, counted)) = counted(daemon, shop).await else { continue };
        let answered = shop.canary.counts().requests;
        match still {
            Some((since, requests, evidence)) if (requests, evidence) == (answered, counted) => {
                if windows >= since + 4 {
                    return Ok(i64::try_from(answered)? - i64::try_from(counted)?);
                }
            }
            _ => still = Some((windows, answered, counted)),
        }
    }
}

/// Windows judged, and canary requests in them.
async fn counted(daemon: &Daemon, shop: &Shop) -> Result<(u64, u64)> {
    let view = daemon.view(&shop.rollout()).await?;
    let findings = view.evidence["findings"].as_array().context("no findings")?;
    let errors =
        findings.iter().find(|finding| finding["metric"] == "errors").context("no finding about errors")?;
    match (view.evidence["windows"].as_u64(), errors["canary"]["n"].as_u64()) {
        (Some(windows), Some(requests)) => Ok((windows, requests)),
        _ => bail!("no counts: {errors}"),
    }
}

fn mark_abort(shop: &Shop, reason: &str) -> Result<()> {
    let path = format!("{}.sluice.json", shop.haproxy.socket().display());
    let mut entries: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    for entry in entries.as_object_mut().context("no entries")?.values_mut() {
        entry["weight"] = json!(0.0);
        entry["abort"] = json!({"rollout": shop.attempt("v2"), "reason": reason});
    }
    std::fs::write(&path, entries.to_string())?;
    Ok(())
}
