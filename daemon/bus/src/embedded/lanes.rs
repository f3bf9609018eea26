//! What waits to be written, in two lanes: everything of ours (overrides, acknowledgements, state) goes before events
//! that come in from outside, so a flood of these delays nothing.
//!
//! Both lanes are bounded by bytes; who finds no room waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may wait in one lane, in units of [`UNIT`].
const ROOM: usize = 32 * 1024;
const UNIT: usize = 1024;
/// Events taken into one commit at most, so that what is urgent waits for no more than that.
const MOST_BULK: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Urgent,
    Bulk,
}

/// Two bounded queues, filled by tasks and emptied by one thread.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    queues: Mutex<Queues<T>>,
    filled: Condvar,
    urgent: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

#[derive(Debug)]
struct Queues<T> {
    urgent: VecDeque<Waiting<T>>,
    bulk: VecDeque<Waiting<T>>,
    closed: bool,
}

/// A job with its share of the room.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) job: T,
    _room: OwnedSemaphorePermit,
}

impl<T> Lanes<T> {
    pub(super) fn new() -> Lanes<T> {
        Lanes {
            queues: Mutex::new(Queues { urgent: VecDeque::new(), bulk: VecDeque::new(), closed: false }),
            filled: Condvar::new(),
            urgent: Arc::new(Semaphore::new(ROOM)),
            bulk: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Waits for room and queues the job. Gives it back if the lanes are closed.
    pub(super) async fn push(&self, lane: Lane, bytes: usize, job: T) -> Result<(), T> {
        let cost = u32::try_from((bytes / UNIT + 1).min(ROOM)).unwrap_or(1);
        let room = match lane {
            Lane::Urgent => self.urgent.clone().acquire_many_owned(cost),
            Lane::Bulk => self.bulk.clone().acquire_many_owned(cost),
        };
        let Ok(_room) = room.await else { return Err(job) };
        let mut queues = self.lock();
        if queues.closed {
            return Err(job);
        }
        let waiting = Waiting { job, _room };
        match lane {
            Lane::Urgent => queues.urgent.push_back(waiting),
            Lane::Bulk => queues.bulk.push_back(waiting),
        }
        drop(queues);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for work and takes what goes into one commit, urgent first. Nothing once closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Waiting<T>>> {
        let idle =
            |queues: &mut Queues<T>| queues.urgent.is_empty() && queues.bulk.is_empty() && !queues.closed;
        let queues = self.filled.wait_while(self.lock(), idle);
        let mut queues = queues.unwrap_or_else(PoisonError::into_inner);
        let mut batch: Vec<Waiting<T>> = queues.urgent.drain(..).collect();
        let bulk = queues.bulk.len().min(MOST_BULK);
        batch.extend(queues.bulk.drain(..bulk));
        if batch.is_empty() { None } else { Some(batch) }
    }

    /// Takes nothing more; what waits is still given out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.urgent.close();
        self.bulk.close();
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queues<T>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_urgent_overtakes_a_flood() {
        let lanes = Lanes::new();
        for event in 0..300 {
            lanes.push(Lane::Bulk, 10, event).await.unwrap();
        }
        lanes.push(Lane::Urgent, 10, 1000).await.unwrap();
        let first: Vec<i32> = lanes.take().unwrap().into_iter().map(|waiting| waiting.job).collect();
        assert_eq!((first[0], first.len()), (1000, 257));
        assert_eq!(lanes.take().unwrap().len(), 44);
    }

    #[tokio::test]
    async fn closed_lanes_give_out_what_waits_and_take_nothing_more() {
        let lanes = Lanes::new();
        lanes.push(Lane::Urgent, 10, 1).await.unwrap();
        lanes.close();
        assert_eq!(lanes.push(Lane::Urgent, 10, 2).await, Err(2));
        assert_eq!(lanes.take().unwrap().len(), 1);
        assert!(lanes.take().is_none());
    }
}
