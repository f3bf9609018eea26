//! Subscriptions of the daemon. Events: one durable consumer, shared by all daemons. Overrides: a durable consumer of
//! this daemon, and beside it the request door as a plain subscription.
//!
//! Both are pulled in small batches, so that nothing waits unacknowledged behind a slow daemon for long. On any trouble
//! the pull begins anew; the consumer itself lives on the server and knows what is not acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, Info, pull};
use async_nats::jetstream::message::{AckKind, Acker};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, Message, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;
use sluice_rollout::Timestamp;
use sluice_wire::subject::REQUEST;
use tokio::sync::watch;

use super::core::{Core, Fault};
use super::header_list;
use crate::letter::{MESSAGE_ID, REPLY_TO, header};
use crate::plan::Stream;
use crate::{Ack, AckPort, BusError, CALL_LIMIT, Delivery, Feed, keys, subjects};

/// Messages fetched ahead. Small: each is unacknowledged while it waits here.
const BATCH: usize = 32;
const MOST_LATE: usize = 2 * BATCH;
const HEARTBEAT: Duration = Duration::from_secs(5);
const PULL_LASTS: Duration = Duration::from_secs(30);
/// Longer than a cluster takes; the message comes again.
const ACK_LIMIT: Duration = Duration::from_secs(1);
const AFTER_TROUBLE: Duration = Duration::from_millis(200);
/// Between further attempts.
const AFTER_MORE_TROUBLE: Duration = Duration::from_secs(1);
const MOST_UNACKNOWLEDGED: i64 = 1000;
/// The durable consumer that all daemons of a cluster share; behind it stands the cluster's name, if it has one.
const EVENTS_CONSUMER: &str = "sluice";

pub(super) async fn subscribe(core: Arc<Core>, feed: Feed) -> Result<BoxStream<'static, Delivery>, BusError> {
    let stored = Pull::begin(core.clone(), feed).await?.stream();
    match feed {
        Feed::Events => Ok(stored),
        Feed::Overrides => {
            let requests = core.listen(&format!("{REQUEST}.>")).await?;
            // They take turns, so that neither door waits behind the other.
            Ok(stream::select(asked(core, requests), stored).boxed())
        }
    }
}

/// Makes both consumers where they are missing; says what was made.
pub(super) async fn consumers(core: &Core) -> Result<Vec<String>, BusError> {
    let mut made = Vec::new();
    for feed in [Feed::Events, Feed::Overrides] {
        let name = consumer_name(core, feed);
        if look(core, feed).await?.is_none() {
            create(core, feed).await?;
            made.push(format!("made consumer {name} of stream {}", stream_of(feed).name()));
        }
    }
    Ok(made)
}

fn stream_of(feed: Feed) -> Stream {
    match feed {
        Feed::Events => Stream::Events,
        Feed::Overrides => Stream::Overrides,
    }
}

fn consumer_name(core: &Core, feed: Feed) -> String {
    match feed {
        Feed::Events => match &core.config.cluster {
            None => EVENTS_CONSUMER.to_owned(),
            Some(cluster) => format!("{EVENTS_CONSUMER}-{}", keys::token(cluster)),
        },
        Feed::Overrides => format!("sluice-{}", keys::token(&core.config.daemon)),
    }
}

/// What was announced before a cluster was there is not for it.
fn first_delivered(core: &Core, feed: Feed) -> DeliverPolicy {
    match feed {
        Feed::Events if core.config.cluster.is_some() => DeliverPolicy::New,
        Feed::Events | Feed::Overrides => DeliverPolicy::All,
    }
}

fn config(core: &Core, feed: Feed) -> pull::Config {
    let inactive_threshold = match feed {
        Feed::Events => Duration::ZERO,
        // A daemon that is gone for longer than its messages are kept needs no consumer either.
        Feed::Overrides => core.config.limits.overrides.age,
    };
    pull::Config {
        durable_name: Some(consumer_name(core, feed)),
        deliver_policy: first_delivered(core, feed),
        ack_policy: AckPolicy::Explicit,
        ack_wait: core.config.ack_wait,
        max_deliver: -1,
        max_ack_pending: MOST_UNACKNOWLEDGED,
        inactive_threshold,
        ..pull::Config::default()
    }
}

async fn look(core: &Core, feed: Feed) -> Result<Option<Info>, BusError> {
    let (stream, name) = (stream_of(feed).name(), consumer_name(core, feed));
    match core.ask::<Info>(&format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await {
        Ok(info) => check(core, feed, &info).map(|()| Some(info)),
        Err(Fault::JetStream(error)) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(None),
        Err(fault) => Err(fault.about(&format!("stream {stream}"))),
    }
}

/// Refuses a consumer under our name that would lose messages.
fn check(core: &Core, feed: Feed, info: &Info) -> Result<(), BusError> {
    let found = &info.config;
    let fine = found.ack_policy == AckPolicy::Explicit
        && [DeliverPolicy::All, first_delivered(core, feed)].contains(&found.deliver_policy)
        && found.max_deliver <= 0
        && found.deliver_subject.is_none()
        && found.filter_subject.is_empty();
    if fine {
        return Ok(());
    }
    let (stream, name) = (&info.stream_name, &info.name);
    let why = "it must be a pull consumer that delivers all (or all that is new), acknowledged explicitly, without a filter or most deliveries";
    let why = format!("{why}; delete it with `nats consumer rm {stream} {name}` and run `sluice init`");
    Err(BusError::Setup { what: format!("consumer {name} of stream {stream}"), why })
}

async fn create(core: &Core, feed: Feed) -> Result<Info, BusError> {
    use async_nats::jetstream::consumer::IntoConsumerConfig;
    let (stream, name) = (stream_of(feed).name(), consumer_name(core, feed));
    let config = config(core, feed).into_consumer_config();
    let question = json!({"stream_name": stream, "config": config});
    let made = core.ask(&format!("CONSUMER.CREATE.{stream}.{name}"), &question).await;
    made.map_err(|fault| fault.about(&format!("consumer {name} of stream {stream}")))
}

/// An endless pull: the consumer's messages, begun anew on trouble.
struct Pull {
    core: Arc<Core>,
    feed: Feed,
    messages: Option<pull::Stream>,
    connections: watch::Receiver<u64>,
    /// Brought by a connection that is gone, and not handed out yet.
    late: VecDeque<jetstream::Message>,
    /// It could not be begun anew so far, and that has been said.
    waits: bool,
}

impl Pull {
    async fn begin(core: Arc<Core>, feed: Feed) -> Result<Pull, BusError> {
        let connections = core.connections();
        let messages = Some(messages(&core, feed).await?);
        Ok(Pull { core, feed, messages, connections, late: VecDeque::new(), waits: false })
    }

    fn stream(self) -> BoxStream<'static, Delivery> {
        stream::unfold(self, |mut pull| async move { Some((pull.next().await, pull)) }).boxed()
    }

    async fn next(&mut self) -> Delivery {
        loop {
            let (message, late) = self.next_message().await;
            match delivery(self.core.clone(), message, late) {
                Ok(delivery) => return delivery,
                Err(error) => tracing::warn!(%error, "a message of the consumer could not be read"),
            }
        }
    }

    async fn next_message(&mut self) -> (jetstream::Message, bool) {
        loop {
            self.notice_connection();
            if let Some(message) = self.late.pop_front() {
                return (message, true);
            }
            let Some(open) = &mut self.messages else {
                self.begin_anew().await;
                continue;
            };
            let next = tokio::select! {
                next = open.next() => next,
                Ok(()) = self.connections.changed() => {
                    self.connections.mark_changed();
                    continue;
                }
            };
            match next {
                Some(Ok(message)) => return (message, false),
                Some(Err(error)) => {
                    tracing::debug!(error = BusError::chain(&error), feed = ?self.feed, "the pull begins anew");
                    self.messages = None;
                }
                None => self.messages = None,
            }
        }
    }

    /// Sets apart what an earlier connection brought.
    fn notice_connection(&mut self) {
        if !self.connections.has_changed().unwrap_or(false) {
            return;
        }
        self.connections.mark_unchanged();
        let Some(open) = &mut self.messages else { return };
        while self.late.len() < MOST_LATE {
            match open.next().now_or_never() {
                Some(Some(Ok(message))) => self.late.push_back(message),
                Some(Some(Err(_)) | None) => return self.messages = None,
                None => return,
            }
        }
    }

    async fn begin_anew(&mut self) {
        match messages(&self.core, self.feed).await {
            Ok(messages) => (self.messages, self.waits) = (Some(messages), false),
            Err(error) if self.waits => {
                tracing::debug!(%error, feed = ?self.feed, "the subscription still waits");
                tokio::time::sleep(AFTER_MORE_TROUBLE).await;
            }
            Err(error) => {
                tracing::warn!(%error, feed = ?self.feed, "the subscription waits");
                self.waits = true;
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
        }
    }
}

async fn messages(core: &Core, feed: Feed) -> Result<pull::Stream, BusError> {
    let info = match look(core, feed).await? {
        Some(info) => info,
        None => create(core, feed).await?,
    };
    let consumer = Consumer::new(config(core, feed), info, core.context.clone());
    let pulling =
        consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT).expires(PULL_LASTS).messages();
    match tokio::time::timeout(CALL_LIMIT, pulling).await {
        Ok(pulling) => pulling.map_err(|error| core.failed(&error)),
        Err(_) => Err(core.timeout()),
    }
}

fn delivery(core: Arc<Core>, message: jetstream::Message, late: bool) -> Result<Delivery, BusError> {
    let info = message.info().map_err(|error| BusError::Other(error.to_string()))?;
    let (sequence, attempt) = (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1));
    let at =
        i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).map(Timestamp::from_millis).ok();
    let (message, acker) = message.split();
    let headers = header_list(message.headers.as_ref());
    let message_id = header(&headers, MESSAGE_ID).map_or_else(|| keys::without_id(sequence), str::to_owned);
    let subject = message.subject.to_string();
    let reply_to = header(&headers, REPLY_TO).map(str::to_owned);
    let mut connections = core.connections();
    if late {
        connections.mark_changed();
    }
    let ack = StoredAck {
        connections,
        core,
        acker,
        subject: subject.clone(),
        message_id: message_id.clone(),
        reply_to,
    };
    let (body, sequence, ack) = (message.payload, Some(sequence), Ack(Box::new(ack)));
    Ok(Delivery { subject, headers, body, message_id, attempt, sequence, at, ack })
}

struct StoredAck {
    core: Arc<Core>,
    acker: Acker,
    subject: String,
    message_id: String,
    reply_to: Option<String>,
    /// Changed once the connection that brought it is gone.
    connections: watch::Receiver<u64>,
}

impl std::fmt::Debug for StoredAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredAck").field("message_id", &self.message_id).finish_non_exhaustive()
    }
}

impl StoredAck {
    async fn say(&self, kind: AckKind) -> Result<(), BusError> {
        if self.connections.has_changed().unwrap_or(true) {
            return self.say_late(kind).await;
        }
        match tokio::time::timeout(ACK_LIMIT, self.acker.double_ack_with(kind)).await {
            Ok(said) => said.map_err(|error| self.core.failed(error.as_ref())),
            Err(_) if self.core.is_connected() => Err(BusError::Timeout(ACK_LIMIT)),
            Err(_) => Err(self.core.timeout()),
        }
    }

    /// A server that was killed meanwhile may not know of this delivery, and then never answers: so nobody waits.
    async fn say_late(&self, kind: AckKind) -> Result<(), BusError> {
        let said = tokio::time::timeout(ACK_LIMIT, self.acker.ack_with(kind)).await;
        said.map_err(|_| self.core.timeout())?.map_err(|error| self.core.failed(error.as_ref()))?;
        Err(BusError::Unreachable(
            "the connection was lost since this message came; it may come again".into(),
        ))
    }
}

#[async_trait]
impl AckPort for StoredAck {
    /// Waits for the server's word, since only then it will not come again.
    async fn done(&self) -> Result<(), BusError> {
        self.say(AckKind::Ack).await
    }

    async fn again(&self, after: Duration) -> Result<(), BusError> {
        // A delay of zero is no delay to a server of 2.9, which then falls back to ack_wait.
        self.say(AckKind::Nak(Some(after.max(Duration::from_millis(1))))).await
    }

    async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        if let Some(user) =
            subjects::user(&self.subject).filter(|_| Stream::of(&self.subject) == Some(Stream::Overrides))
        {
            self.core.keep_answer(user, &self.message_id, body.clone()).await?;
        }
        match &self.reply_to {
            Some(reply) => {
                subjects::reply_allowed(&self.subject, reply)?;
                self.core.tell(reply, HeaderMap::new(), body).await
            }
            None => Ok(()),
        }
    }
}

fn asked(core: Arc<Core>, requests: Subscriber) -> BoxStream<'static, Delivery> {
    requests.map(move |message| request(core.clone(), message)).boxed()
}

fn request(core: Arc<Core>, message: Message) -> Delivery {
    let headers = header_list(message.headers.as_ref());
    let id =
        message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID)).map(ToString::to_string);
    // The reply subject is made for this one request, so it names it well.
    let reply = message.reply.map(|reply| reply.to_string());
    let message_id = id.or_else(|| reply.clone()).unwrap_or_else(|| core.client.new_inbox());
    let ack = Ack(Box::new(RequestAck { core, reply }));
    let subject = message.subject.to_string();
    Delivery {
        subject,
        headers,
        body: message.payload,
        message_id,
        attempt: 1,
        sequence: None,
        at: None,
        ack,
    }
}

/// Answers a request. Nothing is stored, so there is nothing to acknowledge or to give back.
#[derive(Debug)]
struct RequestAck {
    core: Arc<Core>,
    reply: Option<String>,
}

#[async_trait]
impl AckPort for RequestAck {
    async fn done(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn again(&self, _after: Duration) -> Result<(), BusError> {
        Ok(())
    }

    async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        match &self.reply {
            Some(reply) => self.core.tell(reply, HeaderMap::new(), body).await,
            None => Ok(()),
        }
    }
}
