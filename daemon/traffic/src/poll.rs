//! A watch for targets that do not tell of changes: read again and again.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::MissedTickBehavior;

use crate::{Observed, Target, TargetError};

/// Each state once, errors each time, endless. The first read is made at once.
pub(crate) fn poll<T: Target + 'static>(
    target: T,
    every: Duration,
) -> BoxStream<'static, Result<Observed, TargetError>> {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reads = stream::unfold((target, ticks), |(target, mut ticks)| async move {
        ticks.tick().await;
        Some((target.observe().await, (target, ticks)))
    });
    let changes = reads.scan(None::<Observed>, |last, state| {
        let repeated = matches!((&state, &last), (Ok(now), Some(before)) if now == before);
        *last = state.as_ref().ok().cloned();
        std::future::ready(Some((!repeated).then_some(state)))
    });
    changes.filter_map(std::future::ready).boxed()
}
