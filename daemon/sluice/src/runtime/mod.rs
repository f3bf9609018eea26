//! The runtime: performs what the core decides. One owner task a rollout ([`rollout`]); this file keeps the list of them,
//! begins new ones, takes up those that a crash left, and answers the doors.

mod announce;
mod authority;
mod backends;
mod backoff;
mod begin;
mod boundary;
pub mod clock;
mod cluster;
mod command;
mod company;
mod edge;
mod elsewhere;
mod fault;
mod fellows;
mod gates;
mod gauges;
mod historian;
mod hub;
mod intake;
mod kept;
mod lanes;
mod ledger;
mod meters;
mod observer;
#[cfg(test)]
mod older;
mod parts;
mod passing_on;
mod policies;
mod post;
mod recorder;
mod roll;
mod rollout;
pub mod serve;
#[cfg(test)]
mod simulation;
mod standing;
mod taking_up;
mod troubles;
mod undoing;
mod versions;
mod views;
mod waiting;
mod whose;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream::BoxStream};
use sluice_alerts::{Exchange, Settings as AlertSettings};
use sluice_bus::{Bus, Doors, Store};
use sluice_metrics_adapters::{Http, Sources};
use sluice_outbound::Outbound;
use sluice_rollout::RolloutId;
use sluice_traffic::{Clients, cluster::ClusterPolicies};
use sluice_wire::{
    cloudevent::CloudEvent,
    decisions::RecordPage,
    message::{Answer, Command},
    policy::Policy,
    record::HistoryLine,
    view::RolloutView,
};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    authority::Authority, company::Company, historian::Historian, hub::Hubs, kept::Kept, ledger::Ledger,
    meters::Meters, parts::Parts, policies::PolicyBook, recorder::Records, roll::Roll, rollout::Handle,
    troubles::Troubles,
};
use crate::{
    cluster_rights::Rights,
    control::{Control, ControlError},
};

/// Changes that a slow reader may lag behind.
const CHANGES: usize = 1_024;
/// How often an announcement that waits is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Alerts that wait are still sent within this.
const ALERTS_WITHIN: Duration = Duration::from_secs(2);
/// Decision records that wait are still written within this.
const RECORDS_WITHIN: Duration = Duration::from_secs(1);
/// Requests of other daemons' rollouts that are waited for at once; of more this daemon says nothing.
const MOST_STANDING_IN: usize = 64;
/// A clean stop ends within this…
const STOP_WITHIN: Duration = Duration::from_secs(4);
/// …and then the others are told.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// What a daemon is made of.
#[derive(Debug)]
pub struct Setup {
    pub bus: Arc<dyn Bus>,
    pub store: Arc<dyn Store>,
    pub doors: Arc<dyn Doors>,
    /// This daemon's name: it takes up what stands under it.
    pub daemon: String,
    /// Drawn anew at each start.
    pub incarnation: String,
    /// The cluster that it acts in, where several share the bus.
    pub cluster: Option<String>,
    /// The store is a file that only one process can have open.
    pub alone: bool,
    /// Folders and files.
    pub policies: Vec<PathBuf>,
    /// Namespaces whose policies in the cluster are served; an empty list: all.
    pub cluster_policies: Option<Vec<String>>,
    /// What those may use of this daemon.
    pub cluster_rights: Rights,
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig in place of its current one.
    pub kube_context: Option<String>,
    /// File of the public keys by which commands are signed; nothing: they need no signature.
    pub signers: Option<PathBuf>,
    /// What the addresses in policies may be.
    pub outbound: Outbound,
}

/// Namespace and name.
type PolicyName = (String, String);
/// Held while an announcement is worked on.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// A running daemon.
pub struct Daemon {
    parts: Parts,
    book: PolicyBook,
    authority: Authority,
    /// The latest rollout of each policy.
    rollouts: Roll,
    /// One announcement of a policy at a time.
    starting: Mutex<BTreeMap<PolicyName, Turn>>,
    /// Rollouts of an earlier start that could not be taken up yet.
    left: Mutex<Vec<RolloutId>>,
    changes: broadcast::Sender<RolloutView>,
    /// How many of those who follow the changes are this daemon's own tasks.
    listeners: usize,
    /// The other daemons on this bus.
    company: Company,
    stop: CancellationToken,
    /// Stored commands that others act on, in their order.
    kept: Kept,
    /// How many questions to other daemons are waited for at once.
    standing_in: Semaphore,
    /// Another daemon has this one's name.
    displaced: CancellationToken,
    tasks: TaskTracker,
}

impl Daemon {
    /// Reads the policies, takes up what an earlier start left, and subscribes to the bus.
    pub async fn start(setup: Setup) -> anyhow::Result<Arc<Daemon>> {
        let clients = Clients::new(setup.kubeconfig)?
            .with_context(setup.kube_context)
            .with_outbound(&setup.outbound)?;
        let in_cluster = setup
            .cluster_policies
            .map(|namespaces| ClusterPolicies::new(clients.clone(), namespaces, &setup.daemon));
        let ledger = Ledger::new(setup.store);
        let meters = Arc::new(Meters::default());
        let parts = Parts {
            bus: setup.bus,
            doors: setup.doors,
            records: Records::start(ledger.clone(), meters.clone()),
            historian: Historian::start(ledger.clone(), meters.clone()),
            ledger,
            alerts: Arc::new(Exchange::new(
                setup.outbound.clone(),
                reqwest::Client::builder,
                AlertSettings::default(),
            )),
            outside: Arc::new(clients.clone()),
            clients,
            sources: Arc::new(Sources::new(Http { outbound: setup.outbound.clone(), ..Http::default() })),
            hubs: Arc::new(Hubs::default()),
            meters,
            http: setup.outbound.client(reqwest::Client::builder)?,
            alone: setup.alone,
            daemon: setup.daemon,
            incarnation: setup.incarnation,
            cluster: setup.cluster,
        };
        let listings = in_cluster.as_ref().map_or(0, ClusterPolicies::listings);
        let book =
            PolicyBook::new(setup.policies).awaiting(listings, parts.cluster.clone(), setup.cluster_rights);
        Daemon::awake(parts, book, Authority::new(setup.signers), in_cluster).await
    }

    /// [`Daemon::start`], once it is known what there is outside.
    async fn awake(
        parts: Parts,
        book: PolicyBook,
        authority: Authority,
        in_cluster: Option<ClusterPolicies>,
    ) -> anyhow::Result<Arc<Daemon>> {
        let (changes, _) = broadcast::channel(CHANGES);
        let parts_meters = parts.meters.clone();
        let company = Company::new(&parts.daemon, parts.cluster.as_deref());
        let daemon = Arc::new(Daemon {
            parts,
            book,
            listeners: 1 + usize::from(in_cluster.is_some()),
            authority,
            rollouts: Roll::new(parts_meters),
            starting: Mutex::default(),
            left: Mutex::default(),
            changes,
            company,
            kept: Kept::default(),
            standing_in: Semaphore::new(MOST_STANDING_IN),
            stop: CancellationToken::new(),
            displaced: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        daemon.book.reload()?;
        daemon.count_policy_faults(false);
        daemon.book.warn_if_empty();
        let can_change = daemon.book.has_places() || in_cluster.is_some();
        if let Some(cluster) = in_cluster {
            daemon.tasks.spawn(cluster::follow(daemon.clone(), cluster.clone()));
            daemon.tasks.spawn(cluster::statuses::write_on(daemon.clone(), cluster));
        }
        if !daemon.parts.alone {
            daemon.appear().await?;
        }
        daemon.take_up().await?;
        intake::start(&daemon).await?;
        if !daemon.parts.alone {
            daemon.tasks.spawn(company::beat_on(daemon.clone()));
            daemon.tasks.spawn(company::look_on(daemon.clone()));
            daemon.tasks.spawn(company::take_over(daemon.clone()));
            daemon.tasks.spawn(elsewhere::follow(daemon.clone()));
        }
        daemon.tasks.spawn(cluster::triggers::follow_on(daemon.clone()));
        if can_change {
            daemon.tasks.spawn(policies::reload_on(daemon.clone()));
        }
        daemon.tasks.spawn(begin_what_waits(daemon.clone()));
        Ok(daemon)
    }

    /// Stops taking work, lets what is being written end, and returns within five seconds. Rollouts stay where they are
    /// and are taken up by another daemon at once, or by the next start.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let handles: Vec<Handle> = self.rollouts.owners();
        for handle in &handles {
            handle.stop.cancel();
        }
        self.tasks.close();
        let ended = async {
            for handle in handles {
                handle.tasks.wait().await;
            }
            self.tasks.wait().await;
            self.parts.records.close(RECORDS_WITHIN).await;
            self.parts.alerts.shutdown(ALERTS_WITHIN).await
        };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!(
                "not everything ended within {STOP_WITHIN:?}; what is outstanding runs again at its next owner"
            );
        }
        if tokio::time::timeout(LEAVE_WITHIN, self.leave()).await.is_err() {
            tracing::warn!(
                "the store does not answer: the other daemons notice within seconds that this one is gone"
            );
        }
    }

    /// Ends when another daemon of this name has started: this one does nothing any more and has to stop.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// One announcement of a policy after the other.
    fn turn(&self, namespace: &str, name: &str) -> Turn {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        starting.retain(|_, turn| Arc::strong_count(turn) > 1);
        starting.entry((namespace.to_owned(), name.to_owned())).or_default().clone()
    }
}

/// An announcement that waits begins when the rollout before it has ended; looked at again now and then, in case it
/// could not begin at once.
async fn begin_what_waits(daemon: Arc<Daemon>) {
    let mut changes = daemon.changes.subscribe();
    loop {
        daemon.begin_pending().await;
        daemon.rollouts.tidy();
        let next_end = async { while let Ok(RolloutView { outcome: None, .. }) = changes.recv().await {} };
        let waited = tokio::time::timeout(LOOK_AGAIN, next_end);
        if daemon.stop.run_until_cancelled(waited).await.is_none() {
            return;
        }
    }
}

#[async_trait]
impl Control for Daemon {
    async fn rollouts(&self) -> Vec<RolloutView> {
        let mut views = self.views_of_all().await;
        views.sort_by_key(|view| std::cmp::Reverse(view.started));
        views
    }

    async fn rollout(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<RolloutView, ControlError> {
        let unknown = || ControlError::Unknown(written(namespace, name, attempt));
        let here = self.is_one_of_one() || self.is_running_here(namespace, name);
        if let Some(entry) = self.rollouts.get(namespace, name).filter(|_| here) {
            let view = entry.view();
            if attempt.is_none_or(|attempt| attempt == view.rollout.attempt()) {
                return Ok(view);
            }
        }
        let id = self.find(namespace, name, attempt).await?.ok_or_else(unknown)?;
        if let Some(owner) = self.rollouts.owner(&id) {
            return Ok(owner.view.borrow().clone());
        }
        let view = self.view_of(&id).await?.ok_or_else(unknown)?;
        // Its owner is another daemon: what happened last stands in its history.
        let last = match view.outcome {
            None => self.parts.ledger.history(&id, 1).await.unwrap_or_default().pop(),
            Some(_) => None,
        };
        Ok(last.map(|line| RolloutView { reason: line.reason, ..view.clone() }).unwrap_or(view))
    }

    async fn history(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<Vec<HistoryLine>, ControlError> {
        let unknown = || ControlError::Unknown(written(namespace, name, attempt));
        let id = self.find(namespace, name, attempt).await?.ok_or_else(unknown)?;
        self.parts.ledger.history(&id, 10_000).await.map_err(|error| ControlError::Store(error.to_string()))
    }

    async fn record(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
        after: u64,
    ) -> Result<RecordPage, ControlError> {
        let unknown = || ControlError::Unknown(written(namespace, name, attempt));
        let id = self.find(namespace, name, attempt).await?.ok_or_else(unknown)?;
        recorder::page(&self.parts.ledger, &id, after).await?.ok_or_else(unknown)
    }

    async fn command(
        &self,
        user: &str,
        namespace: &str,
        name: &str,
        action: &str,
        key: String,
        command: Command,
    ) -> Answer {
        self.obey_or_pass_on(user, namespace, name, action, key, command).await
    }

    async fn announce(&self, namespace: &str, name: &str, event: CloudEvent) -> Answer {
        match self.announced(namespace, name, event, announce::Sent::default()).await {
            Ok(answer) => answer,
            Err(announce::StartError::Elsewhere(why)) => Answer::refused(why),
            Err(error) => Answer::refused(format!("not now: {error}; announce it again")),
        }
    }

    fn changes(&self) -> BoxStream<'static, RolloutView> {
        Box::pin(lagging(self.changes.subscribe()))
    }

    async fn ready(&self) -> Result<(), Vec<String>> {
        let mut missing = Vec::new();
        if let Err(error) = self.parts.bus.healthy().await {
            missing.push(error.to_string());
        }
        if self.stop.is_cancelled() {
            missing.push("stopping".to_owned());
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    fn metrics(&self) -> String {
        self.parts.meters.text()
    }
}

fn written(namespace: &str, name: &str, attempt: Option<&str>) -> String {
    let attempt = attempt.map(|attempt| format!("@{attempt}")).unwrap_or_default();
    format!("{namespace}/{name}{attempt}")
}

/// A reader that lags loses the oldest changes and goes on with the next.
fn lagging(changes: broadcast::Receiver<RolloutView>) -> impl Stream<Item = RolloutView> + Send + 'static {
    futures::stream::unfold(changes, |mut changes| async move {
        loop {
            match changes.recv().await {
                Ok(view) => return Some((view, changes)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
    .boxed()
}

/// A policy's bytes as they are kept with its rollouts.
fn policy_bytes(policy: &Policy) -> String {
    serde_json::to_string(policy).unwrap_or_default()
}

/// The view of a rollout that is not running here.
fn ended_view(
    charter: &sluice_wire::record::Charter,
    saved: &sluice_wire::record::Saved,
) -> Option<RolloutView> {
    let policy: Policy = serde_json::from_str(&charter.policy).ok()?;
    Some(views::view(charter, &policy, saved, &Arc::default(), ("", &Troubles::none())))
}
