//! What every target that is a Kubernetes object has in common: one order of reading, deciding, patching and reading back.
//!
//! ```text
//!   routers/   descriptions ─▶ Weighted ┐
//!                              Selector ┴▶ Kind   where the weights stand, pure
//!     │
//!   decide    fence, abort mark, then: already there, or which patch     pure
//!     │
//!   Object    GET, PATCH, watch, each with its own time limit
//! ```
//!
//! A write is a JSON Patch that tests what it relies on (uid, fence, the backends' names; the generation when going up) and sets
//! integers and our annotations. It never carries a resourceVersion: every status write of a gateway's controller moves it, and
//! an abort would loop. It never replaces a list. Going down needs no status, no readiness and, once the object has been seen,
//! no read before it. A 422 does not say whether a test failed or admission refused: the object is read again and compared.

pub(crate) mod affinity;
mod arm;
pub(crate) mod decide;
mod document;
pub(crate) mod marks;
pub(crate) mod names;
pub(crate) mod object;
mod pair;
pub(crate) mod patch;
pub(crate) mod routers;
mod rules;
pub(crate) mod selector;
pub(crate) mod testers;
mod text;
pub(crate) mod weighted;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::{Fence, Weight};

use crate::watches::Keep;
use crate::{Observed, Target, TargetError, Wanted, share};
use decide::{Decision, after_refusal, decide, releasing};
use marks::Marks;
use object::{ATTEMPTS, Change, Object, PatchFailure, Place};

/// Where a kind of object keeps the two weights. Everything here is pure.
pub(crate) trait Kind: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Refuses a weight that the object as it is cannot express.
    fn check(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Result<(), TargetError>;
    /// The weights next to one that the object cannot express as it is.
    fn nearest(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Vec<Weight> {
        share::nearest(weight, |weight| self.write(place, object, weight).ok())
    }
    /// The canary's share, and the numbers for people. `meant` is the weight of our latest write: integers that are what we
    /// would write for it read back as it.
    fn read(
        &self,
        place: &Place,
        object: &DynamicObject,
        meant: Option<Weight>,
    ) -> Result<(Weight, String), TargetError>;
    /// Tests on what is relied on, then the numbers.
    fn write(
        &self,
        place: &Place,
        object: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError>;
    /// What to remember, if weights alone do not say it.
    fn original(&self, place: &Place, object: &DynamicObject) -> Option<Value>;
    /// Puts the remembered numbers back where they say the same as those that stand there now.
    fn put_back(&self, place: &Place, object: &DynamicObject, original: &Value) -> Vec<PatchOperation>;
    /// Testers' requests go to the canary at any weight (`open`), or no longer; nothing where the policy names none. Comes after
    /// the numbers, and closing fails only where those cannot be written either.
    fn testers(&self, place: &Place, object: &DynamicObject, open: bool) -> Result<Change, TargetError>;
}

/// A target that is a Kubernetes object.
#[derive(Debug)]
pub(crate) struct KubeTarget<K> {
    kind: K,
    object: Object,
    /// Where its owner may have told it to keep sessions between versions.
    affinity: Option<affinity::Form>,
    /// As last seen: a write needs no read before it, and its tests find out if this is old.
    seen: Mutex<Option<Arc<DynamicObject>>>,
}

impl<K: Kind> KubeTarget<K> {
    pub fn new(kind: K, object: Object) -> Self {
        KubeTarget { kind, object, affinity: None, seen: Mutex::default() }
    }

    pub fn keeping_sessions(self, affinity: Option<affinity::Form>) -> Self {
        KubeTarget { affinity, ..self }
    }

    pub fn namespace(&self) -> &str {
        &self.place().namespace
    }

    fn place(&self) -> &Place {
        &self.object.place
    }

    fn observed(&self, object: &DynamicObject) -> Result<Observed, TargetError> {
        observed(&self.kind, self.place(), object)
    }

    fn last_seen(&self) -> Option<Arc<DynamicObject>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, object: DynamicObject) -> Arc<DynamicObject> {
        let object = Arc::new(object);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(object.clone());
        object
    }

    async fn read(&self) -> Result<Arc<DynamicObject>, TargetError> {
        self.read_in(&self.object).await
    }

    /// `object`: ours, in the turn that its calls take.
    async fn read_in(&self, object: &Object) -> Result<Arc<DynamicObject>, TargetError> {
        Ok(self.remember(object.get().await?))
    }

    /// One PATCH. After a 422: `Ok(Err(fresh))` when the object had changed, so that the decision has to be made anew.
    async fn write(
        &self,
        object: &Object,
        base: &DynamicObject,
        operations: Vec<PatchOperation>,
    ) -> Result<Result<Arc<DynamicObject>, Arc<DynamicObject>>, TargetError> {
        match object.patch(operations.clone()).await {
            Ok(after) => Ok(Ok(self.remember(after))),
            Err(PatchFailure::Other(error)) => Err(error),
            Err(PatchFailure::Unprocessable(words)) => {
                let fresh = self.read_in(object).await?;
                after_refusal(self.place(), base, &fresh, &operations, &words).map(|()| Err(fresh))
            }
        }
    }

    /// What was last seen, or a read if the fence there is already ours or later: then only the object itself can tell.
    async fn base(&self, object: &Object, fence: Fence) -> Result<Arc<DynamicObject>, TargetError> {
        match self.last_seen() {
            Some(seen) if Marks::of(&seen).fence.is_none_or(|found| found < fence) => Ok(seen),
            Some(_) | None => self.read_in(object).await,
        }
    }
}

#[async_trait]
impl<K: Kind> Target for KubeTarget<K> {
    fn name(&self) -> String {
        self.place().title()
    }

    fn key(&self) -> String {
        self.place().key()
    }

    fn warnings(&self) -> Vec<String> {
        let seen = self.affinity.as_ref().zip(self.last_seen());
        seen.map(|(form, object)| affinity::warnings(form, &object)).unwrap_or_default()
    }

    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError> {
        let object = self.read().await?;
        let place = self.place();
        self.kind.write(place, &object, Weight::ZERO)?;
        self.kind.testers(place, &object, true)?;
        weights.iter().try_for_each(|weight| self.kind.check(place, &object, *weight))
    }

    async fn nearest(&self, weight: Weight) -> Result<Vec<Weight>, TargetError> {
        Ok(self.kind.nearest(self.place(), &*self.read().await?, weight))
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        let object = self.read().await?;
        self.observed(&object)
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        let object = if wanted.rising { self.object.clone() } else { self.object.closing() };
        let mut base = self.base(&object, wanted.fence).await?;
        for _ in 0..ATTEMPTS {
            let operations = match decide(&self.kind, self.place(), &base, wanted)? {
                Decision::Stands(observed) => return Ok(observed),
                Decision::Write(operations) => operations,
            };
            match self.write(&object, &base, operations).await? {
                Ok(after) => return self.observed(&after),
                // The fence first: who is fenced off must not be told to try again.
                Err(fresh) if wanted.rising => {
                    decide(&self.kind, self.place(), &fresh, wanted)?;
                    return Err(TargetError::Changed(self.name()));
                }
                Err(fresh) => base = fresh,
            }
        }
        Err(TargetError::Changed(self.name()))
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        let place = self.place();
        let object = self.object.edit(fence, |object| Ok(releasing(&self.kind, place, object))).await?;
        self.observed(&self.remember(object))
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        let (kind, object) = (self.kind.clone(), self.object.clone());
        let states = self.object.follow(Keep::Whole).map(move |state| match state? {
            Some(state) => observed(&kind, &object.place, &state),
            None => Err(object.missing()),
        });
        states.boxed()
    }
}

pub(crate) fn observed<K: Kind>(
    kind: &K,
    place: &Place,
    object: &DynamicObject,
) -> Result<Observed, TargetError> {
    let marks = Marks::of(object);
    let (canary, written) = kind.read(place, object, marks.weight())?;
    Ok(Observed { canary, written, fence: marks.fence, abort: marks.abort })
}
