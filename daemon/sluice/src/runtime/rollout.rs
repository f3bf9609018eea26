//! One rollout's owner: a task that takes one letter after the other and does everything in one order.
//!
//! ```text
//!   decode ─▶ step ─▶ save (compare-and-swap) ─▶ acknowledge ─▶ execute
//! ```
//!
//! Decoding happens at the doors; [`Owner::order`] is the rest. If the process dies between any two lines, what was
//! saved as outstanding runs again. The one exception is the abort: weight 0 may go to the target before the save.

mod former_alerts;
mod ownership;
mod remembering;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde_json::Value;
use sluice_alerts::Dispatcher;
use sluice_bus::{StoreError, StoreRevision};
use sluice_metrics_adapters::Ask;
use sluice_rollout::{Event, Firing, Numbered, Observation, Reason, RolloutId, State, Transition, step};
use sluice_traffic::{Target, Workloads};
use sluice_wire::{
    decisions::Taken,
    message::Answer,
    policy::Policy,
    record::{Charter, Saved, event_name},
    view::RolloutView,
};
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::remembering::line;
use super::{
    backoff::Backoff,
    boundary::{self, Boundary},
    clock::now,
    edge::{Edge, Snapshot},
    fault::{self, Fault},
    historian::Pen,
    lanes::Lanes,
    observer::Observer,
    parts::Parts,
    post::{self, Inbox, Letter, Post},
    standing::Standing,
    troubles::{Silent, Troubles},
    views,
};

mod saving;
mod waiting;

/// Letters kept while the store is away.
const MOST_DEFERRED: usize = 256;
/// How soon a store that failed is tried again.
const STORE_AGAIN: Duration = Duration::from_millis(500);
/// Longest pause between attempts to delete what only a running rollout needs.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the daemon keeps of a running rollout.
#[derive(Debug, Clone)]
pub struct Handle {
    pub id: RolloutId,
    pub post: Post,
    pub view: watch::Receiver<RolloutView>,
    pub policy: Arc<Policy>,
    pub target: Arc<dyn Target>,
    pub stop: CancellationToken,
    /// Ends what is still done to target and pods, and nothing else.
    pub aftermath: CancellationToken,
    /// Ends when the owner has.
    pub tasks: TaskTracker,
}

/// Everything an owner begins with.
pub struct Beginning {
    pub parts: Parts,
    pub charter: Arc<Charter>,
    pub policy: Arc<Policy>,
    pub target: Arc<dyn Target>,
    pub workloads: Arc<dyn Workloads>,
    pub alerts: Arc<Dispatcher>,
    pub ask: Ask,
    pub saved: Saved,
    pub revision: StoreRevision,
    pub standing: Standing,
    /// `Requested`, or `Recovered`.
    pub first: Event,
    /// Told every view.
    pub changes: tokio::sync::broadcast::Sender<RolloutView>,
}

struct Owner {
    id: RolloutId,
    parts: Parts,
    policy: Arc<Policy>,
    machine: sluice_rollout::Policy,
    saved: Saved,
    revision: StoreRevision,
    /// The state in hand is newer than the one in the store.
    unsaved: bool,
    saved_at: tokio::time::Instant,
    /// What on-call was told while it is.
    told_unsaved: Vec<Firing>,
    deferred: VecDeque<Letter>,
    /// Urgent letters that came while something was saved.
    early: VecDeque<Letter>,
    /// Effects that wait until the decision has been saved.
    held: Vec<Numbered>,
    lanes: Lanes,
    edge: Arc<Edge>,
    snapshot: watch::Sender<Snapshot>,
    report: watch::Receiver<Arc<Value>>,
    view: watch::Sender<RolloutView>,
    changes: tokio::sync::broadcast::Sender<RolloutView>,
    last_reason: String,
    pen: Pen,
}

/// Why an owner stops before its rollout has settled.
#[derive(Debug)]
enum Leave {
    /// Somebody else owns the rollout: nothing more is done.
    Disowned(String),
}

/// Starts the owner's task with its lanes, watches and observer.
pub fn begin(beginning: Beginning) -> Handle {
    let Beginning {
        parts,
        charter,
        policy,
        target,
        workloads,
        alerts,
        ask,
        saved,
        revision,
        standing,
        first,
        changes,
    } = beginning;
    let (post, inbox) = post::open();
    let (snapshot, snapshots) = watch::channel(Snapshot::of(&saved.state));
    let (report, reports) = watch::channel(Arc::new(Value::Null));
    let (observation, _) = watch::channel(Observation::None);
    let (standing, _) = watch::channel(standing);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let aftermath = stop.child_token();
    let machine = policy.machine();
    let troubles = Troubles::none();
    let first_view = views::view(&charter, &policy, &saved, &Arc::default(), ("", &troubles));
    let (view, views) = watch::channel(first_view);
    let taken = Taken::of(&charter, saved.owner.clone(), saved.state.clone(), now());
    let recorder = parts.records.session(&charter.id, taken);
    let edge = Arc::new(Edge {
        id: charter.id.clone(),
        charter: charter.clone(),
        policy: policy.clone(),
        parts: parts.clone(),
        target: target.clone(),
        workloads,
        alerts,
        post: post.clone(),
        recorder,
        snapshot: snapshots,
        report: reports.clone(),
        observation,
        standing,
        troubles,
    });
    parts.meters.phase(None, Some(saved.state.phase.name()));
    former_alerts::hand_on(&edge, &saved.state);
    let lanes = Lanes::start(&edge, &tasks, &stop, &aftermath);
    let hub = parts.sources.connect(&policy.spec.metrics).map(|source| parts.hubs.of(source));
    match hub {
        Ok(hub) => {
            let observer = Box::new(Observer::new(edge.clone(), ask, hub, report));
            let ended = stop.clone();
            tasks.spawn(async move { ended.run_until_cancelled(observer.run()).await });
        }
        Err(error) => tracing::error!(rollout = %charter.id, %error, "metrics cannot be read"),
    }
    let pen = parts.historian.pen();
    let owner = Box::new(Owner {
        id: charter.id.clone(),
        parts,
        policy: policy.clone(),
        machine,
        saved,
        revision,
        unsaved: false,
        saved_at: tokio::time::Instant::now(),
        told_unsaved: Vec::new(),
        deferred: VecDeque::new(),
        early: VecDeque::new(),
        held: Vec::new(),
        lanes,
        edge,
        snapshot,
        report: reports,
        view,
        changes,
        last_reason: String::new(),
        pen,
    });
    let ended = stop.clone();
    tasks.spawn(owner.live(first, inbox, ended));
    tasks.close();
    Handle { id: charter.id.clone(), post, view: views, policy, target, stop, aftermath, tasks }
}

impl Owner {
    /// One letter after the other, until the rollout has settled, another owner has it, or the daemon stops.
    /// On the heap, and so is each order while it is carried out: see [`Observer::run`].
    async fn live(mut self: Box<Self>, first: Event, mut inbox: Inbox, stop: CancellationToken) {
        let mut next = Some(Letter::Event(first));
        let mut reports = self.report.clone();
        let mut troubles = self.edge.troubles.changes();
        let mut store_again = tokio::time::interval(STORE_AGAIN);
        store_again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(letter) = next.take()
                && let Err(leave) = Box::pin(self.order(letter, &mut inbox)).await
            {
                Box::pin(self.disowned(leave)).await;
                break;
            }
            let settled = self.saved.state.is_settled()
                || (fault::has(Fault::SettleBeforeAllIsTold) && self.saved.state.is_done());
            if settled && !self.unsaved && self.deferred.is_empty() && self.early.is_empty() {
                if stop.run_until_cancelled(self.settle()).await.is_none() {
                    tracing::warn!(rollout = %self.id, "settled, but not all of it is in the store; the next start does that");
                }
                self.edge.recorder.settled();
                break;
            }
            next = self.early.pop_front();
            if next.is_some() {
                continue;
            }
            let waits = self.unsaved || !self.deferred.is_empty();
            next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                letter = inbox.urgent.recv() => letter,
                _ = store_again.tick(), if waits => {
                    if let Err(leave) = Box::pin(self.catch_up(&mut inbox)).await {
                        Box::pin(self.disowned(leave)).await;
                        break;
                    }
                    // From its end on: a store that is slow to refuse must not keep the other letters waiting for good.
                    store_again.reset();
                    None
                }
                letter = inbox.normal.recv() => letter,
                _ = reports.changed() => { self.show(); None }
                _ = troubles.changed() => { self.show(); None }
            };
        }
        self.parts.meters.phase(Some(self.saved.state.phase.name()), None);
        stop.cancel();
    }

    /// The one order.
    async fn order(&mut self, letter: Letter, inbox: &mut Inbox) -> Result<(), Leave> {
        let (event, mut reply) = match letter {
            Letter::Event(event) => (event, None),
            Letter::Command { command, reply } => (Event::Override(command), Some(reply)),
            Letter::Doubted => return self.doubt().await,
            Letter::Fenced { found } => match self.reread(found).await? {
                Some(again) => (again, None),
                None => return Ok(()),
            },
        };
        let before = self.saved.state.clone();
        let at = now();
        let transition = step(&self.machine, before.clone(), at, event.clone());
        let aborts = transition.state.is_aborting()
            && !before.is_aborting()
            && !fault::has(Fault::AbortWaitsForTheStore);
        if !aborts && self.must_wait(&before, &transition) {
            self.defer(event, reply);
            return Ok(());
        }
        if aborts {
            self.snapshot.send_replace(Snapshot::of(&transition.state));
            self.lanes.outrun(&transition.effects);
            boundary::met(Boundary::Outrun, "");
        }
        boundary::met(Boundary::Stepped, event_name(&event));
        if fault::has(Fault::ExecuteBeforeSave) {
            self.lanes.execute(transition.effects.clone());
        }
        if fault::has(Fault::AcknowledgeBeforeSave) {
            self.acknowledge(reply.take(), transition.answer.as_ref(), &transition.reason);
        }
        let mut saved = false;
        let line = line(&before, &event, &transition);
        let must = must_save(&before, &transition);
        if (must || self.is_to_be_noted(&transition.state)) && !fault::has(Fault::NeverSave) {
            let save = match aborts {
                true => self.save_abort(&transition.state, line.as_ref()).await,
                false => self.save_unless_aborted(inbox, &before, &transition.state, line.as_ref()).await,
            };
            match save {
                Ok(()) => {
                    saved = true;
                    boundary::met(Boundary::Saved, event_name(&event));
                }
                Err(StoreError::Conflict { .. }) if fault::has(Fault::ActWithoutOwning) => {}
                Err(StoreError::Conflict { key }) => {
                    return Err(Leave::Disowned(format!("{key} was saved by another owner")));
                }
                // A daemon without its store judges on and may only abort; the save follows.
                Err(error) if aborts => self.mark_unsaved(&error),
                Err(error) if !must => {
                    self.saved_at = tokio::time::Instant::now();
                    tracing::debug!(rollout = %self.id, %error, "the time that was watched is saved later");
                }
                Err(error) => {
                    // Said once, not at every attempt.
                    if self.edge.troubles.note(Silent::Store, &error.to_string()) {
                        tracing::warn!(rollout = %self.id, %error, "the store is away: this waits until it is back");
                    }
                    self.defer(event, reply);
                    return Ok(());
                }
            }
        }
        let Transition { state, effects, reason, answer } = transition;
        self.saved.state = state;
        self.record((at, saved), &event, &reason, &effects, answer.as_ref());
        self.remember(line, &reason, answer.as_ref());
        self.show_snapshot(&before);
        // Whoever was answered and looks again sees what the answer said.
        self.show();
        self.acknowledge(reply, answer.as_ref(), &reason);
        self.execute(effects);
        Ok(())
    }

    fn acknowledge(
        &self,
        reply: Option<oneshot::Sender<Answer>>,
        answered: Option<&sluice_rollout::Answered>,
        reason: &Reason,
    ) {
        let Some(reply) = reply else { return };
        let answer = views::answer(&self.saved.state, &self.machine, answered, reason);
        // Whoever asked may have gone; the answer is kept in the state.
        let _ = reply.send(answer);
        boundary::met(Boundary::Acknowledged, "");
    }

    fn show_snapshot(&self, before: &State) {
        let state = &self.saved.state;
        if before.phase.name() != state.phase.name() {
            self.parts.meters.phase(Some(before.phase.name()), Some(state.phase.name()));
        }
        let now = Snapshot::of(state);
        self.snapshot.send_if_modified(|snapshot| std::mem::replace(snapshot, now) != now);
    }

    fn show(&self) {
        let report = self.report.borrow().clone();
        let told = (self.last_reason.as_str(), &self.edge.troubles);
        let view = views::view(&self.edge.charter, &self.policy, &self.saved, &report, told);
        if *self.view.borrow() != view {
            self.view.send_replace(view.clone());
            // Nobody may be listening.
            let _ = self.changes.send(view);
        }
    }

    /// Waits for a store that is away: until then the rollout stands among those that a start takes up.
    async fn settle(&mut self) {
        let mut backoff = Backoff::new(STORE_AGAIN, LONGEST_PAUSE);
        self.pen.told().await;
        boundary::met(Boundary::HistoryTold, "");
        while let Err(error) = self.parts.ledger.settle(&self.id).await {
            tracing::warn!(rollout = %self.id, %error, "settled, but its keys could not be deleted yet");
            tokio::time::sleep(backoff.next()).await;
        }
        boundary::met(Boundary::KeysDeleted, "");
    }
}

/// Bookkeeping alone is kept in memory: after a crash it is made again.
fn must_save(before: &State, transition: &Transition) -> bool {
    let state = &transition.state;
    let answers = transition.answer.is_some() && transition.reason != Reason::OverrideRepeated;
    state.revision != before.revision
        || answers
        || !transition.effects.is_empty()
        || (state.is_done() && state.outstanding != before.outstanding)
}
