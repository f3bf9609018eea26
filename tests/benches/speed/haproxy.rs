//! A person's message over HTTP until HAProxy has the weight: one daemon with its bus in a file.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rig::folder::Folder;
use sluice_rig::{Haproxy, HaproxyOptions, Service};
use sluice_tests::{Daemon, DaemonOptions, LIMIT, PolicyText, policy};

use crate::table::{Row, milliseconds};

const WEIGHTS: usize = 200;
const ABORTS: usize = 15;
const ROLLOUT: &str = "bench/shop";

pub async fn table() -> Result<String> {
    let (stable, canary) = (Service::start("v1", "stable").await?, Service::start("v2", "canary").await?);
    let haproxy =
        Haproxy::start(HaproxyOptions::stable_and_canary(stable.address(), canary.address())).await?;
    let pages = |service: &Service| vec![format!("{}/metrics", service.url())];
    let spec = json!({
        "target": {"haproxy": {"socket": haproxy.socket(), "backend": Haproxy::BACKEND,
            "stable": ["stable"], "canary": ["canary"]}},
        "metrics": {"scrape": {"stable": pages(&stable), "canary": pages(&canary), "every": "1s"}},
        "steps": [{"weight": 50, "min": "10h", "max": "20h"}],
        "limits": {"step": {"min": "10h", "max": "20h"}, "troubleAfter": "10h"},
    });
    let policy = PolicyText::of(&policy::policy("bench", "shop", spec));
    let options = DaemonOptions { log: "warn".to_owned(), ..DaemonOptions::embedded(vec![policy]) };
    let daemon = Daemon::start(options).await?;
    let (set, bare) = weights(&daemon, &haproxy).await?;
    let abort = aborts(&daemon, &haproxy).await?;
    let rows = [set, abort, bare, saves()?];
    Ok(milliseconds("Override sent over HTTP until the weight is written: HAProxy, bus in a file", &rows))
}

async fn stand(daemon: &Daemon) -> Result<()> {
    let start = daemon.cli(&["start", ROLLOUT, "--version", "v2"]).await?;
    ensure!(start.code == 0, "{}", start.text());
    daemon.wait_for(ROLLOUT, "to stand at its step", |view| view.phase == "observing").await.map(drop)
}

/// A command, until HAProxy tells this number for the canary.
async fn command(
    daemon: &Daemon,
    haproxy: &Haproxy,
    action: &str,
    body: Value,
    number: u16,
) -> Result<Duration> {
    let path = format!("/api/v1/rollouts/{ROLLOUT}/{action}");
    let begun = Instant::now();
    let (answer, told) = tokio::join!(daemon.post(&path, &body), told(haproxy, number, begun));
    let (status, answer) = answer?;
    ensure!(status == 200, "{answer}");
    told
}

/// By the daemon and by hand, in turns.
async fn weights(daemon: &Daemon, haproxy: &Haproxy) -> Result<(Row, Row)> {
    let mut set = Row::new("`set-weight` over HTTP, until `get weight` told of it");
    let mut bare = Row::new("one bare `set weight`, until `get weight` told of it");
    stand(daemon).await?;
    for turn in 0..WEIGHTS {
        // 25 % and 20 %: 85 and 64 of 256.
        let (percent, number) = if turn % 2 == 0 { (25, 85) } else { (20, 64) };
        set.took.push(
            command(daemon, haproxy, "set-weight", json!({"reason": "bench", "weight": percent}), number)
                .await?,
        );
        // Not another number: the daemon would take it for somebody's hand.
        let begun = Instant::now();
        haproxy.set_weight("canary", number).await?;
        bare.took.push(told(haproxy, number, begun).await?);
    }
    command(daemon, haproxy, "abort", json!({"reason": "bench"}), 0).await?;
    daemon.wait_for_end(ROLLOUT).await?;
    Ok((set, bare))
}

/// An abort does not wait for the store.
async fn aborts(daemon: &Daemon, haproxy: &Haproxy) -> Result<Row> {
    let mut abort = Row::new("`abort` over HTTP, until `get weight` told of 0");
    for _ in 0..ABORTS {
        stand(daemon).await?;
        abort.took.push(command(daemon, haproxy, "abort", json!({"reason": "bench"}), 0).await?);
        daemon.wait_for_end(ROLLOUT).await?;
    }
    Ok(abort)
}

/// What the disk asks for a decision that is to survive a power cut.
fn saves() -> Result<Row> {
    let mut row = Row::new("one bare write of 4 kB with fsync, on the same disk");
    let folder = Folder::new("fsync")?;
    let mut file = std::fs::File::create(folder.path().join("file"))?;
    for _ in 0..WEIGHTS {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        row.took.push(begun.elapsed());
    }
    Ok(row)
}

async fn told(haproxy: &Haproxy, number: u16, since: Instant) -> Result<Duration> {
    while haproxy.weight("canary").await? != number {
        ensure!(since.elapsed() < LIMIT, "HAProxy never told of {number}");
    }
    Ok(since.elapsed())
}
