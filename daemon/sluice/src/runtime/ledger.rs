//! Where rollouts are kept: which keys there are, and how they are read and saved. Nothing is decided here.
//!
//! | key | holds | saved |
//! | --- | --- | --- |
//! | `charter/<ns>/<name>/<attempt>` | what does not change: request, policy | once |
//! | `state/<ns>/<name>/<attempt>` | owner and state | at every transition, by compare-and-swap |
//! | `evidence/<ns>/<name>/<attempt>` | plan, evidence, cursor | when the verdict changes, and at most once a minute |
//! | `current/<ns>/<name>` | the policy's latest attempts | at each start |
//! | `pending/<ns>/<name>` | the announcement that waits for its turn | until it begins |
//! | `daemon/<daemon>` | the beat of a daemon | every two seconds |
//! | `target/<object>` | which rollout holds this target | until it is settled |
//! | `record/<ns>/<name>/<attempt>` | batches of the decision record: no key, but a record of the store's | as they come |
//! | `trigger/<ns>/<name>/<workload>` | the template that was last acted upon | when it changes |
//! | `triggers-off/<ns>/<name>` | that the policy's triggers start nothing | by `undo` and `triggers-off` |
//! | `nonces/<ns>/<name>` | signed commands of the last minutes, and their answers | before and after each |
//! | `open/<ns>/<name>/<attempt>` | whose it was last: the rollout has not settled | until it is settled |

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_bus::{BusError, Store, StoreError, StoreRevision};
use sluice_rollout::RolloutId;
use sluice_wire::{
    record::{self, Charter, HistoryLine, Saved, Unread, VERSION},
    subject::escape,
};

#[cfg(test)]
mod tests;

use super::{authority::Nonces, cluster::triggers::Triggered, fellows::Beat};

/// How many attempts of a policy are remembered; older ones are deleted.
const MOST_ATTEMPTS: usize = 20;
/// Said of one of those that had still something to tell.
pub const OUTLIVED: &str = "its policy has had so many releases since that nothing is kept of this one: what could not be told of its end is given up";
/// A policy's attempts are changed by few daemons at once.
const AMENDMENTS: usize = 10;
/// More lines of history than a record keeps as not written yet.
const MOST_LATEST: usize = 64;

#[derive(Debug, Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
}

/// The latest attempts of one policy, newest last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    pub ids: Vec<RolloutId>,
    /// The highest epoch that any of them had: fences on targets and workloads never go back.
    #[serde(default)]
    pub epoch: u64,
    /// The newest announcement that was taken, by its place in the bus' stream.
    #[serde(default)]
    pub sequence: u64,
    /// Older ones, whose keys are deleted at the next change: what failed is not forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passed: Vec<RolloutId>,
}

/// A rollout that has not settled, and whose it was when that was last noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub rollout: RolloutId,
    pub daemon: String,
}

/// An announcement that waits until the running rollout has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    #[serde(default)]
    version: u32,
    pub charter: Charter,
}

impl Ledger {
    pub fn new(store: Arc<dyn Store>) -> Ledger {
        Ledger { store }
    }

    /// `false` if it was there already.
    pub async fn create_charter(&self, charter: &Charter) -> Result<bool, StoreError> {
        self.create(&key("charter", &charter.id), charter).await
    }

    pub async fn charter(&self, id: &RolloutId) -> Result<Option<Charter>, StoreError> {
        Ok(self.read(&key("charter", id)).await?.map(|(charter, _)| charter))
    }

    pub async fn load(&self, id: &RolloutId) -> Result<Option<(Saved, StoreRevision)>, StoreError> {
        self.read(&key("state", id)).await
    }

    /// Saves only over `expected`; a conflict means that somebody else owns the rollout by now.
    pub async fn save(&self, saved: &Saved, expected: StoreRevision) -> Result<StoreRevision, StoreError> {
        self.store.put(&key("state", &saved.state.id), json(saved)?, expected).await
    }

    pub async fn load_evidence<T: DeserializeOwned>(&self, id: &RolloutId) -> Result<Option<T>, StoreError> {
        Ok(self.read(&key("evidence", id)).await?.map(|(evidence, _)| evidence))
    }

    /// Only the owner saves evidence, so the latest wins.
    pub async fn save_evidence<T: Serialize>(&self, id: &RolloutId, evidence: &T) -> Result<(), StoreError> {
        self.overwrite(&key("evidence", id), evidence).await
    }

    /// Notes that it runs, and whose it is now. The record alone decides that; here it can be seen without reading each.
    pub async fn open(&self, id: &RolloutId, daemon: &str) -> Result<(), StoreError> {
        self.overwrite(&key("open", id), &Open { rollout: id.clone(), daemon: daemon.to_owned() }).await
    }

    /// Everything that only a running rollout needs is let go. The target's key stays: whoever holds it next sees that
    /// this one has ended.
    pub async fn settle(&self, id: &RolloutId) -> Result<(), StoreError> {
        self.store.delete(&key("evidence", id)).await?;
        self.store.delete(&key("open", id)).await
    }

    /// Nothing is known of it any more. What it had yet to tell is given up: without its charter nobody takes it up.
    pub async fn forget(&self, id: &RolloutId) -> Result<(), StoreError> {
        self.store.delete(&key("charter", id)).await?;
        self.store.delete(&key("state", id)).await?;
        self.settle(id).await
    }

    /// Rollouts that have not settled.
    pub async fn open_rollouts(&self) -> Result<Vec<Open>, StoreError> {
        self.all("open/").await.map(|open| open.into_iter().map(|(open, _)| open).collect())
    }

    /// Writes a daemon's beat over the one at `expected`; a conflict means that another of its name has beaten.
    pub async fn beat(&self, beat: &Beat, expected: StoreRevision) -> Result<StoreRevision, StoreError> {
        self.store.put(&beat_key(&beat.daemon), json(beat)?, expected).await
    }

    pub async fn beat_of(&self, daemon: &str) -> Result<Option<(Beat, StoreRevision)>, StoreError> {
        self.read(&beat_key(daemon)).await
    }

    pub async fn beats(&self) -> Result<Vec<(Beat, StoreRevision)>, StoreError> {
        self.all("daemon/").await
    }

    /// Everything below a prefix; what cannot be read is left out, and said.
    async fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(T, StoreRevision)>, StoreError> {
        let mut all = Vec::new();
        for entry in self.store.scan(prefix).await? {
            match record::read(&entry.value) {
                Ok(value) => all.push((value, entry.revision)),
                Err(error) => tracing::error!(key = entry.key, %error, "cannot be read and is left alone"),
            }
        }
        Ok(all)
    }

    pub async fn attempts(&self, namespace: &str, name: &str) -> Result<Attempts, StoreError> {
        Ok(self.read(&current_key(namespace, name)).await?.map(|(attempts, _)| attempts).unwrap_or_default())
    }

    /// The latest attempt of every policy, read in one pass.
    pub async fn latest(&self) -> Result<Vec<RolloutId>, StoreError> {
        let all: Vec<(Attempts, _)> = self.all("current/").await?;
        Ok(all.into_iter().filter_map(|(attempts, _)| attempts.ids.last().cloned()).collect())
    }

    /// Notes that this announcement was taken; `false` if a newer one was before.
    pub async fn take_sequence(&self, charter: &Charter) -> Result<bool, StoreError> {
        let Some(sequence) = charter.sequence else { return Ok(true) };
        let take = |attempts: &mut Attempts| attempts.sequence = attempts.sequence.max(sequence);
        Ok(self.amend(&charter.id, take).await?.sequence == sequence)
    }

    /// Makes `id` the current attempt, with its epoch; what is older than the last twenty is deleted at the next.
    /// Answers the latest, which is another one where `id` only has something to tell yet.
    pub async fn make_current(&self, id: &RolloutId, epoch: u64) -> Result<RolloutId, StoreError> {
        let make = |attempts: &mut Attempts| {
            attempts.epoch = attempts.epoch.max(epoch);
            if !attempts.ids.contains(id) && !attempts.passed.contains(id) {
                attempts.ids.push(id.clone());
            }
        };
        Ok(self.amend(id, make).await?.ids.pop().unwrap_or_else(|| id.clone()))
    }

    /// A release that waited in vain is known, and the running one stays the latest.
    pub async fn remember_passed_over(&self, id: &RolloutId) -> Result<(), StoreError> {
        let remember = |attempts: &mut Attempts| {
            if !attempts.ids.contains(id) {
                let before_the_latest = attempts.ids.len().saturating_sub(1);
                attempts.ids.insert(before_the_latest, id.clone());
            }
        };
        self.amend(id, remember).await.map(drop)
    }

    /// Changes a policy's attempts, anew if another daemon has done so meanwhile. Answers how they stand then.
    async fn amend(&self, id: &RolloutId, change: impl Fn(&mut Attempts)) -> Result<Attempts, StoreError> {
        let key = current_key(id.namespace(), id.name());
        for _ in 0..AMENDMENTS {
            let (before, revision) = self.read::<Attempts>(&key).await?.unwrap_or_default();
            let mut attempts = before.clone();
            change(&mut attempts);
            if attempts == before {
                return Ok(attempts);
            }
            for old in before.passed.iter().filter(|old| *old != id) {
                self.forget(old).await?;
            }
            attempts.passed.retain(|old| old == id);
            let passed = attempts.ids.len().saturating_sub(MOST_ATTEMPTS);
            attempts.passed.extend(attempts.ids.drain(..passed));
            match self.store.put(&key, json(&attempts)?, revision).await {
                Ok(_) => return Ok(attempts),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key })
    }

    /// Every announcement that waits.
    pub async fn all_pending(&self) -> Result<Vec<Charter>, StoreError> {
        self.all("pending/")
            .await
            .map(|all| all.into_iter().map(|(pending, _): (Pending, _)| pending.charter).collect())
    }

    pub async fn pending(&self, namespace: &str, name: &str) -> Result<Option<Pending>, StoreError> {
        Ok(self.read(&pending_key(namespace, name)).await?.map(|(pending, _)| pending))
    }

    /// The newest announcement takes the place of one that waited.
    pub async fn set_pending(&self, charter: &Charter) -> Result<(), StoreError> {
        let pending = Pending { version: VERSION, charter: charter.clone() };
        self.overwrite(&pending_key(charter.id.namespace(), charter.id.name()), &pending).await
    }

    pub async fn triggered(
        &self,
        namespace: &str,
        name: &str,
        workload: &str,
    ) -> Result<Option<Triggered>, StoreError> {
        Ok(self.read(&trigger_key(namespace, name, workload)).await?.map(|(triggered, _)| triggered))
    }

    pub async fn set_triggered(
        &self,
        namespace: &str,
        name: &str,
        workload: &str,
        triggered: &Triggered,
    ) -> Result<(), StoreError> {
        self.overwrite(&trigger_key(namespace, name, workload), triggered).await
    }

    /// Whether a person, or an undo, has switched the policy's triggers off.
    pub async fn triggers_are_off(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        Ok(self.read::<bool>(&triggers_off_key(namespace, name)).await?.is_some_and(|(off, _)| off))
    }

    pub async fn switch_triggers(&self, namespace: &str, name: &str, on: bool) -> Result<(), StoreError> {
        match on {
            true => self.store.delete(&triggers_off_key(namespace, name)).await,
            false => self.overwrite(&triggers_off_key(namespace, name), &true).await,
        }
    }

    pub async fn clear_pending(&self, namespace: &str, name: &str) -> Result<(), StoreError> {
        self.store.delete(&pending_key(namespace, name)).await
    }

    /// One rollout per target object. Answers with the other rollout that holds it, if one does.
    pub async fn hold_target(&self, target: &str, id: &RolloutId) -> Result<Option<RolloutId>, StoreError> {
        let key = target_key(target);
        match self.read::<RolloutId>(&key).await? {
            Some((holder, _)) if holder == *id => Ok(None),
            Some((holder, revision)) if self.has_settled(&holder).await? => {
                self.store.put(&key, json(id)?, revision).await.map(|_| None)
            }
            Some((holder, _)) => Ok(Some(holder)),
            None => self.store.put(&key, json(id)?, 0).await.map(|_| None),
        }
    }

    async fn has_settled(&self, id: &RolloutId) -> Result<bool, StoreError> {
        Ok(self.load(id).await?.is_none_or(|(saved, _)| saved.state.is_done()))
    }

    /// Changes what is known of a policy's signed commands, by compare-and-swap.
    pub async fn change_nonces<T>(
        &self,
        (namespace, name): (&str, &str),
        change: impl Fn(&mut Nonces) -> T,
    ) -> Result<T, StoreError> {
        let key = format!("nonces/{}/{}", escape(namespace), escape(name));
        for _ in 0..5 {
            let (before, revision) = self.read::<Nonces>(&key).await?.unwrap_or_default();
            let mut after = before.clone();
            let told = change(&mut after);
            if after == before {
                return Ok(told);
            }
            match self.store.put(&key, json(&after)?, revision).await {
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map(|_| told),
            }
        }
        Err(StoreError::Conflict { key })
    }

    pub async fn tell_history(&self, line: &HistoryLine) -> Result<(), StoreError> {
        self.store.append(&history_log(&line.rollout), json(line)?).await
    }

    /// Appends the lines that a crash kept from being written: those that are not among the latest.
    pub async fn tell_untold(&self, id: &RolloutId, untold: &[HistoryLine]) -> Result<(), StoreError> {
        if untold.is_empty() {
            return Ok(());
        }
        let known = self.history(id, MOST_LATEST).await?;
        for line in untold.iter().filter(|line| !known.contains(line)) {
            self.tell_history(line).await?;
        }
        Ok(())
    }

    /// Oldest first; lines of a newer version that cannot be read are left out.
    pub async fn history(&self, id: &RolloutId, most: usize) -> Result<Vec<HistoryLine>, StoreError> {
        let lines = self.store.log(&history_log(id), most).await?;
        Ok(lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    pub async fn append_record(&self, id: &RolloutId, batch: Bytes) -> Result<(), StoreError> {
        self.store.append_record(&key("record", id), batch).await
    }

    /// Batches of the decision record after the place `after`, each with its place.
    pub async fn record(
        &self,
        id: &RolloutId,
        after: u64,
        most_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.store.record(&key("record", id), after, most_bytes).await
    }

    async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<bool, StoreError> {
        match self.store.put(key, json(value)?, 0).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn overwrite<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let value = json(value)?;
        for _ in 0..3 {
            let revision = self.store.get(key).await?.map_or(0, |(_, revision)| revision);
            match self.store.put(key, value.clone(), revision).await {
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map(|_| ()),
            }
        }
        Err(StoreError::Conflict { key: key.to_owned() })
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, StoreRevision)>, StoreError> {
        let Some((bytes, revision)) = self.store.get(key).await? else { return Ok(None) };
        let value = record::read(&bytes).map_err(|unread| unreadable(key, &unread))?;
        Ok(Some((value, revision)))
    }
}

/// Left alone and reported, never overwritten by a guess.
fn unreadable(key: &str, unread: &Unread) -> StoreError {
    StoreError::Unread { key: key.to_owned(), why: format!("{key}: {unread}") }
}

fn json<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| BusError::Other(error.to_string()).into())
}

fn key(kind: &str, id: &RolloutId) -> String {
    format!("{kind}/{}/{}/{}", escape(id.namespace()), escape(id.name()), escape(id.attempt()))
}

fn current_key(namespace: &str, name: &str) -> String {
    format!("current/{}/{}", escape(namespace), escape(name))
}

fn pending_key(namespace: &str, name: &str) -> String {
    format!("pending/{}/{}", escape(namespace), escape(name))
}

fn trigger_key(namespace: &str, name: &str, workload: &str) -> String {
    format!("trigger/{}/{}/{}", escape(namespace), escape(name), escape(workload))
}

fn triggers_off_key(namespace: &str, name: &str) -> String {
    format!("triggers-off/{}/{}", escape(namespace), escape(name))
}

fn beat_key(daemon: &str) -> String {
    format!("daemon/{}", escape(daemon))
}

fn target_key(target: &str) -> String {
    format!("target/{}", escape(target))
}

fn history_log(id: &RolloutId) -> String {
    format!("history.{}.{}.{}", escape(id.namespace()), escape(id.name()), escape(id.attempt()))
}
