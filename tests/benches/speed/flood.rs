//! A flood of events while many rollouts run: how long an abort takes with and without it, side by side in one run, what the
//! daemon's memory does, and where every event of the flood is in the end.
//!
//! `SLUICE_BENCH_FLEET` says how many rollouts (1,000), `SLUICE_BENCH_FLOOD_SECONDS` for how long (60).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::Bus;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::fleet::{Fleet, asked};
use crate::process;
use crate::routes::rollout;
use crate::table::{Row, milliseconds};

const EVENTS_A_SECOND: u64 = 10_000;
const PUBLISHERS: u64 = 4;
/// A publisher sends its share of so much time at once.
const TICK: Duration = Duration::from_millis(10);
const ABORTS: usize = 50;

pub async fn table() -> Result<String> {
    let number = asked("SLUICE_BENCH_FLEET", 1_000)?;
    let lasts = Duration::from_secs(asked("SLUICE_BENCH_FLOOD_SECONDS", 60)? as u64);
    let fleet = Fleet::open(number).await?;
    fleet.stand("v2").await?;
    let aborts = ABORTS.min(number / 2);
    let (calm, flooded) = fleet.names.split_at(number / 2);
    let bench = &fleet.bench;

    let mut rows = vec![
        bench
            .aborts(
                "`abort` without the flood, until the watch told of weight 0",
                &calm[..aborts],
                Duration::ZERO,
            )
            .await?,
    ];
    let before = process::memory(&bench.daemon)?;
    let flood = Flood::begin(&bench.bus_url()).await?;
    let pause = lasts / u32::try_from(aborts.max(1))?;
    rows.push(
        bench
            .aborts("`abort` in the flood, until the watch told of weight 0", &flooded[..aborts], pause)
            .await?,
    );
    let (sent, took) = flood.end().await?;
    let after = process::memory(&bench.daemon)?;

    let title = format!("{number} rollouts of one daemon, and a flood of events on NATS");
    let mut text = milliseconds(&title, &rows);
    let rate = sent as f64 / took.as_secs_f64();
    let _ = writeln!(
        text,
        "\n{sent} events in {:.0} s ({rate:.0} a second). Memory (resident): {before:.0} MB before, {after:.0} MB at its end.",
        took.as_secs_f64()
    );
    text.push_str(&whereabouts(&bench.bus, sent).await?);
    Ok(text)
}

impl Bench {
    /// One abort after the other, on the request door, with a pause after each.
    async fn aborts(&self, what: &str, names: &[String], pause: Duration) -> Result<Row> {
        let mut row = Row::new(what);
        for name in names {
            let (known, begun) = (self.routes.known(), Instant::now());
            let reason = json!({"reason": "bench"});
            let rollout = rollout(name);
            let (answer, told) = tokio::join!(
                self.bus.request("ann", &rollout, "abort", reason),
                self.routes.told(name, 0.0, known, begun)
            );
            let answer = answer?;
            ensure!(answer.accepted, "{name}: {}", answer.message);
            row.took.push(told?);
            tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
        }
        Ok(row)
    }
}

/// Announcements of a policy that nobody has: the daemon reads each, and buries it with the reason.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    publishers: JoinSet<Result<()>>,
    begun: Instant,
}

impl Flood {
    async fn begin(url: &str) -> Result<Flood> {
        let (stop, sent, mut publishers) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), JoinSet::new());
        for _ in 0..PUBLISHERS {
            let client = async_nats::connect(url).await?;
            publishers.spawn(publish(client, stop.clone(), sent.clone()));
        }
        Ok(Flood { stop, sent, publishers, begun: Instant::now() })
    }

    /// How many were sent, and in which time.
    async fn end(mut self) -> Result<(u64, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(publisher) = self.publishers.join_next().await {
            publisher??;
        }
        Ok((self.sent.load(Ordering::Relaxed), self.begun.elapsed()))
    }
}

async fn publish(client: async_nats::Client, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> Result<()> {
    let each = EVENTS_A_SECOND / PUBLISHERS * u64::try_from(TICK.as_millis())? / 1_000;
    let mut ticks = tokio::time::interval(TICK);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..each {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            let event = json!({"specversion": "1.0", "id": format!("flood-{number}"), "source": "flood",
                "type": "dev.sluice.release.announced", "data": {"version": "v1"}});
            client.publish("sluice.event.flood.nobodys.announced", event.to_string().into()).await?;
        }
        client.flush().await?;
    }
    Ok(())
}

/// Of the flood's events: kept by the stream, dropped by its limits, read, and still waiting. Nothing else can be.
async fn whereabouts(bus: &Bus, sent: u64) -> Result<String> {
    let jetstream = async_nats::jetstream::new(bus.client().clone());
    let mut stream = jetstream.get_stream("SLUICE_EVENTS").await?;
    let state = stream.info().await?.state.clone();
    let consumer: Value = {
        let answer = bus.client().request("$JS.API.CONSUMER.INFO.SLUICE_EVENTS.sluice", "".into()).await?;
        serde_json::from_slice(&answer.payload)?
    };
    let waiting = consumer["num_pending"].as_u64().context("num_pending")?;
    let taken = consumer["ack_floor"]["stream_seq"].as_u64().context("ack_floor")?;
    let dropped = state.first_sequence.saturating_sub(1);
    Ok(format!(
        "Sent {sent}; the stream took {} messages in all, of which its limits have dropped {dropped}; read and answered up to number {taken}, {waiting} wait.\n",
        state.last_sequence
    ))
}
