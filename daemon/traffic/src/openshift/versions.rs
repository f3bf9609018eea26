//! Where a Route keeps its two versions. Pure.
//!
//! With both among `to` and `alternateBackends` they are two weights. With one of them alone in `to`, and no alternates, the Route is
//! blue and green: `to.name` is switched to the other version and back, all traffic in one write
//! (<https://docs.redhat.com/en/documentation/openshift_container_platform/4.18/html/building_applications/deployments#deployments-blue-green-setting-up_route-based-deployment-strategies>).
//! Which of the two it is the object says, at every look.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::Weight;
use sluice_wire::policy::PlainRoute;

use crate::TargetError;
use crate::kubernetes::Kind;
use crate::kubernetes::object::{Change, Place};
use crate::kubernetes::patch::{add, path, test};
use crate::kubernetes::weighted::Weighted;

#[derive(Debug, Clone)]
pub(crate) struct RouteVersions {
    weighted: Weighted,
    stable: String,
    canary: String,
}

impl RouteVersions {
    pub fn new(weighted: Weighted, route: &PlainRoute) -> Self {
        RouteVersions { weighted, stable: route.stable.clone(), canary: route.canary.clone() }
    }

    /// The share that a Route with one backend alone gives the canary; `None` where there are others, or it is neither version.
    fn alone(&self, object: &DynamicObject) -> Option<Weight> {
        let spec = &object.data["spec"];
        let others = spec["alternateBackends"].as_array().map_or(0, Vec::len);
        let name = spec["to"]["name"].as_str().filter(|_| others == 0)?;
        match name {
            _ if name == self.stable => Some(Weight::ZERO),
            _ if name == self.canary => Some(Weight::FULL),
            _ => None,
        }
    }
}

fn check_whole(place: &Place, weight: Weight) -> Result<(), TargetError> {
    if weight.is_zero() || weight == Weight::FULL {
        return Ok(());
    }
    let finest = format!(
        "100 %: {} names one version alone in spec.to, so all traffic is switched at once; for steps add the other one to spec.alternateBackends, with weight 0",
        place.title()
    );
    Err(TargetError::TooFine { asked: weight, finest })
}

impl Kind for RouteVersions {
    fn check(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Result<(), TargetError> {
        match self.alone(object) {
            Some(_) => check_whole(place, weight),
            None => self.weighted.check(place, object, weight),
        }
    }

    fn nearest(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Vec<Weight> {
        match self.alone(object) {
            Some(_) => vec![Weight::ZERO, Weight::FULL],
            None => self.weighted.nearest(place, object, weight),
        }
    }

    fn read(
        &self,
        place: &Place,
        object: &DynamicObject,
        meant: Option<Weight>,
    ) -> Result<(Weight, String), TargetError> {
        match self.alone(object) {
            Some(weight) => Ok((weight, if weight.is_zero() { &self.stable } else { &self.canary }.clone())),
            None => self.weighted.read(place, object, meant),
        }
    }

    fn write(
        &self,
        place: &Place,
        object: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError> {
        if self.alone(object).is_none() {
            return self.weighted.write(place, object, weight);
        }
        check_whole(place, weight)?;
        let spec = &object.data["spec"];
        let wanted = if weight.is_zero() { &self.stable } else { &self.canary };
        // A test for null passes where nothing is.
        Ok(vec![
            test(path(["spec", "to", "kind"]), spec["to"]["kind"].clone()),
            test(path(["spec", "to", "name"]), spec["to"]["name"].clone()),
            test(path(["spec", "alternateBackends"]), spec["alternateBackends"].clone()),
            add(path(["spec", "to", "name"]), wanted.clone()),
        ])
    }

    fn original(&self, place: &Place, object: &DynamicObject) -> Option<Value> {
        self.alone(object).is_none().then(|| self.weighted.original(place, object)).flatten()
    }

    fn put_back(&self, place: &Place, object: &DynamicObject, original: &Value) -> Vec<PatchOperation> {
        match self.alone(object) {
            Some(_) => Vec::new(),
            None => self.weighted.put_back(place, object, original),
        }
    }

    /// The router tells nobody apart.
    fn testers(&self, place: &Place, object: &DynamicObject, open: bool) -> Result<Change, TargetError> {
        self.weighted.testers(place, object, open)
    }
}
