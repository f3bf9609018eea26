//! Canary analysis that stays valid however often one looks.
//!
//! ```text
//! history windows (step 0) ──> Baseline ──┐
//! policy ──> Plan ────────────────────────┴─> Plan::frozen ──> judge(plan, evidence, window) ──> Verdict
//!                                                                        └──> report(plan, evidence) ──> words
//! ```
//!
//! Promises: the chance that a healthy rollout is ever aborted stays below `falseAbort`, over its whole life and
//! however often one looks (exact for independent requests; for bursts and uneven pods approximate, and shown by
//! simulation); the same windows give the same bits on every machine; a window that is refused leaves the evidence as
//! it was; a window that comes late or again changes nothing.
//!
//! Never here: async, IO, a clock, randomness, a global. The elementary functions come from the `libm` crate, since the
//! platform's differ in their last bit; sums run in a fixed order.
//!
//! Where to look: [`judge`] for the order of work; [`plan`] for everything that can be set; [`rate_ratio`] (formula 1)
//! and [`slow_share`] for the two e-variables; [`mixture`] for how alternatives and restarts are mixed, [`onset`] for when restarts are; one module per
//! analyzer ([`errors`], [`latency`], [`slo`]).

pub mod advice;
pub mod baseline;
pub mod budget;
pub mod collateral;
pub mod curve;
pub mod dispersion;
pub mod errors;
pub mod evidence;
pub mod forecast;
pub mod gauge;
pub mod gauges;
pub mod joined;
pub mod judge;
pub mod kayenta;
pub mod latency;
pub mod mann_whitney;
pub mod mix;
pub mod mixture;
pub mod objective;
pub mod onset;
pub mod outlook;
pub mod overshoot;
pub mod pairing;
pub mod plan;
pub mod plan_check;
pub mod pod_effect;
pub mod proof;
pub mod rate_ratio;
pub mod report;
pub mod restarts;
pub mod score;
pub mod slo;
pub mod slow_share;
pub mod split;
pub mod threshold;
pub mod window;
pub mod words;

pub use baseline::Baseline;
pub use evidence::Evidence;
pub use judge::{Verdict, judge};
pub use plan::{Plan, PlanError};
pub use report::{Finding, Report, report};
pub use window::{Arm, Bucket, PodWindow, Window, WindowError};

/// Raised whenever the same windows may give other bits than before: a decision record names the version that judged.
pub const VERSION: u32 = 3;
