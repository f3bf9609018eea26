//! A release is announced: which policy, which attempt, and may it begin now.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use sluice_bus::StoreError;
use sluice_rollout::{Event, RolloutId, Timestamp};
use sluice_traffic::TargetError;
use sluice_wire::{
    cloudevent::CloudEvent,
    message::{ANNOUNCED, Announcement, Answer, CDEVENTS},
    policy::{OnNewRelease, Policy},
    record::{Charter, Saved, VERSION},
    view::RolloutView,
};

use super::{Daemon, clock::now, company::nudge, ended_view, policy_bytes, roll::Entry, rollout, views};
use crate::{control::ControlError, policy_files};

/// How far a sender's clock may be ahead of ours.
const MOST_AHEAD: Duration = Duration::from_secs(600);

/// Where an announcement stands in the bus' stream, and since when; nothing of one that came by another way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub sequence: Option<u64>,
    pub at: Option<Timestamp>,
}

/// Why an announcement came to nothing. `Passing`: the same may come about later.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Passing(String),
    /// Daemons of another cluster act on it: nothing is to be said of it here.
    #[error("{0}")]
    Elsewhere(String),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        StartError::Passing(error.to_string())
    }
}

impl From<TargetError> for StartError {
    fn from(error: TargetError) -> Self {
        if error.retryable() {
            StartError::Passing(error.to_string())
        } else {
            StartError::Refused(error.to_string())
        }
    }
}

/// A refusal is an answer.
fn answered(admitted: Result<Answer, StartError>) -> Result<Answer, StartError> {
    match admitted {
        Err(StartError::Refused(why)) => Ok(Answer::refused(why)),
        Ok(_) | Err(_) => admitted,
    }
}

impl Daemon {
    /// An error is passing: the announcement may come again. A refusal is an answer.
    pub(super) async fn announced(
        &self,
        namespace: &str,
        name: &str,
        event: CloudEvent,
        sent: Sent,
    ) -> Result<Answer, StartError> {
        let turn = self.turn(namespace, name);
        let _one_at_a_time = turn.lock().await;
        let charter = match self.charter(namespace, name, &event, sent).await {
            Ok(charter) => charter,
            Err(error) => return answered(Err(error)),
        };
        answered(self.admit(charter).await)
    }

    /// The same of an attempt whose charter is made already: its policy is the operator's, whoever asks for it.
    pub(super) async fn tried_again(&self, charter: Charter) -> Result<Answer, StartError> {
        let turn = self.turn(charter.id.namespace(), charter.id.name());
        let _one_at_a_time = turn.lock().await;
        answered(self.admit(charter).await)
    }

    async fn admit(&self, charter: Charter) -> Result<Answer, StartError> {
        let id = charter.id.clone();
        let (namespace, name) = (id.namespace(), id.name());
        if let Some(known) = self.parts.ledger.charter(&charter.id).await? {
            return self.repeated(&charter, &known).await;
        }
        if !self.parts.ledger.take_sequence(&charter).await? {
            return Err(StartError::Refused(format!(
                "a newer release of {namespace}/{name} was announced before this message could begin"
            )));
        }
        match self.rollouts.get(namespace, name) {
            Some(Entry::Running(handle)) if self.is_running_here(namespace, name) => {
                self.while_running(&handle.id, Some(&handle), charter).await
            }
            Some(Entry::Running(_) | Entry::Ended(_)) | None => {
                match self.latest_saved(namespace, name).await? {
                    Some(saved) if !saved.state.is_done() => self.not_in_hand_here(&saved, charter).await,
                    Some(_) | None => self.begin(charter).await,
                }
            }
        }
    }

    /// One runs, but not here: it is another daemon's, or could not be taken up yet.
    async fn not_in_hand_here(&self, running: &Saved, charter: Charter) -> Result<Answer, StartError> {
        let id = &running.state.id;
        if self.parts.alone || running.owner.daemon == self.parts.daemon {
            return Err(StartError::Passing(format!("{id} runs and could not be taken up yet")));
        }
        self.while_running(id, None, charter).await
    }

    /// The same message again gets the first answer; the same attempt from another message is refused.
    async fn repeated(&self, given: &Charter, known: &Charter) -> Result<Answer, StartError> {
        if known.key != given.key {
            return Err(StartError::Refused(format!(
                "attempt {} was announced before by another message ({}); give it another name",
                known.id, known.key
            )));
        }
        match self.parts.ledger.load(&known.id).await? {
            // Saved, but an error came before it had an owner.
            Some((saved, _)) if !saved.state.is_done() && !self.is_in_hand(&known.id) => {
                self.take_up_in_turn(&known.id).await?;
                Ok(started(&known.id))
            }
            Some(_) => Ok(started(&known.id)),
            // The daemon ended, or the store was away, between the two saves: it begins now, or never will.
            None => {
                let begun = self.begin(known.clone()).await;
                if let Err(StartError::Refused(_)) = &begun {
                    self.parts.ledger.settle(&known.id).await?;
                }
                begun
            }
        }
    }

    /// Whether a rollout of this policy runs in this process. One whose end is decided may have a successor elsewhere already,
    /// although it still tells what came of it: of that the record knows.
    pub(super) fn is_running_here(&self, namespace: &str, name: &str) -> bool {
        match self.rollouts.get(namespace, name) {
            Some(Entry::Running(handle)) => {
                !handle.post.is_closed() && handle.view.borrow().outcome.is_none()
            }
            Some(Entry::Ended(_)) | None => false,
        }
    }

    pub(super) fn is_in_hand(&self, id: &RolloutId) -> bool {
        self.rollouts.owner(id).is_some()
    }

    /// `handle`: where it runs here. Its owner elsewhere is told that something waits.
    async fn while_running(
        &self,
        running: &RolloutId,
        handle: Option<&rollout::Handle>,
        charter: Charter,
    ) -> Result<Answer, StartError> {
        let policy: Policy = self.with_versions(&charter).await?;
        let on_new_release = policy.spec.on_new_release;
        if on_new_release != OnNewRelease::Refuse {
            // What could never begin puts nothing back.
            self.edges(policy, &charter.id).await?;
        }
        match on_new_release {
            OnNewRelease::Refuse => Err(StartError::Refused(format!(
                "{running} is running and the policy says onNewRelease: refuse; abort it or wait"
            ))),
            OnNewRelease::Queue => {
                self.keep_waiting(&charter).await?;
                Ok(waits(&charter, format!("{} begins when {running} has ended", charter.id)))
            }
            OnNewRelease::Supersede => {
                self.keep_waiting(&charter).await?;
                let by = charter.release.clone().unwrap_or_else(|| charter.id.attempt().to_owned());
                match handle {
                    Some(handle) => handle.post.urgent(Event::Superseded { by }).await,
                    None => self.nudge_later(running, nudge::WAITING),
                }
                Ok(waits(&charter, format!("{running} is put back, then {} begins", charter.id)))
            }
        }
    }

    /// Makes the charter from the message; refuses what cannot be one.
    async fn charter(
        &self,
        namespace: &str,
        name: &str,
        event: &CloudEvent,
        sent: Sent,
    ) -> Result<Charter, StartError> {
        let refuse = |why: String| StartError::Refused(why);
        if !announces(&event.kind) {
            return Err(refuse(format!(
                "type {:?} announces no release; send {ANNOUNCED} or dev.cdevents.service.deployed",
                event.kind
            )));
        }
        is_past(event).map_err(refuse)?;
        let announcement = announcement(event).map_err(refuse)?;
        if announcement.policy.is_none() && !self.book.is_complete() {
            return Err(StartError::Passing("the cluster's policies have not been read yet".to_owned()));
        }
        let policy = match self.policy(namespace, name, &announcement) {
            Ok(policy) => policy,
            Err(why) => return Err(self.unknown_here(namespace, name, (&announcement, sent), why).await),
        };
        let mut policy = self.of_this_cluster(policy, announcement.policy.is_some())?;
        policy.metadata.labels.extend(announcement.labels.clone());
        let attempt = announcement.attempt.clone().unwrap_or_else(|| derived(&event.key()));
        let id = RolloutId::new(namespace, name, &attempt).map_err(|error| refuse(error.to_string()))?;
        let bytes = policy_bytes(&policy);
        Ok(Charter {
            version: VERSION,
            id,
            release: announcement.version,
            actor: announcement.actor,
            from: announcement.from,
            key: event.key(),
            sequence: sent.sequence,
            policy_hash: Charter::hash(&bytes),
            policy: bytes,
            announced: now(),
            after: None,
            retries: 0,
        })
    }

    /// Of a policy that no daemon of any cluster has, one of them says so.
    async fn unknown_here(
        &self,
        namespace: &str,
        name: &str,
        (announcement, sent): (&Announcement, Sent),
        why: String,
    ) -> StartError {
        if self.parts.alone {
            return StartError::Refused(why);
        }
        // A cluster whose first daemon has just come may not have been seen yet. In a flood what comes up has waited for so long
        // that the others were looked at since.
        if !self.company.looked_since(sent.at.map(|at| now().since(at)))
            && let Err(error) = self.look_at_the_others().await
        {
            return StartError::Passing(format!(
                "{why}; whether another cluster has it cannot be seen: {error}"
            ));
        }
        let own = self.parts.cluster.as_deref();
        let others = self.company.other_clusters(own);
        if others.is_empty() {
            return StartError::Refused(why);
        }
        let known = announcement.policy.is_none() && self.is_known_elsewhere(namespace, name).await;
        if known || !self.company.speaks_for_all(own) {
            return StartError::Elsewhere(format!("{namespace}/{name} is no policy of this cluster's"));
        }
        StartError::Refused(format!(
            "{why}; nor has any daemon of the other clusters ({})",
            others.join(", ")
        ))
    }

    /// With the cluster that it belongs to: its own, or this daemon's.
    pub(super) fn of_this_cluster(&self, mut policy: Policy, inlined: bool) -> Result<Policy, StartError> {
        let own = self.parts.cluster.as_deref();
        match policy.spec.cluster.as_deref() {
            Some(cluster) if self.parts.alone && own.is_none() => {
                tracing::debug!(cluster, "this daemon is alone on its bus");
            }
            Some(cluster) if Some(cluster) != own => {
                return Err(StartError::Elsewhere(format!(
                    "its policy names cluster {cluster}: announce it on that cluster's bus, or at one of its daemons (sluice run --cluster {cluster})"
                )));
            }
            Some(_) => {}
            None => {
                let others = self.company.other_clusters(own);
                if inlined && !others.is_empty() {
                    return Err(StartError::Refused(format!(
                        "data.policy: spec.cluster: is missing, and several clusters listen here ({} and {}): name the one that is meant",
                        own.unwrap_or("one without a name"),
                        others.join(", ")
                    )));
                }
                policy.spec.cluster = self.parts.cluster.clone();
            }
        }
        Ok(policy)
    }

    /// Whether this daemon's cluster is the one that is meant.
    pub(super) fn acts_on(&self, charter: &Charter) -> bool {
        self.parts.alone || parse(charter).is_ok_and(|policy| policy.spec.cluster == self.parts.cluster)
    }

    /// Whether announcements of this policy are for this daemon's cluster.
    pub(super) fn serves(&self, namespace: &str, name: &str) -> bool {
        let policy = self.book.get(namespace, name);
        policy
            .is_some_and(|policy| policy.spec.cluster.is_none() || policy.spec.cluster == self.parts.cluster)
    }

    fn policy(&self, namespace: &str, name: &str, announcement: &Announcement) -> Result<Policy, String> {
        let Some(inline) = &announcement.policy else {
            return self.book.get(namespace, name).map(|policy| policy.as_ref().clone()).ok_or_else(|| {
                let faults = self.book.faults();
                let also = if faults.is_empty() { String::new() } else { format!(" (and {} cannot be read)", faults.join("; ")) };
                format!(
                    "no policy {namespace}/{name}; {}{also}; put its file into the policies folder, apply it to the cluster (sluice run --policies-from-cluster), or inline it as data.policy",
                    self.book.known()
                )
            });
        };
        let policy = Policy::from_json("data.policy", inline).map_err(|faults| faults.to_string())?;
        if let Some((field, _)) = policy.jobs().first() {
            return Err(format!(
                "data.policy: {field}: a job runs an image, which whoever may announce is not to choose; put the policy into a file"
            ));
        }
        let mut wrong = policy_files::wrong(&policy);
        wrong.extend(self.book.secrets_of_others(&policy));
        if !wrong.is_empty() {
            let said: Vec<String> =
                wrong.iter().map(|(field, why)| format!("data.policy: {field}: {why}")).collect();
            return Err(said.join("; "));
        }
        let (given, wanted) = ((&policy.metadata.namespace, &policy.metadata.name), (namespace, name));
        if (given.0.as_str(), given.1.as_str()) != wanted {
            return Err(format!(
                "data.policy: metadata: it is named {0}/{1}, and {namespace}/{name} is announced: announce {0}/{1}, or rename the policy",
                given.0, given.1
            ));
        }
        Ok(policy)
    }

    /// The attempt that is named, or the latest.
    pub(super) async fn find(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<Option<RolloutId>, ControlError> {
        let attempts = self.parts.ledger.attempts(namespace, name).await.map_err(store_error)?;
        let named = |id: &&RolloutId| attempt.is_none_or(|attempt| attempt == id.attempt());
        Ok(attempts.ids.iter().rev().find(named).cloned())
    }

    /// One whose record says nothing to this Sluice is shown as such.
    pub(super) async fn view_of(&self, id: &RolloutId) -> Result<Option<RolloutView>, ControlError> {
        let read = async {
            let charter = self.parts.ledger.charter(id).await?;
            Ok::<_, StoreError>(charter.zip(self.parts.ledger.load(id).await?))
        };
        match read.await {
            Ok(read) => Ok(read.and_then(|(charter, (saved, _))| ended_view(&charter, &saved))),
            Err(StoreError::Unread { why, .. }) => Ok(Some(views::left_alone(id, &why))),
            Err(error) => Err(store_error(error)),
        }
    }
}

fn store_error(error: StoreError) -> ControlError {
    ControlError::Store(error.to_string())
}

/// What has not happened yet is somebody's wrong clock, or no announcement.
fn is_past(event: &CloudEvent) -> Result<(), String> {
    let told = event.time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let ahead = told.is_some_and(|at| at.as_millisecond() > now().plus(MOST_AHEAD).millis());
    let time = event.time.as_deref().unwrap_or_default();
    if ahead {
        return Err(format!(
            "time {time:?} lies in the future; set the sender's clock, or leave the attribute out"
        ));
    }
    Ok(())
}

/// CDEvents' types carry a version at their end, which is not looked at.
fn announces(kind: &str) -> bool {
    kind == ANNOUNCED || CDEVENTS.iter().any(|known| kind == *known || kind.starts_with(&format!("{known}.")))
}

/// CDEvents bring a body of their own: only its artifact id is of use.
fn announcement(event: &CloudEvent) -> Result<Announcement, String> {
    if event.kind == ANNOUNCED {
        return match &event.data {
            serde_json::Value::Null => Ok(Announcement::default()),
            data => Announcement::read(data),
        };
    }
    let artifact = event.data.pointer("/subject/content/artifactId").and_then(serde_json::Value::as_str);
    Ok(Announcement { version: artifact.map(str::to_owned), ..Announcement::default() })
}

pub(super) fn parse(charter: &Charter) -> Result<Policy, StartError> {
    Policy::parse("policy", charter.policy.as_bytes()).map_err(|fault| StartError::Refused(fault.to_string()))
}

fn derived(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))[..10].to_owned()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn started(id: &RolloutId) -> Answer {
    Answer {
        accepted: true,
        message: format!("{id} begins"),
        rollout: Some(id.clone()),
        ..Answer::refused("")
    }
}

/// The same, with what whoever announced it should know of the target.
pub(super) fn begun(id: &RolloutId, warnings: &[String]) -> Answer {
    let answer = started(id);
    let message = std::iter::once(&answer.message).chain(warnings).map(String::as_str).collect::<Vec<_>>();
    Answer { message: message.join("; beware: "), ..answer }
}

fn waits(charter: &Charter, message: String) -> Answer {
    tracing::info!(rollout = %charter.id, "{message}");
    Answer { accepted: true, message, rollout: Some(charter.id.clone()), ..Answer::refused("") }
}

/// Answers are JSON on every door.
pub(super) fn answer_bytes<T: Serialize>(answer: &T) -> bytes::Bytes {
    serde_json::to_vec(answer).map(bytes::Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_announces_hears_what_makes_the_split_another() {
        let id = RolloutId::new("shop", "checkout", "v2").unwrap();
        assert_eq!(begun(&id, &[]).message, started(&id).message);
        let told = begun(&id, &["spec.weighted.sticky keeps sessions".to_owned()]);
        assert!(told.accepted && told.rollout == Some(id));
        assert_eq!(told.message, "shop/checkout@v2 begins; beware: spec.weighted.sticky keeps sessions");
    }
}
