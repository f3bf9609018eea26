//! Rows, bounds and options.

use crate::runs::{Cost, Outcome};
use statrs::distribution::{Beta, ContinuousCDF};

#[derive(Debug, Clone)]
pub struct Options {
    pub parts: Vec<String>,
    /// Of the healthy and troubled worlds only those whose name contains this.
    pub world: Option<String>,
    /// Rollouts of a cell of false aborts.
    pub rollouts: u64,
    /// Rollouts of a cell of power.
    pub power: u64,
    pub threads: u64,
}

impl Options {
    pub fn read(words: impl Iterator<Item = String>) -> Self {
        let mut of = Self { parts: Vec::new(), world: None, rollouts: 10_000, power: 2_000, threads: 2 };
        let mut words = words;
        while let Some(word) = words.next() {
            if word == "--world" {
                of.world = words.next();
                continue;
            }
            let mut number =
                || words.next().and_then(|word| word.parse().ok()).expect("a number after the option");
            match word.as_str() {
                "--rollouts" => of.rollouts = number(),
                "--power" => of.power = number(),
                "--threads" => of.threads = number(),
                _ => of.parts.push(word),
            }
        }
        of
    }

    pub fn wants_world(&self, name: &str) -> bool {
        self.world.as_ref().is_none_or(|world| name.contains(world.as_str()))
    }

    pub fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|one| one == part)
    }
}

/// Clopper-Pearson's upper bound at 99 %, one-sided.
pub fn upper(hits: usize, of: usize) -> f64 {
    if hits >= of {
        return 1.0;
    }
    Beta::new(hits as f64 + 1.0, (of - hits) as f64).expect("a count").inverse_cdf(0.99)
}

/// What many rollouts came to, for one rule.
pub struct Summary {
    pub rollouts: usize,
    pub caught: usize,
    pub mean: f64,
    pub median: f64,
    pub p95: f64,
    pub p99: f64,
    pub mean_bad: f64,
    pub median_seconds: f64,
}

impl Summary {
    pub fn of(outcomes: &[Outcome], rule: impl Fn(&Outcome) -> Option<Cost>) -> Self {
        let mut costs: Vec<Cost> = outcomes.iter().filter_map(rule).collect();
        costs.sort_by(|a, b| a.canary_requests.total_cmp(&b.canary_requests));
        let mean = |part: fn(&Cost) -> f64| costs.iter().map(part).sum::<f64>() / costs.len().max(1) as f64;
        let (caught, rollouts) = (costs.len(), outcomes.len());
        // Those not caught count as endless in the quantiles.
        let quantile = |p: f64| {
            let place = (p * rollouts as f64) as usize;
            costs
                .get(place.min(rollouts.saturating_sub(1)))
                .map_or(f64::INFINITY, |cost| cost.canary_requests)
        };
        let mut seconds: Vec<f64> = costs.iter().map(|cost| cost.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        Self {
            rollouts,
            caught,
            mean: mean(|cost| cost.canary_requests),
            median: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            mean_bad: mean(|cost| cost.canary_bad),
            median_seconds: seconds.get(rollouts / 2).copied().unwrap_or(f64::INFINITY),
        }
    }

    pub fn share(&self) -> f64 {
        self.caught as f64 / self.rollouts.max(1) as f64
    }
}

pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
