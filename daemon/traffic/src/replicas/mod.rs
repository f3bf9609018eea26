//! Plain replicas: two workloads behind one Service and no router. The canary's weight is its share of the pods.
//!
//! ```text
//!   share   how many pods stand for a weight                     pure
//!   Pods    where that number stands in the canary's object      pure
//! ```
//!
//! Stable keeps all its pods, so an abort is one write here too: the canary's pods go. A weight goes up in two writes: first the
//! pods, under the fence that stood there, then, when they are available, our marks with the new fence. Only then is the weight
//! read back as written, because only then the Service sends it its share. The canary's size is this target's own: `workloads`
//! scales stable alone.

mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy;
use tokio::time::{Instant, timeout_at};

use crate::kubernetes::decide::forbid_rise_after_abort;
use crate::kubernetes::marks::{Marks, WANTED, annotation};
use crate::kubernetes::object::{Change, Object, Place};
use crate::kubernetes::selector::SERVICE;
use crate::kubernetes::{Kind, KubeTarget, observed};
use crate::watches::Keep;
use crate::workload::autoscaler::Autoscalers;
use crate::workload::controller::Controller;
use crate::workload::deployment::{grow_to, replicas, scale_to};
use crate::{Clients, Observed, Target, TargetError, Unfit, Wanted};

pub(crate) use share::fewest_stable_pods;

/// How long one call waits for pods to become available.
const AVAILABLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Replicas {
    target: KubeTarget<Pods>,
    pods: Pods,
    canary: Object,
    stable: Object,
    service: Object,
    autoscalers: Autoscalers,
    canary_kind: &'static str,
}

pub(crate) async fn connect(
    config: &policy::PodShare,
    workloads: &policy::Workloads,
    namespace: &str,
    clients: &Clients,
) -> Result<Replicas, TargetError> {
    let (Some((stable, stable_name)), Some((canary, canary_name))) =
        (Controller::of(&workloads.stable), Controller::of(&workloads.canary))
    else {
        return Err(unnamed_workloads().into());
    };
    let object = Object::connect(clients, canary.kind(), namespace, canary_name).await?;
    let pods = Pods::default();
    Ok(Replicas {
        target: KubeTarget::new(pods.clone(), object.clone()),
        pods,
        canary: object,
        stable: Object::connect(clients, stable.kind(), namespace, stable_name).await?,
        service: Object::connect(clients, &SERVICE, namespace, &config.service).await?,
        autoscalers: Autoscalers::connect(clients, namespace).await?,
        canary_kind: canary.kind().kind,
    })
}

fn unnamed_workloads() -> Unfit {
    Unfit {
        field: "spec.workloads".to_owned(),
        why: "without a router the weight is the canary's share of the pods: name what runs them, for example {stable: {deployment: checkout}, canary: {deployment: checkout-canary}}"
            .to_owned(),
    }
}

/// What can be said without asking the cluster. `weights`: with the fields that they stand in.
pub(crate) fn check(workloads: &policy::Workloads, weights: &[(String, Weight)]) -> Vec<Unfit> {
    let mut unfit = Vec::new();
    if Controller::of(&workloads.stable).is_none() || Controller::of(&workloads.canary).is_none() {
        unfit.push(unnamed_workloads());
    }
    if workloads.promote == policy::PromoteBy::Swap {
        let why = "without a router the canary never gets all the traffic, so the versions cannot change roles: write copyTemplate (or external)";
        unfit.push(Unfit { field: "spec.workloads.promote".to_owned(), why: why.to_owned() });
    }
    let beyond = weights.iter().filter(|(_, weight)| weight.hundredths() > share::MOST);
    unfit.extend(beyond.map(|(field, weight)| Unfit {
        field: field.clone(),
        why: format!(
            "{weight} would take more canary pods than stable has, which keeps all of its own: without a router the most is 50 % (bake: {{holdback: 50%}})"
        ),
    }));
    let all: Vec<Weight> = weights.iter().map(|(_, weight)| *weight).collect();
    if unfit.is_empty() && fewest_stable_pods(&all).is_none() {
        let why = "no number of stable pods up to 1,000 gives all these weights as shares of pods: use fewer or rounder ones, such as 10, 25 and 50";
        unfit.push(Unfit { field: "spec.steps".to_owned(), why: why.to_owned() });
    }
    unfit
}

/// The canary's `spec.replicas`, and how many stable has beside it, as last seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pods {
    stable: Arc<AtomicU32>,
}

impl Pods {
    fn see(&self, stable: &DynamicObject) {
        self.stable.store(replicas(stable), Ordering::Relaxed);
    }

    fn now(&self) -> u32 {
        self.stable.load(Ordering::Relaxed)
    }

    /// Stable's pods when the rollout began; fewer are put right by whoever holds its floor, and mean no other weight.
    fn held(&self, canary: &DynamicObject) -> u32 {
        let kept = Marks::of(canary).original.and_then(|original| original["stable"].as_u64());
        kept.and_then(|kept| u32::try_from(kept).ok()).unwrap_or_else(|| self.now())
    }

    fn wanted(&self, canary: &DynamicObject, weight: Weight) -> u32 {
        share::pods(self.now().max(self.held(canary)), weight)
    }
}

impl Kind for Pods {
    fn check(&self, place: &Place, _: &DynamicObject, weight: Weight) -> Result<(), TargetError> {
        let stable = self.now();
        if weight.is_zero() || share::fits(stable, weight) {
            return Ok(());
        }
        let why = format!(
            "{weight} is no share beside {stable} pods of stable: {}; write such a weight, or give stable another number of pods (sluice plan says which)",
            share::nearest(stable, weight)
        );
        Err(place.unfit("spec.replicas", why))
    }

    /// An autoscaler may have given stable more pods since our write: the canary's share is then less than was meant, and the
    /// number is still ours.
    fn read(
        &self,
        _: &Place,
        canary: &DynamicObject,
        meant: Option<Weight>,
    ) -> Result<(Weight, String), TargetError> {
        let (ours, held) = (replicas(canary), self.held(canary));
        let most = self.now().max(held);
        let is_ours =
            |meant: &Weight| (share::pods(held, *meant)..=share::pods(most, *meant)).contains(&ours);
        let found = Weight::of_parts(u64::from(ours), u64::from(most)).unwrap_or(Weight::ZERO);
        let weight = meant.filter(|meant| ours > 0 && is_ours(meant)).unwrap_or(found);
        Ok((weight, format!("{ours}/{}", self.now())))
    }

    fn write(
        &self,
        place: &Place,
        canary: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError> {
        let wanted = self.wanted(canary, weight);
        if wanted == 0 && !weight.is_zero() {
            self.check(place, canary, weight)?;
        }
        Ok(scale_to(wanted).operations)
    }

    fn original(&self, _: &Place, _: &DynamicObject) -> Option<Value> {
        Some(json!({"stable": self.now()}))
    }

    /// At rest the canary has no pods, as it has after weight 0.
    fn put_back(&self, _: &Place, _: &DynamicObject, _: &Value) -> Vec<PatchOperation> {
        Vec::new()
    }

    /// A Service tells nobody apart.
    fn testers(&self, _: &Place, _: &DynamicObject, _: bool) -> Result<Change, TargetError> {
        Ok(Change::default())
    }
}

impl Replicas {
    /// Both versions' pods behind the Service, none of them scaled by somebody else, and the canary at rest.
    async fn check_objects(&self) -> Result<(), TargetError> {
        let (service, stable, canary) =
            tokio::try_join!(self.service.get(), self.stable.get(), self.canary.get())?;
        self.pods.see(&stable);
        for (object, place) in [(&stable, &self.stable.place), (&canary, &self.canary.place)] {
            is_selected(&self.service.place, &service, place, object)?;
        }
        let (place, pods) = (&self.canary.place, replicas(&canary));
        if pods > 0 && annotation(&canary, WANTED).is_none() {
            let why =
                format!("{pods}, and each of them gets traffic already; scale it to 0 before a rollout");
            return Err(place.unfit("spec.replicas", why));
        }
        match self.autoscalers.of(self.canary_kind, &place.name).await? {
            Some(autoscaler) => {
                let why =
                    format!("{} scales it, and so its weight; delete that autoscaler", autoscaler.title());
                Err(place.unfit("spec.replicas", why))
            }
            None => Ok(()),
        }
    }

    async fn see_stable(&self) -> Result<(), TargetError> {
        self.pods.see(&self.stable.get().await?);
        Ok(())
    }

    /// The pods that the weight needs, under the fence that stands there: it is raised when the weight is in effect.
    async fn grow(&self, wanted: &Wanted) -> Result<u32, TargetError> {
        let place = &self.canary.place;
        let more = |canary: &DynamicObject| {
            let marks = Marks::of(canary);
            if let Some(found) = marks.fence.filter(|found| *found > wanted.fence) {
                return Err(TargetError::Fenced { found, ours: wanted.fence });
            }
            forbid_rise_after_abort(place, &marks, &Wanted { rising: true, ..wanted.clone() })?;
            let pods = self.pods.wanted(canary, wanted.weight);
            Ok(grow_to(canary, pods).operations)
        };
        let grown = self.canary.edit_by_hand(more).await?;
        Ok(self.pods.wanted(&grown, wanted.weight))
    }

    /// Until so many pods are available; what it waits for when the time is over.
    async fn wait_for(&self, pods: u32) -> Result<(), TargetError> {
        let deadline = Instant::now() + AVAILABLE;
        let mut states = self.canary.watch();
        let mut available = 0;
        while let Ok(Some(state)) = timeout_at(deadline, states.next()).await {
            let canary = state?.ok_or_else(|| self.canary.missing())?;
            available = crate::workload::deployment::size(&canary, sluice_rollout::Role::Canary).available;
            if available >= pods {
                return Ok(());
            }
        }
        let place = &self.canary.place;
        Err(TargetError::Pending(format!(
            "{available} of {pods} pods of {} are available; kubectl -n {} get pods",
            place.title(),
            place.namespace
        )))
    }
}

/// Refuses a workload whose pods the Service does not select.
fn is_selected(
    service_place: &Place,
    service: &DynamicObject,
    place: &Place,
    workload: &DynamicObject,
) -> Result<(), TargetError> {
    let selector = service.data["spec"]["selector"].as_object();
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        return Err(
            service_place.unfit("spec.selector", "it has none, so its endpoints are not made from pods")
        );
    };
    let labels = &workload.data["spec"]["template"]["metadata"]["labels"];
    match selector.iter().find(|(key, value)| labels.get(key.as_str()) != Some(value)) {
        Some((key, value)) => {
            let value = value.as_str().unwrap_or_default();
            let why = format!(
                "its pods have no label {key}: {value}, by which {} selects; one Service has to select the pods of both versions",
                service_place.title()
            );
            Err(place.unfit("spec.template.metadata.labels", why))
        }
        None => Ok(()),
    }
}

#[async_trait]
impl Target for Replicas {
    fn name(&self) -> String {
        format!("replicas of {}", self.target.name())
    }

    fn key(&self) -> String {
        self.target.key()
    }

    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError> {
        self.check_objects().await?;
        self.target.check(weights).await
    }

    async fn nearest(&self, weight: Weight) -> Result<Vec<Weight>, TargetError> {
        self.target.nearest(weight).await
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        self.see_stable().await?;
        self.target.observe().await
    }

    /// Going down needs nothing but the canary's object.
    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        if !wanted.weight.is_zero() && wanted.abort.is_none() {
            self.see_stable().await?;
            let pods = self.grow(wanted).await?;
            self.wait_for(pods).await?;
            // The write that follows is made from what stands there now.
            self.target.observe().await?;
        }
        self.target.apply(wanted).await
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        self.target.release(fence).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        let (canary, pods) = (self.canary.clone(), self.pods.clone());
        let of_stable = self.stable.follow(Keep::Sizes).map(|state| (true, state));
        let of_canary = self.canary.follow(Keep::Whole).map(|state| (false, state));
        let states =
            stream::select(of_stable, of_canary).scan(Seen::default(), move |seen, (is_stable, state)| {
                std::future::ready(Some(seen.news(&canary, &pods, is_stable, state)))
            });
        states.filter_map(std::future::ready).boxed()
    }
}

/// What a watch has told so far.
#[derive(Default)]
struct Seen {
    knows_stable: bool,
    canary: Option<DynamicObject>,
    told: Option<Observed>,
}

impl Seen {
    /// The target once both are known, and whenever it reads otherwise: a status that moves is no news.
    fn news(
        &mut self,
        place: &Object,
        pods: &Pods,
        is_stable: bool,
        state: Result<Option<DynamicObject>, TargetError>,
    ) -> Option<Result<Observed, TargetError>> {
        let state = match state {
            Ok(state) => state,
            Err(error) => return Some(Err(error)),
        };
        match (is_stable, state) {
            (true, Some(stable)) => {
                pods.see(&stable);
                self.knows_stable = true;
            }
            // Whoever holds its floor tells of it.
            (true, None) => {}
            (false, Some(canary)) => self.canary = Some(canary),
            (false, None) => return Some(Err(place.missing())),
        }
        let canary = self.canary.as_ref().filter(|_| self.knows_stable)?;
        match observed(pods, &place.place, canary) {
            Ok(now) if self.told.as_ref() == Some(&now) => None,
            Ok(now) => {
                self.told = Some(now.clone());
                Some(Ok(now))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests;
