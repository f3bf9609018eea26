//! The rollouts that this daemon knows: the latest of each policy, running here or ended; and the owners of former ones, which
//! still tell what came of them. Bounded: what has ended is
//! forgotten here, oldest first, beyond [`MOST_ENDED`]; its record stays in the store and is read again when asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_rollout::RolloutId;
use sluice_wire::view::RolloutView;

use super::{
    PolicyName,
    fault::{self, Fault},
    meters::Meters,
    rollout::Handle,
};

const MOST_ENDED: usize = 10_000;
/// Rollouts that one daemon carries at once; more are begun when some have ended.
pub const MOST_RUNNING: usize = 20_000;

/// Running, or how it ended. Cheap to clone: that is done under the lock.
#[derive(Clone)]
pub enum Entry {
    Running(Handle),
    Ended(Arc<RolloutView>),
}

impl Entry {
    pub fn view(&self) -> RolloutView {
        match self {
            Entry::Running(handle) => handle.view.borrow().clone(),
            Entry::Ended(view) => view.as_ref().clone(),
        }
    }

    /// Its owner, while it has one.
    fn owner(self) -> Option<Handle> {
        match self {
            Entry::Running(handle) if !handle.post.is_closed() => Some(handle),
            Entry::Running(_) | Entry::Ended(_) => None,
        }
    }
}

#[derive(Default)]
struct Known {
    latest: BTreeMap<PolicyName, Entry>,
    /// Owners of attempts that are no longer their policy's latest.
    former: Vec<Handle>,
}

pub struct Roll {
    entries: Mutex<Known>,
    meters: Arc<Meters>,
}

impl Roll {
    pub fn new(meters: Arc<Meters>) -> Roll {
        Roll { entries: Mutex::default(), meters }
    }

    /// Every owner in this process, of a policy's latest rollout or not.
    pub fn owners(&self) -> Vec<Handle> {
        let former = self.lock().former.clone();
        self.running().into_iter().chain(former).collect()
    }

    /// The owner of this very attempt, if it is in this process.
    pub fn owner(&self, id: &RolloutId) -> Option<Handle> {
        let is = |handle: &Handle| handle.id == *id && !handle.post.is_closed();
        if let Some(latest) = self.get(id.namespace(), id.name()).and_then(Entry::owner).filter(is) {
            return Some(latest);
        }
        let former = |known: &Known| known.former.iter().find(|handle| is(handle)).cloned();
        former(&self.lock()).filter(|_| !fault::has(Fault::ForgetFormerOwners))
    }

    pub fn running(&self) -> Vec<Handle> {
        let handle = |entry: &Entry| match entry {
            Entry::Running(handle) => Some(handle.clone()),
            Entry::Ended(_) => None,
        };
        self.lock().latest.values().filter_map(handle).collect()
    }

    pub fn is_full(&self) -> bool {
        let known = self.lock();
        let running = known.latest.values().filter(|entry| matches!(entry, Entry::Running(_))).count();
        running + known.former.len() >= MOST_RUNNING
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Entry> {
        self.lock().latest.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The policy's latest. The owner of the one before it may have something to tell yet.
    pub fn enter(&self, namespace: &str, name: &str, entry: Entry) {
        let known = {
            let mut known = self.lock();
            let passed = known.latest.insert((namespace.to_owned(), name.to_owned()), entry);
            known.former.retain(|handle| !handle.post.is_closed());
            known.former.extend(passed.and_then(Entry::owner));
            known.latest.len()
        };
        if known > MOST_RUNNING + MOST_ENDED {
            self.tidy();
        }
    }

    /// How another daemon's rollout ended; what runs here stays.
    pub fn remember(&self, ended: &RolloutView) {
        let name = (ended.rollout.namespace().to_owned(), ended.rollout.name().to_owned());
        let mut entries = self.lock();
        let runs =
            matches!(entries.latest.get(&name), Some(Entry::Running(handle)) if !handle.post.is_closed());
        if !runs {
            entries.latest.insert(name, Entry::Ended(Arc::new(ended.clone())));
        }
    }

    /// The owner of an attempt that is not its policy's latest: it ends what is left to do.
    pub fn enter_former(&self, handle: Handle) {
        let mut known = self.lock();
        known.former.retain(|handle| !handle.post.is_closed());
        known.former.push(handle);
    }

    pub fn views(&self) -> Vec<RolloutView> {
        let entries: Vec<Entry> = self.lock().latest.values().cloned().collect();
        entries.iter().map(Entry::view).collect()
    }

    /// Of owners that have ended only the last view is kept, and of those not more than there is room for.
    pub fn tidy(&self) {
        let mut known = self.lock();
        known.former.retain(|handle| !handle.post.is_closed());
        let entries = &mut known.latest;
        for entry in entries.values_mut() {
            let ended = match entry {
                Entry::Running(handle) if handle.post.is_closed() => Some(handle.view.borrow().clone()),
                Entry::Running(_) | Entry::Ended(_) => None,
            };
            if let Some(view) = ended {
                *entry = Entry::Ended(Arc::new(view));
            }
        }
        let mut ended: Vec<(_, PolicyName)> = entries
            .iter()
            .filter_map(|(name, entry)| match entry {
                Entry::Running(_) => None,
                Entry::Ended(view) => Some((view.changed, name.clone())),
            })
            .collect();
        ended.sort();
        let too_many = ended.len().saturating_sub(MOST_ENDED);
        for (_, name) in ended.into_iter().take(too_many) {
            entries.remove(&name);
            self.meters.drop_one("ended-rollouts");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
