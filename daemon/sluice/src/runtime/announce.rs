//! A release is announced: which policy, which attempt, may it begin now, and the beginning itself. Taking up after a
//! crash begins in the same way.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sluice_alerts::Dispatcher;
use sluice_bus::{StoreError, StoreRevision};
use sluice_metrics_adapters::Ask;
use sluice_rollout::{Event, Fence, RolloutId, State, Weight};
use sluice_traffic::{Observed, Target, TargetError, Workloads};
use sluice_wire::{
    cloudevent::CloudEvent,
    decisions::sum_of_bytes,
    message::{ANNOUNCED, Announcement, Answer, CDEVENTS},
    policy::{OnNewRelease, Policy, PromoteBy},
    record::{Charter, Owner, Saved, VERSION},
    view::RolloutView,
};

use super::{Daemon, Entry, clock::now, ended_view, policy_bytes, rollout, rollout::Beginning};
use crate::control::ControlError;

/// So many are taken up side by side after a start.
const TAKE_UP_AT_ONCE: usize = 64;

/// How far a sender's clock may be ahead of ours.
const MOST_AHEAD: Duration = Duration::from_secs(600);

/// Why an announcement came to nothing. `Passing`: the same may come about later.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Passing(String),
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

/// Everything outside that a rollout needs, checked.
struct Edges {
    policy: Arc<Policy>,
    target: Arc<dyn Target>,
    workloads: Arc<dyn Workloads>,
    alerts: Arc<Dispatcher>,
    ask: Ask,
}

impl Daemon {
    /// An error is passing: the announcement may come again. A refusal is an answer.
    /// `sequence`: its place in the bus' stream, where it has one.
    pub(super) async fn announced(
        &self,
        namespace: &str,
        name: &str,
        event: CloudEvent,
        sequence: Option<u64>,
    ) -> Result<Answer, StartError> {
        let turn = self.turn(namespace, name);
        let _one_at_a_time = turn.lock().await;
        match self.admit(namespace, name, &event, sequence).await {
            Ok(answer) => Ok(answer),
            Err(StartError::Refused(why)) => Ok(Answer::refused(why)),
            Err(passing) => Err(passing),
        }
    }

    async fn admit(
        &self,
        namespace: &str,
        name: &str,
        event: &CloudEvent,
        sequence: Option<u64>,
    ) -> Result<Answer, StartError> {
        let charter = Charter { sequence, ..self.charter(namespace, name, event)? };
        if let Some(known) = self.parts.ledger.charter(&charter.id).await? {
            return self.repeated(&charter, &known).await;
        }
        if !self.parts.ledger.take_sequence(&charter).await? {
            return Err(StartError::Refused(format!(
                "a newer release of {namespace}/{name} was announced before this message could begin"
            )));
        }
        match self.entry(namespace, name) {
            Some(Entry::Running(handle)) if handle.view.borrow().outcome.is_none() => {
                self.while_running(&handle, charter).await
            }
            Some(Entry::Running(_) | Entry::Ended(_)) | None => self.begin(charter).await,
        }
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
                self.take_up_one(&known.id).await?;
                Ok(started(&known.id))
            }
            Some(_) => Ok(started(&known.id)),
            // The daemon ended between the two saves: it begins now.
            None => self.begin(known.clone()).await,
        }
    }

    fn is_in_hand(&self, id: &RolloutId) -> bool {
        match self.entry(id.namespace(), id.name()) {
            Some(Entry::Running(handle)) => handle.id == *id && !handle.post.is_closed(),
            Some(Entry::Ended(_)) | None => false,
        }
    }

    async fn while_running(&self, handle: &rollout::Handle, charter: Charter) -> Result<Answer, StartError> {
        let policy: Policy = parse(&charter)?;
        let (running, on_new_release) = (&handle.id, policy.spec.on_new_release);
        if on_new_release != OnNewRelease::Refuse {
            // What could never begin puts nothing back.
            self.edges(policy, &charter.id).await?;
        }
        match on_new_release {
            OnNewRelease::Refuse => Err(StartError::Refused(format!(
                "{running} is running and the policy says onNewRelease: refuse; abort it or wait"
            ))),
            OnNewRelease::Queue => {
                self.parts.ledger.set_pending(&charter).await?;
                Ok(waits(&charter, format!("{} begins when {running} has ended", charter.id)))
            }
            OnNewRelease::Supersede => {
                self.parts.ledger.set_pending(&charter).await?;
                let by = charter.release.clone().unwrap_or_else(|| charter.id.attempt().to_owned());
                handle.post.urgent(Event::Superseded { by }).await;
                Ok(waits(&charter, format!("{running} is put back, then {} begins", charter.id)))
            }
        }
    }

    /// Makes the charter from the message; refuses what cannot be one.
    fn charter(&self, namespace: &str, name: &str, event: &CloudEvent) -> Result<Charter, StartError> {
        let refuse = |why: String| StartError::Refused(why);
        if !announces(&event.kind) {
            return Err(refuse(format!(
                "type {:?} announces no release; send {ANNOUNCED} or dev.cdevents.service.deployed",
                event.kind
            )));
        }
        is_past(event).map_err(refuse)?;
        let announcement = announcement(event).map_err(refuse)?;
        let policy = self.policy(namespace, name, &announcement).map_err(refuse)?;
        let mut policy = policy;
        policy.metadata.labels.extend(announcement.labels.clone());
        let attempt = announcement.attempt.clone().unwrap_or_else(|| derived(&event.key()));
        let id = RolloutId::new(namespace, name, &attempt).map_err(|error| refuse(error.to_string()))?;
        let bytes = policy_bytes(&policy);
        Ok(Charter {
            version: VERSION,
            id,
            release: announcement.version,
            actor: announcement.actor,
            key: event.key(),
            sequence: None,
            policy_hash: sum_of_bytes(bytes.as_bytes()),
            policy: bytes,
            announced: now(),
        })
    }

    fn policy(&self, namespace: &str, name: &str, announcement: &Announcement) -> Result<Policy, String> {
        let Some(inline) = &announcement.policy else {
            return self.book.get(namespace, name).map(|policy| policy.as_ref().clone()).ok_or_else(|| {
                let faults = self.book.faults();
                let also = if faults.is_empty() { String::new() } else { format!(" (and {} cannot be read)", faults.join("; ")) };
                format!(
                    "no policy {namespace}/{name}; known are {:?}{also}; put its file into the policies folder or inline it as data.policy",
                    self.book.names()
                )
            });
        };
        let policy = Policy::from_json("data.policy", inline).map_err(|faults| faults.to_string())?;
        let (given, wanted) = ((&policy.metadata.namespace, &policy.metadata.name), (namespace, name));
        if (given.0.as_str(), given.1.as_str()) != wanted {
            return Err(format!(
                "data.policy is named {}/{}, the subject {namespace}/{name}",
                given.0, given.1
            ));
        }
        Ok(policy)
    }

    /// Checks everything outside, claims the target, saves, and starts the owner.
    async fn begin(&self, charter: Charter) -> Result<Answer, StartError> {
        let policy = parse(&charter)?;
        let (edges, observed) = self.edges_by_role(policy, &charter.id).await?;
        if let Some(other) = self.parts.ledger.hold_target(&edges.target.key(), &charter.id).await? {
            return Err(StartError::Refused(format!(
                "{} is held by {other}; one rollout per target",
                edges.target.name()
            )));
        }
        self.stop_aftermath(&charter.id).await;
        let policy = policy_bytes(&edges.policy);
        let charter = Charter { policy_hash: sum_of_bytes(policy.as_bytes()), policy, ..charter };
        let ledger = &self.parts.ledger;
        let former = ledger.attempts(charter.id.namespace(), charter.id.name()).await?.epoch;
        let epoch = former.max(observed.fence.map_or(0, |fence: Fence| fence.epoch)) + 1;
        let saved = Saved {
            version: VERSION,
            owner: self.owner(epoch),
            state: State::new(charter.id.clone(), epoch, now()),
        };
        ledger.create_charter(&charter).await?;
        ledger.open(&charter.id).await?;
        let revision = ledger.save(&saved, 0).await?;
        ledger.make_current(&charter.id, epoch).await?;
        let id = charter.id.clone();
        self.own(charter, edges, saved, revision, Event::Requested);
        // What waited was announced before this one.
        ledger.clear_pending(id.namespace(), id.name()).await?;
        Ok(started(&id))
    }

    /// The drain and the scale-down of the attempt before would hit the new one's pods: they are given up. What it has
    /// to tell, it still tells.
    async fn stop_aftermath(&self, by: &RolloutId) {
        if let Some(Entry::Running(former)) = self.entry(by.namespace(), by.name())
            && former.view.borrow().outcome.is_some()
        {
            former.aftermath.cancel();
            former.post.urgent(Event::Superseded { by: by.attempt().to_owned() }).await;
        }
    }

    /// After a swap the canary's name is the one that carries everything: the two change roles for the next rollout.
    async fn edges_by_role(&self, policy: Policy, id: &RolloutId) -> Result<(Edges, Observed), StartError> {
        let swaps = policy.spec.workloads.promote == PromoteBy::Swap;
        let edges = self.edges(policy, id).await?;
        let observed = edges.target.observe().await?;
        if !swaps || observed.canary != Weight::FULL {
            return Ok((edges, observed));
        }
        let swapped = self.edges(edges.policy.swapped(), id).await?;
        let observed = swapped.target.observe().await?;
        if observed.canary == Weight::FULL {
            return Err(StartError::Refused(format!(
                "{} stands at 100 % canary: the former rollout ended there; make that version the stable one and set its weight to 0 first",
                swapped.target.name()
            )));
        }
        Ok((swapped, observed))
    }

    async fn edges(&self, policy: Policy, id: &RolloutId) -> Result<Edges, StartError> {
        let edges = self.connect(policy, id).await?;
        let machine = edges.policy.machine();
        let mut weights: Vec<Weight> = machine.steps.iter().map(|step| step.weight).collect();
        weights.extend(machine.bake.map(|bake| bake.weight));
        edges.target.check(&weights).await?;
        edges.workloads.check().await?;
        Ok(edges)
    }

    async fn connect(&self, policy: Policy, id: &RolloutId) -> Result<Edges, StartError> {
        let refuse = |why: String| StartError::Refused(why);
        let namespace = &policy.metadata.namespace;
        let clients = &self.parts.clients;
        let target = sluice_traffic::connect(&policy.spec.target, namespace, clients).await?;
        let workloads = sluice_traffic::connect_workloads(
            &policy.spec.workloads,
            &policy.spec.target,
            namespace,
            clients,
        )
        .await?;
        let alerts =
            self.parts.alerts.dispatcher(&policy.spec.alerts).map_err(|error| refuse(error.to_string()))?;
        let ask = Ask::of(&policy, id.clone()).map_err(|error| refuse(error.to_string()))?;
        self.parts.sources.connect(&policy.spec.metrics).map_err(|error| refuse(error.to_string()))?;
        Ok(Edges { policy: Arc::new(policy), target, workloads, alerts: Arc::new(alerts), ask })
    }

    fn owner(&self, epoch: u64) -> Owner {
        Owner { daemon: self.parts.daemon.clone(), incarnation: self.parts.incarnation.clone(), epoch }
    }

    fn own(&self, charter: Charter, edges: Edges, saved: Saved, revision: StoreRevision, first: Event) {
        let (namespace, name) = (charter.id.namespace().to_owned(), charter.id.name().to_owned());
        let handle = rollout::begin(Beginning {
            parts: self.parts.clone(),
            charter: Arc::new(charter),
            policy: edges.policy,
            target: edges.target,
            workloads: edges.workloads,
            alerts: edges.alerts,
            ask: edges.ask,
            saved,
            revision,
            first,
            changes: self.changes.clone(),
        });
        self.enter(&namespace, &name, Entry::Running(handle));
    }

    /// Takes up what an earlier start of this daemon left, and knows again how the others ended.
    pub(super) async fn take_up(&self) -> anyhow::Result<()> {
        for id in self.parts.ledger.latest().await? {
            if let Ok(Some(view)) = self.view_of(&id).await {
                self.enter(id.namespace(), id.name(), Entry::Ended(Box::new(view)));
            }
        }
        let unsettled = self.parts.ledger.unsettled().await?;
        self.take_up_each(unsettled).await;
        Ok(())
    }

    /// What cannot be taken up now (a server that is away, say) is tried again with what waits.
    async fn take_up_each(&self, ids: Vec<RolloutId>) {
        let each = ids.into_iter().map(|id| async move {
            match self.take_up_one(&id).await {
                Ok(()) => tracing::info!(rollout = %id, "taken up"),
                Err(error) => {
                    tracing::error!(rollout = %id, %error, "cannot be taken up yet; its traffic stays as it is; tried again soon");
                    self.left().push(id);
                }
            }
        });
        futures::stream::iter(each).buffer_unordered(TAKE_UP_AT_ONCE).collect::<()>().await;
    }

    fn left(&self) -> MutexGuard<'_, Vec<RolloutId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_up_one(&self, id: &RolloutId) -> Result<(), StartError> {
        let gone = || StartError::Refused("its record is gone".into());
        let charter = self.parts.ledger.charter(id).await?.ok_or_else(gone)?;
        let (saved, revision) = self.parts.ledger.load(id).await?.ok_or_else(gone)?;
        if saved.owner.daemon != self.parts.daemon && !self.parts.alone {
            return Err(StartError::Refused(format!("daemon {} owns it", saved.owner.daemon)));
        }
        let edges = self.connect(parse(&charter)?, id).await?;
        let mark = match edges.target.observe().await {
            Ok(observed) => {
                observed.abort.filter(|mark| mark.rollout == id.to_string()).map(|mark| mark.reason)
            }
            Err(error) => {
                tracing::warn!(rollout = %id, %error, "the target cannot be read; an abort mark may stand there");
                None
            }
        };
        let epoch = saved.owner.epoch + 1;
        let takeover = saved.owner.incarnation != self.parts.incarnation;
        // Fences are of the new epoch from the first effect on: an abort by the mark goes out before its transition is saved.
        let state = State { epoch, ..saved.state };
        let saved = Saved { owner: self.owner(epoch), state, ..saved };
        let revision = self.parts.ledger.save(&saved, revision).await?;
        self.parts.ledger.make_current(id, epoch).await?;
        let first = Event::Recovered { epoch, takeover, abort_mark: mark };
        self.own(charter, edges, saved, revision, first);
        Ok(())
    }

    /// Begins what waited for the rollouts that have ended meanwhile.
    pub(super) async fn begin_pending(&self) {
        let left = std::mem::take(&mut *self.left());
        self.take_up_each(left).await;
        for view in self.views() {
            let (namespace, name) = (view.rollout.namespace(), view.rollout.name());
            let turn = self.turn(namespace, name);
            let _one_at_a_time = turn.lock().await;
            match self.parts.ledger.pending(namespace, name).await {
                Ok(Some(pending)) => self.one_pending(namespace, name, pending.charter).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(namespace, name, %error, "what waits cannot be read just now"),
            }
        }
    }

    /// Begins it where the one before has ended; otherwise says again that it supersedes (a crash may have lost that).
    async fn one_pending(&self, namespace: &str, name: &str, charter: Charter) {
        let entry = self.entry(namespace, name);
        if entry.as_ref().is_none_or(|entry| entry.view().outcome.is_some()) {
            return self.begin_one_pending(charter).await;
        }
        let supersedes =
            parse(&charter).is_ok_and(|policy| policy.spec.on_new_release == OnNewRelease::Supersede);
        if let (Some(Entry::Running(handle)), true) = (entry, supersedes) {
            handle.post.urgent(Event::Superseded { by: charter.id.attempt().to_owned() }).await;
        }
    }

    async fn begin_one_pending(&self, charter: Charter) {
        let id = charter.id.clone();
        if let Ok(Some(_)) = self.parts.ledger.load(&id).await {
            // It began before a crash: its own record says the rest.
            if let Err(error) = self.parts.ledger.clear_pending(id.namespace(), id.name()).await {
                tracing::warn!(rollout = %id, %error, "begun, but still noted as waiting");
            }
            return;
        }
        let begun = self.begin(charter).await;
        match begun {
            Err(StartError::Passing(why)) => {
                tracing::warn!(rollout = %id, why, "waits: it cannot begin yet");
                return;
            }
            Err(StartError::Refused(why)) => tracing::error!(rollout = %id, why, "what waited is refused"),
            Ok(_) => {}
        }
        if let Err(error) = self.parts.ledger.clear_pending(id.namespace(), id.name()).await {
            tracing::warn!(rollout = %id, %error, "begun, but still noted as waiting");
        }
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

    pub(super) async fn view_of(&self, id: &RolloutId) -> Result<Option<RolloutView>, ControlError> {
        let charter = self.parts.ledger.charter(id).await.map_err(store_error)?;
        let saved = self.parts.ledger.load(id).await.map_err(store_error)?;
        Ok(charter.zip(saved).and_then(|(charter, (saved, _))| ended_view(&charter, &saved)))
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
            data => serde_json::from_value(data.clone()).map_err(|error| format!("data: {error}")),
        };
    }
    let artifact = event.data.pointer("/subject/content/artifactId").and_then(serde_json::Value::as_str);
    Ok(Announcement { version: artifact.map(str::to_owned), ..Announcement::default() })
}

fn parse(charter: &Charter) -> Result<Policy, StartError> {
    Policy::parse("policy", charter.policy.as_bytes()).map_err(|fault| StartError::Refused(fault.to_string()))
}

fn derived(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))[..10].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn started(id: &RolloutId) -> Answer {
    Answer {
        accepted: true,
        message: format!("{id} begins"),
        rollout: Some(id.clone()),
        ..Answer::refused("")
    }
}

fn waits(charter: &Charter, message: String) -> Answer {
    Answer { accepted: true, message, rollout: Some(charter.id.clone()), ..Answer::refused("") }
}

/// Answers are JSON on every door.
pub(super) fn answer_bytes<T: Serialize>(answer: &T) -> bytes::Bytes {
    serde_json::to_vec(answer).map(bytes::Bytes::from).unwrap_or_default()
}
