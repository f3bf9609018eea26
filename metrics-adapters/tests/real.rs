//! A real Prometheus that scrapes real services: what the windows say is what the services counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use sluice_metrics_adapters::{Ask, Closed, Cursor, Http, Reading, Source, SourceError, connect};
use sluice_rig::{Load, Prometheus, PrometheusOptions, Service, prometheus::Target, wait};
use support::{ask, policy};

const LIMIT: Duration = Duration::from_secs(180);

const SCRAPE: Duration = Duration::from_millis(200);

/// Longer than any answer takes on a busy machine.
const PATIENT: &str = "1m";

/// Two versions, one pod each, and a Prometheus that scrapes them.
struct Shop {
    stable: Service,
    canary: Service,
    server: Prometheus,
}

impl Shop {
    async fn open() -> Result<Shop> {
        let (stable, canary) = (Service::start("v1", "s-1").await?, Service::start("v2", "c-1").await?);
        Shop::of(stable, canary, false).await
    }

    /// Latencies are native histograms, of these schemas.
    async fn with_native_histograms(stable_schema: i32, canary_schema: i32) -> Result<Shop> {
        let (stable, canary) = (Service::start("v1", "s-1").await?, Service::start("v2", "c-1").await?);
        stable.behaviour.set_native_schema(stable_schema);
        canary.behaviour.set_native_schema(canary_schema);
        Shop::of(stable, canary, true).await
    }

    async fn of(stable: Service, canary: Service, native_histograms: bool) -> Result<Shop> {
        canary.behaviour.set_error_share(0.3);
        let server = prometheus(&stable, &canary, native_histograms).await?;
        server.wait_until_up(2, LIMIT).await?;
        Ok(Shop { stable, canary, server })
    }

    /// Both versions get requests, until the loads are stopped.
    fn load(&self) -> Result<[Load; 2]> {
        Ok([Load::start(&self.stable.url(), 200.0)?, Load::start(&self.canary.url(), 100.0)?])
    }

    fn reader(&self) -> Reader {
        Reader::of(&self.server.url(), "")
    }

    /// Requests and errors of both services.
    fn counted(&self) -> BTreeMap<String, (u64, u64)> {
        let of = |service: &Service| {
            (service.name().to_owned(), (service.counts().requests, service.counts().errors))
        };
        [of(&self.stable), of(&self.canary)].into()
    }
}

async fn prometheus(stable: &Service, canary: &Service, native_histograms: bool) -> Result<Prometheus> {
    let targets = vec![
        Target::pod(stable.address(), "shop", "checkout", "s-1"),
        Target::pod(canary.address(), "shop", "checkout-canary", "c-1"),
    ];
    let options = PrometheusOptions {
        scrape_interval: SCRAPE,
        targets,
        native_histograms,
        ..PrometheusOptions::default()
    };
    Prometheus::start(options).await
}

/// Reads, closes and sums up, as the daemon does.
struct Reader {
    sources: Vec<Arc<dyn Source>>,
    ask: Ask,
    cursor: Cursor,
    totals: BTreeMap<String, (u64, u64)>,
    slow: BTreeMap<String, u64>,
    /// Requests that took longer than 1/16 s, a boundary that every native schema down to -2 has.
    beyond_a_sixteenth: BTreeMap<String, u64>,
    windows: u64,
    reads: u64,
    last: Option<Reading>,
    /// Whether complaints are expected, and those that came.
    complains: bool,
    said: Vec<String>,
}

impl Reader {
    fn of(url: &str, more: &str) -> Reader {
        Reader::within(PATIENT, url, more)
    }

    fn within(limit: &str, url: &str, more: &str) -> Reader {
        let block = format!(
            "{{prometheus: {{url: '{url}', timeout: {limit}, labels: {{by: app, stable: checkout, canary: checkout-canary{more}}}}}}}"
        );
        let policy = policy("checkout", &block);
        let source = connect(&policy.spec.metrics, &Http::default()).unwrap();
        Reader {
            sources: vec![source],
            ask: ask(&policy),
            cursor: Cursor::new(),
            totals: BTreeMap::new(),
            slow: BTreeMap::new(),
            beyond_a_sixteenth: BTreeMap::new(),
            windows: 0,
            reads: 0,
            last: None,
            complains: false,
            said: Vec::new(),
        }
    }

    /// Reads now, from one replica after the other.
    async fn read(&mut self) -> Result<Closed, SourceError> {
        let source = self.sources[self.reads as usize % self.sources.len()].clone();
        self.reads += 1;
        let reading = source.read(std::slice::from_ref(&self.ask), now_ms()).await.remove(0)?;
        let closed = self.cursor.close(&reading, 1);
        self.said.extend(reading.complaints.iter().cloned().chain(self.cursor.take_complaints()));
        assert!(self.complains || self.said.is_empty(), "{:?}", self.said);
        if let Closed::Window(window) = &closed {
            window.check().expect("a window that can be judged");
            self.windows += 1;
            for pod in &window.pods {
                let sum = self.totals.entry(pod.pod.clone()).or_default();
                *sum = (sum.0 + pod.requests, sum.1 + pod.errors);
                *self.slow.entry(pod.pod.clone()).or_default() += pod.histogram_total();
                if let Some(within) = pod.buckets.iter().find(|bucket| bucket.le == 0.0625) {
                    let beyond = pod.histogram_total() - within.count;
                    *self.beyond_a_sixteenth.entry(pod.pod.clone()).or_default() += beyond;
                }
            }
        }
        self.last = Some(reading);
        Ok(closed)
    }

    /// Reads until an outcome is as wanted, whatever comes before it.
    async fn try_until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Result<Closed, SourceError>) -> bool,
    ) -> Result<()> {
        let mut last = None;
        let tries = async {
            loop {
                let outcome = self.read().await;
                if wanted(&outcome) {
                    return;
                }
                last = Some(outcome);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let tried = tokio::time::timeout(LIMIT, tries).await;
        tried.map_err(|_| anyhow::anyhow!("waited {LIMIT:?} for {what}; last: {last:?}"))
    }

    /// Reads whenever the source says that it is worth while, until `done`.
    async fn read_until(&mut self, what: &str, mut done: impl FnMut(&Reader) -> bool) -> Result<()> {
        let reads = async {
            while !done(self) {
                self.read().await.context("reading")?;
                // Several replicas know their own phases only.
                let alone = self.sources.len() == 1;
                let next =
                    self.last.as_ref().filter(|_| alone).map_or(now_ms() + 20, |reading| reading.next_ms);
                tokio::time::sleep(Duration::from_millis(u64::try_from(next - now_ms()).unwrap_or(0))).await;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(LIMIT, reads).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("waited {LIMIT:?} for {what}: {:?}", self.totals),
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test]
async fn windows_add_up_to_what_the_services_counted_from_the_first_request_on() -> Result<()> {
    let shop = Shop::open().await?;
    let (mut reader, begun) = (shop.reader(), Instant::now());
    reader.read().await?;
    let loads = shop.load()?;
    reader.read_until("ten windows", |reader| reader.windows >= 10).await?;
    for load in loads {
        load.stop().await?;
    }
    let counted = shop.counted();
    reader.read_until("the last requests", |reader| reader.totals == counted).await?;
    let scrapes = begun.elapsed().as_millis() / SCRAPE.as_millis();
    assert!(counted["c-1"].1 > 0, "the canary has errors");
    assert!(
        counted.iter().all(|(pod, (requests, _))| reader.slow[pod] == *requests),
        "histograms add up, too"
    );
    assert!(
        u128::from(reader.reads) < scrapes * 4 + 20,
        "{} reads in the time of {scrapes} scrapes",
        reader.reads
    );
    Ok(())
}

#[tokio::test]
async fn native_histograms_of_different_schemas_add_up_while_one_becomes_coarser_and_a_pod_restarts()
-> Result<()> {
    let shop = Shop::with_native_histograms(3, 5).await?;
    shop.canary.behaviour.set_slow_share(0.5, Duration::from_millis(70));
    let mut reader = shop.reader();
    reader.read().await?;
    let loads = [Load::start(&shop.stable.url(), 40.0)?, Load::start(&shop.canary.url(), 20.0)?];
    reader.read_until("five windows", |reader| reader.windows >= 5).await?;
    shop.canary.behaviour.set_native_schema(0);
    reader.read_until("five more, coarser", |reader| reader.windows >= 10).await?;
    for load in loads {
        load.stop().await?;
    }
    let before = shop.counted();
    reader.read_until("the last requests", |reader| reader.totals == before).await?;
    assert!(before.iter().all(|(pod, (requests, _))| reader.slow[pod] == *requests), "{:?}", reader.slow);
    assert!(reader.beyond_a_sixteenth["c-1"] * 4 > before["c-1"].0, "half of the canary's take 70 ms");
    assert!(reader.beyond_a_sixteenth["s-1"] * 4 < before["s-1"].0, "stable's do not");

    shop.canary.restart_counters();
    let loads = [Load::start(&shop.canary.url(), 20.0)?, Load::start(&shop.stable.url(), 40.0)?];
    let again = async || Ok((shop.canary.counts().requests > 20).then_some(()));
    wait::until("requests after the restart", LIMIT, again).await?;
    for load in loads {
        load.stop().await?;
    }
    let wanted = before["c-1"].0 + shop.canary.counts().requests;
    reader.read_until("the restarted pod's requests", |reader| reader.totals["c-1"].0 == wanted).await?;
    assert_eq!(reader.slow["c-1"], wanted, "its histogram began anew, too");
    Ok(())
}

#[tokio::test]
async fn a_pod_that_restarts_counts_from_zero_and_nothing_counts_twice() -> Result<()> {
    let shop = Shop::open().await?;
    let mut reader = shop.reader();
    reader.read().await?;
    let loads = shop.load()?;
    reader.read_until("three windows", |reader| reader.windows >= 3).await?;
    for load in loads {
        load.stop().await?;
    }
    let before = shop.counted();
    reader.read_until("the last requests", |reader| reader.totals == before).await?;
    shop.canary.restart_counters();
    let loads = [Load::start(&shop.canary.url(), 100.0)?, Load::start(&shop.stable.url(), 100.0)?];
    wait::until("requests after the restart", LIMIT, async || {
        Ok((shop.canary.counts().requests > 20).then_some(()))
    })
    .await?;
    for load in loads {
        load.stop().await?;
    }
    let canary = shop.canary.counts();
    let wanted = (before["c-1"].0 + canary.requests, before["c-1"].1 + canary.errors);
    reader.read_until("the restarted pod's requests", |reader| reader.totals["c-1"] == wanted).await
}

#[tokio::test]
async fn an_outage_of_the_server_is_source_down_and_its_gap_is_counted_once() -> Result<()> {
    let mut shop = Shop::open().await?;
    let mut reader = shop.reader();
    reader.read().await?;
    let loads = shop.load()?;
    reader.read_until("three windows", |reader| reader.windows >= 3).await?;
    shop.server.server.kill();
    let error = reader.read().await.expect_err("nobody answers");
    assert!(error.is_down(), "{error}");
    shop.server.server.start_again().await?;
    reader
        .try_until("the source to be found again", |outcome| matches!(outcome, Ok(Closed::Window(_))))
        .await?;
    for load in loads {
        load.stop().await?;
    }
    let counted = shop.counted();
    reader.read_until("everything, the gap included", |reader| reader.totals == counted).await
}

#[tokio::test]
async fn a_server_that_hangs_is_source_down() -> Result<()> {
    let shop = Shop::open().await?;
    let mut reader = Reader::within("2s", &shop.server.url(), "");
    reader.try_until("an answer", Result::is_ok).await?;
    shop.server.server.freeze()?;
    let error = reader.read().await.expect_err("it hangs");
    assert!(matches!(error, SourceError::Timeout { .. }) && error.is_down(), "{error}");
    shop.server.server.thaw()?;
    reader.try_until("another answer", Result::is_ok).await
}

#[tokio::test]
async fn two_replicas_that_scrape_at_different_phases_count_everything_once() -> Result<()> {
    let shop = Shop::open().await?;
    let other = prometheus(&shop.stable, &shop.canary, false).await?;
    other.wait_until_up(2, LIMIT).await?;
    let mut reader = shop.reader();
    reader.sources.extend(Reader::of(&other.url(), "").sources);
    reader.read().await?;
    let loads = shop.load()?;
    reader.read_until("ten windows", |reader| reader.windows >= 10).await?;
    for load in loads {
        load.stop().await?;
    }
    let counted = shop.counted();
    reader.read_until("the last requests", |reader| reader.totals == counted).await
}

#[tokio::test]
async fn a_pod_that_is_cut_in_half_or_gone_is_no_data_and_counts_nothing_twice() -> Result<()> {
    use sluice_rig::service::Exposition;
    let shop = Shop::open().await?;
    let mut reader = shop.reader();
    reader.complains = true;
    let loads = shop.load()?;
    reader.read_until("three windows", |reader| reader.windows >= 3).await?;
    // Debian's Prometheus takes a text whose last line has no end as if it were whole.
    shop.canary.behaviour.set_exposition(Exposition::CutInHalf);
    reader
        .read_until("complaints", |reader| reader.said.iter().any(|said| said.contains("canary pod c-1")))
        .await?;
    shop.canary.behaviour.set_exposition(Exposition::Unavailable);
    let blind = |outcome: &Result<Closed, SourceError>| matches!(outcome, Ok(Closed::NoData(why)) if why.contains("canary"));
    reader.try_until("no data", blind).await?;
    let windows = reader.windows;
    shop.canary.behaviour.set_exposition(Exposition::Whole);
    reader.read_until("it to go on", |reader| reader.windows >= windows + 3).await?;
    for load in loads {
        load.stop().await?;
    }
    let counted = shop.counted();
    reader.read_until("stable's requests", |reader| reader.totals["s-1"].0 >= counted["s-1"].0 - 100).await?;
    let (seen, real) = (reader.totals["c-1"], counted["c-1"]);
    assert!(seen.0 <= real.0 && seen.1 <= real.1, "{seen:?} of {real:?}");
    Ok(())
}

#[tokio::test]
async fn history_is_stable_alone_and_becomes_windows_of_step_0() -> Result<()> {
    let shop = Shop::open().await?;
    let loads = shop.load()?;
    shop.server.wait_for("count_over_time(up{app=\"checkout\"}[1m])", LIMIT, |n| n >= 20.0).await?;
    for load in loads {
        load.stop().await?;
    }
    let reader = shop.reader();
    let (to, hour) = (now_ms(), 3_600_000);
    let readings = reader.sources[0].history(&reader.ask, to - hour, to, Duration::from_secs(1)).await?;
    let mut cursor = Cursor::new();
    let windows: Vec<_> = readings
        .iter()
        .filter_map(|reading| match cursor.close(reading, 0) {
            Closed::Window(window) => Some(window),
            _ => None,
        })
        .collect();
    assert!(!windows.is_empty());
    assert!(windows.iter().all(|window| window.step == 0 && window.pods.iter().all(|pod| pod.pod == "s-1")));
    assert!(windows.iter().map(|window| window.pods[0].requests).sum::<u64>() > 0);
    Ok(())
}

#[tokio::test]
async fn gauges_of_both_versions_come_with_the_window_and_a_wrong_one_says_so() -> Result<()> {
    let shop = Shop::open().await?;
    let gauges = |query: &str| {
        let block = format!(
            "{{prometheus: {{url: '{}', timeout: {PATIENT}, labels: {{by: app, stable: checkout, canary: checkout-canary}}}}}}",
            shop.server.url()
        );
        let policy = support::policy_with(
            "checkout",
            &block,
            &format!("{{gauges: [{{name: twice, query: '{query}'}}]}}"),
        );
        (connect(&policy.spec.metrics, &Http::default()).unwrap(), ask(&policy))
    };
    let (source, asked) = gauges(r#"2 * up{app="{{ workload }}"}"#);
    let mut reader = shop.reader();
    let loads = shop.load()?;
    let window = std::cell::RefCell::new(None);
    let keep = |outcome: &Result<Closed, SourceError>| {
        let Ok(Closed::Window(closed)) = outcome else { return false };
        window.replace(Some(closed.clone()));
        true
    };
    reader.try_until("a window", keep).await?;
    for load in loads {
        load.stop().await?;
    }
    let mut window = window.into_inner().context("no window")?;
    assert_eq!(source.gauges(&asked, now_ms()).await?.fill(&mut window), Vec::<String>::new());
    let values: Vec<_> = window.pods.iter().map(|pod| (pod.pod.as_str(), pod.values.clone())).collect();
    assert_eq!(values, [("s-1", vec![("twice".to_owned(), 2.0)]), ("c-1", vec![("twice".to_owned(), 2.0)])]);

    let (source, asked) = gauges(r#"0 / 0 * up{app="{{ workload }}"}"#);
    let told = source.gauges(&asked, now_ms()).await?;
    assert!(told.readings.len() == 2 && told.readings.iter().all(|one| one.value.is_nan()), "{told:?}");
    let (source, asked) = gauges(r#"sum(up{app="{{ workload }}"}"#);
    let error = source.gauges(&asked, now_ms()).await.expect_err("a bracket is missing");
    assert!(matches!(&error, SourceError::Query { query, .. } if query.contains("sum(up")), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_prometheus_itself_refuses_is_told_with_the_query() -> Result<()> {
    let shop = Shop::open().await?;
    // Rust's regular expressions know this escape, RE2 does not.
    let mut reader = Reader::of(&shop.server.url(), r#", match: 'path!~"\\u{61}"'"#);
    let error = reader.read().await.expect_err("it is no regular expression there");
    assert!(
        matches!(&error, SourceError::Query { why, query, .. } if why.contains("bad_data") && query.contains("path!~")),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn direct_scrape_adds_up_without_any_prometheus() -> Result<()> {
    let (stable, canary) = (Service::start("v1", "s-1").await?, Service::start("v2", "c-1").await?);
    canary.behaviour.set_error_share(0.3);
    let block = format!(
        "{{scrape: {{stable: ['{}/metrics'], canary: ['{}/metrics'], every: 100ms, timeout: {PATIENT}}}}}",
        stable.url(),
        canary.url()
    );
    let policy = policy("checkout", &block);
    let source = connect(&policy.spec.metrics, &Http::default())?;
    let asks = [ask(&policy)];
    let (mut cursor, mut seen) = (Cursor::new(), (0, 0));
    cursor.close(&source.read(&asks, now_ms()).await.remove(0)?, 1);
    let loads = [Load::start(&stable.url(), 200.0)?, Load::start(&canary.url(), 100.0)?];
    wait::until("requests", LIMIT, async || Ok((canary.counts().errors > 5).then_some(()))).await?;
    for load in loads {
        load.stop().await?;
    }
    let counts = canary.counts();
    let all = async {
        while seen != (counts.requests, counts.errors) {
            let reading = source.read(&asks, now_ms()).await.remove(0)?;
            if let Closed::Window(window) = cursor.close(&reading, 1) {
                let pod = window.of(sluice_analyzers::Arm::Canary).next().context("no canary")?;
                seen = (seen.0 + pod.requests, seen.1 + pod.errors);
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, all).await.context("the windows never add up")?
}
