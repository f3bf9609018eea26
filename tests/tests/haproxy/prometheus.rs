//! The same two services scraped by a real Prometheus: what only that source has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rig::prometheus::Target;
use sluice_rig::{Load, Prometheus, PrometheusOptions};
use sluice_rollout::Outcome;
use sluice_tests::{LIMIT, Output, PolicyText, story};
use sluice_wire::view::RolloutView;

use crate::house::{announce, kinds, run, start_and_wait, told, until_weight};
use crate::shop::Shop;

/// Both versions of these shops, told apart by `app`.
async fn prometheus_of(shops: &[&Shop]) -> Result<Prometheus> {
    prometheus_with(PrometheusOptions::default(), shops).await
}

async fn prometheus_with(options: PrometheusOptions, shops: &[&Shop]) -> Result<Prometheus> {
    let pods = shops.iter().flat_map(|shop| {
        let pod = |service: &sluice_rig::Service, arm: &str| {
            let app = format!("{}-{arm}", shop.name);
            Target::pod(service.address(), "shop", &app, service.name())
        };
        [pod(&shop.stable, "stable"), pod(&shop.canary, "canary")]
    });
    let targets: Vec<Target> = pods.collect();
    let count = targets.len();
    let scrape_interval = Duration::from_millis(250);
    let options = PrometheusOptions { scrape_interval, targets, ..options };
    let prometheus = Prometheus::start(options).await?;
    prometheus.wait_until_up(count, LIMIT).await?;
    Ok(prometheus)
}

/// The shop's policy, its metrics read there; `change` changes its `spec`.
fn through(prometheus: &Prometheus, shop: &Shop, change: impl FnOnce(&mut Value)) -> PolicyText {
    shop.policy_with(|spec| {
        let app = |arm: &str| format!("{}-{arm}", shop.name);
        let labels =
            json!({"by": "app", "namespace": "shop", "stable": app("stable"), "canary": app("canary")});
        spec["metrics"] = json!({"prometheus": {"url": prometheus.url(), "timeout": "2s", "labels": labels}});
        change(spec);
    })
}

/// Both versions fail one POST in five; the canary's clients post much more.
async fn shop_with_another_mix(name: &str) -> Result<(Shop, [Load; 2])> {
    let shop = Shop::open(name).await?;
    for version in [&shop.stable, &shop.canary] {
        version.behaviour.set_error_share_of_posts(0.2);
    }
    let posts = [Load::posting(&shop.stable.url(), 20.0)?, Load::posting(&shop.canary.url(), 40.0)?];
    Ok((shop, posts))
}

#[test]
fn a_canary_with_another_mix_of_traffic_is_promoted_and_without_strata_it_would_be_aborted() -> Result<()> {
    story(async {
        let (told_apart, _posts) = shop_with_another_mix("told-apart").await?;
        let (mixed, _more) = shop_with_another_mix("mixed").await?;
        let prometheus = prometheus_of(&[&told_apart, &mixed]).await?;
        let policies = vec![
            through(&prometheus, &told_apart, |_| ()),
            through(&prometheus, &mixed, |spec| spec["metrics"]["prometheus"]["strata"] = json!([])),
        ];
        let daemon = run(policies).await?;

        let (well, badly) = tokio::try_join!(
            start_and_wait(&daemon, &told_apart, "v2"),
            start_and_wait(&daemon, &mixed, "v2")
        )?;

        ensure!(well.code == 0, "{}\n{}", well.text(), daemon.account(&told_apart.rollout()).await);
        ensure!(badly.code == 1, "{}\n{}", badly.text(), daemon.account(&mixed.rollout()).await);
        let reason = daemon.view(&mixed.rollout()).await?.reason;
        ensure!(reason.contains("errors"), "{reason}");
        let told = daemon.cli(&["explain", &told_apart.rollout()]).await?;
        ensure!(
            told.stdout.contains("POST: canary") && told.stdout.contains("GET: canary"),
            "{}",
            told.stdout
        );
        replays_with_its_strata(&daemon, &told_apart).await
    })
}

/// The record holds the windows with their strata, and replays.
async fn replays_with_its_strata(daemon: &sluice_tests::Daemon, shop: &Shop) -> Result<()> {
    daemon.wait_replay(&shop.rollout()).await?;
    let record = daemon.cli(&["record", &shop.rollout()]).await?;
    ensure!(record.stdout.contains("POST"), "the record knows no stratum");
    let file = sluice_rig::folder::Folder::new("record")?;
    file.write("rollout.record", &record.stdout)?;
    let path = file.path().join("rollout.record").display().to_string();
    let replayed = daemon.cli(&["replay", &path]).await?;
    ensure!(replayed.code == 0, "{}", replayed.text());
    Ok(())
}

#[test]
fn a_rollout_is_judged_by_a_gauge_and_one_that_is_missing_holds_and_never_aborts() -> Result<()> {
    story(async {
        let (full, blind) = (Shop::open("full-queue").await?, Shop::open("no-queue").await?);
        for shop in [&full, &blind] {
            shop.stable.behaviour.set_queue_length(10.0);
            shop.canary.behaviour.set_queue_length(40.0);
        }
        let prometheus = prometheus_of(&[&full, &blind]).await?;
        let asked = |shop: &Shop, metric: &str| {
            let app = format!("{}-{{{{ arm }}}}", shop.name);
            let query = format!("{metric}{{app=\"{app}\"}}");
            let gauge = json!({"name": "queue", "direction": "increase", "critical": true, "query": query});
            through(&prometheus, shop, |spec| spec["analysis"]["gauges"] = json!([gauge]))
        };
        let daemon = run(vec![asked(&full, "queue_length"), asked(&blind, "queue_depth")]).await?;
        announce(&daemon, &blind, "v2").await?;

        let ended = start_and_wait(&daemon, &full, "v2").await?;

        ensure!(ended.code == 1, "{}\n{}", ended.text(), daemon.account(&full.rollout()).await);
        let view = daemon.view(&full.rollout()).await?;
        ensure!(view.outcome == Some(Outcome::Reverted) && view.reason.contains("queue"), "{}", view.reason);
        // As long as the other one took: everything else would have let this one go on.
        until_weight(&daemon, &blind, 5.0).await?;
        let holds = |view: &RolloutView| view.outcome.is_none() && view.weight.percent() == 5.0;
        daemon.stays(&blind.rollout(), "at 5 % for want of its gauge", Duration::from_secs(3), holds).await?;
        let told: Output = daemon.cli(&["explain", &blind.rollout()]).await?;
        ensure!(told.stdout.contains("queue: no readings of both versions"), "{}", told.stdout);
        Ok(())
    })
}

#[test]
fn native_histograms_show_a_slow_canary_and_those_of_open_telemetry_a_failing_one() -> Result<()> {
    story(async {
        let (slow, failing) = (Shop::open("native-slow").await?, Shop::open("otel-failing").await?);
        for shop in [&slow, &failing] {
            // The two versions may have been built with different libraries.
            shop.stable.behaviour.set_native_schema(3);
            shop.canary.behaviour.set_native_schema(5);
        }
        slow.canary.behaviour.set_latency(Duration::from_millis(80));
        for version in [&failing.stable, &failing.canary] {
            version.behaviour.use_open_telemetry();
        }
        failing.canary.behaviour.set_error_share(0.5);
        let options = PrometheusOptions { native_histograms: true, ..PrometheusOptions::default() };
        let prometheus = prometheus_with(options, &[&slow, &failing]).await?;
        let preset = |spec: &mut Value| spec["metrics"]["prometheus"]["preset"] = "openTelemetry".into();
        let policies = vec![through(&prometheus, &slow, |_| ()), through(&prometheus, &failing, preset)];
        let daemon = run(policies).await?;

        let (slowly, badly) =
            tokio::try_join!(start_and_wait(&daemon, &slow, "v2"), start_and_wait(&daemon, &failing, "v2"))?;

        for (shop, ended, metric) in [(&slow, slowly, "latency: "), (&failing, badly, "errors: ")] {
            ensure!(ended.code == 1, "{}\n{}", ended.text(), daemon.account(&shop.rollout()).await);
            let reason = daemon.view(&shop.rollout()).await?.reason;
            ensure!(reason.starts_with(metric), "{reason}");
            // Whoever listens to events has the evidence in words, too.
            let events = told(&daemon, shop, "v2").await?;
            let aborting = kinds(&events).iter().position(|kind| kind == "aborting");
            let evidence = &events[aborting.context("no aborting")?]["data"]["details"]["evidence"];
            let mut words = evidence["findings"].as_array().into_iter().flatten().map(|one| &one["words"]);
            ensure!(words.any(|words| words.as_str() == Some(&reason)), "{reason}: {evidence}");
        }
        Ok(())
    })
}
