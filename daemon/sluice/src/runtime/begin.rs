//! The beginning of a rollout: everything outside is checked, the target is claimed, then charter, `open` key and state are
//! saved, in this order, and the owner starts.

use std::sync::Arc;

use sluice_alerts::Dispatcher;
use sluice_bus::StoreRevision;
use sluice_metrics_adapters::Ask;
use sluice_rollout::{Event, Fence, RolloutId, State, Weight};
use sluice_traffic::{Observed, Target, Workloads};
use sluice_wire::{
    message::Answer,
    policy::{Policy, PromoteBy},
    record::{Charter, Owner, Saved, VERSION},
};

use super::{
    Daemon,
    announce::{StartError, begun},
    boundary::{self, Boundary},
    clock::now,
    command::next_attempt,
    company::nudge,
    policy_bytes,
    roll::{Entry, MOST_RUNNING},
    rollout,
    rollout::{Beginning, Handle},
    standing::Standing,
};

/// Everything outside that a rollout needs, checked.
pub(super) struct Edges {
    policy: Arc<Policy>,
    pub target: Arc<dyn Target>,
    pub workloads: Arc<dyn Workloads>,
    alerts: Arc<Dispatcher>,
    ask: Ask,
}

impl Daemon {
    /// Checks everything outside, claims the target, saves, and starts the owner.
    pub(super) async fn begin(&self, charter: Charter) -> Result<Answer, StartError> {
        if self.rollouts.is_full() {
            return Err(StartError::Passing(format!(
                "this daemon carries {MOST_RUNNING} rollouts already; it begins when some have ended, or where another daemon runs"
            )));
        }
        let policy = self.with_versions(&charter).await?;
        let (edges, observed) = self.edges_by_role(policy, &charter.id).await?;
        let warnings = edges.target.warnings();
        for warning in &warnings {
            tracing::warn!(rollout = %charter.id, target = edges.target.name(), "{warning}");
        }
        let target = self.in_cluster(edges.target.key());
        if let Some(other) = self.parts.ledger.hold_target(&target, &charter.id).await? {
            return Err(StartError::Refused(format!(
                "{} is held by {other}; one rollout per target",
                edges.target.name()
            )));
        }
        boundary::met(Boundary::TargetClaimed, "");
        self.stop_aftermath(&charter.id).await;
        let ledger = &self.parts.ledger;
        let attempts = ledger.attempts(charter.id.namespace(), charter.id.name()).await?;
        let former = attempts.ids.iter().rev().find(|former| **former != charter.id);
        let retries = self.retries(&charter, former).await?;
        let former = match former {
            Some(former) => ledger.load(former).await?.map(|(saved, _)| saved.state),
            None => None,
        };
        // A command to the attempt before that is sent again gets its first answer, and does nothing to this one.
        let answered = former.as_ref().map(State::answers_to_hand_on).unwrap_or_default();
        let after = former.filter(|former| !former.has_put_back()).map(|former| former.id);
        let policy = policy_bytes(&edges.policy);
        let charter = Charter { policy_hash: Charter::hash(&policy), policy, after, retries, ..charter };
        let epoch = attempts.epoch.max(observed.fence.map_or(0, |fence: Fence| fence.epoch)) + 1;
        let daemon = self.company.chosen(charter.id.namespace(), charter.id.name());
        let here = self.parts.alone || daemon == self.parts.daemon;
        let saved = Saved {
            version: VERSION,
            owner: if here {
                self.owner(epoch)
            } else {
                Owner { daemon, incarnation: String::new(), epoch, cluster: self.parts.cluster.clone() }
            },
            state: State { answered, ..State::new(charter.id.clone(), epoch, now()) },
            untold: Vec::new(),
        };
        let charter =
            if ledger.create_charter(&charter).await? { charter } else { self.as_created(charter).await? };
        boundary::met(Boundary::CharterSaved, "");
        ledger.open(&charter.id, &saved.owner.daemon).await?;
        boundary::met(Boundary::OpenNoted, "");
        let revision = ledger.save(&saved, 0).await?;
        boundary::met(Boundary::StateCreated, "");
        ledger.make_current(&charter.id, epoch).await?;
        boundary::met(Boundary::MadeCurrent, "");
        let id = charter.id.clone();
        if here {
            let standing = Standing::found_at_start(Some(observed.canary), None, now());
            let handle = self.own(charter, edges, (saved, revision), standing, Event::Requested);
            self.rollouts.enter(id.namespace(), id.name(), Entry::Running(handle));
        } else {
            tracing::info!(rollout = %id, daemon = saved.owner.daemon, "begun for the daemon whose it should be");
            self.nudge_later(&id, nudge::TAKE_UP);
        }
        self.forget_waiting(&id).await?;
        Ok(begun(&id, &warnings))
    }

    /// A charter that was there already counts, whoever made it: the record, and whoever takes the rollout over, know that one.
    async fn as_created(&self, charter: Charter) -> Result<Charter, StartError> {
        let id = &charter.id;
        match self.parts.ledger.charter(id).await? {
            Some(found) if found.key != charter.key => Err(StartError::Refused(format!(
                "attempt {id} was announced before by another message ({}); give it another name",
                found.key
            ))),
            Some(found) if found.policy_hash == charter.policy_hash => Ok(found),
            Some(_) => Err(StartError::Passing(format!(
                "another daemon began {id} just now under another version of its policy; that one counts"
            ))),
            None => Err(StartError::Passing(format!("the record of {id} has just gone"))),
        }
    }

    /// How often this very release was tried before.
    async fn retries(&self, charter: &Charter, former: Option<&RolloutId>) -> Result<u32, StartError> {
        let Some(former) = former.filter(|former| next_attempt(former.attempt()) == charter.id.attempt())
        else {
            return Ok(0);
        };
        let former =
            self.parts.ledger.charter(former).await?.filter(|former| former.release == charter.release);
        Ok(former.map_or(0, |former| former.retries.saturating_add(1)))
    }

    pub(super) async fn stop_aftermath(&self, by: &RolloutId) {
        if let Some(Entry::Running(former)) = self.rollouts.get(by.namespace(), by.name()) {
            leave_the_target(&former, by).await;
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

    pub(super) async fn edges(&self, policy: Policy, id: &RolloutId) -> Result<Edges, StartError> {
        let edges = self.connect(policy, id).await?;
        let machine = edges.policy.machine();
        let mut weights: Vec<Weight> = machine.steps.iter().map(|step| step.weight).collect();
        weights.extend(machine.bake.map(|bake| bake.weight));
        edges.target.check(&weights).await?;
        edges.workloads.check().await?;
        match edges.target.versions().await? {
            Some(versions) => named(edges, versions, id),
            None => Ok(edges),
        }
    }

    pub(super) async fn connect(&self, policy: Policy, id: &RolloutId) -> Result<Edges, StartError> {
        let refuse = |why: String| StartError::Refused(why);
        let (target, workloads) = self.parts.outside.connect(&policy).await?;
        let alerts =
            self.parts.alerts.dispatcher(&policy.spec.alerts).map_err(|error| refuse(error.to_string()))?;
        let ask = Ask::of(&policy, id.clone()).map_err(|error| refuse(error.to_string()))?;
        self.parts.sources.connect(&policy.spec.metrics).map_err(|error| refuse(error.to_string()))?;
        Ok(Edges { policy: Arc::new(policy), target, workloads, alerts: Arc::new(alerts), ask })
    }

    /// Objects of one name in two clusters are two.
    fn in_cluster(&self, key: String) -> String {
        match &self.parts.cluster {
            Some(cluster) => format!("{cluster}: {key}"),
            None => key,
        }
    }

    pub(super) fn owner(&self, epoch: u64) -> Owner {
        let (daemon, incarnation) = (self.parts.daemon.clone(), self.parts.incarnation.clone());
        Owner { daemon, incarnation, epoch, cluster: self.parts.cluster.clone() }
    }

    pub(super) fn own(
        &self,
        charter: Charter,
        edges: Edges,
        (saved, revision): (Saved, StoreRevision),
        standing: Standing,
        first: Event,
    ) -> Handle {
        rollout::begin(Beginning {
            parts: self.parts.clone(),
            charter: Arc::new(charter),
            policy: edges.policy,
            target: edges.target,
            workloads: edges.workloads,
            alerts: edges.alerts,
            ask: edges.ask,
            saved,
            revision,
            standing,
            first,
            changes: self.changes.clone(),
        })
    }
}

/// The drain and the scale-down of an attempt that has ended would hit the new one's pods: they are given up. What it has
/// to tell, it still tells.
pub(super) async fn leave_the_target(former: &Handle, by: &RolloutId) {
    let ended = former.view.borrow().outcome.is_some();
    if ended {
        former.aftermath.cancel();
        former.post.urgent(Event::Superseded { by: by.attempt().to_owned() }).await;
    }
}

/// What is read from now on is what these versions' pods count.
fn named(edges: Edges, versions: [String; 2], id: &RolloutId) -> Result<Edges, StartError> {
    let policy = edges.policy.named(versions);
    let ask = Ask::of(&policy, id.clone()).map_err(|error| StartError::Refused(error.to_string()))?;
    Ok(Edges { policy: Arc::new(policy), ask, ..edges })
}
