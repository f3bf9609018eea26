//! What the stories on real servers share: the real `sluice` as a process of its own, and the worlds that it acts on.
//!
//! ```text
//! story                     a test: runs on one runtime for the whole binary, a bounded number at once
//!   ├─ daemon               `sluice run` as a process: stop, kill, start again, its HTTP API, its command line
//!   ├─ bus                  NATS as a team and a person use it: announce, both doors, what Sluice tells
//!   ├─ deaths                a daemon that dies at the boundaries of its order, or at random instants, and is started again
//!   ├─ outage                servers that are away for a while
//!   ├─ world                a shop in Kubernetes: Deployments, Services, a route, pods with real counters, users
//!   ├─ split                requests as both versions counted them, held against the weights
//!   └─ policy               policies with spans short enough for a test
//! ```
//!
//! What holds for all of them:
//! - Nothing of Sluice is linked in but its wire types: what is tested is the program, from outside.
//! - A missing server or program is an error that says what to run. Nothing is skipped.
//! - Nothing waits for a fixed time: conditions are polled, with limits that a busy machine does not reach.

pub mod binary;
pub mod bus;
pub mod cli;
pub mod daemon;
pub mod deaths;
mod disk;
pub mod outage;
pub mod policy;
pub mod split;
pub mod story;
pub mod world;

pub use bus::Bus;
pub use cli::Output;
pub use daemon::{BusChoice, Daemon, DaemonOptions};
pub use deaths::Deaths;
pub use policy::PolicyText;
pub use story::story;
pub use world::World;

use std::time::Duration;

/// Generous: the machine may be busy. Nothing waits this long when all is well.
pub const LIMIT: Duration = Duration::from_secs(300);
