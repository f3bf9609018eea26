//! Over the bus: questions and commands through the request door, announcements into the stream of events.
//!
//! The bus has no stream of views. A watch asks again as soon as the daemon tells something, and once a second for the
//! evidence that changes in between; where following is not permitted it only asks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use serde::de::DeserializeOwned;
use sluice_bus::{BusError, Doors, Followed, MESSAGE_ID, Nats, NatsConfig, ORIGINAL_ID, REASON};
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::decisions::RecordPage;
use sluice_wire::message::{Announcement, Answer, Command};
use sluice_wire::record::HistoryLine;
use sluice_wire::subject::{self, DEAD, OUT, OVERRIDE, REQUEST, escape};
use sluice_wire::view::RolloutView;

use super::{ClientError, Views, Way, fresh_id};
use crate::cli::{Aim, NatsAccess};

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// How long an announcement may take to become a rollout before it is left to the bus.
const TAKEN_UP: Duration = Duration::from_secs(10);

pub(super) struct OverBus {
    doors: Arc<dyn Doors>,
    at: String,
    user: String,
    limit: Duration,
}

impl OverBus {
    pub(super) async fn connect(
        access: &NatsAccess,
        user: String,
        limit: Duration,
    ) -> Result<OverBus, ClientError> {
        let at = access.servers.join(", ");
        let nats = Nats::connect(config(access)).await.map_err(|error| failed(&at, limit, &error))?;
        Ok(OverBus { doors: Arc::new(nats), at, user, limit })
    }

    async fn ask(&self, aim: &Aim, word: &str, command: &Command) -> Result<Bytes, BusError> {
        let body = Bytes::from(serde_json::to_vec(command).unwrap_or_default());
        self.request(aim, word, command.id.clone().unwrap_or_else(fresh_id), body).await
    }

    async fn request(&self, aim: &Aim, word: &str, id: String, body: Bytes) -> Result<Bytes, BusError> {
        let subject = subject::person(REQUEST, &self.user, &aim.namespace, &aim.name, word);
        self.doors.request(&subject, &headers(id), body, self.limit).await
    }

    /// What is asked for, or the refusal that came in its place.
    async fn read<T: DeserializeOwned>(&self, aim: &Aim, word: &str) -> Result<T, ClientError> {
        let question =
            Command { attempt: aim.attempt.clone(), reason: "to look".into(), ..Command::default() };
        let body = self.ask(aim, word, &question).await.map_err(|error| self.failed(&error))?;
        self.understood(&body)
    }

    fn understood<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| match serde_json::from_slice::<Answer>(body) {
            Ok(answer) if !answer.accepted => refused(&answer.message),
            Ok(_) | Err(_) => ClientError::Strange { at: self.at.clone(), why: error.to_string() },
        })
    }

    fn failed(&self, error: &BusError) -> ClientError {
        failed(&self.at, self.limit, error)
    }

    /// Nobody listens or answers just now: an abort is kept on the bus until somebody does. Anything else would come as a
    /// surprise later.
    async fn keep(
        &self,
        aim: &Aim,
        action: &str,
        command: &Command,
        why: &str,
    ) -> Result<Answer, ClientError> {
        let subject = subject::person(OVERRIDE, &self.user, &aim.namespace, &aim.name, action);
        let body = Bytes::from(serde_json::to_vec(command).unwrap_or_default());
        let headers = headers(command.id.clone().unwrap_or_else(fresh_id));
        self.doors.publish_event(&subject, &headers, body).await.map_err(|error| self.failed(&error))?;
        let message = format!("{why}; the command is kept on the bus and takes effect as soon as one does");
        Ok(Answer { accepted: true, ..Answer::refused(message) })
    }

    /// The rollout that an announcement became, or why it became none.
    async fn outcome(
        &self,
        aim: &Aim,
        event: &CloudEvent,
        dead: Option<BoxStream<'static, Followed>>,
    ) -> Answer {
        let refusal = refusal(event, dead);
        let taken = async {
            loop {
                if let Ok(view) = self.read::<RolloutView>(aim, "status").await {
                    return started(&view);
                }
                tokio::time::sleep(BETWEEN_LOOKS / 5).await;
            }
        };
        let waiting = "announced; no daemon has taken it up yet, it is kept on the bus until one does";
        tokio::select! {
            answer = refusal => answer,
            answer = taken => answer,
            () = tokio::time::sleep(TAKEN_UP) => Answer { accepted: true, ..Answer::refused(waiting) },
        }
    }
}

#[async_trait]
impl Way for OverBus {
    async fn list(&self) -> Result<Vec<RolloutView>, ClientError> {
        self.read(&Aim::all(None), "list").await
    }

    async fn status(&self, aim: &Aim) -> Result<RolloutView, ClientError> {
        self.read(aim, "status").await
    }

    async fn history(&self, aim: &Aim) -> Result<Vec<HistoryLine>, ClientError> {
        self.read(aim, "history").await
    }

    async fn record(&self, aim: &Aim, after: u64) -> Result<RecordPage, ClientError> {
        let question = serde_json::json!({"attempt": aim.attempt, "after": after});
        let body = Bytes::from(question.to_string());
        let answered = self.request(aim, "record", fresh_id(), body).await;
        self.understood(&answered.map_err(|error| self.failed(&error))?)
    }

    async fn command(&self, aim: &Aim, action: &str, command: &Command) -> Result<Answer, ClientError> {
        match self.ask(aim, action, command).await {
            Ok(body) => serde_json::from_slice(&body)
                .map_err(|error| ClientError::Strange { at: self.at.clone(), why: error.to_string() }),
            Err(BusError::NoResponders { .. }) if action == "abort" => {
                self.keep(aim, action, command, "no daemon runs just now").await
            }
            // Its daemon may have died a moment ago. If it has aborted all the same, the repeat is known by its id.
            Err(BusError::Timeout(_)) if action == "abort" => {
                self.keep(aim, action, command, "no daemon answers just now").await
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The stream says only that it has the event. So the attempt gets a name here, by which its rollout is found.
    async fn announce(&self, aim: &Aim, event: &CloudEvent) -> Result<Answer, ClientError> {
        let (attempt, event) = with_attempt(event)?;
        let dead = self.doors.follow(DEAD, None).await.ok();
        let subject = subject::event(&aim.namespace, &aim.name, "announced");
        let mut headers = headers(event.key());
        headers.push(("Content-Type".into(), "application/cloudevents+json".into()));
        let body = Bytes::from(event.to_bytes());
        self.doors.publish_event(&subject, &headers, body).await.map_err(|error| self.failed(&error))?;
        Ok(self.outcome(&Aim { attempt: Some(attempt), ..aim.clone() }, &event, dead).await)
    }

    async fn changes(&self, aim: Option<&Aim>) -> Result<Views, ClientError> {
        let pattern = match aim {
            Some(aim) => format!("{OUT}.{}.{}.>", escape(&aim.namespace), escape(&aim.name)),
            None => format!("{OUT}.>"),
        };
        let told = self.doors.follow(&pattern, None).await.ok();
        let asker = OverBus {
            doors: self.doors.clone(),
            at: self.at.clone(),
            user: self.user.clone(),
            limit: self.limit,
        };
        let looks = Looks {
            asker,
            aim: aim.cloned(),
            told,
            known: HashMap::new(),
            fresh: VecDeque::new(),
            first: true,
        };
        Ok(stream::try_unfold(looks, Looks::next).boxed())
    }
}

/// A watch that asks.
struct Looks {
    asker: OverBus,
    aim: Option<Aim>,
    told: Option<BoxStream<'static, Followed>>,
    known: HashMap<String, RolloutView>,
    fresh: VecDeque<RolloutView>,
    first: bool,
}

impl Looks {
    async fn next(mut self) -> Result<Option<(RolloutView, Looks)>, ClientError> {
        loop {
            if let Some(view) = self.fresh.pop_front() {
                return Ok(Some((view, self)));
            }
            if !std::mem::replace(&mut self.first, false) {
                self.wait().await;
            }
            self.look().await?;
        }
    }

    /// Until something is told, but not longer than a second.
    async fn wait(&mut self) {
        let Some(told) = &mut self.told else { return tokio::time::sleep(BETWEEN_LOOKS).await };
        if let Ok(None) = tokio::time::timeout(BETWEEN_LOOKS, told.next()).await {
            self.told = None;
        }
    }

    async fn look(&mut self) -> Result<(), ClientError> {
        let views = match &self.aim {
            Some(aim) => match self.asker.status(aim).await {
                Err(ClientError::Unknown { .. }) => Vec::new(),
                other => vec![other?],
            },
            None => self.asker.list().await?,
        };
        for view in views {
            let id = view.rollout.to_string();
            if self.known.get(&id) != Some(&view) {
                self.known.insert(id, view.clone());
                self.fresh.push_back(view);
            }
        }
        Ok(())
    }
}

/// As the bus wants it.
pub fn config(access: &NatsAccess) -> NatsConfig {
    use sluice_bus::nats::{NatsAuth, TlsFiles};
    let auth = match (&access.nats_user, &access.password_file) {
        (Some(name), Some(file)) => NatsAuth::User { name: name.clone(), password_file: file.clone() },
        (_, _) => match (&access.nats_token_file, &access.nkey_file, &access.creds_file) {
            (Some(file), _, _) => NatsAuth::Token { file: file.clone() },
            (_, Some(file), _) => NatsAuth::Nkey { seed_file: file.clone() },
            (_, _, Some(file)) => NatsAuth::Credentials { file: file.clone() },
            (None, None, None) => NatsAuth::Nobody,
        },
    };
    NatsConfig {
        urls: access.servers.clone(),
        name: format!("sluice {}", env!("CARGO_PKG_VERSION")),
        inbox_prefix: access.inbox_prefix.clone(),
        tls: TlsFiles {
            ca: access.ca_file.clone(),
            certificate: access.cert_file.clone(),
            key: access.key_file.clone(),
        },
        auth,
        ..NatsConfig::default()
    }
}

/// The event with its attempt's name, which is the version (as far as it can be one) and a part of the event's id.
fn with_attempt(event: &CloudEvent) -> Result<(String, CloudEvent), ClientError> {
    let wrong = |error: serde_json::Error| ClientError::BadInput {
        error: format!("the announcement cannot be read: {error}"),
        remedy: "see `sluice start --help`".into(),
    };
    let given = if event.data.is_null() { serde_json::json!({}) } else { event.data.clone() };
    let mut announcement: Announcement = serde_json::from_value(given).map_err(wrong)?;
    let attempt = announcement.attempt.clone().unwrap_or_else(|| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let version: String =
            announcement.version.as_deref().unwrap_or("release").chars().take(40).map(plain).collect();
        let id: String = event.id.chars().filter(char::is_ascii_alphanumeric).take(8).map(plain).collect();
        format!("{}-{id}", version.trim_matches('-')).trim_matches('-').to_owned()
    });
    announcement.attempt = Some(attempt.clone());
    let data = serde_json::to_value(announcement).map_err(wrong)?;
    Ok((attempt, CloudEvent { data, ..event.clone() }))
}

/// Ends only if the event turns up among the dead letters.
async fn refusal(event: &CloudEvent, dead: Option<BoxStream<'static, Followed>>) -> Answer {
    let Some(mut dead) = dead else { return std::future::pending().await };
    while let Some(letter) = dead.next().await {
        let header = |name: &str| {
            letter.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let same_id =
            [ORIGINAL_ID, MESSAGE_ID].iter().any(|name| header(name).is_some_and(|id| *id == event.key()));
        if same_id || letter.body == event.to_bytes() {
            return Answer::refused(
                header(REASON).cloned().unwrap_or_else(|| "the daemon could not read it".into()),
            );
        }
    }
    std::future::pending().await
}

fn started(view: &RolloutView) -> Answer {
    Answer {
        accepted: true,
        message: view.reason.clone(),
        rollout: Some(view.rollout.clone()),
        revision: Some(view.revision),
        phase: Some(view.phase.clone()),
        weight: Some(view.weight),
        each: Vec::new(),
    }
}

fn headers(id: String) -> Vec<(String, String)> {
    vec![(MESSAGE_ID.to_owned(), id)]
}

fn refused(message: &str) -> ClientError {
    let (error, remedy) =
        message.split_once("; ").unwrap_or((message, "`sluice status` lists those that there are"));
    ClientError::Unknown { error: error.to_owned(), remedy: remedy.to_owned() }
}

fn failed(at: &str, limit: Duration, error: &BusError) -> ClientError {
    let at = at.to_owned();
    match error {
        BusError::Timeout(_) => ClientError::Silent { at, limit },
        BusError::Denied(_) => ClientError::Denied {
            error: error.to_string(),
            remedy: format!(
                "the account must be allowed to publish to {REQUEST}.<user>.>; see --user and --nats-…-file"
            ),
        },
        BusError::Subject { .. } | BusError::TooLarge { .. } | BusError::Setup { .. } => {
            ClientError::BadInput {
                error: error.to_string(),
                remedy: "see `sluice init --help` and `sluice start --help`".into(),
            }
        }
        BusError::Unreachable(_)
        | BusError::NoResponders { .. }
        | BusError::Storage(_)
        | BusError::Other(_) => ClientError::Unreachable { at, why: error.to_string() },
    }
}
