//! The bus and its doors as a daemon meets them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, pending, unfold};
use sluice_bus::{Ack, AckPort, Bus, BusError, Delivery, Doors, Feed, Followed, MESSAGE_ID};
use sluice_rollout::Timestamp;
use sluice_wire::subject::{EVENT, unescape};

use super::{
    calls::unanswered,
    checks,
    mail::{Asked, Given, Stored},
    plan::Trouble,
    world::{EPOCH_MS, Shared, World},
};

impl Shared {
    async fn bus<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, BusError> {
        self.call(Trouble::BusAway, Trouble::BusAnswersLost, effect).await.map_err(unanswered)
    }

    /// The bucket of answers, whose leader is another than the streams'.
    async fn answers<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, BusError> {
        let away = if self.lock().is(Trouble::AnswersAway) { Trouble::AnswersAway } else { Trouble::BusAway };
        self.call(away, Trouble::BusAnswersLost, effect).await.map_err(unanswered)
    }

    async fn next(&self, feed: Feed) -> Delivery {
        loop {
            let heard = self.mail().notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let (given, next, at) = {
                let mut world = self.lock();
                (world.give(feed), world.next_mail(feed), world.at())
            };
            if let Some(given) = given {
                return self.delivery(given);
            }
            match next {
                // At the latest in a second: a bus that was away tells nobody that it is back.
                Some(due) => {
                    let wait = u64::try_from(due - at).unwrap_or(0).clamp(1, 30_000);
                    let wait = if due <= at { 1_000 } else { wait };
                    let _ = tokio::time::timeout(Duration::from_millis(wait), heard).await;
                }
                None => heard.await,
            }
        }
    }

    fn delivery(&self, given: Given) -> Delivery {
        match given {
            Given::Stored { consumer, sequence, attempts, message } => {
                let Stored { subject, headers, body, id, at, .. } = message;
                let ack = StoredAck { world: self.clone(), consumer, sequence, id: id.clone(), subject };
                Delivery {
                    subject: ack.subject.clone(),
                    headers,
                    body,
                    message_id: id,
                    attempt: attempts,
                    sequence: Some(sequence),
                    at: Some(Timestamp::from_millis(EPOCH_MS + at)),
                    ack: Ack::new(Box::new(ack)),
                }
            }
            Given::Asked(Asked { number, subject, headers, body, .. }) => {
                let named = headers.iter().find(|(name, _)| name == MESSAGE_ID).map(|(_, id)| id.clone());
                Delivery {
                    subject,
                    message_id: named.unwrap_or_else(|| format!("question {number}")),
                    headers,
                    body,
                    attempt: 1,
                    sequence: None,
                    at: None,
                    ack: Ack::new(Box::new(AskedAck { world: self.clone(), number })),
                }
            }
        }
    }
}

#[derive(Debug)]
struct StoredAck {
    world: Shared,
    consumer: String,
    sequence: u64,
    id: String,
    subject: String,
}

#[async_trait]
impl AckPort for StoredAck {
    async fn done(&self) -> Result<(), BusError> {
        self.world
            .bus(|world| {
                checks::answering::acknowledged(world, self.sequence);
                world.acknowledged(&self.consumer, self.sequence);
            })
            .await
    }

    async fn again(&self, after: Duration) -> Result<(), BusError> {
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let given_back = self.world.bus(|world| world.given_back(&self.consumer, self.sequence, after)).await;
        // Whoever waits for the next message has reckoned with this one later.
        self.world.mail().notify_waiters();
        given_back
    }

    async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        self.world
            .answers(|world| {
                checks::answering::answered(world, self.sequence, &self.subject, &body);
                let user = self.subject.split('.').nth(2).unwrap_or_default().to_owned();
                if !self.subject.starts_with(EVENT) {
                    world.mail.answers.insert((user, self.id.clone()), body);
                }
            })
            .await
    }
}

#[derive(Debug)]
struct AskedAck {
    world: Shared,
    number: u64,
}

#[async_trait]
impl AckPort for AskedAck {
    async fn done(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn again(&self, _: Duration) -> Result<(), BusError> {
        Ok(())
    }

    async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        let told = self.world.bus(|world| {
            world.mail.replies.entry(self.number).or_insert(body);
        });
        told.await?;
        self.world.mail().notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Bus for Shared {
    async fn publish(
        &self,
        subject: &str,
        _: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<(), BusError> {
        self.bus(|world| {
            checks::telling::published(world, subject, id);
            world.published.push((subject.to_owned(), id.to_owned(), body));
        })
        .await
    }

    async fn dead(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        self.bus(|world| {
            world.note(format!("dead letter: {}: {reason}", delivery.subject));
            world.mail.dead.push((delivery.subject.clone(), reason.to_owned()));
        })
        .await
    }

    async fn subscribe(&self, feed: Feed) -> Result<BoxStream<'static, Delivery>, BusError> {
        self.bus(|world| world.listens(feed)).await?;
        let next = move |world: Shared| async move { Some((world.next(feed).await, world)) };
        Ok(unfold(self.clone(), next).boxed())
    }

    async fn healthy(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn init(&self) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Doors for Shared {
    async fn publish_event(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<u64, BusError> {
        let sequence =
            self.bus(|world| world.publish(Feed::Overrides, subject, headers.to_vec(), body)).await?;
        self.mail().notify_waiters();
        Ok(sequence)
    }

    async fn request(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, BusError> {
        let number = self.bus(|world| world.ask(subject, headers.to_vec(), body)).await?;
        let Some(number) = number else {
            return Err(BusError::NoResponders { subject: subject.to_owned() });
        };
        self.mail().notify_waiters();
        let answered = async {
            loop {
                let heard = self.mail().notified();
                tokio::pin!(heard);
                heard.as_mut().enable();
                if let Some(body) = self.lock().mail.replies.get(&number).cloned() {
                    return body;
                }
                heard.await;
            }
        };
        tokio::time::timeout(limit, answered).await.map_err(|_| BusError::Timeout(limit))
    }

    async fn follow(&self, _: &str, _: Option<u64>) -> Result<BoxStream<'static, Followed>, BusError> {
        Ok(pending().boxed())
    }

    async fn answer(&self, user: &str, message_id: &str) -> Result<Option<Bytes>, BusError> {
        let user = unescape(user).unwrap_or_else(|_| user.to_owned());
        self.answers(|world| world.mail.answers.get(&(user, message_id.to_owned())).cloned()).await
    }
}
