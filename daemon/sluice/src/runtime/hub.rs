//! Many rollouts, one query: reads of one source that come at the same moment are asked together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_metrics_adapters::{Ask, Reading, Source, SourceError};
use sluice_rollout::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::clock::now;

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(5);
const MOST_TOGETHER: usize = 500;
const QUEUE: usize = 4_096;

struct Question {
    ask: Ask,
    answer: oneshot::Sender<Result<Reading, SourceError>>,
}

/// The way to one source.
#[derive(Clone)]
pub struct Hub {
    source: Arc<dyn Source>,
    questions: mpsc::Sender<Question>,
}

/// One hub per source.
#[derive(Default)]
pub struct Hubs {
    known: Mutex<BTreeMap<usize, mpsc::WeakSender<Question>>>,
}

impl Hubs {
    pub fn of(&self, source: Arc<dyn Source>) -> Hub {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Arc::as_ptr(&source).cast::<()>() as usize;
        if let Some(questions) = known.get(&place).and_then(mpsc::WeakSender::upgrade) {
            return Hub { source, questions };
        }
        let (questions, inbox) = mpsc::channel(QUEUE);
        known.retain(|_, hub| hub.upgrade().is_some());
        known.insert(place, questions.downgrade());
        tokio::spawn(serve(source.clone(), inbox));
        Hub { source, questions }
    }
}

impl Hub {
    /// Both versions of this rollout as they are counted now.
    pub async fn read(&self, ask: &Ask) -> Result<Reading, SourceError> {
        let server = self.source.name();
        let busy = || SourceError::Busy { server: server.clone() };
        let (answer, told) = oneshot::channel();
        self.questions.try_send(Question { ask: ask.clone(), answer }).map_err(|_| busy())?;
        told.await.map_err(|_| busy())?
    }

    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// An instant of ours on the source's clock, as far as that is known: samples, windows and readings live there.
    pub fn on_its_clock(&self, ours: Timestamp) -> i64 {
        ours.millis().saturating_add(self.source.clock().followed_ms)
    }
}

async fn serve(source: Arc<dyn Source>, mut inbox: mpsc::Receiver<Question>) {
    while let Some(first) = inbox.recv().await {
        let mut batch = vec![first];
        let gather = tokio::time::sleep(GATHER);
        tokio::pin!(gather);
        while batch.len() < MOST_TOGETHER {
            tokio::select! {
                biased;
                () = &mut gather => break,
                next = inbox.recv() => match next {
                    Some(question) => batch.push(question),
                    None => break,
                },
            }
        }
        // A slow answer must not hold up those who ask later: each batch goes its own way.
        tokio::spawn(answer(source.clone(), batch));
    }
}

async fn answer(source: Arc<dyn Source>, batch: Vec<Question>) {
    let (asks, answers): (Vec<Ask>, Vec<_>) = batch.into_iter().map(|one| (one.ask, one.answer)).unzip();
    let at_ms = now().millis().saturating_add(source.clock().followed_ms);
    let readings = source.read(&asks, at_ms).await;
    for (answer, reading) in answers.into_iter().zip(readings) {
        // Whoever asked may have gone; that is no fault.
        let _ = answer.send(reading);
    }
}
