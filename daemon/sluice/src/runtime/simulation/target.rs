//! Target and workloads as the daemon meets them. A weight that was sent lands when it lands, whoever still waits for it.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, unfold};
use sluice_rollout::{Fence, RolloutId, Weight};
use sluice_traffic::{AbortMark, AtStart, Observed, Sizes, Target, TargetError, Wanted, Workloads};

use super::{
    calls::Lost,
    checks,
    trouble::Trouble,
    world::{Flight, Shared, World},
};

fn unanswered(lost: Lost) -> TargetError {
    match lost {
        Lost::Before => TargetError::Unreachable("simulated".into()),
        Lost::After => TargetError::Timeout(Duration::from_secs(10)),
    }
}

impl Shared {
    async fn target<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, TargetError> {
        let called = self.call(Trouble::TargetAway, Trouble::TargetAnswersLost, effect).await;
        called.map_err(unanswered)
    }

    async fn size(&self, effect: impl FnOnce(&mut Sizes)) -> Result<(), TargetError> {
        self.target(|world| {
            effect(&mut world.sizes);
            world.sizes_version += 1;
        })
        .await
    }

    /// Waits until it is another than `seen`.
    async fn changed(&self, seen: u64, version: impl Fn(&World) -> u64) -> u64 {
        loop {
            let now = version(&self.lock());
            if now != seen {
                return now;
            }
            // What lands late is seen when somebody looks.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.news().notified()).await;
        }
    }
}

/// A higher fence refuses it; so does an abort's mark, what would open again.
pub(super) fn land(world: &mut World, flight: Flight) {
    let Wanted { weight, fence, ref abort, ref rollout, .. } = flight.wanted;
    let fenced = world.fence.filter(|found| *found > fence);
    let marked = world.mark.is_some() && weight > world.weight;
    let answer = if let Some(found) = fenced {
        Err(TargetError::Fenced { found, ours: fence })
    } else if marked {
        Err(TargetError::Refused("an abort's mark stands there".into()))
    } else {
        checks::landing(world, &flight);
        let stands = (world.weight, world.fence);
        (world.weight, world.fence) = (weight, Some(fence));
        if let Some(reason) = abort {
            world.mark = Some(AbortMark { rollout: rollout.to_string(), reason: reason.clone() });
        }
        if stands != (weight, Some(fence)) {
            world.target_version += 1;
        }
        world.latest_landing = world.latest_landing.max(flight.start);
        Ok(world.observed())
    };
    let said = if answer.is_ok() { "stands" } else { "refused" };
    world.note(format!("weight {weight} with fence {fence} of start {} {said}", flight.start));
    world.landed.insert(flight.number, answer);
}

#[async_trait]
impl Target for Shared {
    fn name(&self) -> String {
        "simulated".to_owned()
    }

    fn key(&self) -> String {
        "simulated".to_owned()
    }

    async fn check(&self, _: &[Weight]) -> Result<(), TargetError> {
        Ok(())
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        self.target(|world| world.observed()).await
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        let sent = self
            .target(|world| {
                checks::sent(world, wanted);
                let slow = world.is(Trouble::TargetSlow);
                let after = if slow { world.chance.i64(1_000..15_000) } else { world.chance.i64(1..60) };
                let number = world.landed.len() as u64 + world.flights.len() as u64 + 1;
                let lands = world.at() + after;
                world.flights.push(Flight { number, lands, start: world.start, wanted: wanted.clone() });
                (number, after)
            })
            .await?;
        let (number, after) = sent;
        tokio::time::sleep(Duration::from_millis(after.unsigned_abs().min(10_000))).await;
        if after > 10_000 {
            return Err(TargetError::Timeout(Duration::from_secs(10)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        let landed = self.lock().landed.get(&number).cloned();
        landed.unwrap_or(Err(TargetError::Timeout(Duration::from_secs(10))))
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        self.target(|world| {
            if let Some(found) = world.fence.filter(|found| *found > fence) {
                return Err(TargetError::Fenced { found, ours: fence });
            }
            (world.mark, world.fence) = (None, Some(fence));
            world.target_version += 1;
            Ok(world.observed())
        })
        .await?
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        unfold((self.clone(), u64::MAX), |(world, seen)| async move {
            let version = world.changed(seen, |world| world.target_version).await;
            let observed = world.lock().observed();
            Some((Ok(observed), (world, version)))
        })
        .boxed()
    }
}

#[async_trait]
impl Workloads for Shared {
    fn name(&self) -> String {
        "simulated".to_owned()
    }

    async fn check(&self) -> Result<(), TargetError> {
        Ok(())
    }

    async fn at_start(&self, _: &RolloutId, _: Option<&RolloutId>, _: Fence) -> Result<AtStart, TargetError> {
        self.target(|_| AtStart { stable: 3, canary: 1, stable_min: None }).await
    }

    async fn observe(&self) -> Result<Sizes, TargetError> {
        self.target(|world| world.sizes).await
    }

    async fn take_over(&self, _: Fence) -> Result<(), TargetError> {
        self.target(|_| ()).await
    }

    async fn raise_canary(&self, at_least: u32, _: Fence) -> Result<(), TargetError> {
        self.size(|sizes| {
            sizes.canary.wanted = sizes.canary.wanted.max(at_least);
            sizes.canary.available = sizes.canary.wanted;
        })
        .await
    }

    async fn hold_stable(&self, _: u32, _: Fence) -> Result<(), TargetError> {
        self.size(|_| ()).await
    }

    async fn release_stable(&self, _: AtStart, _: Fence) -> Result<(), TargetError> {
        self.size(|_| ()).await
    }

    async fn set_canary(&self, replicas: u32, _: Fence) -> Result<(), TargetError> {
        self.size(|sizes| sizes.canary = sluice_traffic::Size { wanted: replicas, available: replicas }).await
    }

    async fn set_stable(&self, replicas: u32, _: Fence) -> Result<(), TargetError> {
        self.size(|sizes| sizes.stable = sluice_traffic::Size { wanted: replicas, available: replicas }).await
    }

    async fn promote(&self, _: Fence) -> Result<(), TargetError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.target(|_| ()).await
    }

    async fn restore(&self, _: Fence) -> Result<(), TargetError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.target(|_| ()).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Sizes, TargetError>> {
        unfold((self.clone(), u64::MAX), |(world, seen)| async move {
            let version = world.changed(seen, |world| world.sizes_version).await;
            let sizes = world.lock().sizes;
            Some((Ok(sizes), (world, version)))
        })
        .boxed()
    }

    fn canary_endpoints(&self) -> Option<BoxStream<'static, Result<u32, TargetError>>> {
        None
    }
}
