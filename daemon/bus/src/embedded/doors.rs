//! The doors of the embedded bus, behind which the HTTP layer stands.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{broadcast, watch};

use super::{Core, Embedded, messages, records};
use crate::letter::{self, MESSAGE_ID, header};
use crate::plan::{Stream, Way};
use crate::{BusError, Doors, Followed, keys, subjects};

/// Messages that a follower reads at once.
const PAGE: usize = 64;
/// When the file could not be read: the next try.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

#[async_trait]
impl Doors for Embedded {
    async fn publish_event(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<u64, BusError> {
        let stream = subjects::incoming(subject)?;
        let id = header(headers, MESSAGE_ID).unwrap_or_default().to_owned();
        self.core.keep(stream, subject, headers, body, &id).await
    }

    async fn request(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, BusError> {
        subjects::request(subject)?;
        letter::checked(headers, &body)?;
        self.core.callers.ask(subject, headers.to_vec(), body, limit).await
    }

    async fn follow(
        &self,
        pattern: &str,
        after: Option<u64>,
    ) -> Result<BoxStream<'static, Followed>, BusError> {
        let pattern = pattern.to_owned();
        match subjects::followed(&pattern)? {
            Way::Kept(stream) => {
                Ok(Follower::begin(self.core.clone(), stream, pattern, after).await?.stream())
            }
            Way::Reply | Way::Request => Ok(answers(self.core.signals.answers(), pattern)),
        }
    }

    async fn answer(&self, user: &str, message_id: &str) -> Result<Option<Bytes>, BusError> {
        let key = keys::answer(user, message_id);
        self.core.read(move |transaction| records::read_answer(transaction, &key)).await
    }
}

/// Reads on from a place in a stream, at its own pace.
struct Follower {
    core: Arc<Core>,
    stream: Stream,
    pattern: String,
    seen: u64,
    page: VecDeque<Followed>,
    news: watch::Receiver<u64>,
}

impl Follower {
    async fn begin(
        core: Arc<Core>,
        stream: Stream,
        pattern: String,
        after: Option<u64>,
    ) -> Result<Follower, BusError> {
        let news = core.signals.news();
        let seen = match after {
            Some(after) => after,
            None => core.read(move |transaction| messages::last_sequence(transaction, stream)).await?,
        };
        Ok(Follower { core, stream, pattern, seen, page: VecDeque::new(), news })
    }

    fn stream(self) -> BoxStream<'static, Followed> {
        stream::unfold(self, |mut follower| async move { follower.next().await.map(|next| (next, follower)) })
            .boxed()
    }

    async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(next) = self.page.pop_front() {
                return Some(next);
            }
            let before = self.seen;
            self.turn_page().await;
            if self.seen == before {
                self.news.changed().await.ok()?;
            }
        }
    }

    async fn turn_page(&mut self) {
        self.news.mark_unchanged();
        let (stream, pattern, seen) = (self.stream, self.pattern.clone(), self.seen);
        let read = self
            .core
            .read(move |transaction| messages::read_after(transaction, stream, &pattern, seen, PAGE));
        match read.await {
            Ok((page, seen)) => (self.page, self.seen) = (page.into(), seen),
            Err(error) => {
                tracing::warn!(%error, "a follower could not read on");
                tokio::time::sleep(AFTER_TROUBLE).await;
                self.news.mark_changed();
            }
        }
    }
}

fn answers(receiver: broadcast::Receiver<Followed>, pattern: String) -> BoxStream<'static, Followed> {
    stream::unfold((receiver, pattern), |(mut receiver, pattern)| async move {
        loop {
            match receiver.recv().await {
                Ok(answer) if subjects::matches(&pattern, &answer.subject) => {
                    return Some((answer, (receiver, pattern)));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener to answers lags")
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
    .boxed()
}
