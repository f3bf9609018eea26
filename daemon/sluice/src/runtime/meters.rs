//! Our own metrics: few, typed, documented. `sluice_…` in the Prometheus text format.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct By {
    pub kind: String,
}

fn by(kind: &str) -> By {
    By { kind: kind.to_owned() }
}

/// Counted over the daemon's life.
pub struct Meters {
    registry: Registry,
    rollouts: Family<By, Gauge>,
    transitions: Family<By, Counter>,
    verdicts: Family<By, Counter>,
    failures: Family<By, Counter>,
    dropped: Family<By, Counter>,
    dead: Counter,
    refused: Family<By, Counter>,
    save_seconds: Histogram,
    write_seconds: Histogram,
    unsaved: Gauge<i64, std::sync::atomic::AtomicI64>,
    policy_faults: Gauge,
    clock_offset: Family<By, Gauge<f64, AtomicU64>>,
    left: Gauge,
}

/// What stands there at 0 from the start: a counter that appears with its first count hides that count from `increase()`.
const PHASES: [&str; 8] =
    ["gated", "preparing", "shifting", "observing", "paused", "baking", "promoting", "reverting"];
const VERDICTS: [&str; 5] = ["pass", "fail", "undecided", "no-data", "source-down"];
const FAILURES: [&str; 6] =
    ["set-traffic", "release-traffic", "scale-workload", "promote-workload", "restore-workload", "publish"];
const QUEUES: [&str; 6] = ["lane", "deferred", "record", "history", "ended-rollouts", "kept-commands"];
const LACKS: [&str; 2] = ["signature", "access"];

impl Default for Meters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sluice");
        let rollouts = Family::<By, Gauge>::default();
        registry.register(
            "rollouts",
            "Rollouts in this daemon's hands now, by phase; one that has ended counts until its drain and its last words are done",
            rollouts.clone(),
        );
        let transitions = Family::<By, Counter>::default();
        registry.register("transitions", "Transitions by reason", transitions.clone());
        let verdicts = Family::<By, Counter>::default();
        registry.register("verdicts", "Judged windows by verdict", verdicts.clone());
        let failures = Family::<By, Counter>::default();
        registry.register("effect_failures", "Failed attempts by effect", failures.clone());
        let dropped = Family::<By, Counter>::default();
        registry.register("dropped", "What a full queue dropped, by queue", dropped.clone());
        let dead = Counter::default();
        registry.register("dead_letters", "Messages that could not be read", dead.clone());
        let refused = Family::<By, Counter>::default();
        registry.register(
            "refused_commands",
            "Commands refused before the rollout was asked, by what was missing",
            refused.clone(),
        );
        let save_seconds = Histogram::new(exponential_buckets(0.000_5, 2.0, 14));
        registry.register("save_seconds", "Time to save a state", save_seconds.clone());
        let write_seconds = Histogram::new(exponential_buckets(0.000_5, 2.0, 14));
        registry.register(
            "target_write_seconds",
            "Time to write a weight, read-back included",
            write_seconds.clone(),
        );
        let unsaved = Gauge::default();
        registry.register(
            "unsaved_rollouts",
            "Rollouts whose last decision waits for the store",
            unsaved.clone(),
        );
        let policy_faults = Gauge::default();
        registry.register(
            "policy_faults",
            "What is wrong with the policies now, one a fault; the log names each",
            policy_faults.clone(),
        );
        let clock_offset = Family::<By, Gauge<f64, AtomicU64>>::default();
        registry.register(
            "source_clock_offset_seconds",
            "How far a metrics source's clock is ahead of ours, by source; 0 while they agree as far as can be told",
            clock_offset.clone(),
        );
        let left = Gauge::default();
        registry.register(
            "rollouts_left",
            "Rollouts that this daemon could not take up yet: their record is a newer Sluice's, or a server is away; the log says which",
            left.clone(),
        );
        let meters = Meters {
            registry,
            rollouts,
            transitions,
            verdicts,
            failures,
            dropped,
            dead,
            refused,
            save_seconds,
            write_seconds,
            unsaved,
            policy_faults,
            clock_offset,
            left,
        };
        meters.begin_at_zero();
        meters
    }
}

impl Meters {
    fn begin_at_zero(&self) {
        PHASES.iter().for_each(|phase| drop(self.rollouts.get_or_create(&by(phase))));
        drop(self.transitions.get_or_create(&by("requested")));
        VERDICTS.iter().for_each(|verdict| drop(self.verdicts.get_or_create(&by(verdict))));
        FAILURES.iter().for_each(|effect| drop(self.failures.get_or_create(&by(effect))));
        LACKS.iter().for_each(|lack| drop(self.refused.get_or_create(&by(lack))));
        QUEUES.iter().for_each(|queue| drop(self.dropped.get_or_create(&by(queue))));
    }

    pub fn phase(&self, from: Option<&str>, to: Option<&str>) {
        if let Some(from) = from {
            self.rollouts.get_or_create(&by(from)).dec();
        }
        if let Some(to) = to {
            self.rollouts.get_or_create(&by(to)).inc();
        }
    }

    pub fn transition(&self, reason: &str) {
        self.transitions.get_or_create(&by(reason)).inc();
    }

    pub fn verdict(&self, verdict: &str) {
        self.verdicts.get_or_create(&by(verdict)).inc();
    }

    pub fn failure(&self, effect: &str) {
        self.failures.get_or_create(&by(effect)).inc();
    }

    pub fn drop_one(&self, queue: &str) {
        self.dropped.get_or_create(&by(queue)).inc();
    }

    pub fn refuse(&self, lack: &str) {
        self.refused.get_or_create(&by(lack)).inc();
    }

    pub fn dead_letter(&self) {
        self.dead.inc();
    }

    pub fn saved(&self, seconds: f64) {
        self.save_seconds.observe(seconds);
    }

    pub fn written(&self, seconds: f64) {
        self.write_seconds.observe(seconds);
    }

    pub fn unsaved(&self, more: bool) {
        if more {
            self.unsaved.inc()
        } else {
            self.unsaved.dec()
        };
    }

    pub fn policy_faults(&self, faults: usize) {
        self.policy_faults.set(i64::try_from(faults).unwrap_or(i64::MAX));
    }

    pub fn clock_offset(&self, source: &str, seconds: f64) {
        self.clock_offset.get_or_create(&by(source)).set(seconds);
    }

    pub fn left(&self, rollouts: usize) {
        self.left.set(i64::try_from(rollouts).unwrap_or(i64::MAX));
    }

    /// The text exposition.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}
