//! Stored messages that wait for their acknowledgement: which one is due next. Plain bookkeeping over instants given
//! from outside; nothing is read or written here.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Duration;

use tokio::time::Instant;

/// What a subscriber should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Deliver this one, for the `attempt`th time.
    Deliver { sequence: u64, attempt: u64 },
    /// Look again then, or when something changes.
    WaitUntil(Instant),
    /// Look again when something changes.
    Wait,
}

/// The unacknowledged messages of one stream.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    messages: BTreeMap<u64, Slot>,
    ready: BTreeSet<u64>,
    waiting: BTreeSet<(Instant, u64)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    delivered: u64,
    due: Option<Instant>,
}

impl Inbox {
    /// What was found in the file at the start: sequence and deliveries so far.
    pub(super) fn restored(found: impl IntoIterator<Item = (u64, u64)>) -> Inbox {
        let slots = found.into_iter().map(|(sequence, delivered)| (sequence, Slot { delivered, due: None }));
        let messages: BTreeMap<u64, Slot> = slots.collect();
        Inbox { ready: messages.keys().copied().collect(), messages, waiting: BTreeSet::new() }
    }

    /// One that is known already stays as it is.
    pub(super) fn add(&mut self, sequence: u64) {
        if let Entry::Vacant(slot) = self.messages.entry(sequence) {
            slot.insert(Slot::default());
            self.ready.insert(sequence);
        }
    }

    /// The oldest message that is due; it is due again after `ack_wait`.
    pub(super) fn next(&mut self, now: Instant, ack_wait: Duration) -> Next {
        while let Some((due, sequence)) = self.waiting.first().copied().filter(|(due, _)| *due <= now) {
            self.waiting.remove(&(due, sequence));
            self.ready.insert(sequence);
        }
        if let Some(sequence) = self.ready.first().copied() {
            self.postpone(sequence, now + ack_wait);
            let Some(slot) = self.messages.get_mut(&sequence) else { return Next::Wait };
            slot.delivered += 1;
            return Next::Deliver { sequence, attempt: slot.delivered };
        }
        self.waiting.first().map_or(Next::Wait, |(due, _)| Next::WaitUntil(*due))
    }

    /// Not before `due`. One that is acknowledged already stays so.
    pub(super) fn postpone(&mut self, sequence: u64, due: Instant) {
        let Some(slot) = self.messages.get_mut(&sequence) else { return };
        if let Some(before) = slot.due.replace(due) {
            self.waiting.remove(&(before, sequence));
        }
        self.ready.remove(&sequence);
        self.waiting.insert((due, sequence));
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let slot = self.messages.remove(&sequence);
        self.ready.remove(&sequence);
        if let Some(due) = slot.and_then(|slot| slot.due) {
            self.waiting.remove(&(due, sequence));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_message_comes_again_until_it_is_acknowledged() {
        let (begin, mut inbox) = (Instant::now(), Inbox::default());
        inbox.add(7);
        assert_eq!(inbox.next(begin, WAIT), Next::Deliver { sequence: 7, attempt: 1 });
        assert_eq!(inbox.next(begin, WAIT), Next::WaitUntil(begin + WAIT));
        assert_eq!(inbox.next(begin + WAIT, WAIT), Next::Deliver { sequence: 7, attempt: 2 });
        inbox.postpone(7, begin + WAIT);
        assert_eq!(inbox.next(begin + WAIT, WAIT), Next::Deliver { sequence: 7, attempt: 3 });
        inbox.remove(7);
        inbox.postpone(7, begin);
        assert_eq!(inbox.next(begin + 9 * WAIT, WAIT), Next::Wait);
    }

    #[tokio::test]
    async fn the_oldest_comes_first_and_one_given_back_lets_others_pass() {
        let (begin, mut inbox) = (Instant::now(), Inbox::restored([(3, 0), (1, 4), (2, 0)]));
        assert_eq!(inbox.next(begin, WAIT), Next::Deliver { sequence: 1, attempt: 5 });
        inbox.postpone(1, begin + WAIT * 2);
        assert_eq!(inbox.next(begin, WAIT), Next::Deliver { sequence: 2, attempt: 1 });
        inbox.remove(2);
        assert_eq!(inbox.next(begin, WAIT), Next::Deliver { sequence: 3, attempt: 1 });
    }
}
