//! Target, workloads and on-call as a daemon meets them. A weight that was sent lands when it lands, whoever still waits
//! for it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, unfold};
use sluice_alerts::{Sink, SinkError};
use sluice_rollout::{Fence, Role, RolloutId, Weight};
use sluice_traffic::{AbortMark, AtStart, Observed, Size, Sizes, Target, TargetError, Wanted, Workloads};
use sluice_wire::{alert::Alert, policy::Policy};

use super::{
    calls::Lost,
    checks,
    plan::Trouble,
    world::{Flight, Shared, World},
};
use crate::runtime::parts::Outside;

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

    /// A change of one version's size, refused if a later fence stands there; what changes nothing raises no fence.
    async fn size(
        &self,
        role: Role,
        fence: Fence,
        effect: impl FnOnce(Size) -> Size,
    ) -> Result<(), TargetError> {
        self.target(|world| {
            let pods = &mut world.pods;
            let (size, stands) = match role {
                Role::Stable => (&mut pods.sizes.stable, &mut pods.stable_fence),
                Role::Canary => (&mut pods.sizes.canary, &mut pods.canary_fence),
            };
            if let Some(found) = stands.filter(|found| *found > fence) {
                return Err(TargetError::Fenced { found, ours: fence });
            }
            let after = effect(*size);
            if after != *size {
                (*size, *stands) = (after, Some(fence));
                pods.version += 1;
                checks::owning::sized(world, fence);
            }
            Ok(())
        })
        .await?
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

/// Every pod that is wanted is available.
fn whole(replicas: u32) -> Size {
    Size { wanted: replicas, available: replicas }
}

/// A higher fence refuses it; so does an abort's mark, what would open again.
pub(super) fn land(world: &mut World, flight: Flight) {
    let Wanted { weight, fence, ref abort, ref rollout, .. } = flight.wanted;
    let router = &world.router;
    let fenced = router.fence.filter(|found| *found > fence);
    let marked = router.mark.as_ref().is_some_and(|mark| mark.rollout == rollout.to_string());
    let answer = if let Some(found) = fenced {
        Err(TargetError::Fenced { found, ours: fence })
    } else if marked && weight > router.weight {
        Err(TargetError::Refused("an abort's mark stands there".into()))
    } else {
        checks::landing(world, &flight);
        let router = &mut world.router;
        let stands = (router.weight, router.fence);
        (router.weight, router.fence) = (weight, Some(fence));
        match abort {
            Some(reason) => {
                router.mark = Some(AbortMark { rollout: rollout.to_string(), reason: reason.clone() });
            }
            // Another rollout's write takes it away.
            None if !marked => router.mark = None,
            None => {}
        }
        if stands != (weight, Some(fence)) {
            router.version += 1;
        }
        Ok(world.observed())
    };
    let said = if answer.is_ok() { "stands" } else { "refused" };
    let sender = flight.who.and_then(|who| super::plan::NAMES.get(who)).unwrap_or(&"?");
    world.note(format!(
        "weight {weight} of {rollout} with fence {fence} by {sender} ({}) {said}",
        flight.start
    ));
    world.router.landed.insert(flight.number, answer);
}

#[async_trait]
impl Outside for Shared {
    async fn connect(&self, _: &Policy) -> Result<(Arc<dyn Target>, Arc<dyn Workloads>), TargetError> {
        Ok((Arc::new(self.clone()), Arc::new(self.clone())))
    }
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
        self.target(|world| {
            checks::read(world);
            world.observed()
        })
        .await
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        let sent = self
            .target(|world| {
                checks::sent(world, wanted);
                let slow = world.is(Trouble::TargetSlow);
                let after = if slow { world.chance.i64(1_000..15_000) } else { world.chance.i64(1..60) };
                let number = world.router.number();
                let (lands, who, start) = (world.at() + after, world.who, world.start());
                world.router.flights.push(Flight { number, lands, who, start, wanted: wanted.clone() });
                (number, after)
            })
            .await?;
        let (number, after) = sent;
        tokio::time::sleep(Duration::from_millis(after.unsigned_abs().min(10_000))).await;
        if after > 10_000 {
            return Err(TargetError::Timeout(Duration::from_secs(10)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        let landed = self.lock().router.landed.get(&number).cloned();
        landed.unwrap_or(Err(TargetError::Timeout(Duration::from_secs(10))))
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        self.target(|world| {
            if let Some(found) = world.router.fence.filter(|found| *found > fence) {
                return Err(TargetError::Fenced { found, ours: fence });
            }
            (world.router.mark, world.router.fence) = (None, Some(fence));
            world.router.version += 1;
            Ok(world.observed())
        })
        .await?
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        unfold((self.clone(), u64::MAX), |(world, seen)| async move {
            let version = world.changed(seen, |world| world.router.version).await;
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
        self.target(|world| world.pods.sizes).await
    }

    async fn take_over(&self, fence: Fence) -> Result<(), TargetError> {
        self.target(|world| {
            for stands in [&mut world.pods.stable_fence, &mut world.pods.canary_fence] {
                if let Some(found) = stands.filter(|found| *found > fence) {
                    return Err(TargetError::Fenced { found, ours: fence });
                }
                *stands = Some(fence);
            }
            Ok(())
        })
        .await?
    }

    async fn raise_canary(&self, at_least: u32, fence: Fence) -> Result<(), TargetError> {
        self.size(Role::Canary, fence, |size| whole(size.wanted.max(at_least))).await
    }

    async fn hold_stable(&self, floor: u32, fence: Fence) -> Result<(), TargetError> {
        self.size(Role::Stable, fence, |size| whole(size.wanted.max(floor))).await
    }

    async fn release_stable(&self, start: AtStart, fence: Fence) -> Result<(), TargetError> {
        self.size(Role::Stable, fence, |size| whole(size.wanted.max(start.stable))).await
    }

    async fn set_canary(&self, replicas: u32, fence: Fence) -> Result<(), TargetError> {
        self.size(Role::Canary, fence, |_| whole(replicas)).await
    }

    async fn set_stable(&self, replicas: u32, fence: Fence) -> Result<(), TargetError> {
        self.size(Role::Stable, fence, |_| whole(replicas)).await
    }

    async fn empty_stable(&self, _: Fence) -> Result<(), TargetError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.target(|_| ()).await
    }

    async fn promote_first(&self, _: Fence) -> Result<(), TargetError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.target(|_| ()).await
    }

    async fn promote(&self, _: AtStart, _: Fence) -> Result<(), TargetError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.target(|_| ()).await
    }

    async fn restore(&self, _: AtStart, _: Fence) -> Result<(), TargetError> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.target(|_| ()).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Sizes, TargetError>> {
        unfold((self.clone(), u64::MAX), |(world, seen)| async move {
            let version = world.changed(seen, |world| world.pods.version).await;
            let sizes = world.lock().pods.sizes;
            Some((Ok(sizes), (world, version)))
        })
        .boxed()
    }

    fn canary_endpoints(&self) -> Option<BoxStream<'static, Result<u32, TargetError>>> {
        None
    }
}

#[async_trait]
impl Sink for Shared {
    fn name(&self) -> String {
        "simulated on-call".to_owned()
    }

    fn repeat(&self) -> Option<Duration> {
        None
    }

    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError> {
        let called = self.call(Trouble::OnCallAway, Trouble::OnCallAnswersLost, |world| {
            alerts.iter().for_each(|alert| checks::telling::alerted(world, alert));
        });
        called.await.map_err(|lost| match lost {
            Lost::Before => SinkError::Passing { why: "simulated".into(), after: None },
            Lost::After => SinkError::Unanswered { why: "simulated".into() },
        })
    }
}
