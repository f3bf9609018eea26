//! Who is told when something was committed: subscribers of stored messages, followers, and listeners to answers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use super::inbox::{Inbox, Next};
use super::order::Outcome;
use crate::plan::Stream;
use crate::{Feed, Followed};

/// Answers that a slow listener may lag behind; then it misses the oldest.
const ANSWERS_KEPT: usize = 256;

#[derive(Debug)]
pub(super) struct Signals {
    pub(super) events: Mailbox,
    pub(super) overrides: Mailbox,
    news: watch::Sender<u64>,
    answers: broadcast::Sender<Followed>,
}

/// An inbox that subscribers can wait for.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    changed: Notify,
}

impl Signals {
    pub(super) fn new(events: Inbox, overrides: Inbox) -> Signals {
        let mailbox = |inbox| Mailbox { inbox: Mutex::new(inbox), changed: Notify::new() };
        Signals {
            events: mailbox(events),
            overrides: mailbox(overrides),
            news: watch::Sender::new(0),
            answers: broadcast::Sender::new(ANSWERS_KEPT),
        }
    }

    pub(super) fn mailbox(&self, feed: Feed) -> &Mailbox {
        match feed {
            Feed::Events => &self.events,
            Feed::Overrides => &self.overrides,
        }
    }

    /// The streams whose messages wait for an acknowledgement.
    pub(super) fn stored(&self) -> [(Stream, &Mailbox); 2] {
        [(Stream::Events, &self.events), (Stream::Overrides, &self.overrides)]
    }

    /// Called by the writer once it is on disk.
    pub(super) fn committed(&self, outcomes: &[Outcome]) {
        let mut any = false;
        for outcome in outcomes {
            if let Outcome::Kept { stream, sequence, fresh: true } = outcome {
                any = true;
                match stream {
                    Stream::Events => self.events.add(*sequence),
                    Stream::Overrides => self.overrides.add(*sequence),
                    Stream::Out | Stream::Dead | Stream::Log | Stream::Records => {}
                }
            }
        }
        if any {
            self.news.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Changes with every commit that brought messages.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Tells an answer to whoever listens just now.
    pub(super) fn tell(&self, answer: Followed) {
        // An error means that nobody listens.
        let _ = self.answers.send(answer);
    }

    pub(super) fn answers(&self) -> broadcast::Receiver<Followed> {
        self.answers.subscribe()
    }
}

impl Mailbox {
    /// The next due message: its sequence, and the how-manieth delivery it is.
    pub(super) async fn next(&self, ack_wait: Duration) -> (u64, u64) {
        loop {
            let changed = self.changed.notified();
            let next = self.lock().next(Instant::now(), ack_wait);
            match next {
                Next::Deliver { sequence, attempt } => {
                    // Another subscriber may wait for the one behind it.
                    self.changed.notify_one();
                    return (sequence, attempt);
                }
                Next::WaitUntil(due) => drop(tokio::time::timeout_at(due, changed).await),
                Next::Wait => changed.await,
            }
        }
    }

    pub(super) fn remove(&self, sequence: u64) {
        self.lock().remove(sequence);
    }

    pub(super) fn postpone(&self, sequence: u64, after: Duration) {
        self.lock().postpone(sequence, Instant::now() + after);
        self.changed.notify_one();
    }

    pub(super) fn add_missing(&self, sequences: impl Iterator<Item = u64>) {
        let mut inbox = self.lock();
        sequences.for_each(|sequence| inbox.add(sequence));
        drop(inbox);
        self.changed.notify_one();
    }

    fn add(&self, sequence: u64) {
        self.lock().add(sequence);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
