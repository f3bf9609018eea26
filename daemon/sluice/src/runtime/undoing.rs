//! Commands about a policy rather than one of its rollouts: stable goes back to a former revision, triggers go off and on.
//!
//! An undo is a rollout of its own, without weights, gates and hooks: it has a record, a history and an end as any other, is
//! taken over as any other, and can be aborted.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sluice_rollout::{Action, RolloutId};
use sluice_traffic::{Revision, connect_history};
use sluice_wire::{
    message::Answer,
    policy::{Policy, PromoteBy, TriggerOn, Workload},
    record::{Charter, VERSION},
    subject::ALL,
};

use super::{
    Daemon,
    announce::{hex, parse},
    clock::now,
    command::{Wish, refused},
    policy_bytes, versions,
};

/// In place of an attempt, where a command is about none.
const NO_ATTEMPT: &str = "policy";

impl Daemon {
    /// Nothing for commands to a rollout.
    pub(super) async fn about_policy(&self, namespace: &str, name: &str, wish: &Wish) -> Option<Answer> {
        let (undo, on) = match wish.action {
            Action::Undo { to_revision } => (Some(to_revision), false),
            Action::Triggers { on } => (None, on),
            Action::Promote
            | Action::PromoteFull
            | Action::Pause
            | Action::Resume
            | Action::Abort
            | Action::Retry
            | Action::Skip { .. }
            | Action::SetWeight { .. }
            | Action::Extend { .. } => return None,
        };
        if namespace == ALL || name == ALL {
            return Some(refused(format!("{} is about one policy: name it", wish.action.name())));
        }
        if undo.is_some()
            && let Some(first) = self.retried(namespace, name, wish).await
        {
            return Some(first);
        }
        let obeying = async {
            let done = match undo {
                Some(revision) => self.undo(namespace, name, revision, wish).await,
                None => self.switch_triggers(namespace, name, on, wish).await,
            };
            done.unwrap_or_else(|refusal| refusal)
        };
        Some(match RolloutId::new(namespace, name, NO_ATTEMPT) {
            Ok(id) => self.once(&id, wish, obeying).await,
            Err(error) => refused(error),
        })
    }

    /// Stable gets the template of a former revision; the latest that no rollout has put back if none is named.
    async fn undo(
        &self,
        namespace: &str,
        name: &str,
        revision: Option<u64>,
        wish: &Wish,
    ) -> Result<Answer, Answer> {
        let policy = self.policy_of(namespace, name, wish).await?;
        let stable = undoable(&policy).map_err(refused)?;
        self.is_meant_for_now(namespace, name, wish).await?;
        let history = connect_history(stable, namespace, &self.parts.clients).await.map_err(refused)?;
        let to = history.to_undo_to(revision).await.map_err(refused)?;
        let charter = self.charter_of_undo(namespace, name, &policy, &to, wish).map_err(refused)?;
        // Off before anything moves: a daemon that dies in between leaves them off, which is said below and in `status`.
        let triggers = policy.spec.trigger.on != TriggerOn::Announcement;
        let were_off = self.parts.ledger.triggers_are_off(namespace, name).await.map_err(refused)?;
        if triggers && !were_off {
            self.parts.ledger.switch_triggers(namespace, name, false).await.map_err(refused)?;
        }
        let answer = self.tried_again(charter).await.unwrap_or_else(refused);
        if !answer.accepted {
            if triggers && !were_off {
                self.parts.ledger.switch_triggers(namespace, name, true).await.map_err(refused)?;
            }
            return Err(answer);
        }
        let mut said =
            format!("{}: back to revision {} ({})", answer.message, to.number, to.images.join(", "));
        if triggers {
            said += &format!("; its triggers are off until sluice triggers-on {namespace}/{name}");
        }
        Ok(Answer { message: said, ..answer })
    }

    /// An undo is for what stands now: not while something runs, and not if it was sent before the latest attempt began.
    async fn is_meant_for_now(&self, namespace: &str, name: &str, wish: &Wish) -> Result<(), Answer> {
        let Some(latest) = self.latest_saved(namespace, name).await.map_err(refused)? else { return Ok(()) };
        let (id, phase) = (&latest.state.id, latest.state.phase.name());
        if !latest.state.is_done() {
            return Err(refused(format!("{id} is {phase}: abort it first, which puts it back by itself")));
        }
        if wish.sent.is_some_and(|sent| sent < latest.state.started) {
            return Err(refused(format!(
                "sent before {id} began; send it again if it is meant for that one"
            )));
        }
        match &wish.command.attempt {
            Some(attempt) if attempt != id.attempt() => {
                Err(refused(format!("attempt {attempt} is no longer the latest, {id} is")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// As if it had been announced under the operator's policy, whoever asks for it.
    fn charter_of_undo(
        &self,
        namespace: &str,
        name: &str,
        policy: &Policy,
        to: &Revision,
        wish: &Wish,
    ) -> Result<Charter, String> {
        let undone = policy.undone(&to.kept_by);
        let undone = self.of_this_cluster(undone, false).map_err(|error| error.to_string())?;
        let policy = policy_bytes(&undone);
        let attempt = format!("undo-{}", short(&wish.key));
        Ok(Charter {
            version: VERSION,
            id: RolloutId::new(namespace, name, &attempt).map_err(|error| error.to_string())?,
            release: Some(format!("revision-{}", to.number)),
            actor: Some(wish.actor.clone()),
            from: None,
            key: wish.key_of_attempt(),
            sequence: None,
            policy_hash: Charter::hash(&policy),
            policy,
            announced: now(),
            after: None,
            retries: 0,
        })
    }

    async fn switch_triggers(
        &self,
        namespace: &str,
        name: &str,
        on: bool,
        wish: &Wish,
    ) -> Result<Answer, Answer> {
        let policy = self.policy_of(namespace, name, wish).await?;
        if policy.spec.trigger.on == TriggerOn::Announcement {
            return Err(refused("its policy has no trigger: nothing but a message starts a rollout"));
        }
        self.parts.ledger.switch_triggers(namespace, name, on).await.map_err(refused)?;
        let (actor, reason) = (&wish.actor, &wish.command.reason);
        tracing::info!(policy = format!("{namespace}/{name}"), on, actor, reason, "triggers are switched");
        let said = match on {
            true => "its triggers are on: what changes from now on starts a rollout",
            false => "its triggers are off: changes start nothing until triggers-on",
        };
        Ok(Answer { accepted: true, ..Answer::refused(format!("{namespace}/{name}: {said}")) })
    }

    /// The policy as it stands now, or that of the latest attempt where it came with a message; and its word on who may.
    async fn policy_of(&self, namespace: &str, name: &str, wish: &Wish) -> Result<Arc<Policy>, Answer> {
        let policy = match self.book.get(namespace, name) {
            Some(policy) => policy,
            None => Arc::new(self.policy_of_latest(namespace, name).await?),
        };
        match self.barred(&policy, &wish.user, wish.action.name()) {
            Some(refusal) => Err(refusal),
            None => Ok(policy),
        }
    }

    async fn policy_of_latest(&self, namespace: &str, name: &str) -> Result<Policy, Answer> {
        let unknown = || refused(format!("no policy {namespace}/{name} is known here"));
        let id = self.find(namespace, name, None).await.map_err(refused)?.ok_or_else(unknown)?;
        let charter = self.parts.ledger.charter(&id).await.map_err(refused)?.ok_or_else(unknown)?;
        parse(&charter).map_err(refused)
    }
}

/// The workload whose template is put back.
fn undoable(policy: &Policy) -> Result<&Workload, String> {
    let workloads = &policy.spec.workloads;
    if versions::are_named_in(&policy_bytes(policy)) {
        return Err("its policy names versions (${version}, ${stable}): announce the former version as a release (sluice start)"
            .to_owned());
    }
    match (&workloads.promote, &workloads.stable) {
        (PromoteBy::CopyTemplate, stable @ (Workload::Deployment(_) | Workload::DeploymentConfig(_))) => {
            Ok(stable)
        }
        (PromoteBy::CopyTemplate, Workload::StatefulSet(name)) => Err(format!(
            "stable is {name}, and only a Deployment or a DeploymentConfig keeps former templates where they can be read"
        )),
        (PromoteBy::CopyTemplate, Workload::External) => {
            Err("the policy names no workload under workloads.stable".to_owned())
        }
        (PromoteBy::Swap, _) => {
            Err("its versions change roles: announce the former version as a release, or flip back"
                .to_owned())
        }
        (PromoteBy::External, _) => {
            Err("somebody else promotes (workloads.promote: external), and has to undo it".to_owned())
        }
    }
}

fn short(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes())[..4])
}
