//! The gauge analyzer: the canary's mean against stable's, window by window, with an interval that holds at every look.
//!
//! An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory
//! and asymptotic confidence sequences", 2024) for the mean of paired differences,
//! ```text
//! mean +- sd sqrt( 2 (t rho^2 + 1) / (t^2 rho^2) ln( sqrt(t rho^2 + 1) / alpha ) )
//! ```
//! over blocks of a minute at least, so that autocorrelation within a block does not count as evidence. Asymptotic,
//! therefore advisory: it alarms and never decides, and stands outside falseAbort.

use crate::threshold::mean;
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

const BLOCK_MS: u64 = 60_000;
/// The sequence is tightest after about so many blocks.
const TIGHTEST_AT: f64 = 30.0;
/// Fewer blocks have no variance to speak of.
const LEAST_BLOCKS: u64 = 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchPlan {
    pub name: String,
    /// A difference beyond this share of stable's mean alarms.
    pub tolerance: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchEvidence {
    /// The open block: sums of both versions' means, readings, length.
    canary: f64,
    stable: f64,
    readings: u64,
    ms: u64,
    /// Closed blocks: count, mean and squares of the differences, mean of stable's level.
    blocks: u64,
    mean: f64,
    squares: f64,
    level: f64,
}

/// The difference canary - stable, and how far it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watched {
    pub difference: f64,
    pub low: f64,
    pub high: f64,
    pub level: f64,
}

impl WatchEvidence {
    pub fn add(&mut self, plan: &WatchPlan, window: &Window) {
        let of = |arm| mean(window, arm, &plan.name);
        self.ms += window.length_ms();
        if let (Some(canary), Some(stable)) = (of(Arm::Canary), of(Arm::Stable)) {
            (self.canary, self.stable, self.readings) =
                (self.canary + canary, self.stable + stable, self.readings + 1);
        }
        if self.ms >= BLOCK_MS && self.readings > 0 {
            self.close();
        }
    }

    fn close(&mut self) {
        let readings = self.readings as f64;
        let (difference, level) = ((self.canary - self.stable) / readings, self.stable / readings);
        self.blocks += 1;
        let blocks = self.blocks as f64;
        let off = difference - self.mean;
        self.mean += off / blocks;
        self.squares += off * (difference - self.mean);
        self.level += (level - self.level) / blocks;
        (self.canary, self.stable, self.readings, self.ms) = (0.0, 0.0, 0, 0);
    }

    /// None before there are enough blocks.
    pub fn interval(&self, alpha: f64) -> Option<Watched> {
        if self.blocks < LEAST_BLOCKS {
            return None;
        }
        let t = self.blocks as f64;
        let rho2 = 2.0 * libm::log(1.0 / alpha) / TIGHTEST_AT;
        let deviation = libm::sqrt(self.squares / (t - 1.0));
        let spread = t * rho2 + 1.0;
        let half =
            deviation * libm::sqrt(2.0 * spread / (t * t * rho2) * libm::log(libm::sqrt(spread) / alpha));
        let (low, high) = (self.mean - half, self.mean + half);
        Some(Watched { difference: self.mean, low, high, level: self.level })
    }
}

impl Watched {
    /// Whether the difference is surely beyond the tolerance.
    pub fn alarms(&self, tolerance: f64) -> bool {
        let bar = tolerance * libm::fabs(self.level);
        self.low > bar || self.high < -bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::PodWindow;

    fn watched(shift: f64) -> Watched {
        let plan = WatchPlan { name: "heap".into(), tolerance: 0.1 };
        let mut evidence = WatchEvidence::default();
        for at in 0..60i64 {
            let pod = |arm, name: &str, value: f64| {
                let mut pod = PodWindow::new(arm, name, 0, 0);
                pod.values.push(("heap".into(), value));
                pod
            };
            let wave = (at % 7) as f64;
            let pods = vec![
                pod(Arm::Canary, "c", 100.0 + shift + (at % 5) as f64 + wave),
                pod(Arm::Stable, "s", 102.0 + wave),
            ];
            evidence.add(&plan, &Window { step: 1, start_ms: at * 60_000, end_ms: (at + 1) * 60_000, pods });
        }
        evidence.interval(0.01).expect("enough blocks")
    }

    #[test]
    fn what_both_versions_share_is_no_difference() {
        let same = watched(0.0);
        assert!(!same.alarms(0.1) && same.low < 0.0 && same.high > 0.0, "{same:?}");
        let more = watched(30.0);
        assert!(more.alarms(0.1) && (more.difference - 30.0).abs() < 1e-9, "{more:?}");
    }
}
