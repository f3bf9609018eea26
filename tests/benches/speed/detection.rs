//! The sample that completes the deciding window, from when Prometheus can tell it until the API server tells of weight 0.
//!
//! A canary that was good shows 100 failed requests at once, so that the next scrape of it decides, together with the next
//! scrape of stable (Sluice holds a canary's window against stable's interval after it, too). So that one sample can decide
//! without six hours of history, pods are not suspected of bursts (`pods: ignore`). Prometheus is asked as quickly as it
//! answers for those two samples; the clock starts with the question that was first answered with both.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sluice_tests::LIMIT;

use crate::bench::{Bench, FAILED};
use crate::overrides::stand;
use crate::routes::rollout;
use crate::table::{Row, milliseconds};

const ALONE: usize = 25;
const TOGETHER: usize = 100;
const SCRAPE: Duration = Duration::from_secs(1);

pub async fn table() -> Result<String> {
    let alone: Vec<String> = (0..ALONE).map(|number| format!("a{number}")).collect();
    let together: Vec<String> = (0..TOGETHER).map(|number| format!("t{number}")).collect();
    let bench = Bench::open(&[alone.clone(), together.clone()].concat(), SCRAPE).await?;

    let mut one = Row::new("1 rollout running");
    for name in &alone {
        stand(&bench.bus, &bench.daemon, std::slice::from_ref(name)).await?;
        one.took.push(bench.turns_bad(name).await?);
    }
    let one_query = bench.queries("one query of the pair by hand", &alone[..1]).await?;
    stand(&bench.bus, &bench.daemon, &together).await?;
    let fifty = bench.queries("one query of 50 pairs by hand, 100 rollouts running", &together[..50]).await?;
    let mut many = Row::new("100 rollouts running, one after the other turns bad");
    for name in &together {
        many.took.push(bench.turns_bad(name).await?);
    }
    let title = "The deciding sample readable in Prometheus until the API server's watch told of weight 0 (1 s scrapes, phases spread)";
    Ok(milliseconds(title, &[one, many, one_query, fifty]))
}

impl Bench {
    /// From the deciding sample to weight 0, for one rollout.
    async fn turns_bad(&self, name: &str) -> Result<Duration> {
        let judged = |view: &sluice_wire::view::RolloutView| view.evidence["windows"].as_u64() >= Some(3);
        self.daemon.wait_for(&rollout(name), "to be judged", judged).await?;
        let known = self.routes.known();
        self.turn(name);
        let begun = Instant::now();
        let (readable, shut) = tokio::join!(self.readable(name), self.routes.told(name, 0.0, known, begun));
        // Both are instants after `begun`.
        let readable = readable?.saturating_duration_since(begun);
        let shut = match shut {
            Ok(shut) => shut,
            Err(error) => return Err(error.context(self.daemon.account(&rollout(name)).await)),
        };
        ensure!(shut > Duration::ZERO, "{name} was shut before it turned bad");
        Ok(shut.saturating_sub(readable))
    }

    /// When Prometheus could first tell both samples.
    async fn readable(&self, name: &str) -> Result<Instant> {
        let question = format!("http_requests_total{{app=~\"{name}|{name}-canary\"}}[5s]");
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            let told = self.prometheus.query(&question).await?;
            if complete(&told, name).context("no matrix")? {
                return Ok(asked);
            }
            ensure!(begun.elapsed() < LIMIT, "{name}: no deciding sample in {told}");
        }
    }

    async fn queries(&self, what: &str, names: &[String]) -> Result<Row> {
        let apps: Vec<String> = names.iter().map(|name| format!("{name}|{name}-canary")).collect();
        let question = format!("http_requests_total{{app=~\"{}\"}}[5s]", apps.join("|"));
        let mut row = Row::new(what);
        for _ in 0..50 {
            let begun = Instant::now();
            self.prometheus.query(&question).await?;
            row.took.push(begun.elapsed());
        }
        Ok(row)
    }
}

/// A canary's sample with the failed requests, and a sample of stable that is not earlier.
fn complete(told: &Value, name: &str) -> Option<bool> {
    let samples = |app: &str, code: &str| -> Option<Vec<(f64, f64)>> {
        let series = told["result"].as_array()?;
        let ours = series.iter().find(|one| one["metric"]["app"] == app && one["metric"]["code"] == code);
        let values = ours.and_then(|one| one["values"].as_array()).cloned().unwrap_or_default();
        let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
        values.iter().map(sample).collect()
    };
    let failed = samples(&format!("{name}-canary"), "500")?;
    let Some((since, _)) = failed.iter().find(|(_, errors)| *errors >= FAILED as f64) else {
        return Some(false);
    };
    Some(samples(name, "200")?.iter().any(|(at, _)| at >= since))
}
