//! Timers, gates and what is observed: the latest wish of a kind replaces the former.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sluice_rollout::{Effect, EffectId, Event, Numbered, TimerId, Timestamp};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::QUEUE;
use crate::runtime::{
    boundary::{self, Boundary},
    clock::now,
    edge::Edge,
    gates,
};

pub(super) fn start(
    edge: &Arc<Edge>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> mpsc::Sender<Numbered> {
    let (sender, mut inbox) = mpsc::channel::<Numbered>(QUEUE);
    let (edge, stop) = (edge.clone(), stop.clone());
    tasks.spawn(async move {
        let mut pending = Pending::default();
        while let Some(Some(job)) = stop.run_until_cancelled(inbox.recv()).await {
            pending.take(&edge, job);
        }
    });
    sender
}

/// What is waited for; dropping it ends the waiting.
#[derive(Default)]
struct Pending {
    timers: BTreeMap<TimerId, Task>,
    gate: Option<Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pending {
    fn take(&mut self, edge: &Arc<Edge>, job: Numbered) {
        boundary::met_by(Boundary::EffectBegins, &job.effect);
        match job.effect {
            Effect::WakeAt { timer, at } => {
                self.timers.insert(timer, Task(tokio::spawn(wake(edge.clone(), job.id, timer, at))));
            }
            Effect::AskGate { gate } => {
                let edge = edge.clone();
                self.gate = Some(Task(tokio::spawn(async move {
                    if let Some(answer) = gates::ask(&edge, &gate).await {
                        boundary::met(Boundary::EffectPerformed, "ask-gate");
                        edge.post.event(Event::GateAnswered { gate, answer }).await;
                    }
                })));
            }
            Effect::Observe(observation) => {
                edge.observation.send_replace(observation);
            }
            other => tracing::error!(effect = other.name(), "not of the watching lane"),
        }
    }
}

async fn wake(edge: Arc<Edge>, id: EffectId, timer: TimerId, at: Timestamp) {
    // The wall clock may be set while we sleep: look again at least once a minute.
    loop {
        let left = at.since(now());
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(Duration::from_secs(60))).await;
    }
    edge.post.event(Event::TimerFired { timer, id }).await;
}
