//! One alert in a sink's ledger: the word to say, what the sink knows, and who waits for it.

use std::time::Duration;

use sluice_rollout::{AlertKind, Timestamp};
use sluice_wire::alert::{Alert, AlertStatus};
use tokio::{sync::oneshot, time::Instant};

use crate::{instant::rfc3339, receipt::Outcome};

pub(super) type Waiter = oneshot::Sender<Outcome>;

/// What the sink knows of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// No answer came, or a former process of ours may have said it.
    Perhaps,
    Firing,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) alert: Alert,
    /// Which word this is: a send in flight learns by it that it has been overtaken.
    pub(super) word: u64,
    pub(super) known: Known,
    /// Whether the present word is still to be said.
    pub(super) unsaid: bool,
    pub(super) in_flight: bool,
    /// When it is to be said (again).
    pub(super) due: Option<Instant>,
    pub(super) attempts: u32,
    /// The sink refused a message with this and others in it: it goes by itself.
    pub(super) alone: bool,
    pub(super) waiting: Vec<Waiter>,
    /// When it was first said to fire.
    pub(super) said: Option<Instant>,
    /// Its end, which waits until it was up long enough.
    pub(super) end: Option<End>,
    /// It was over before the sink had heard of it.
    pub(super) missed: bool,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) alert: Alert,
    pub(super) waiting: Vec<Waiter>,
}

impl Entry {
    /// Whether this is the word that the entry holds already.
    pub(super) fn says(&self, alert: &Alert) -> bool {
        self.alert.status == alert.status
            && self.alert.summary == alert.summary
            && self.alert.details == alert.details
    }

    /// Whether its end has to wait: an abort until it was told, whatever was told until it was up long enough.
    pub(super) fn is_to_stay(&self, at_least: Duration, now: Instant) -> bool {
        let untold = self.said.is_none() && self.known != Known::Firing;
        (untold && self.alert.kind == AlertKind::Aborting)
            || self.said.is_some_and(|said| now < said + at_least)
    }

    pub(super) fn end_later(&mut self, mut alert: Alert, waiter: Waiter, at_least: Duration) {
        alert.since = self.alert.since;
        let mut waiting = self.end.take().map(|end| end.waiting).unwrap_or_default();
        waiting.push(waiter);
        self.end = Some(End { alert, waiting });
        self.hurry(at_least);
    }

    /// What was said is due again when its end may be said, if not before.
    pub(super) fn hurry(&mut self, at_least: Duration) {
        if let (Some(_), Some(said), false) = (&self.end, self.said, self.unsaid) {
            let ripe = said + at_least;
            self.due = Some(self.due.map_or(ripe, |due| due.min(ripe)));
        }
    }

    /// The end that waits becomes the word to say.
    pub(super) fn end_now(&mut self) {
        if let Some(End { alert, waiting }) = self.end.take() {
            self.answer_all(&Outcome::Needless);
            self.alert = alert;
            self.unsaid = true;
            self.waiting = waiting;
        }
    }

    /// It was up, is over, and nobody has heard of it: that is the word now, by which nobody is called but on-call knows.
    /// `fires`: the sink tells only of what fires, so that comes first and the end follows.
    /// `waiting`: until that has been told.
    pub(super) fn miss(&mut self, mut resolved: Alert, fires: bool, waiting: Vec<Waiter>) {
        self.answer_all(&Outcome::Needless);
        resolved.since = self.alert.since;
        let summary = missed(&self.alert.summary, resolved.since, resolved.at);
        let status = if fires { AlertStatus::Firing } else { AlertStatus::Resolved };
        self.alert = Alert { summary, status, ..if fires { self.alert.clone() } else { resolved.clone() } };
        (self.missed, self.unsaid) = (true, true);
        if fires {
            self.end = Some(End { alert: resolved, waiting });
        } else {
            self.waiting = waiting;
        }
    }

    /// Another caller waits for the news of what was missed.
    pub(super) fn await_news(&mut self, waiter: Waiter) {
        match &mut self.end {
            Some(end) => end.waiting.push(waiter),
            None => self.join(waiter),
        }
    }

    /// Another caller waits for the same word.
    pub(super) fn join(&mut self, waiter: Waiter) {
        if self.unsaid {
            self.waiting.retain(|waiting| !waiting.is_closed());
            self.waiting.push(waiter);
        } else {
            answer(waiter, Outcome::Told);
        }
    }

    pub(super) fn drop_end(&mut self, outcome: &Outcome) {
        for waiter in self.end.take().into_iter().flat_map(|end| end.waiting) {
            answer(waiter, outcome.clone());
        }
    }

    /// Nobody says it any more; its end is kept to be counted.
    pub(super) fn stop(&mut self) {
        let ends = self.end.iter_mut().flat_map(|end| end.waiting.drain(..));
        for waiter in self.waiting.drain(..).chain(ends) {
            answer(waiter, Outcome::Stopped);
        }
    }

    pub(super) fn answer_all(&mut self, outcome: &Outcome) {
        for waiter in self.waiting.drain(..) {
            answer(waiter, outcome.clone());
        }
    }
}

fn missed(summary: &str, since: Timestamp, at: Timestamp) -> String {
    format!(
        "over by now, was up from {} to {} and could not be told then: {summary}",
        rfc3339(since),
        rfc3339(at)
    )
}

/// Whoever asked may have gone; the alert goes on.
pub(super) fn answer(waiter: Waiter, outcome: Outcome) {
    let _ = waiter.send(outcome);
}
