//! Living with other daemons on one bus: the own beat, a look at the others, and taking over what the dead have left. Who
//! lives and whose a rollout should be is decided in [`Fellows`]; a rollout changes hands by compare-and-swap on its record.
//!
//! ```text
//!   every second ─▶ beat (every other) ─▶ look at the beats ─▶ somebody died, left or came? ─▶ open rollouts ─▶ take up
//!   a nudge from another daemon ──────────────────────────────▲
//! ```
//!
//! The embedded bus has one daemon, and nothing of this runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use sluice_bus::{BusError, StoreError, StoreRevision};
use sluice_rollout::RolloutId;
use sluice_wire::subject::{ALL, DAEMON, REQUEST, person};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Daemon,
    announce::StartError,
    fault::{self, Fault},
    fellows::{BEAT_EVERY, Beat, Fellows},
    ledger::Open,
    post::Letter,
    taking_up::TAKE_UP_AT_ONCE,
    whose::Whose,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who has not come round for so long was frozen, and asks its records whose they are.
const FROZEN_FOR: Duration = Duration::from_secs(4);
/// Even where nothing has changed, open rollouts are looked through this often.
const LOOK_THROUGH_EVERY: Duration = Duration::from_secs(10);
/// How far the bus' clock may differ from ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);
/// A nudge only makes things quicker.
const NUDGE_WITHIN: Duration = Duration::from_secs(2);

/// What one daemon tells another on the request door: nothing is decided by it, records are looked at sooner.
pub mod nudge {
    /// A rollout was begun for you.
    pub const TAKE_UP: &str = "take-up";
    /// A release waits for your rollout's end.
    pub const WAITING: &str = "waiting";
    /// I leave.
    pub const LOOK: &str = "look";
    /// Is this policy yours?
    pub const KNOWS: &str = "knows";

    pub fn is_one(word: &str) -> bool {
        matches!(word, TAKE_UP | WAITING | LOOK | KNOWS)
    }
}

/// What a daemon knows of the others.
pub struct Company {
    fellows: Mutex<Fellows>,
    own: tokio::sync::Mutex<Own>,
    /// When the latest look at the others began, of those that saw them.
    looked: Mutex<Option<Instant>>,
    nudged: Notify,
}

/// The own beat as it stands in the store.
#[derive(Default)]
struct Own {
    revision: StoreRevision,
    count: u64,
}

/// Why a beat was not written.
#[derive(Debug, thiserror::Error)]
pub enum Unbeaten {
    #[error(
        "another daemon named {name} has started since (incarnation {by}): this one stops; give each daemon a name of its own with --daemon"
    )]
    Displaced { name: String, by: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Company {
    pub fn new(own: &str, cluster: Option<&str>) -> Company {
        Company {
            fellows: Mutex::new(Fellows::new(own, cluster)),
            own: tokio::sync::Mutex::default(),
            looked: Mutex::default(),
            nudged: Notify::new(),
        }
    }

    fn fellows(&self) -> MutexGuard<'_, Fellows> {
        self.fellows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lives(&self, name: &str) -> bool {
        !fault::has(Fault::TakeFromTheLiving) && self.fellows().lives(name, Instant::now())
    }

    /// Whose this policy's rollouts should be, of this daemon's own cluster.
    pub fn chosen(&self, namespace: &str, name: &str) -> String {
        self.fellows().chosen(&format!("{namespace}/{name}"), Instant::now())
    }

    pub fn chosen_in(&self, cluster: Option<&str>, namespace: &str, name: &str) -> String {
        self.fellows().chosen_in(cluster, &format!("{namespace}/{name}"), Instant::now())
    }

    pub fn chosen_of_all(&self, namespace: &str, name: &str) -> String {
        self.fellows().chosen_of_all(&format!("{namespace}/{name}"), Instant::now())
    }

    /// Other clusters of which somebody lives, in words; empty where there are none.
    pub fn other_clusters(&self, own: Option<&str>) -> Vec<String> {
        let fellows = self.fellows();
        let others = fellows.clusters(Instant::now()).into_iter().filter(|cluster| *cluster != own);
        others.map(|cluster| cluster.unwrap_or("(without a name)").to_owned()).collect()
    }

    /// Of several clusters one speaks for all where it is nobody's in particular.
    pub fn speaks_for_all(&self, own: Option<&str>) -> bool {
        self.fellows().clusters(Instant::now()).first().is_none_or(|first| *first == own)
    }

    /// Who is next after `owner`: it answers in its place.
    pub fn second(&self, namespace: &str, name: &str, owner: &str) -> String {
        self.fellows().chosen_but(&format!("{namespace}/{name}"), owner, Instant::now())
    }

    /// Whether another daemon was ever heard of.
    pub fn knows_others(&self) -> bool {
        self.fellows().knows_others()
    }

    /// Whether the others were looked at since something that is so old.
    pub fn looked_since(&self, age: Option<Duration>) -> bool {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_some_and(|began| was_before(age, began.elapsed()))
    }

    pub fn nudge(&self) {
        self.nudged.notify_one();
    }
}

impl Daemon {
    /// The first beat of this start: one of the same name that still runs is displaced by it.
    pub(super) async fn appear(&self) -> Result<(), StoreError> {
        {
            let mut own = self.company.own.lock().await;
            let before = self.parts.ledger.beat_of(&self.parts.daemon).await?;
            (own.revision, own.count) = before.map_or((0, 0), |(beat, revision)| (revision, beat.count));
        }
        match self.beat(false).await {
            Ok(()) => self.look_at_the_others().await,
            Err(Unbeaten::Store(error)) => Err(error),
            Err(Unbeaten::Displaced { name, .. }) => {
                Err(StoreError::Conflict { key: format!("the beat of {name}") })
            }
        }
    }

    /// Everything has been let go of: the others need not wait until this one counts as dead.
    pub(super) async fn leave(&self) {
        if self.parts.alone || self.displaced.is_cancelled() {
            return;
        }
        match self.beat(true).await {
            Ok(()) => self.tell_fellows(ALL, ALL, nudge::LOOK).await,
            Err(error) => {
                tracing::warn!(%error, "the others are not told that this daemon leaves; they notice within seconds")
            }
        }
    }

    async fn beat(&self, leaving: bool) -> Result<(), Unbeaten> {
        let mut own = self.company.own.lock().await;
        own.count += 1;
        let (daemon, incarnation) = (self.parts.daemon.clone(), self.parts.incarnation.clone());
        let cluster = self.parts.cluster.clone();
        let beat = Beat { daemon, incarnation, cluster, leaving, count: own.count };
        match self.parts.ledger.beat(&beat, own.revision).await {
            Ok(revision) => own.revision = revision,
            Err(StoreError::Conflict { .. }) => match self.parts.ledger.beat_of(&beat.daemon).await? {
                // Our own, whose answer was lost.
                Some((found, revision)) if found.incarnation == beat.incarnation => own.revision = revision,
                Some((found, _)) => {
                    return Err(Unbeaten::Displaced { name: found.daemon, by: found.incarnation });
                }
                None => own.revision = 0,
            },
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(super) async fn look_at_the_others(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let beats = self.parts.ledger.beats().await?;
        self.company.fellows().look(&beats, Instant::now());
        let mut looked = self.company.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked = (*looked).max(Some(began));
        drop(looked);
        Ok(())
    }

    /// Tells the other daemons to look, without waiting for long: what they would miss they find by themselves.
    pub(super) async fn tell_fellows(&self, namespace: &str, name: &str, word: &str) {
        let subject = person(REQUEST, DAEMON, namespace, name, word);
        match self.parts.doors.request(&subject, &[], Bytes::new(), NUDGE_WITHIN).await {
            Ok(_) | Err(BusError::NoResponders { .. } | BusError::Timeout(_)) => {}
            Err(error) => tracing::debug!(%error, word, "the other daemons were not told"),
        }
    }

    /// The same about one rollout, with nobody waiting for it.
    pub(super) fn nudge_later(&self, id: &RolloutId, word: &'static str) {
        let doors = self.parts.doors.clone();
        let subject = person(REQUEST, DAEMON, id.namespace(), id.name(), word);
        self.tasks.spawn(async move {
            if let Err(error) = doors.request(&subject, &[], Bytes::new(), NUDGE_WITHIN).await {
                tracing::debug!(%error, word, "the other daemons were not told");
            }
        });
    }

    /// Whether a daemon of another cluster has this policy.
    pub(super) async fn is_known_elsewhere(&self, namespace: &str, name: &str) -> bool {
        let subject = person(REQUEST, DAEMON, namespace, name, nudge::KNOWS);
        self.parts.doors.request(&subject, &[], Bytes::new(), NUDGE_WITHIN).await.is_ok()
    }

    /// Another daemon's word. `true`: something was done about it.
    pub(super) async fn nudged(&self, namespace: &str, name: &str, word: &str) -> bool {
        match word {
            nudge::LOOK => {
                self.company.nudge();
                true
            }
            nudge::WAITING => {
                let here = matches!(self.whose(namespace, name).await, Ok(Whose::Mine));
                if here {
                    self.begin_waiting(namespace, name).await;
                }
                here
            }
            nudge::KNOWS => self.serves(namespace, name),
            nudge::TAKE_UP => match self.latest_saved(namespace, name).await {
                Ok(Some(saved)) if saved.owner.daemon == self.parts.daemon => {
                    self.take_up_each(vec![saved.state.id]).await;
                    true
                }
                Ok(_) | Err(_) => false,
            },
            _ => false,
        }
    }

    /// Somebody with this daemon's name has started later: nothing more is done here.
    fn give_way(&self, error: &Unbeaten) {
        tracing::error!(%error, "displaced");
        self.displaced.cancel();
        self.stop.cancel();
        for handle in self.rollouts.owners() {
            handle.stop.cancel();
        }
    }

    /// After a time in which anything may have happened, every owner asks its record whose it is, before it acts again.
    async fn doubt_all(&self) {
        tracing::warn!("this daemon stood still; its rollouts are asked whose they are");
        for handle in self.rollouts.owners() {
            handle.post.letter(Letter::Doubted).await;
        }
    }

    /// Takes up what is this daemon's and not in hand, and what the dead have left and is best here.
    async fn look_through(&self) -> Result<(), StoreError> {
        let open = self.parts.ledger.open_rollouts().await?;
        let (due, others): (Vec<Open>, Vec<Open>) = open.into_iter().partition(|open| self.is_due_here(open));
        let each = due.into_iter().map(|open| self.take_over_one(open));
        futures::stream::iter(each).buffer_unordered(TAKE_UP_AT_ONCE).collect::<()>().await;
        for open in
            others.iter().filter(|open| open.daemon != self.parts.daemon && self.is_in_hand(&open.rollout))
        {
            self.parts.ledger.open(&open.rollout, &self.parts.daemon).await?;
        }
        Ok(())
    }

    /// What cannot be taken over now is tried again with what waits: its record may name this daemon already.
    async fn take_over_one(&self, open: Open) {
        let id = open.rollout;
        let taken = match self.take_up_one(&id).await {
            Ok(false) if open.daemon == self.parts.daemon => self.correct_open(&id).await.map(|()| false),
            taken => taken,
        };
        match taken {
            Ok(true) => tracing::info!(rollout = %id, from = open.daemon, "taken over"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(rollout = %id, %error, "cannot be taken over yet; tried again soon");
                self.left().push(id);
            }
        }
    }

    /// The record alone says whose it is: whoever died between the two saves has left the other note behind.
    async fn correct_open(&self, id: &RolloutId) -> Result<(), StartError> {
        match self.parts.ledger.load(id).await? {
            Some((saved, _)) if saved.owner.daemon != self.parts.daemon && !saved.state.is_settled() => {
                Ok(self.parts.ledger.open(id, &saved.owner.daemon).await?)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_due_here(&self, open: &Open) -> bool {
        let (id, own) = (&open.rollout, &self.parts.daemon);
        let orphaned = open.daemon != *own && !self.company.lives(&open.daemon);
        let chosen = orphaned && self.company.chosen(id.namespace(), id.name()) == *own;
        (open.daemon == *own || chosen) && !self.is_in_hand(id)
    }
}

/// Beats until the daemon stops. Nothing else is done here: a beat waits for no rollout.
pub(super) async fn beat_on(daemon: Arc<Daemon>) {
    let mut tick = tokio::time::interval(BEAT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    while daemon.stop.run_until_cancelled(tick.tick()).await.is_some() {
        if last.elapsed() > FROZEN_FOR {
            daemon.doubt_all().await;
        }
        match daemon.beat(false).await {
            Ok(()) => {}
            Err(displaced @ Unbeaten::Displaced { .. }) => return daemon.give_way(&displaced),
            Err(Unbeaten::Store(error)) => tracing::warn!(%error, "no beat: the store is away"),
        }
        last = Instant::now();
    }
}

/// Looks at the others until the daemon stops, and calls for a look through the open rollouts when it is due.
pub(super) async fn look_on(daemon: Arc<Daemon>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut living, mut looked_through) = (Vec::new(), Instant::now());
    while daemon.stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = daemon.look_at_the_others().await {
            tracing::debug!(%error, "the other daemons cannot be seen just now");
            continue;
        }
        let (now_living, known) = {
            let fellows = daemon.company.fellows();
            (fellows.names(Instant::now()), fellows.knows_others())
        };
        let changed = living != now_living;
        if changed {
            tracing::info!(daemons = ?now_living, "who lives");
        }
        living = now_living;
        if changed || (known && looked_through.elapsed() >= LOOK_THROUGH_EVERY) {
            looked_through = Instant::now();
            daemon.company.nudge();
        }
    }
}

/// Takes up what is due here whenever it is called for.
pub(super) async fn take_over(daemon: Arc<Daemon>) {
    while daemon.stop.run_until_cancelled(daemon.company.nudged.notified()).await.is_some() {
        // Who leaves or was nudged about may not have been seen yet.
        let looked = daemon.look_at_the_others().await;
        if let Err(error) = async { looked.and(daemon.look_through().await) }.await {
            tracing::warn!(%error, "open rollouts cannot be read just now");
        }
    }
}

/// The bus says how old a message is, and its clock may differ a little from ours; what has no age has just come.
fn was_before(age: Option<Duration>, look: Duration) -> bool {
    age.is_some_and(|age| age >= look + CLOCKS_DIFFER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_for_what_was_sent_before_it_began() {
        let looked = Duration::from_secs(1);
        assert!(was_before(Some(Duration::from_secs(3)), looked));
        assert!(!was_before(Some(Duration::from_secs(2)), looked), "the clocks may differ by that much");
        assert!(!was_before(None, looked), "it came just now, past the stream");
    }
}
