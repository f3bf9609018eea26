//! Servers that are away: for how long, how they flap, and what a daemon may ask of them once they are back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sluice_rig::toxiproxy::Link;

/// Long enough for a time limit, some attempts and their pauses; `tests/outage` makes it ten minutes.
const USUAL: Duration = Duration::from_secs(8);
/// A server that flaps is there and away for so long each, so often.
const FLAP: Duration = Duration::from_millis(400);
const FLAPS: usize = 4;
/// After a server's return its requests are counted for so long.
pub const RETURN: Duration = Duration::from_secs(3);
/// A daemon with one or two rollouts asks a server that has come back for far less than this in that time.
const STORM: f64 = 150.0;

/// For how long servers are away in this run: `$SLUICE_OUTAGE_SECONDS`.
pub fn away() -> Duration {
    let asked = std::env::var("SLUICE_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    asked.map_or(USUAL, Duration::from_secs)
}

/// Comes and goes some times, and is there in the end.
pub async fn flap(link: &Link) -> Result<()> {
    for _ in 0..FLAPS {
        link.mend().await?;
        tokio::time::sleep(FLAP).await;
        link.cut().await?;
        tokio::time::sleep(FLAP).await;
    }
    link.mend().await
}

/// Counts what a server is asked in the first seconds after its return, and refuses a storm. `asked` is the server's own
/// count so far.
pub async fn no_storm<F: Future<Output = Result<f64>>>(server: &str, asked: impl Fn() -> F) -> Result<()> {
    let (before, begun) = (asked().await?, Instant::now());
    tokio::time::sleep(RETURN).await;
    let more = asked().await? - before;
    // A busy machine counts for longer.
    let counted = begun.elapsed();
    told(server, more, counted);
    let most = STORM * counted.as_secs_f64() / RETURN.as_secs_f64();
    ensure!(more <= most, "{server} was asked {more} times within {counted:?} after its return");
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "a figure for whoever asks for it; the test runner keeps it otherwise"
)]
fn told(server: &str, more: f64, within: Duration) {
    println!("{server}: asked {more} times within {:.1} s after its return", within.as_secs_f64());
}
