//! The cluster as a source of policies: those that stand in it as `RolloutPolicy` objects are watched, and how they and their
//! rollouts stand is written back into their status and told as events.
//!
//! ```text
//!   watch ─▶ book: which are in force        (a wrong one changes nothing: the one before it stays)
//!              │ which have changed
//!   rollouts ──┴▶ statuses: once a second what differs is written, a bounded number at once
//! ```
//!
//! And as a source of releases: a changed image or template of the canary's workload starts a rollout where its policy says so
//! (`triggers`).
//!
//! Nothing waits for any of this but announcements that come before the first listing. Losing the API server loses no
//! policy: the last ones that were seen stay.

pub(super) mod book;
pub(super) mod statuses;
pub(super) mod triggers;
mod words;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use sluice_traffic::cluster::ClusterPolicies;

use super::Daemon;

/// A client that cannot be made, or a watch that has ended, is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Follows the policies in the cluster until the daemon stops.
pub(super) async fn follow(daemon: Arc<Daemon>, cluster: ClusterPolicies) {
    let stop = daemon.stop.clone();
    let following = async {
        let mut told = None;
        loop {
            let trouble = follow_once(&daemon, &cluster, &mut told).await;
            say_once(&mut told, &trouble);
            tokio::time::sleep(AGAIN).await;
        }
    };
    stop.run_until_cancelled(following).await;
}

async fn follow_once(daemon: &Daemon, cluster: &ClusterPolicies, told: &mut Option<String>) -> String {
    let mut news = match cluster.watch().await {
        Ok(news) => news,
        Err(error) => return error.to_string(),
    };
    while let Some(one) = news.next().await {
        match one {
            Ok(one) => {
                *told = None;
                daemon.book.take_from_cluster(one);
                daemon.count_policy_faults(false);
            }
            Err(error) => say_once(told, &error.to_string()),
        }
    }
    "the watch has ended".to_owned()
}

/// Trouble that goes on is one line of the log.
fn say_once(told: &mut Option<String>, trouble: &str) {
    if told.as_deref() != Some(trouble) {
        tracing::error!("the cluster's policies cannot be seen; those seen before stay: {trouble}");
        *told = Some(trouble.to_owned());
    }
}
