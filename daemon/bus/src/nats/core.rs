//! One connection, and the three ways of asking over it: the JetStream API, a publish into a stream, a core publish.
//! Each ends within the time limit, and names what was refused.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode, publish::PublishAck};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, HeaderMap, Message};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::config::{NatsAuth, NatsConfig, without_secrets};
use super::news::News;
use crate::{BusError, CALL_LIMIT};

/// A server that is just coming up answers "no responders" for a moment.
const COMING_UP: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
/// A connection is waited for until it has been lost for so long. After that calls are refused at once, and nothing is even
/// queued in the client, which would send all of it when the server is back.
const COMING_BACK: Duration = Duration::from_secs(2);
/// Time for a refusal of a subscription to arrive.
const GRACE: Duration = Duration::from_millis(50);
const MOST_QUEUED: usize = 4096;
const MOST_RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// A connection on which nothing comes back any more (no RST, no FIN) is given up after two to three of these.
const PING_EVERY: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Core {
    pub(super) client: Client,
    pub(super) context: jetstream::Context,
    pub(super) config: NatsConfig,
    news: News,
}

/// Why JetStream did not do it.
#[derive(Debug)]
pub(super) enum Fault {
    /// JetStream's own word.
    JetStream(jetstream::Error),
    /// Another revision is there.
    WrongLastSequence,
    /// Nobody takes this subject: no such stream, or no JetStream at all.
    NoResponders,
    Bus(BusError),
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Fault {
        Fault::Bus(error)
    }
}

impl Fault {
    /// What it means for `what`.
    pub(super) fn about(self, what: &str) -> BusError {
        let setup = |why: String| BusError::Setup { what: what.to_owned(), why };
        match self {
            Fault::Bus(error) => error,
            Fault::WrongLastSequence => BusError::Other(format!("{what}: another message came first")),
            Fault::NoResponders => setup(format!("it is missing, or JetStream is off; {SWITCH_ON} and run `sluice init`")),
            Fault::JetStream(error) => match error.error_code() {
                ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                    setup(format!("JetStream is off ({error}); {SWITCH_ON}"))
                }
                ErrorCode::STREAM_NOT_FOUND => setup("it is missing; run `sluice init`".into()),
                ErrorCode::STREAM_SUBJECT_OVERLAP => {
                    setup("another stream has some of its subjects already; take them out of that one (`nats stream ls --subjects`)".into())
                }
                ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::INSUFFICIENT_RESOURCES => {
                    setup(format!("the server has no room for it ({error}); raise jetstream max_file_store, or lower Sluice's limits"))
                }
                ErrorCode::STREAM_STORE_FAILED => BusError::Storage(format!("{what}: {error}")),
                _ => setup(error.to_string()),
            },
        }
    }
}

/// How to switch JetStream on.
pub(super) const SWITCH_ON: &str =
    "add `jetstream { store_dir: /var/lib/nats }` to nats-server.conf, or start nats-server with -js";

impl Core {
    pub(super) async fn connect(config: NatsConfig) -> Result<Core, BusError> {
        let news = News::new();
        let shown: Vec<String> = config.urls.iter().map(|url| without_secrets(url)).collect();
        let shown = shown.join(", ");
        let connecting = options(&config, news.clone())?.connect(config.urls.clone());
        let client = match tokio::time::timeout(CALL_LIMIT, connecting).await {
            Ok(connected) => connected.map_err(|error| refused(&shown, &error))?,
            Err(_) => {
                return Err(BusError::Unreachable(format!("{shown}: no connection within {CALL_LIMIT:?}")));
            }
        };
        let context = ContextBuilder::new().timeout(CALL_LIMIT).build(client.clone());
        Ok(Core { client, context, config, news })
    }

    /// Asks the JetStream API. `subject` without `$JS.API.`.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: &impl Serialize,
    ) -> Result<T, Fault> {
        self.connected().await?;
        let mut refusals = self.news.listen();
        let full = format!("$JS.API.{subject}");
        let answer = tokio::select! {
            answer = self.context.request::<_, _, Response<T>>(subject.to_owned(), question) => answer,
            refused = refusals.about(&full) => return Err(refused.into()),
        };
        match answer {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(Fault::JetStream(error)),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => Err(Fault::NoResponders),
                RequestErrorKind::TimedOut => Err(self.timeout().into()),
                RequestErrorKind::InvalidSubject | RequestErrorKind::Other => Err(self.failed(&error).into()),
            },
        }
    }

    /// Publishes into a stream and waits until it is kept.
    pub(super) async fn keep(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PublishAck, Fault> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.keep_once(subject, headers.clone(), body.clone()).await {
                Err(Fault::NoResponders) if begun.elapsed() < COMING_UP => tokio::time::sleep(PAUSE).await,
                other => return other,
            }
        }
    }

    async fn keep_once(&self, subject: &str, headers: HeaderMap, body: Bytes) -> Result<PublishAck, Fault> {
        self.connected().await?;
        let mut refusals = self.news.listen();
        let (bytes, most) = (body.len(), self.client.max_payload());
        let publish =
            async { self.context.publish_with_headers(subject.to_owned(), headers, body).await?.await };
        let kept = tokio::select! {
            kept = publish => kept,
            refused = refusals.about(subject) => return Err(refused.into()),
        };
        kept.map_err(|error| match error.kind() {
            PublishErrorKind::StreamNotFound => Fault::NoResponders,
            PublishErrorKind::WrongLastSequence => Fault::WrongLastSequence,
            PublishErrorKind::TimedOut => self.timeout().into(),
            PublishErrorKind::MaxPayloadExceeded => {
                BusError::TooLarge { what: "the message with its headers".into(), bytes, most }.into()
            }
            PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::MaxAckPending
            | PublishErrorKind::Other => match jetstream_word(&error) {
                Some(word) => Fault::JetStream(word),
                None => self.failed(&error).into(),
            },
        })
    }

    /// Publishes to whoever listens now.
    pub(super) async fn tell(&self, subject: &str, headers: HeaderMap, body: Bytes) -> Result<(), BusError> {
        self.connected().await?;
        let telling = self.client.publish_with_headers(subject.to_owned(), headers, body);
        match tokio::time::timeout(CALL_LIMIT, telling).await {
            Ok(told) => told.map_err(|error| self.failed(&error)),
            Err(_) => Err(self.timeout()),
        }
    }

    /// Listens to a subject outside any stream. Lasts over reconnections.
    pub(super) async fn listen(&self, pattern: &str) -> Result<async_nats::Subscriber, BusError> {
        let mut refusals = self.news.listen();
        let listening = async {
            let subscriber =
                self.client.subscribe(pattern.to_owned()).await.map_err(|error| self.failed(&error))?;
            self.client.flush().await.map_err(|error| self.failed(&error))?;
            tokio::time::sleep(GRACE).await;
            Ok(subscriber)
        };
        tokio::select! {
            done = tokio::time::timeout(CALL_LIMIT, listening) => done.unwrap_or_else(|_| Err(self.timeout())),
            refused = refusals.about(pattern) => Err(refused),
        }
    }

    /// Asks whoever listens on a subject.
    pub(super) async fn request(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<Message, BusError> {
        self.connected().await?;
        let mut refusals = self.news.listen();
        let request = async_nats::Request::new().payload(body).headers(headers).timeout(Some(limit));
        let answer = tokio::select! {
            answer = self.client.send_request(subject.to_owned(), request) => answer,
            refused = refusals.about(subject) => return Err(refused),
        };
        answer.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::NoResponders => {
                BusError::NoResponders { subject: subject.to_owned() }
            }
            async_nats::RequestErrorKind::TimedOut if self.is_connected() => BusError::Timeout(limit),
            _ => self.failed(&error),
        })
    }

    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.news.connections()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits a moment for a connection that is being made anew.
    async fn connected(&self) -> Result<(), BusError> {
        while !self.is_connected() {
            if self.news.lost_for() >= COMING_BACK {
                return Err(lost());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Nothing came in time: because nobody is there, or for a reason that we do not know.
    pub(super) fn timeout(&self) -> BusError {
        if self.is_connected() { BusError::Timeout(CALL_LIMIT) } else { lost() }
    }

    pub(super) fn failed(&self, error: &(dyn std::error::Error + 'static)) -> BusError {
        if self.is_connected() { BusError::Other(BusError::chain(error)) } else { lost() }
    }
}

fn lost() -> BusError {
    BusError::Unreachable("the connection to NATS is lost; it is being made anew".into())
}

/// JetStream's own words inside an error of the client.
fn jetstream_word(error: &(dyn std::error::Error + 'static)) -> Option<jetstream::Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<jetstream::Error>()).cloned()
}

fn options(config: &NatsConfig, news: News) -> Result<ConnectOptions, BusError> {
    let mut options = match &config.auth {
        NatsAuth::Nobody => ConnectOptions::new(),
        auth => {
            let auth = auth.clone();
            ConnectOptions::with_auth_callback(move |nonce| {
                let auth = auth.clone();
                async move { auth.greeting(&nonce).await }
            })
        }
    };
    options = options
        .name(&config.name)
        .connection_timeout(CALL_LIMIT)
        .request_timeout(Some(CALL_LIMIT))
        .subscription_capacity(MOST_QUEUED)
        .ping_interval(PING_EVERY)
        .reconnect_delay_callback(reconnect_pause)
        .event_callback(move |event| {
            news.note(&event);
            async {}
        });
    if let Some(prefix) = &config.inbox_prefix {
        crate::subjects::literal(prefix)?;
        options = options.custom_inbox_prefix(prefix);
    }
    with_tls(options, config)
}

/// Longer from attempt to attempt; 75 to 125 % of it, so that several daemons do not come back in one moment.
fn reconnect_pause(attempts: usize) -> Duration {
    let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    let pause = Duration::from_millis(20).saturating_mul(attempts.saturating_mul(attempts));
    pause.min(MOST_RECONNECT_PAUSE).mul_f64(0.75 + fastrand::f64() / 2.0)
}

fn with_tls(mut options: ConnectOptions, config: &NatsConfig) -> Result<ConnectOptions, BusError> {
    let tls = &config.tls;
    if tls.any() {
        options = options.require_tls(true);
    }
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            Ok(options.add_client_certificate(certificate.clone(), key.clone()))
        }
        (None, None) => Ok(options),
        (Some(_), None) | (None, Some(_)) => Err(BusError::Setup {
            what: "the TLS configuration of NATS".into(),
            why: "a client certificate and its key go together; give both files or none".into(),
        }),
    }
}

fn refused(shown: &str, error: &async_nats::ConnectError) -> BusError {
    let why = format!("{shown}: {}", BusError::chain(error));
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => {
            BusError::Denied(format!("{why}; check the user, password, token, nkey or credentials file"))
        }
        ConnectErrorKind::Authentication => BusError::Denied(why),
        ConnectErrorKind::Tls => {
            BusError::Unreachable(format!("{why}; check the CA, certificate and key files"))
        }
        ConnectErrorKind::ServerParse => {
            BusError::Setup { what: "the URL of NATS".into(), why: format!("{why}; write nats://host:4222") }
        }
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::MaxReconnects
        | ConnectErrorKind::Io => BusError::Unreachable(why),
    }
}
