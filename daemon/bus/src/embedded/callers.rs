//! The request door: requests go straight to the daemon's subscription and are answered at once. Nothing is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::letter::{MESSAGE_ID, header};
use crate::{Ack, AckPort, BusError, Delivery, Headers};

/// Requests that may wait for a daemon that is busy; then callers are told so.
const MOST_WAITING: usize = 256;

type Subscriber = mpsc::Sender<Delivery>;

/// Who listens on the request door.
#[derive(Debug, Default)]
pub(super) struct Callers {
    listening: Mutex<Vec<Subscriber>>,
    asked: AtomicU64,
}

impl Callers {
    /// Begins to listen; ends when the receiver is dropped.
    pub(super) fn listen(&self) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        self.lock().push(sender);
        receiver
    }

    /// Asks all that listen; the first answer counts.
    pub(super) async fn ask(
        &self,
        subject: &str,
        headers: Headers,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, BusError> {
        let (answer, answered) = oneshot::channel();
        let ack = RequestAck(Arc::new(Mutex::new(Some(answer))));
        let id = self.id(&headers);
        self.hand_out(subject, || delivery(subject, &headers, &body, &id, &ack))?;
        drop(ack);
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(BusError::Other(format!("the daemon took {subject} and gave no answer"))),
            Err(_) => Err(BusError::Timeout(limit)),
        }
    }

    fn hand_out(&self, subject: &str, make: impl Fn() -> Delivery) -> Result<(), BusError> {
        let mut listening = self.lock();
        listening.retain(|subscriber| !subscriber.is_closed());
        if listening.is_empty() {
            return Err(BusError::NoResponders { subject: subject.to_owned() });
        }
        let taken = listening.iter().filter(|subscriber| subscriber.try_send(make()).is_ok()).count();
        if taken > 0 {
            Ok(())
        } else {
            Err(BusError::Unreachable("the daemon has too many requests waiting".into()))
        }
    }

    fn id(&self, headers: &[(String, String)]) -> String {
        let made = || format!("request-{}", self.asked.fetch_add(1, Ordering::Relaxed) + 1);
        header(headers, MESSAGE_ID).map_or_else(made, str::to_owned)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn delivery(subject: &str, headers: &Headers, body: &Bytes, id: &str, ack: &RequestAck) -> Delivery {
    Delivery {
        subject: subject.to_owned(),
        headers: headers.clone(),
        body: body.clone(),
        message_id: id.to_owned(),
        attempt: 1,
        sequence: None,
        at: None,
        ack: Ack(Box::new(ack.clone())),
    }
}

/// Answers a request. Nothing is stored, so there is nothing to acknowledge or to give back.
#[derive(Debug, Clone)]
struct RequestAck(Arc<Mutex<Option<oneshot::Sender<Bytes>>>>);

#[async_trait]
impl AckPort for RequestAck {
    async fn done(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn again(&self, _after: Duration) -> Result<(), BusError> {
        Ok(())
    }

    async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Another subscriber answered already, or the caller gave up: neither is an error of the daemon.
        waiting.map_or(Ok(()), |caller| caller.send(body).or(Ok(())))
    }
}
