//! The workload lane: sizes and templates. The canary's endpoints are watched here too.

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use sluice_rollout::{Effect, EffectId, Event, Fence, Numbered, Replicas, Role, Weight};
use sluice_traffic::{AtStart, Sizes, TargetError};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::runtime::{
    backoff::Backoff,
    boundary::{self, Boundary},
    edge::Edge,
    post::Letter,
    troubles::Silent,
};

/// How long a canary under traffic may be without a ready endpoint.
const GRACE: Duration = Duration::from_secs(2);

pub(super) async fn perform(edge: Arc<Edge>, job: Numbered) {
    match job.effect {
        Effect::ScaleWorkload { role, replicas } => scale(&edge, &job, role, replicas).await,
        Effect::EmptyWorkload => {
            template(&edge, &job, |edge, _, fence| async move { edge.workloads.empty_stable(fence).await })
                .await
        }
        Effect::PromoteFirst => {
            template(&edge, &job, |edge, _, fence| async move { edge.workloads.promote_first(fence).await })
                .await
        }
        Effect::PromoteWorkload => {
            template(
                &edge,
                &job,
                |edge, start, fence| async move { edge.workloads.promote(start, fence).await },
            )
            .await
        }
        Effect::RestoreWorkload => {
            template(
                &edge,
                &job,
                |edge, start, fence| async move { edge.workloads.restore(start, fence).await },
            )
            .await
        }
        ref other => tracing::error!(effect = other.name(), "not of the workload lane"),
    }
}

async fn scale(edge: &Edge, job: &Numbered, role: Role, replicas: Replicas) {
    if let Replicas::ZeroAfter(delay) = replicas {
        tokio::time::sleep(delay).await;
    }
    let fence = edge.fence(job.id);
    let Some(needed) = tried(edge, job, || sized(edge, role, replicas, fence)).await else { return };
    match role {
        Role::Canary => {
            edge.post.event(Event::Scaled { id: job.id, needed }).await;
            if let Ok(sizes) = edge.workloads.observe().await {
                tell(edge, sizes).await;
            }
        }
        Role::Stable => edge.post.event(Event::EffectDone { id: job.id }).await,
    }
}

/// Writes the wish; answers how many pods must be available for it.
async fn sized(edge: &Edge, role: Role, replicas: Replicas, fence: Fence) -> Result<u32, TargetError> {
    let start = edge.workloads.at_start(&edge.id, edge.charter.after.as_ref(), fence).await?;
    let workloads = &edge.workloads;
    match (role, replicas) {
        (Role::Canary, Replicas::AtLeastShare(weight)) => {
            let needed = share(start, weight);
            workloads.raise_canary(needed, fence).await.map(|()| needed)
        }
        (Role::Canary, Replicas::HeldAtStart) => {
            workloads.raise_canary(start.canary, fence).await.map(|()| start.canary)
        }
        (Role::Canary, Replicas::AsBefore) => {
            workloads.set_canary(start.canary, fence).await.map(|()| start.canary)
        }
        (Role::Canary, Replicas::ZeroAfter(_)) => workloads.set_canary(0, fence).await.map(|()| 0),
        (Role::Stable, Replicas::AtLeastShare(_) | Replicas::HeldAtStart) => {
            workloads.hold_stable(start.stable, fence).await.map(|()| start.stable)
        }
        (Role::Stable, Replicas::AsBefore) => {
            workloads.release_stable(start, fence).await.map(|()| start.stable)
        }
        (Role::Stable, Replicas::ZeroAfter(_)) => workloads.set_stable(0, fence).await.map(|()| 0),
    }
}

/// Canary replicas for a weight: at least that share of stable's size at the start, and one.
fn share(start: AtStart, weight: Weight) -> u32 {
    let share = u64::from(start.stable) * u64::from(weight.hundredths());
    u32::try_from(share.div_ceil(10_000)).unwrap_or(u32::MAX).max(1)
}

/// A restore is never given up while it is wanted: it is told, and tried again.
fn gives_up(effect: &Effect) -> bool {
    !matches!(effect, Effect::RestoreWorkload)
}

async fn template<F, R>(edge: &Arc<Edge>, job: &Numbered, work: F)
where
    F: Fn(Arc<Edge>, AtStart, Fence) -> R,
    R: Future<Output = Result<(), TargetError>>,
{
    let fence = edge.fence(job.id);
    let attempt = || async {
        let start = edge.workloads.at_start(&edge.id, edge.charter.after.as_ref(), fence).await?;
        work(edge.clone(), start, fence).await
    };
    if tried(edge, job, attempt).await.is_some() {
        edge.post.event(Event::WorkloadReady { id: job.id }).await;
    }
}

/// Tries until it comes about or cannot. `None`: it cannot, and that has been told; or the rollout may be another's.
async fn tried<T, R: Future<Output = Result<T, TargetError>>>(
    edge: &Edge,
    job: &Numbered,
    attempt: impl Fn() -> R,
) -> Option<T> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        match attempt().await {
            Ok(done) => {
                boundary::met_by(Boundary::EffectPerformed, &job.effect);
                edge.troubles.over(Silent::Workload);
                return Some(done);
            }
            Err(TargetError::Fenced { found, ours }) => {
                tracing::error!(rollout = %edge.id, %found, %ours, "fenced off at the workload: a later owner or effect has written");
                edge.troubles.over(Silent::Workload);
                edge.post.letter(Letter::Fenced { found }).await;
                return None;
            }
            Err(error) => {
                edge.failed(&job.effect, Silent::Workload, &error.to_string());
                let retrying = error.retryable() || !gives_up(&job.effect);
                if !retrying || backoff.attempts() == 3 {
                    failed(edge, job.id, &error, retrying).await;
                }
                if !retrying {
                    edge.troubles.over(Silent::Workload);
                    return None;
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn failed(edge: &Edge, id: EffectId, error: &TargetError, retrying: bool) {
    edge.post.event(Event::EffectFailed { id, why: error.to_string(), retrying }).await;
}

async fn tell(edge: &Edge, sizes: Sizes) {
    let of = |role, size: sluice_traffic::Size| Event::WorkloadObserved {
        role,
        wanted: size.wanted,
        available: size.available,
    };
    edge.post.event(of(Role::Canary, sizes.canary)).await;
}

pub(super) fn watch(edge: &Arc<Edge>, tasks: &TaskTracker, stop: &CancellationToken) {
    let (sizes, endpoints) = (edge.clone(), edge.clone());
    let (first, second) = (stop.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = first.cancelled() => {}
            () = watch_sizes(&sizes) => {}
        }
    });
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = second.cancelled() => {}
            () = watch_endpoints(&endpoints) => {}
        }
    });
}

/// Tells the canary's size, and holds stable at its floor: an autoscaler that shrinks it would leave nothing to come back to.
async fn watch_sizes(edge: &Edge) {
    let mut news = edge.workloads.watch();
    let mut last = None;
    while let Some(next) = news.next().await {
        match next {
            Ok(sizes) => {
                if last != Some(sizes.canary) {
                    last = Some(sizes.canary);
                    tell(edge, sizes).await;
                }
                hold_floor(edge, sizes).await;
            }
            Err(error) => tracing::debug!(rollout = %edge.id, %error, "workloads cannot be watched just now"),
        }
    }
}

async fn hold_floor(edge: &Edge, sizes: Sizes) {
    let now = *edge.snapshot.borrow();
    if !now.holds_floor {
        return;
    }
    let fence = Fence { epoch: now.epoch, seq: now.seq };
    let after = edge.charter.after.as_ref();
    let Ok(start) = edge.workloads.at_start(&edge.id, after, fence).await else { return };
    if sizes.stable.wanted < start.stable {
        tracing::warn!(rollout = %edge.id, wanted = sizes.stable.wanted, floor = start.stable, "stable was shrunk; it is put back to its floor");
        if let Err(error) = edge.workloads.hold_stable(start.stable, fence).await {
            tracing::warn!(rollout = %edge.id, %error, "stable's floor could not be held");
        }
    }
}

/// No ready endpoint for two seconds under traffic is an abort. What cannot be seen says nothing.
async fn watch_endpoints(edge: &Edge) {
    let Some(mut news) = edge.workloads.canary_endpoints() else { return };
    let mut snapshot = edge.snapshot.clone();
    let mut ready = None;
    let mut gone_since: Option<Instant> = None;
    loop {
        let exposed = {
            let now = *snapshot.borrow();
            !now.weight.is_zero() && !now.done
        };
        gone_since = (ready == Some(0) && exposed).then(|| gone_since.unwrap_or_else(Instant::now));
        let deadline = gone_since.map(|since| since + GRACE);
        tokio::select! {
            biased;
            next = news.next() => match next {
                Some(Ok(count)) => ready = Some(count),
                Some(Err(_)) => ready = None,
                None => return,
            },
            changed = snapshot.changed() => if changed.is_err() { return },
            () = reached(deadline) => {
                edge.post.urgent(Event::CanaryVanished).await;
                // Told again only if it comes and goes, or after another grace.
                gone_since = None;
                tokio::time::sleep(GRACE).await;
            }
        }
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
