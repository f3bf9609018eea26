//! Expositions: `/metrics` of stable and canary in turn, in the order of scrapes.

use sluice_analyzers::Arm;
use sluice_metrics_adapters::{Reading, bodies};
use sluice_wire::policy::Preset;

use crate::{counted::Counting, parts};

const EVERY_MS: i64 = 5_000;
const FIRST_MS: i64 = 1_790_000_000_000;
const TYPES: [&str; 2] = ["text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"];

pub fn check(input: &[u8]) {
    for preset in [Preset::Http, Preset::OpenTelemetry] {
        let mut counting = Counting::default();
        let pages: Vec<&[u8]> = parts(input).collect();
        for (place, both) in pages.chunks(2).enumerate() {
            let at_ms = FIRST_MS + EVERY_MS * i64::try_from(place).expect("an input has few pages");
            let mut reading = Reading { at_ms, next_ms: at_ms + EVERY_MS, ..Reading::default() };
            for (arm, bytes) in [Arm::Stable, Arm::Canary].into_iter().zip(both) {
                scrape(preset, arm, bytes, &mut reading);
            }
            // The canary's weight is raised after the fourth scrape.
            counting.take(&reading, if place < 4 { 1 } else { 2 });
        }
    }
}

fn scrape(preset: Preset, arm: Arm, bytes: &[u8], reading: &mut Reading) {
    // OpenMetrics says so in its last line.
    let kind = TYPES[usize::from(bytes.trim_ascii_end().ends_with(b"# EOF"))];
    match bodies::page(preset, (arm, "10.0.0.1:8080"), reading.at_ms, kind, bytes) {
        Some(Ok(sample)) => reading.pods.push(sample),
        Some(Err(why)) => assert!(!why.is_empty() && why.len() < 2_000, "{why}"),
        None => unreachable!("both presets have pages"),
    }
}
