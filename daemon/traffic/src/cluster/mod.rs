//! What the cluster itself tells, and is told: policies that stand in it as objects, with their status and events.
//!
//! ```text
//!   policies   RolloutPolicy objects, live; their status; events about them
//!   templates  pod templates of workloads, live
//! ```
//!
//! Nothing here is in a rollout's way: a status or an event that cannot be written is tried again later, or left out.

mod policies;
mod templates;

pub use policies::{ClusterPolicies, Note, PolicyNews, PolicyObject};
pub use templates::{Template, watch_template};
