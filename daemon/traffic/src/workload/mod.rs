//! How the two versions are run, and the one list of workloads.
//!
//! ```text
//!   Versions ─┬─ Arm: deployment   scale, floor, template      (autoscaler: its minimum is the floor; controller: which kind)
//!             │       external     nothing to scale, nothing to see
//!             ├─ promotion         which template stable gets, whether it has arrived    pure
//!             ├─ replacing         a few at a time, all old ones first; custom: by a Job of the user's image
//!             ├─ config            a DeploymentConfig's triggers, and the start of its next version
//!             └─ endpoints         the canary's ready endpoints, live
//! ```
//!
//! Every wish names the result and can be repeated; every write tests our fence on the object it changes.

pub(crate) mod autoscaler;
mod config;
pub(crate) mod controller;
mod custom;
pub(crate) mod deployment;
pub(crate) mod endpoints;
mod external;
mod pods;
pub(crate) mod promotion;
mod replacing;
mod revision;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use sluice_rollout::{Fence, Role, RolloutId};
use sluice_wire::policy::{self, PromoteBy, Replace};

use crate::{AtStart, Clients, Size, Sizes, TargetError, Workloads};
use controller::Controller;
use custom::Custom;
use deployment::Deployment;
use endpoints::Endpoints;
use replacing::Source;

pub(crate) use promotion::{gitops_owner, template_of_replica_set};
pub use revision::{History, Revision, connect_history};
pub(crate) use revision::{Keeper, Revisions};

/// The policy's workloads, ready to be asked. Reads nothing from them yet: `check` and `observe` do.
/// `target` tells where the canary's endpoints can be seen.
pub async fn connect_workloads(
    workloads: &policy::Workloads,
    target: &policy::Target,
    namespace: &str,
    clients: &Clients,
) -> Result<Arc<dyn Workloads>, TargetError> {
    Ok(Arc::new(Versions {
        stable: Arm::connect(&workloads.stable, namespace, clients).await?,
        canary: Arm::connect(&workloads.canary, namespace, clients).await?,
        promote: workloads.promote,
        replace: workloads.replace.clone(),
        from_replica_set: workloads.from_replica_set.clone(),
        clients: clients.clone(),
        canary_is_the_targets: matches!(target, policy::Target::Replicas(_)),
        endpoints: Endpoints::connect(target, namespace, clients).await?,
    }))
}

/// One version, by what runs it.
#[derive(Debug)]
enum Arm {
    Deployment(Box<Deployment>),
    External,
}

#[derive(Debug)]
struct Versions {
    stable: Arm,
    canary: Arm,
    promote: PromoteBy,
    replace: Option<Replace>,
    /// In place of the canary's template.
    from_replica_set: Option<String>,
    clients: Clients,
    /// Its pods are its weight: the target scales it, and nobody else.
    canary_is_the_targets: bool,
    endpoints: Option<Endpoints>,
}

impl Arm {
    async fn connect(
        workload: &policy::Workload,
        namespace: &str,
        clients: &Clients,
    ) -> Result<Arm, TargetError> {
        let Some((controller, name)) = Controller::of(workload) else { return Ok(Arm::External) };
        let deployment = Deployment::connect(controller, name, namespace, clients).await?;
        Ok(Arm::Deployment(Box::new(deployment)))
    }

    fn name(&self) -> String {
        match self {
            Arm::Deployment(deployment) => deployment.title(),
            Arm::External => external::NAME.into(),
        }
    }

    fn deployment(&self) -> Option<&Deployment> {
        match self {
            Arm::Deployment(deployment) => Some(deployment),
            Arm::External => None,
        }
    }

    async fn size(&self, role: Role) -> Result<Size, TargetError> {
        match self {
            Arm::Deployment(deployment) => deployment.size(role).await,
            Arm::External => Ok(external::SIZE),
        }
    }

    async fn floor(&self, at_least: u32, fence: Fence) -> Result<(), TargetError> {
        match self {
            Arm::Deployment(deployment) => deployment.floor(at_least, fence).await,
            Arm::External => Ok(()),
        }
    }

    async fn set(&self, replicas: u32, fence: Fence) -> Result<(), TargetError> {
        match self {
            Arm::Deployment(deployment) => deployment.set(replicas, fence).await,
            Arm::External => Ok(()),
        }
    }

    fn watch(&self, role: Role) -> BoxStream<'static, Result<Size, TargetError>> {
        match self {
            Arm::Deployment(deployment) => deployment.watch(role),
            Arm::External => external::watch(),
        }
    }
}

impl Versions {
    /// Both Deployments, for what needs to see both.
    fn both(&self) -> Result<(&Deployment, &Deployment), TargetError> {
        match (self.stable.deployment(), self.canary.deployment()) {
            (Some(stable), Some(canary)) => Ok((stable, canary)),
            _ => Err(TargetError::NotAsNeeded(format!(
                "workloads.promote: {} needs both versions' Deployments; name them under workloads.stable and workloads.canary, or write promote: swap",
                match self.promote {
                    PromoteBy::CopyTemplate => "copyTemplate",
                    PromoteBy::External => "external",
                    PromoteBy::Swap => "swap",
                }
            ))),
        }
    }

    /// Stable, and where it gets its new template from.
    fn replaced(&self) -> Result<(&Deployment, Source<'_>), TargetError> {
        let (stable, canary) = self.both()?;
        Ok((stable, self.from_replica_set.as_deref().map_or(Source::Canary(canary), Source::History)))
    }

    /// The Job that replaces stable, with both versions. An undo is none of its business.
    fn custom(&self) -> Result<Option<Custom<'_>>, TargetError> {
        let (Some(Replace::Custom(job)), None) = (&self.replace, &self.from_replica_set) else {
            return Ok(None);
        };
        let (stable, canary) = self.both()?;
        Ok(Some(Custom { stable, canary, job, clients: &self.clients }))
    }

    fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        [&self.stable, &self.canary].into_iter().filter_map(Arm::deployment)
    }
}

#[async_trait]
impl Workloads for Versions {
    fn name(&self) -> String {
        format!("{} and {}", self.stable.name(), self.canary.name())
    }

    async fn check(&self) -> Result<(), TargetError> {
        for deployment in self.deployments() {
            deployment.check().await?;
        }
        if let (Some(stable), Some(canary)) = (self.stable.deployment(), self.canary.deployment()) {
            stable.check_apart_from(canary)?;
        }
        if let Some(endpoints) = &self.endpoints {
            endpoints.check().await?;
        }
        match self.promote {
            PromoteBy::CopyTemplate => {
                let (stable, _) = self.both()?;
                stable.check_copy().await?;
                stable.check_replace(self.replace.as_ref()).await
            }
            PromoteBy::External => self.both().map(drop),
            PromoteBy::Swap => Ok(()),
        }
    }

    async fn at_start(
        &self,
        rollout: &RolloutId,
        after: Option<&RolloutId>,
        fence: Fence,
    ) -> Result<AtStart, TargetError> {
        deployment::at_start(self.stable.deployment(), self.canary.deployment(), rollout, after, fence).await
    }

    async fn take_over(&self, fence: Fence) -> Result<(), TargetError> {
        let ours =
            if self.canary_is_the_targets { &[&self.stable][..] } else { &[&self.stable, &self.canary] };
        for deployment in ours.iter().filter_map(|arm| arm.deployment()) {
            deployment.take_over(fence).await?;
        }
        Ok(())
    }

    async fn observe(&self) -> Result<Sizes, TargetError> {
        Ok(Sizes {
            stable: self.stable.size(Role::Stable).await?,
            canary: self.canary.size(Role::Canary).await?,
        })
    }

    async fn raise_canary(&self, at_least: u32, fence: Fence) -> Result<(), TargetError> {
        if self.canary_is_the_targets {
            return Ok(());
        }
        if let Arm::Deployment(canary) = &self.canary {
            // Its pods are to be of the template that is released.
            canary.begin_version(fence).await?;
        }
        self.canary.floor(at_least, fence).await
    }

    async fn hold_stable(&self, floor: u32, fence: Fence) -> Result<(), TargetError> {
        self.stable.floor(floor, fence).await
    }

    async fn release_stable(&self, start: AtStart, fence: Fence) -> Result<(), TargetError> {
        match &self.stable {
            Arm::Deployment(deployment) => deployment.release(start, fence).await,
            Arm::External => Ok(()),
        }
    }

    async fn set_canary(&self, replicas: u32, fence: Fence) -> Result<(), TargetError> {
        if self.canary_is_the_targets { Ok(()) } else { self.canary.set(replicas, fence).await }
    }

    async fn set_stable(&self, replicas: u32, fence: Fence) -> Result<(), TargetError> {
        self.stable.set(replicas, fence).await
    }

    async fn empty_stable(&self, fence: Fence) -> Result<(), TargetError> {
        self.replaced()?.0.empty(fence).await
    }

    async fn promote_first(&self, fence: Fence) -> Result<(), TargetError> {
        let (stable, source) = self.replaced()?;
        stable.take_first(source, fence).await
    }

    async fn promote(&self, start: AtStart, fence: Fence) -> Result<(), TargetError> {
        match self.promote {
            PromoteBy::CopyTemplate => {
                if let Some(custom) = self.custom()? {
                    return custom.promote(fence).await;
                }
                let (stable, source) = self.replaced()?;
                let emptied = matches!(self.replace, Some(Replace::Recreate(_)));
                let at_least = if emptied { start.stable } else { 0 };
                stable.take(source, self.replace.as_ref(), at_least, fence).await
            }
            PromoteBy::External => {
                let (stable, canary) = self.both()?;
                stable.wait_for_images_of(canary).await
            }
            PromoteBy::Swap => match &self.canary {
                Arm::Deployment(canary) => canary.wait_until_rolled_out().await,
                Arm::External => Ok(()),
            },
        }
    }

    async fn restore(&self, start: AtStart, fence: Fence) -> Result<(), TargetError> {
        match self.promote {
            PromoteBy::CopyTemplate => {
                if let Some(custom) = self.custom()? {
                    custom.stop().await?;
                }
                self.both()?.0.restore(start, fence).await
            }
            PromoteBy::External => {
                let (stable, canary) = self.both()?;
                stable.check_has_other_images_than(canary).await
            }
            PromoteBy::Swap => Ok(()),
        }
    }

    fn watch(&self) -> BoxStream<'static, Result<Sizes, TargetError>> {
        let stable = self.stable.watch(Role::Stable).map(|size| (Role::Stable, size));
        let canary = self.canary.watch(Role::Canary).map(|size| (Role::Canary, size));
        let both = stream::select(stable, canary)
            .scan((None, None), |known, (role, size)| std::future::ready(Some(sizes(known, role, size))));
        both.filter_map(std::future::ready).boxed()
    }

    fn canary_endpoints(&self) -> Option<BoxStream<'static, Result<u32, TargetError>>> {
        self.endpoints.as_ref().map(Endpoints::watch)
    }
}

/// Both sizes once both are known, and whenever one of them changes.
fn sizes(
    known: &mut (Option<Size>, Option<Size>),
    role: Role,
    size: Result<Size, TargetError>,
) -> Option<Result<Sizes, TargetError>> {
    let size = match size {
        Ok(size) => size,
        Err(error) => return Some(Err(error)),
    };
    let slot = match role {
        Role::Stable => &mut known.0,
        Role::Canary => &mut known.1,
    };
    if slot.replace(size) == Some(size) {
        return None;
    }
    let (stable, canary) = (known.0?, known.1?);
    Some(Ok(Sizes { stable, canary }))
}
