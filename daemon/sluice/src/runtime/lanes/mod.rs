//! Lanes: effects of one kind in their order, one at a time; lanes do not wait for each other. An effect that makes the
//! running one needless cancels it. Nothing is decided here: what came of an effect goes back as an event.

mod target;
mod telling;
mod watching;
mod workload;

use std::{collections::VecDeque, sync::Arc};

use futures::future::BoxFuture;
use sluice_rollout::{Effect, EffectId, Lane, Numbered};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::telling::{message as alert_message, notice_name, published};
use super::{
    boundary::{self, Boundary},
    edge::Edge,
};

/// More than a rollout can have outstanding.
const QUEUE: usize = 256;

/// The senders of one rollout's lanes.
pub struct Lanes {
    target: mpsc::Sender<Numbered>,
    workload: mpsc::Sender<Numbered>,
    publish: mpsc::Sender<Numbered>,
    alert: mpsc::Sender<Numbered>,
    watching: mpsc::Sender<Numbered>,
    edge: Arc<Edge>,
    outran: Option<EffectId>,
}

impl Lanes {
    /// Starts the lanes and the watches; they end with `stop`, those that touch target and pods with `aftermath`.
    pub fn start(
        edge: &Arc<Edge>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        aftermath: &CancellationToken,
    ) -> Lanes {
        let lane = |stop: &CancellationToken, perform: fn(Arc<Edge>, Numbered) -> BoxFuture<'static, ()>| {
            let (sender, inbox) = mpsc::channel(QUEUE);
            let (edge, stop) = (edge.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = run(inbox, move |job| perform(edge.clone(), job)) => {}
                }
            });
            sender
        };
        target::watch(edge, tasks, aftermath);
        workload::watch(edge, tasks, aftermath);
        Lanes {
            target: lane(aftermath, |edge, job| Box::pin(target::perform(edge, job))),
            workload: lane(aftermath, |edge, job| Box::pin(workload::perform(edge, job))),
            publish: lane(stop, |edge, job| Box::pin(telling::publish(edge, job))),
            alert: lane(stop, |edge, job| Box::pin(telling::alert(edge, job))),
            watching: watching::start(edge, tasks, stop),
            edge: edge.clone(),
            outran: None,
        }
    }

    /// The abort's own way: weight 0 goes to the target before the decision is saved (invariant 5's one exception).
    pub fn outrun(&mut self, effects: &[Numbered]) {
        let zero = |one: &&Numbered| matches!(&one.effect, Effect::SetTraffic { weight, abort: Some(_) } if weight.is_zero());
        if let Some(one) = effects.iter().find(zero) {
            self.outran = Some(one.id);
            self.send(&self.target, one.clone());
        }
    }

    pub fn execute(&mut self, effects: Vec<Numbered>) {
        for one in effects {
            if self.outran == Some(one.id) {
                continue;
            }
            let lane = match (one.effect.lane(), one.effect.is_alert()) {
                (Lane::Target, _) => &self.target,
                (Lane::Workload, _) => &self.workload,
                (Lane::Telling, false) => &self.publish,
                (Lane::Telling, true) => &self.alert,
                (Lane::Watching, _) => &self.watching,
            };
            self.send(lane, one);
        }
    }

    /// A lane that is full has more waiting than a rollout can have outstanding: that is counted, and recovery repeats it.
    fn send(&self, lane: &mpsc::Sender<Numbered>, one: Numbered) {
        match lane.try_send(one) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.edge.parts.meters.drop_one("lane");
                tracing::error!(rollout = %self.edge.id, "a lane is full");
            }
            // Stopping, or the target is a newer rollout's: what is outstanding is repeated or given up.
            Err(TrySendError::Closed(_)) => tracing::debug!(rollout = %self.edge.id, "a lane has ended"),
        }
    }
}

/// One lane: what arrives cancels or removes what it makes needless, then waits for its turn.
async fn run(mut inbox: mpsc::Receiver<Numbered>, perform: impl Fn(Numbered) -> BoxFuture<'static, ()>) {
    let mut waiting: VecDeque<Numbered> = VecDeque::new();
    let mut running: Option<(Effect, BoxFuture<'static, ()>)> = None;
    loop {
        if running.is_none()
            && let Some(next) = waiting.pop_front()
        {
            boundary::met_by(Boundary::EffectBegins, &next.effect);
            running = Some((next.effect.clone(), perform(next)));
        }
        tokio::select! {
            biased;
            job = inbox.recv() => {
                let Some(job) = job else { return };
                waiting.retain(|earlier| !job.effect.replaces(&earlier.effect));
                running.take_if(|(earlier, _)| job.effect.replaces(earlier));
                waiting.push_back(job);
            }
            () = ended(&mut running) => running = None,
        }
    }
}

async fn ended(running: &mut Option<(Effect, BoxFuture<'static, ()>)>) {
    match running {
        Some((_, future)) => future.await,
        None => std::future::pending().await,
    }
}
