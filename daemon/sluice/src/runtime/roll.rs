//! The rollouts that this daemon knows: the latest of each policy, running here or ended. Bounded: what has ended is
//! forgotten here, oldest first, beyond [`MOST_ENDED`]; its record stays in the store and is read again when asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_wire::view::RolloutView;

use super::{PolicyName, meters::Meters, rollout::Handle};

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
}

pub struct Roll {
    entries: Mutex<BTreeMap<PolicyName, Entry>>,
    meters: Arc<Meters>,
}

impl Roll {
    pub fn new(meters: Arc<Meters>) -> Roll {
        Roll { entries: Mutex::default(), meters }
    }

    pub fn running(&self) -> Vec<Handle> {
        let handle = |entry: &Entry| match entry {
            Entry::Running(handle) => Some(handle.clone()),
            Entry::Ended(_) => None,
        };
        self.lock().values().filter_map(handle).collect()
    }

    pub fn is_full(&self) -> bool {
        self.lock().values().filter(|entry| matches!(entry, Entry::Running(_))).count() >= MOST_RUNNING
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Entry> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn enter(&self, namespace: &str, name: &str, entry: Entry) {
        let known = {
            let mut entries = self.lock();
            entries.insert((namespace.to_owned(), name.to_owned()), entry);
            entries.len()
        };
        if known > MOST_RUNNING + MOST_ENDED {
            self.tidy();
        }
    }

    /// How another daemon's rollout ended; what runs here stays.
    pub fn remember(&self, ended: &RolloutView) {
        let name = (ended.rollout.namespace().to_owned(), ended.rollout.name().to_owned());
        let mut entries = self.lock();
        let runs = matches!(entries.get(&name), Some(Entry::Running(handle)) if !handle.post.is_closed());
        if !runs {
            entries.insert(name, Entry::Ended(Arc::new(ended.clone())));
        }
    }

    pub fn views(&self) -> Vec<RolloutView> {
        let entries: Vec<Entry> = self.lock().values().cloned().collect();
        entries.iter().map(Entry::view).collect()
    }

    /// Of owners that have ended only the last view is kept, and of those not more than there is room for.
    pub fn tidy(&self) {
        let mut entries = self.lock();
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PolicyName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
