//! Metrics sources: one folder each, all alike. A source answers one question: what has each pod of both versions
//! counted up to one instant? Differences of two answers are windows.
//!
//! ```text
//! policy ──> Ask ──> Source::read ──> Reading (raw counters) ──> Cursor::close ──> Window (what was counted between)
//!                    prometheus/                                 pure; saved with the evidence
//!                    scrape/
//! ```
//!
//! Promises: counters are raw, never rates; both versions are read at one instant; what belongs together (requests,
//! errors, buckets of a pod) comes from one scrape, or the pod is left out as a whole and a complaint says why; an empty
//! answer is not a zero; a source that fails is an error and never a reading.
//!
//! Never here: a verdict. Missing, torn or absurd data weakens what is known, and nothing else.
//!
//! Adding a source touches its own folder, the policy's `metrics:` block and [`connect`].

mod ask;
#[cfg(feature = "bodies")]
pub mod bodies;
mod body;
mod breaker;
mod cursor;
mod gauges;
mod offset;
mod phase;
mod prometheus;
mod reading;
mod scrape;
mod source;
mod strata;

pub use ask::{ArmSelector, Ask, AskError};
pub use body::Http;
pub use cursor::{Closed, Cursor};
pub use gauges::{Gauges, Reading as GaugeReading};
pub use reading::{Fault, PodSample, Reading, Stratum};
pub use source::{Clock, Source, SourceError, Sources, check, connect};
