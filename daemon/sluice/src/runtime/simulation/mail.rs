//! The streams and their consumers, as data: what was published, who was given it, and what came of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sluice_bus::{Feed, Headers};

use super::{plan::Trouble, world::World};

/// A delivery that is neither acknowledged nor given back comes again after this (ms).
pub const ACK_WAIT_MS: i64 = 30_000;
/// The stream's memory of message ids (ms).
const REPEATS_WITHIN_MS: i64 = 120_000;
/// Whoever asks waits so long for an answer (ms).
const PATIENCE_MS: i64 = 20_000;
/// The one consumer of the events; of overrides each daemon has its own.
const EVENTS: &str = "events";

/// One message in a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    pub subject: String,
    pub headers: Headers,
    pub body: Bytes,
    pub id: String,
    pub at: i64,
    pub feed: Feed,
}

/// One message as one consumer has it.
#[derive(Debug, Clone, Copy)]
struct Copied {
    due: i64,
    attempts: u64,
    done: bool,
}

/// A question on its way to a daemon.
#[derive(Debug, Clone)]
pub struct Asked {
    pub number: u64,
    pub subject: String,
    pub headers: Headers,
    pub body: Bytes,
    pub due: i64,
}

#[derive(Debug, Default)]
pub struct Mail {
    /// By their sequences.
    pub stored: BTreeMap<u64, Stored>,
    consumers: BTreeMap<String, BTreeMap<u64, Copied>>,
    /// For each daemon that listens.
    asked: BTreeMap<usize, VecDeque<Asked>>,
    questions: u64,
    /// When each question was asked.
    asked_at: BTreeMap<u64, i64>,
    /// The first answer to each question.
    pub replies: BTreeMap<u64, Bytes>,
    /// Of stored messages, by user and message id.
    pub answers: BTreeMap<(String, String), Bytes>,
    /// Subject and reason.
    pub dead: Vec<(String, String)>,
}

/// What a daemon is given.
pub enum Given {
    Stored { consumer: String, sequence: u64, attempts: u64, message: Stored },
    Asked(Asked),
}

/// A feed's stored messages, as this daemon reads them.
pub fn consumer(feed: Feed, daemon: &str) -> String {
    match feed {
        Feed::Events => EVENTS.to_owned(),
        Feed::Overrides => format!("overrides of {daemon}"),
    }
}

impl Mail {
    /// How many messages have been published.
    pub fn published(&self) -> u64 {
        self.stored.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    /// Nothing waits, nobody waits for an answer, and nothing that was published is unheard of.
    pub fn all_is_done(&self, now: i64) -> bool {
        let waits = |(number, at): (&u64, &i64)| now - at < PATIENCE_MS && !self.replies.contains_key(number);
        !self.asked_at.iter().any(waits)
            && self.consumers.iter().all(|(name, copies)| {
                let feed = if name == EVENTS { Feed::Events } else { Feed::Overrides };
                let known = copies.last_key_value().map_or(0, |(sequence, _)| *sequence);
                let unheard = self.stored.range(known + 1..).any(|(_, one)| one.feed == feed);
                !unheard && copies.values().all(|copy| copy.done)
            })
    }
}

impl World {
    /// Takes a message into its stream; a repeat of its id is not kept. Answers its sequence.
    pub fn publish(&mut self, feed: Feed, subject: &str, headers: Headers, body: Bytes) -> u64 {
        let named = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(sluice_bus::MESSAGE_ID));
        let next = self.mail.published() + 1;
        let id = named.map_or_else(|| format!("without id {next}"), |(_, id)| id.clone());
        let now = self.clock;
        let known = |one: &Stored| one.id == id && one.feed == feed && now - one.at < REPEATS_WITHIN_MS;
        if let Some((place, _)) = self.mail.stored.iter().find(|(_, one)| known(one)) {
            return *place;
        }
        self.note(format!("published: {subject} as {next}"));
        let subject = subject.to_owned();
        self.mail.stored.insert(next, Stored { subject, headers, body, id, at: now, feed });
        next
    }

    /// A daemon has begun to read.
    pub fn listens(&mut self, feed: Feed) {
        let name = self.name();
        self.mail.consumers.entry(consumer(feed, name)).or_default();
        if let (Feed::Overrides, Some(who)) = (feed, self.who) {
            self.mail.asked.insert(who, VecDeque::new());
        }
    }

    /// Nobody reads there any more.
    pub fn hears_nothing(&mut self, who: usize) {
        self.mail.asked.remove(&who);
    }

    /// The next message for whoever looks, if one is due.
    pub fn give(&mut self, feed: Feed) -> Option<Given> {
        let now = self.at();
        if feed == Feed::Overrides
            && let Some(asked) = self.who.and_then(|who| self.mail.asked.get_mut(&who))
            && let Some(first) = asked.iter().position(|one| one.due <= now)
        {
            return asked.remove(first).map(Given::Asked);
        }
        if self.is(Trouble::BusAway) {
            return None;
        }
        self.hand_out(feed);
        let consumer = consumer(feed, self.name());
        let copies = self.mail.consumers.get_mut(&consumer)?;
        let due = copies.iter_mut().filter(|(_, copy)| !copy.done && copy.due <= now);
        let (sequence, copy) = due.min_by_key(|(sequence, copy)| (copy.due, **sequence))?;
        (copy.due, copy.attempts) = (now + ACK_WAIT_MS, copy.attempts + 1);
        let (sequence, attempts) = (*sequence, copy.attempts);
        let message = self.mail.stored.get(&sequence)?.clone();
        Some(Given::Stored { consumer, sequence, attempts, message })
    }

    /// When to look again, at the latest.
    pub fn next_mail(&self, feed: Feed) -> Option<i64> {
        let copies = self.mail.consumers.get(&consumer(feed, self.name()))?;
        let stored = copies.values().filter(|copy| !copy.done).map(|copy| copy.due).min();
        let asked = self.who.and_then(|who| self.mail.asked.get(&who)).into_iter().flatten();
        let asked = asked.map(|one| one.due).min().filter(|_| feed == Feed::Overrides);
        stored.into_iter().chain(asked).min()
    }

    /// Gives each new message its moment at this consumer: messages take their time, and may overtake each other.
    fn hand_out(&mut self, feed: Feed) {
        let slow = self.is(Trouble::MailSlow);
        let (name, now) = (consumer(feed, self.name()), self.clock);
        let Mail { stored, consumers, .. } = &mut self.mail;
        let Some(copies) = consumers.get_mut(&name) else { return };
        let known = copies.last_key_value().map_or(0, |(sequence, _)| *sequence);
        for (&sequence, message) in stored.range(known + 1..) {
            if message.feed == feed {
                let delay = self.chance.i64(if slow { 0..8_000 } else { 0..20 });
                copies.insert(sequence, Copied { due: now + delay, attempts: 0, done: false });
            }
        }
    }

    pub fn acknowledged(&mut self, consumer: &str, sequence: u64) {
        if let Some(copy) = self.copy(consumer, sequence) {
            copy.done = true;
        }
    }

    pub fn given_back(&mut self, consumer: &str, sequence: u64, after: i64) {
        let due = self.at() + after;
        if let Some(copy) = self.copy(consumer, sequence) {
            copy.due = due;
        }
    }

    fn copy(&mut self, consumer: &str, sequence: u64) -> Option<&mut Copied> {
        self.mail.consumers.get_mut(consumer)?.get_mut(&sequence)
    }

    /// A question to every daemon that listens; `None` if none does.
    pub fn ask(&mut self, subject: &str, headers: Headers, body: Bytes) -> Option<u64> {
        if self.mail.asked.is_empty() {
            return None;
        }
        self.mail.questions += 1;
        let number = self.mail.questions;
        let slow = self.is(Trouble::MailSlow);
        let now = self.clock;
        self.mail.asked_at.insert(number, now);
        for asked in self.mail.asked.values_mut() {
            let due = now + self.chance.i64(if slow { 0..2_000 } else { 0..10 });
            let (subject, headers, body) = (subject.to_owned(), headers.clone(), body.clone());
            asked.push_back(Asked { number, subject, headers, body, due });
        }
        Some(number)
    }

    /// Sequences and consumers of the stored messages that some consumer has not done with.
    pub fn undone(&self) -> Vec<(u64, String)> {
        let undone = self.mail.consumers.iter().flat_map(|(consumer, copies)| {
            copies
                .iter()
                .filter(|(_, copy)| !copy.done)
                .map(move |(sequence, _)| (*sequence, consumer.clone()))
        });
        undone.collect()
    }
}
