//! A thousand rollouts of one daemon (`SLUICE_BENCH_FLEET` names another number): what they need while they stand, how soon
//! they are in hand again after `kill -9`, and when the last is shut after all turned bad at once, or after one message.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::json;
use sluice_rig::kube::Seen;
use sluice_tests::LIMIT;

use crate::bench::Bench;
use crate::process;
use crate::routes::{NAMESPACE, canary_percent, rollout};

const SCRAPE: Duration = Duration::from_secs(15);
const STANDS_FOR: Duration = Duration::from_secs(90);
/// As many PATCHes at once as the bare ones: more did not make this API server quicker.
const AT_ONCE: usize = 32;

pub struct Fleet {
    pub names: Vec<String>,
    pub bench: Bench,
}

/// A number that a variable may name.
pub fn asked(variable: &str, usual: usize) -> Result<usize> {
    let text = std::env::var(variable);
    text.map_or(Ok(usual), |text| text.parse().with_context(|| format!("{variable} is no number: {text:?}")))
}

pub async fn table() -> Result<String> {
    let number = asked("SLUICE_BENCH_FLEET", 1_000)?;
    let mut fleet = Fleet::open(number).await?;
    let mut text = format!(
        "\n{number} rollouts of one daemon, scraped every {SCRAPE:?}\n\n| what | measured |\n| --- | --- |\n"
    );
    let mut row = |what: &str, told: String| {
        let _ = writeln!(text, "| {what} | {told} |");
    };

    let all_stand = fleet.stand("v2").await?;
    row("announced one after the other until the last stands at its step", seconds(all_stand));
    for (what, told) in fleet.needs().await? {
        row(what, told);
    }
    let [ready, in_hand] = fleet.killed().await?;
    row("`kill -9`, then started again: until ready", seconds(ready));
    row("… until a window of the last one was judged again", seconds(in_hand));
    let bad = fleet.turn_bad().await?;
    row("all bad at once (one scrape interval included): the last at weight 0", seconds(bad));
    fleet.stand("v3").await?;
    let aborted = fleet.abort_all().await?;
    row("aborted by one message: the last at weight 0", seconds(aborted));
    let bare = fleet.bare().await?;
    row(&format!("as many bare PATCHes, {AT_ONCE} at once: the last answered"), seconds(bare));
    Ok(text)
}

impl Fleet {
    pub async fn open(number: usize) -> Result<Fleet> {
        let names: Vec<String> = (0..number).map(|number| format!("f{number}")).collect();
        let bench = Bench::open(&names, SCRAPE).await?;
        Ok(Fleet { names, bench })
    }

    /// All announced, until the last has its weight and two windows were judged of each.
    pub async fn stand(&self, attempt: &str) -> Result<Duration> {
        let (begun, known) = (Instant::now(), self.bench.routes.known());
        for name in &self.names {
            self.bench.bus.announce(&rollout(name), attempt).await?;
        }
        let took = self.all_at(50.0, known, begun).await?;
        self.judged_since(&BTreeMap::new()).await?;
        let watched = self.watched().await?;
        self.judged_since(&watched).await?;
        Ok(took)
    }

    /// How many seconds of windows were counted of each.
    async fn watched(&self) -> Result<BTreeMap<String, f64>> {
        let views = self.bench.daemon.views().await?;
        let open = views.iter().filter(|view| view.phase == "observing");
        Ok(open.map(|view| (view.rollout.to_string(), view.watched_seconds.unwrap_or(0.0))).collect())
    }

    /// Waits until each was watched for longer than then.
    async fn judged_since(&self, then: &BTreeMap<String, f64>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let now = self.watched().await?;
            let further = |(name, seconds): &(&String, &f64)| {
                **seconds > then.get(name.as_str()).copied().unwrap_or(0.0)
            };
            let judged = now.iter().filter(further).count();
            if judged >= self.names.len() {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < 2 * LIMIT,
                "{judged} of {} were judged: {}",
                self.names.len(),
                self.bench.daemon.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Until the API server told this weight of each route, after the first `known` events.
    async fn all_at(&self, percent: f64, known: usize, begun: Instant) -> Result<Duration> {
        let mut missing: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        let mut known = known;
        let find = async {
            loop {
                let new: Vec<Seen> = self.bench.routes.watch.events_after(known);
                known += new.len();
                for seen in &new {
                    if canary_percent(&seen.object) == percent {
                        missing.remove(seen.name());
                    }
                    if missing.is_empty() {
                        return seen.at.saturating_duration_since(begun);
                    }
                }
                self.bench.routes.watch.changed(known).await;
            }
        };
        if let Ok(took) = tokio::time::timeout(2 * LIMIT, find).await {
            return Ok(took);
        }
        let first = missing.first().map_or(String::new(), |name| rollout(name));
        let (view, dead) = (self.bench.daemon.view(&first).await, self.bench.bus.dead());
        bail!("{} never got {percent} %, {first} for one: {view:?}; dead letters: {dead:?}", missing.len())
    }

    /// Processor, memory, queries and writes while nothing is decided.
    async fn needs(&self) -> Result<Vec<(&'static str, String)>> {
        let mark = self.bench.routes.kube.audit.mark()?;
        let (before, queries) = (process::used(&self.bench.daemon)?, self.queries().await?);
        let begun = Instant::now();
        tokio::time::sleep(STANDS_FOR).await;
        let wall = begun.elapsed().as_secs_f64();
        let cores = (process::used(&self.bench.daemon)? - before) / wall;
        let asked = (self.queries().await? - queries) / wall;
        let writes = self.bench.routes.kube.audit.by("sluice", NAMESPACE, mark)?.len();
        Ok(vec![
            ("standing: processor", format!("{cores:.2} cores")),
            ("standing: memory (resident)", format!("{:.0} MB", process::memory(&self.bench.daemon)?)),
            ("standing: connections open", process::sockets(&self.bench.daemon)?.to_string()),
            ("standing: queries a second", format!("{asked:.1}")),
            ("standing: writes to the API server", format!("{writes} in {wall:.0} s")),
        ])
    }

    /// Queries that Prometheus has answered, by its own count.
    async fn queries(&self) -> Result<f64> {
        let page = reqwest::get(format!("{}/metrics", self.bench.prometheus.url())).await?.text().await?;
        let counts = page.lines().filter(|line| line.starts_with("prometheus_http_requests_total"));
        let asked = counts.filter(|line| line.contains("handler=\"/api/v1/query\""));
        Ok(asked.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    async fn killed(&mut self) -> Result<[Duration; 2]> {
        let watched = self.watched().await?;
        self.bench.daemon.kill9();
        let begun = Instant::now();
        self.bench.daemon.start_again().await?;
        let ready = begun.elapsed();
        self.judged_since(&watched).await?;
        Ok([ready, begun.elapsed()])
    }

    async fn turn_bad(&self) -> Result<Duration> {
        let known = self.bench.routes.known();
        let begun = Instant::now();
        for name in &self.names {
            self.bench.turn(name);
        }
        self.all_at(0.0, known, begun).await
    }

    async fn abort_all(&self) -> Result<Duration> {
        let (known, begun) = (self.bench.routes.known(), Instant::now());
        self.bench.bus.command("ann", "_all/_all", "abort", json!({"reason": "bench"})).await?;
        self.all_at(0.0, known, begun).await
    }

    /// The API server's own time for as many writes.
    async fn bare(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut patches = Vec::with_capacity(self.names.len());
        for name in &self.names {
            patches.push(self.bench.routes.patch_only(name, 7.0).boxed());
        }
        stream::iter(patches).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(begun.elapsed())
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
