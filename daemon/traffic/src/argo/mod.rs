//! An Argo Rollout that Sluice drives: `spec.strategy.canary` with a pause behind each weight, or `blueGreen` without automatic
//! promotion. Argo's controller holds the weight, runs the pods and writes the router; Sluice says when.
//!
//! ```text
//!   rollout    what the controller tells: steps, where it stands, who has which traffic      pure
//!   fitness    what a Rollout must be, so that nobody but Sluice opens it further            pure
//!   steering   which patch comes next                                                        pure
//! ```
//!
//! A weight is not written, it is asked for: `apply` patches, watches until the controller reports it, and otherwise says what
//! it waits for ([`TargetError::Pending`]), to be called again. What the controller reports is the read-back; Sluice never
//! writes the router beside it. Every call can be repeated: it begins with what stands there.

mod fitness;
mod rollout;
mod steering;

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use json_patch::PatchOperation;
use kube::api::DynamicObject;
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy::PlainRoute;
use tokio::time::{Instant, timeout_at};

use self::rollout::Rollout;
use self::steering::Next;
use crate::kubernetes::decide::after_refusal;
use crate::kubernetes::marks::{ABORT, Marks, ORIGINAL, WANTED};
use crate::kubernetes::names;
use crate::kubernetes::object::{ATTEMPTS, Change, KindName, Object, PatchFailure, Place};
use crate::kubernetes::patch::{add, path, test};
use crate::watches::Keep;
use crate::workload::{Keeper, Revisions, template_of_replica_set};
use crate::{Clients, Observed, Target, TargetError, Unfit, Wanted};

pub(crate) const ROLLOUT: KindName = KindName {
    group: "argoproj.io",
    version: "v1alpha1",
    kind: "Rollout",
    plural: "rollouts",
    kubectl: "rollouts.argoproj.io",
    short: "rollout",
};

/// The label that the controller puts on a version's pods and ReplicaSet, and on nothing else.
const HASH: &str = "rollouts-pod-template-hash";

/// How long one call waits for the controller.
const CARRIED_OUT: Duration = Duration::from_secs(10);

/// How long a changed template may take to be seen by the controller before a release of it is sent away for now.
const NOTICED: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct ArgoRollout {
    object: Object,
    revisions: Revisions,
    names: PlainRoute,
}

pub(crate) async fn connect(
    config: &PlainRoute,
    namespace: &str,
    clients: &Clients,
) -> Result<ArgoRollout, TargetError> {
    if let Some(unfit) = check(config).into_iter().next() {
        return Err(unfit.into());
    }
    let namespace = config.namespace.as_deref().unwrap_or(namespace);
    Ok(ArgoRollout {
        object: Object::connect(clients, &ROLLOUT, namespace, &config.name).await?,
        revisions: Revisions::connect(Keeper::ReplicaSet, clients, namespace).await?,
        names: config.clone(),
    })
}

/// What can be said without asking the cluster.
pub(crate) fn check(config: &PlainRoute) -> Vec<Unfit> {
    let arms = (config.stable.as_str(), config.canary.as_str());
    names::check("argoRollout", &config.name, config.namespace.as_deref(), arms)
}

impl ArgoRollout {
    fn place(&self) -> &Place {
        &self.object.place
    }

    fn observed(&self, object: &DynamicObject) -> Result<Observed, TargetError> {
        Ok(steering::observed(&Rollout::of(self.place(), object)?, object))
    }

    /// Writes what can be written now. `Err` within: what the controller has to do first.
    async fn steer(
        &self,
        base: DynamicObject,
        wanted: &Wanted,
    ) -> Result<Result<Observed, String>, TargetError> {
        let mut base = base;
        for _ in 0..ATTEMPTS {
            base = match steering::next(self.place(), &base, wanted)? {
                Next::Stands(observed) => return Ok(Ok(observed)),
                Next::Wait(what) => return Ok(Err(what)),
                Next::Mark(operations) => {
                    self.written(&base, &operations, self.object.patch(operations.clone()).await).await?
                }
                Next::Steer(operations) => {
                    self.written(&base, &operations, self.object.patch_status(operations.clone()).await)
                        .await?
                }
                Next::Undo(version) => self.undo(&base, &version, wanted.fence).await?,
            };
        }
        Err(TargetError::Changed(self.name()))
    }

    /// The object after a patch, or as it is where somebody else was first.
    async fn written(
        &self,
        base: &DynamicObject,
        operations: &[PatchOperation],
        patched: Result<DynamicObject, PatchFailure>,
    ) -> Result<DynamicObject, TargetError> {
        match patched {
            Ok(after) => Ok(after),
            Err(PatchFailure::Other(error)) => Err(error),
            Err(PatchFailure::Unprocessable(words)) => {
                let fresh = self.object.get().await?;
                // The controller writes its status many times a second while it moves: what it changed it may have changed back.
                if fresh.metadata.resource_version != base.metadata.resource_version {
                    return Ok(fresh);
                }
                after_refusal(self.place(), base, &fresh, operations, &words).map(|()| fresh)
            }
        }
    }

    /// The template of a former version from its ReplicaSet, as `kubectl argo rollouts undo` takes it.
    async fn undo(
        &self,
        base: &DynamicObject,
        version: &str,
        fence: Fence,
    ) -> Result<DynamicObject, TargetError> {
        let former = self.revisions.labelled(self.place(), base, &format!("{HASH}={version}")).await?;
        let template = template_of_replica_set(&former, HASH);
        let (present, at) = (&base.data["spec"]["template"], || path(["spec", "template"]));
        // Late news of a watch: it has been put back already, or somebody has written another one.
        let change = |object: &DynamicObject| match &object.data["spec"]["template"] {
            now if now == present => Ok(Change {
                operations: vec![test(at(), present.clone()), add(at(), template.clone())],
                ..Change::default()
            }),
            _ => Ok(Change::default()),
        };
        self.object.edit(fence, change).await
    }

    /// As the controller tells of it once it has seen the template that stands there.
    async fn noticed(&self) -> Result<(DynamicObject, Rollout), TargetError> {
        let deadline = Instant::now() + NOTICED;
        let mut states = self.object.watch();
        while let Ok(Some(state)) = timeout_at(deadline, states.next()).await {
            let object = state?.ok_or_else(|| self.object.missing())?;
            let rollout = Rollout::of(self.place(), &object)?;
            if rollout.is_observed(&object) {
                return Ok((object, rollout));
            }
        }
        Err(TargetError::Pending(format!(
            "{}: Argo's controller has not seen its present template; does it run? (see: {})",
            self.name(),
            self.place().show()
        )))
    }
}

#[async_trait]
impl Target for ArgoRollout {
    fn name(&self) -> String {
        self.place().title()
    }

    fn key(&self) -> String {
        self.place().key()
    }

    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError> {
        let (object, rollout) = self.noticed().await?;
        fitness::check(self.place(), &object, &rollout, &self.names, weights)
    }

    /// Its controller stops at the weights of its own steps, and nowhere else.
    async fn nearest(&self, weight: Weight) -> Result<Vec<Weight>, TargetError> {
        let (_, rollout) = self.noticed().await?;
        let all = || rollout.holds().into_iter().map(|hold| hold.weight).chain([Weight::ZERO]);
        let below = all().filter(|hold| *hold < weight).max();
        let above = all().filter(|hold| *hold > weight).min();
        Ok(below.into_iter().chain(above).collect())
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        self.observed(&self.object.get().await?)
    }

    async fn versions(&self) -> Result<Option<[String; 2]>, TargetError> {
        let status = Rollout::of(self.place(), &self.object.get().await?)?.status;
        Ok(Some([status.stable_rs, status.current_pod_hash]))
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        let closing = || ArgoRollout { object: self.object.closing(), ..self.clone() };
        let this = if wanted.rising { self.clone() } else { closing() };
        let deadline = Instant::now() + CARRIED_OUT;
        let mut states = self.object.watch();
        let mut waits_for = None;
        while let Ok(Some(state)) = timeout_at(deadline, states.next()).await {
            let object = state?.ok_or_else(|| self.object.missing())?;
            // News from before our marks were written say nothing any more.
            if waits_for.is_some() && Marks::of(&object).fence < Some(wanted.fence) {
                continue;
            }
            match this.steer(object, wanted).await? {
                Ok(observed) => return Ok(observed),
                Err(what) => waits_for = Some(what),
            }
        }
        Err(waits_for.map_or(TargetError::Timeout(CARRIED_OUT), TargetError::Pending))
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        let annotations = vec![(WANTED, None), (ABORT, None), (ORIGINAL, None)];
        let release =
            |_: &DynamicObject| Ok(Change { annotations: annotations.clone(), ..Change::default() });
        self.observed(&self.object.edit(fence, release).await?)
    }

    /// The controller writes its status often; only what is news to us is told.
    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        let object = self.object.clone();
        let states = self.object.follow(Keep::Whole).map(move |state| {
            let state = state?.ok_or_else(|| object.missing())?;
            Ok(steering::observed(&Rollout::of(&object.place, &state)?, &state))
        });
        let mut last = None;
        let news = states.filter(move |state| {
            let now = state.as_ref().ok().map(|observed: &Observed| (observed.canary, observed.fence));
            let is_news = now.is_none() || now != last;
            last = now;
            std::future::ready(is_news)
        });
        news.boxed()
    }
}
