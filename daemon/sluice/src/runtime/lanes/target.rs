//! The target lane: weights are written until they are read back; going down nothing gives up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use sluice_metrics_adapters::Ask;
use sluice_rollout::{DrainEnd, Effect, EffectId, Event, Fence, Numbered, ReadBack, Weight};
use sluice_traffic::{Observed, TargetError, Wanted};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::runtime::{
    backoff::Backoff,
    boundary::{self, Boundary},
    clock::now,
    edge::{Edge, Snapshot},
    fault::{self, Fault},
    post::Letter,
    troubles::Silent,
};

/// After news that differ from what is wanted: a read of one's own tells whether it is so.
const SECOND_LOOK: Duration = Duration::from_millis(150);
/// A canary that has served nobody for so long, by its source's samples, has drained: a shorter pause is a busy machine's.
const AT_REST_MS: i64 = 2_000;

pub(super) async fn perform(edge: Arc<Edge>, job: Numbered) {
    match &job.effect {
        Effect::SetTraffic { weight, abort } => set(&edge, job.id, *weight, abort.clone(), &job.effect).await,
        Effect::ReleaseTraffic => release(&edge, job.id, &job.effect).await,
        Effect::WatchDrain { limit } => {
            let end = drained(&edge, *limit).await;
            boundary::met_by(Boundary::EffectPerformed, &job.effect);
            edge.post.event(Event::Drained(end)).await;
        }
        other => tracing::error!(effect = other.name(), "not of the target lane"),
    }
}

async fn set(edge: &Edge, id: EffectId, weight: Weight, abort: Option<String>, effect: &Effect) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut standing = None;
    let mut raised = None;
    loop {
        let rising = weight > standing.unwrap_or(Weight::ZERO) && abort.is_none() && !weight.is_zero();
        let fence = raised.unwrap_or_else(|| edge.fence(id));
        let fence = if fault::has(Fault::SkipTheFence) { Fence { epoch: 1_000, seq: 0 } } else { fence };
        let wanted = Wanted { rollout: edge.id.clone(), weight, fence, abort: abort.clone(), rising };
        edge.standing.send_modify(|standing| standing.writing(weight, now()));
        let began = Instant::now();
        match edge.target.apply(&wanted).await {
            Ok(observed) => {
                boundary::met_by(Boundary::EffectPerformed, effect);
                edge.standing.send_modify(|standing| standing.found(observed.canary, now()));
                edge.parts.meters.written(began.elapsed().as_secs_f64());
                edge.post.urgent(Event::TrafficObserved(read(&observed, true))).await;
                if observed.canary == weight && observed.fence.is_some_and(|fence| fence >= wanted.fence) {
                    return edge.troubles.over(Silent::Target);
                }
                // Written, but something else was read back: it is written again until it stands.
                let found = format!("{} was read back in place of {weight}", observed.canary);
                edge.failed(effect, Silent::Target, &found);
            }
            Err(TargetError::Fenced { found, .. }) if fault::has(Fault::WriteOverALaterFence) => {
                raised = Some(Fence { seq: found.seq + 1, ..found });
            }
            Err(TargetError::Fenced { found, ours }) => {
                tracing::error!(rollout = %edge.id, %found, %ours, "fenced off: a later owner or effect has written");
                return edge.post.letter(Letter::Fenced { found }).await;
            }
            Err(error) => {
                edge.failed(effect, Silent::Target, &error.to_string());
                let down = weight.is_zero();
                let retrying = error.retryable() || down;
                if !retrying || backoff.attempts() == 2 || backoff.attempts() % 10 == 9 {
                    let why = error.to_string();
                    edge.post.urgent(Event::EffectFailed { id, why, retrying }).await;
                }
                if !retrying {
                    return edge.troubles.over(Silent::Target);
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
        standing = edge.target.observe().await.ok().map(|observed| observed.canary);
        if let Some(found) = standing {
            edge.standing.send_modify(|standing| standing.found(found, now()));
        }
    }
}

async fn release(edge: &Edge, id: EffectId, effect: &Effect) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        match edge.target.release(edge.fence(id)).await {
            Ok(_) => {
                boundary::met_by(Boundary::EffectPerformed, effect);
                edge.troubles.over(Silent::Target);
                return edge.post.event(Event::EffectDone { id }).await;
            }
            Err(error) => {
                edge.failed(effect, Silent::Target, &error.to_string());
                if !error.retryable() {
                    edge.troubles.over(Silent::Target);
                    let why = error.to_string();
                    return edge.post.event(Event::EffectFailed { id, why, retrying: false }).await;
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// The canary's counter at rest for [`AT_REST_MS`] is a drain that has ended.
async fn drained(edge: &Edge, limit: Duration) -> DrainEnd {
    let Ok(ask) = Ask::of(&edge.policy, edge.id.clone()) else { return DrainEnd::Unknown };
    let Ok(source) = edge.parts.sources.connect(&edge.policy.spec.metrics) else { return DrainEnd::Unknown };
    let hub = edge.parts.hubs.of(source);
    let deadline = tokio::time::Instant::now() + limit;
    let mut last: Option<(i64, u64)> = None;
    let mut still_served = false;
    while tokio::time::Instant::now() < deadline {
        let mut wait = Duration::from_secs(1);
        if let Ok(reading) = hub.read(&ask).await {
            let of_canary = || reading.pods.iter().filter(|pod| pod.arm == sluice_analyzers::Arm::Canary);
            let newest = of_canary().map(|pod| pod.at_ms).max();
            let total = of_canary().map(|pod| pod.requests).sum();
            match (last, newest) {
                (Some((since, before)), Some(newest)) if newest > since && total == before => {
                    if newest - since >= AT_REST_MS {
                        return DrainEnd::Yes;
                    }
                }
                (former, Some(newest)) => {
                    still_served |= former.is_some_and(|(at, _)| newest > at);
                    last = Some((newest, total));
                }
                (_, None) => {}
            }
            let next = reading.next_ms.saturating_sub(now().millis());
            wait = Duration::from_millis(u64::try_from(next).unwrap_or(0).clamp(200, 15_000));
        }
        tokio::time::sleep_until((tokio::time::Instant::now() + wait).min(deadline)).await;
    }
    // One sample alone says nothing: the source is read too seldom for this limit.
    if still_served { DrainEnd::No } else { DrainEnd::Unknown }
}

fn read(observed: &Observed, fresh: bool) -> ReadBack {
    ReadBack { weight: observed.canary, fence: observed.fence, fresh }
}

/// Every state that the target takes, whoever caused it. What differs from what is wanted gets a second, fresh look.
pub(super) fn watch(edge: &Arc<Edge>, tasks: &TaskTracker, stop: &CancellationToken) {
    let edge = edge.clone();
    let stop = stop.clone();
    tasks.spawn(async move {
        let mut news = edge.target.watch();
        let (mut unseen, mut away) = (None, false);
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = news.next() => next,
            };
            match next {
                Some(Ok(observed)) => {
                    (unseen, away) = (None, false);
                    if stop.run_until_cancelled(look(&edge, observed)).await.is_none() {
                        return;
                    }
                }
                // Deleted, or no longer as it is needed: said once, until it is seen again.
                Some(Err(error)) if !error.retryable() => {
                    let why = error.to_string();
                    if unseen.as_ref() != Some(&why) {
                        tracing::warn!(rollout = %edge.id, why, "the target cannot be read");
                        edge.post.event(Event::TargetUnseen { why: why.clone() }).await;
                        unseen = Some(why);
                    }
                }
                Some(Err(error)) if away => {
                    tracing::debug!(rollout = %edge.id, %error, "the target still cannot be watched")
                }
                Some(Err(error)) => {
                    tracing::warn!(rollout = %edge.id, %error, "the target cannot be watched just now; tried again");
                    away = true;
                }
                None => return,
            }
        }
    });
}

async fn look(edge: &Edge, observed: Observed) {
    if observed.canary == edge.snapshot.borrow().weight {
        return edge.post.event(Event::TrafficObserved(read(&observed, false))).await;
    }
    edge.standing.send_modify(|standing| standing.rumour(observed.canary, now()));
    let tell = |fresh: Observed| async move {
        edge.standing.send_modify(|standing| standing.found(fresh.canary, now()));
        edge.post.event(Event::TrafficObserved(read(&fresh, true))).await;
    };
    look_again(&edge.snapshot, || edge.target.observe(), tell).await;
}

/// Tells what two reads that follow each other agree about: a single one may have been overtaken by our own write. While a write
/// of ours is on its way another weight decides nothing, and the watch tells it no second time when that write's late answer has
/// come: so it is looked at, and told, until then.
async fn look_again<O, T>(
    snapshot: &watch::Receiver<Snapshot>,
    observe: impl Fn() -> O,
    tell: impl Fn(Observed) -> T,
) where
    O: Future<Output = Result<Observed, TargetError>>,
    T: Future<Output = ()>,
{
    let (mut last, mut told) = (None, None);
    let mut backoff = Backoff::new(SECOND_LOOK, Duration::from_secs(5));
    loop {
        tokio::time::sleep(backoff.next()).await;
        let fresh = match observe().await {
            Ok(fresh) => fresh,
            Err(error) if error.retryable() => continue,
            // Deleted or unfit meanwhile: the watch tells that, too, and nothing can be compared.
            Err(_) => return,
        };
        let Snapshot { weight, writes, .. } = *snapshot.borrow();
        let found = Some(fresh.canary);
        if fresh.canary == weight || (last == found && !writes) {
            return tell(fresh).await;
        }
        if last == found && told != found {
            told = found;
            tell(fresh).await;
        }
        if last != found {
            backoff = Backoff::new(SECOND_LOOK, Duration::from_secs(5));
        }
        last = found;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn observed(percent: f64) -> Observed {
        let canary = Weight::from_percent(percent).unwrap_or_default();
        Observed { canary, written: String::new(), fence: None, abort: None }
    }

    fn wanted(percent: f64, writes: bool) -> Snapshot {
        let weight = observed(percent).canary;
        Snapshot { epoch: 1, seq: 1, revision: 1, weight, writes, done: false, holds_floor: false }
    }

    /// Somebody wrote 0 after our 10 % had landed and before its answer came: the watch told of both as one.
    #[tokio::test(start_paused = true)]
    async fn anothers_weight_is_told_again_once_our_own_writes_late_answer_has_come() {
        let (sender, snapshot) = watch::channel(wanted(10.0, true));
        let told = Mutex::new(Vec::new());
        let tell = |fresh: Observed| {
            let mut told = told.lock().unwrap();
            told.push(fresh.canary.percent());
            // The first time the machine cannot use it. Then the answer comes.
            if told.len() == 1 {
                sender.send_replace(wanted(10.0, false));
            }
            std::future::ready(())
        };
        look_again(&snapshot, || std::future::ready(Ok(observed(0.0))), tell).await;
        assert_eq!(*told.lock().unwrap(), [0.0, 0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_weight_that_our_own_write_has_overtaken_is_nobodys() {
        let (_sender, snapshot) = watch::channel(wanted(10.0, true));
        let (reads, told) = (Mutex::new(vec![10.0, 5.0]), Mutex::new(Vec::new()));
        let observe = || {
            let next = reads.lock().unwrap().pop().unwrap_or(10.0);
            std::future::ready(Ok(observed(next)))
        };
        let tell = |fresh: Observed| {
            told.lock().unwrap().push(fresh.canary.percent());
            std::future::ready(())
        };
        look_again(&snapshot, observe, tell).await;
        assert_eq!(*told.lock().unwrap(), [10.0]);
    }
}
