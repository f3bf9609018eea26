//! What came of an alert, for whoever raised it.
//!
//! A receipt can be dropped at any time: the alert goes on by itself.

use std::collections::BTreeSet;

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::oneshot;

/// What came of one alert at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it.
    Told,
    /// A later word about the same alert came first, or it was resolved before anybody had been told.
    Needless,
    /// The sink will never take it, and said why.
    Refused { why: String },
    /// There was no room in the sink's ledger.
    Dropped,
    /// The dispatcher was shut down first.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The sink's name.
    pub sink: String,
    /// Replicas of one receiver share this.
    pub receiver: String,
    pub outcome: Outcome,
}

/// Of one alert that was fired or resolved.
#[derive(Debug)]
#[must_use = "await told() or confirmed(), or drop it knowingly"]
pub struct Receipt {
    parts: Vec<Part>,
}

/// Of one sink.
#[derive(Debug)]
pub(crate) struct Part {
    pub sink: String,
    pub receiver: String,
    pub outcome: oneshot::Receiver<Outcome>,
}

impl Receipt {
    pub(crate) fn new(parts: Vec<Part>) -> Receipt {
        Receipt { parts }
    }

    /// Ends when every receiver has it or never will; one replica of a receiver is enough. No time limit: a sink that is
    /// down is tried for as long as it takes.
    pub async fn told(self) -> Vec<Delivery> {
        let mut open: BTreeSet<String> = self.parts.iter().map(|part| part.receiver.clone()).collect();
        let mut answers: FuturesUnordered<_> = self.parts.into_iter().map(Part::answer).collect();
        let mut deliveries = Vec::new();
        while !open.is_empty() {
            let Some(delivery) = answers.next().await else { break };
            if delivery.outcome == Outcome::Told {
                open.remove(&delivery.receiver);
            }
            deliveries.push(delivery);
        }
        deliveries
    }

    /// Ends when every single sink has it or never will, in the sinks' order.
    pub async fn confirmed(self) -> Vec<Delivery> {
        futures::future::join_all(self.parts.into_iter().map(Part::answer)).await
    }
}

impl Part {
    fn answer(self) -> BoxFuture<'static, Delivery> {
        Box::pin(async move {
            let outcome = self.outcome.await.unwrap_or(Outcome::Stopped);
            Delivery { sink: self.sink, receiver: self.receiver, outcome }
        })
    }
}
