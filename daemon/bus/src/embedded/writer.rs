//! The one thread that writes the file. It takes all that waits into one transaction, commits it to disk, and only then
//! tells anybody that it is done.
//!
//! After a failed write the whole batch is refused, the file is opened again as it was before, and the next batch tries
//! anew: a full disk loses nothing that was acknowledged, and passes when there is room.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use redb::Database;
use tokio::sync::oneshot;

use super::complaints::Complaints;
use super::file::File;
use super::lanes::{Lane, Lanes};
use super::messages;
use super::order::{Order, Outcome};
use super::signals::Signals;
use super::tables::Tables;
use crate::plan::Limits;
use crate::{BusError, CALL_LIMIT};

type Result<T> = std::result::Result<T, BusError>;

#[derive(Debug)]
struct Job {
    order: Order,
    answer: oneshot::Sender<Result<Outcome>>,
}

/// The queue to the thread, and the thread. Dropping it writes what waits and closes.
#[derive(Debug)]
pub(super) struct Writer {
    lanes: Arc<Lanes<Job>>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(file: Arc<File>, limits: Limits, signals: Arc<Signals>) -> Result<Writer> {
        let lanes = Arc::new(Lanes::new());
        let trouble = Arc::new(Mutex::new(None));
        let mut desk = Desk {
            lanes: lanes.clone(),
            trouble: trouble.clone(),
            file,
            limits,
            signals,
            failed_before: false,
            complaints: Complaints::default(),
        };
        let thread = std::thread::Builder::new().name("sluice-writer".into()).spawn(move || desk.work());
        let thread = thread.map_err(|error| BusError::Storage(format!("starting the writer: {error}")))?;
        Ok(Writer { lanes, trouble, thread: Some(thread) })
    }

    /// Waits until it is on disk.
    pub(super) async fn write(&self, lane: Lane, order: Order) -> Result<Outcome> {
        let answered = self.hand_over(lane, order);
        match tokio::time::timeout(CALL_LIMIT, async { answered.await?.await.map_err(|_| closed())? }).await {
            Ok(Ok(Outcome::Full(why))) => Err(BusError::Storage(why.to_owned())),
            Ok(outcome) => outcome,
            Err(_) => Err(BusError::Timeout(CALL_LIMIT)),
        }
    }

    /// Queues it without waiting for the disk; what comes of it is not told.
    pub(super) async fn note(&self, order: Order) -> Result<()> {
        self.hand_over(Lane::Urgent, order).await.map(drop)
    }

    /// Why the last write failed, if it did.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn hand_over(&self, lane: Lane, order: Order) -> Result<oneshot::Receiver<Result<Outcome>>> {
        let (answer, answered) = oneshot::channel();
        let bytes = order.bytes();
        self.lanes.push(lane, bytes, Job { order, answer }).await.map_err(|_| closed())?;
        Ok(answered)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lanes.close();
        if let Some(thread) = self.thread.take() {
            // It ends after the commit that it is at; a panic in it was printed already.
            let _ = thread.join();
        }
    }
}

fn closed() -> BusError {
    BusError::Unreachable("the embedded bus is closed".into())
}

/// What the thread holds.
struct Desk {
    lanes: Arc<Lanes<Job>>,
    trouble: Arc<Mutex<Option<String>>>,
    file: Arc<File>,
    limits: Limits,
    signals: Arc<Signals>,
    failed_before: bool,
    complaints: Complaints,
}

impl Desk {
    fn work(&mut self) {
        while let Some(batch) = self.lanes.take() {
            let orders: Vec<&Order> = batch.iter().map(|waiting| &waiting.job.order).collect();
            let failed_before = self.failed_before;
            let outcomes = self.commit(&orders);
            if let Ok(outcomes) = &outcomes {
                self.signals.committed(outcomes);
                if failed_before && let Err(error) = self.find_what_was_kept() {
                    tracing::warn!(%error, "kept messages could not be looked for");
                }
            }
            let answers: Vec<_> = batch.into_iter().map(|waiting| waiting.job.answer).collect();
            tell(answers, outcomes);
        }
    }

    fn commit(&mut self, orders: &[&Order]) -> Result<Vec<Outcome>> {
        let done = self.file.with(|database| commit(database, orders, &self.limits));
        let done = done.map_err(|error| self.recover(&error));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = done.as_ref().err().cloned();
        self.failed_before = done.is_err();
        if done.is_ok()
            && let Some(untold) = self.complaints.worked(Instant::now())
        {
            tracing::info!(untold, "the embedded bus writes its file again: no write failed for a minute");
        }
        done.map_err(BusError::Storage)
    }

    /// Opens the file again, and says in words what happened.
    fn recover(&mut self, error: &redb::Error) -> String {
        let why = format!("{error}; is the disk full?");
        if let Some(untold) = self.complaints.failed(Instant::now()) {
            tracing::error!(
                why,
                untold,
                "the embedded bus could not write its file; told again once a minute at most"
            );
        }
        match error {
            redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                match self.file.reopen() {
                    Ok(()) => why,
                    Err(again) => format!("{why} Opening it again failed too: {again}"),
                }
            }
            _ => why,
        }
    }

    /// A commit that failed at its very end may be on disk all the same: then its messages are delivered, too.
    fn find_what_was_kept(&self) -> std::result::Result<(), redb::Error> {
        for (stream, mailbox) in self.signals.stored() {
            let pending = self.file.read(|transaction| messages::pending(transaction, stream))?;
            mailbox.add_missing(pending.into_iter().map(|(sequence, _)| sequence));
        }
        Ok(())
    }
}

fn commit(
    database: &Database,
    orders: &[&Order],
    limits: &Limits,
) -> std::result::Result<Vec<Outcome>, redb::Error> {
    let transaction = database.begin_write()?;
    let outcomes = {
        let mut tables = Tables::open(&transaction)?;
        orders
            .iter()
            .map(|order| order.apply(&mut tables, limits))
            .collect::<std::result::Result<Vec<_>, _>>()?
    };
    transaction.commit()?;
    Ok(outcomes)
}

/// Who no longer waits need not know.
fn tell(answers: Vec<oneshot::Sender<Result<Outcome>>>, outcomes: Result<Vec<Outcome>>) {
    match outcomes {
        Ok(outcomes) => {
            answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| drop(answer.send(Ok(outcome))))
        }
        Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
    }
}
