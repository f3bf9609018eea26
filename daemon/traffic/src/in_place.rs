//! No router: the stable workload carries all traffic, and its pods are replaced where they are. There is no weight to write,
//! so nothing is written. The fence is the workload's own: a new rollout begins above whatever stands there, also where
//! another policy, or a store that is lost, has counted before.

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy;

use crate::kubernetes::{marks::Marks, names, object::Object};
use crate::workload::controller::Controller;
use crate::{Clients, Observed, Target, TargetError, Unfit, Wanted};

#[derive(Debug)]
pub(crate) struct InPlace(Object);

pub(crate) async fn connect(
    config: &policy::InPlace,
    namespace: &str,
    clients: &Clients,
) -> Result<InPlace, TargetError> {
    let controller = match config.kind {
        policy::InPlaceKind::Deployment => Controller::Deployment,
        policy::InPlaceKind::DeploymentConfig => Controller::DeploymentConfig,
    };
    Object::connect(clients, controller.kind(), namespace, &config.name).await.map(InPlace)
}

pub(crate) fn check(config: &policy::InPlace) -> Vec<Unfit> {
    names::object("inPlace", &config.name, None)
}

fn standing(fence: Option<Fence>) -> Observed {
    Observed { canary: Weight::ZERO, written: "in place".to_owned(), fence, abort: None }
}

#[async_trait]
impl Target for InPlace {
    fn name(&self) -> String {
        format!("the pods of {}", self.0.place.title())
    }

    fn key(&self) -> String {
        format!("in-place/{}", self.0.place.key())
    }

    async fn check(&self, weights: &[Weight]) -> Result<(), TargetError> {
        match weights.iter().find(|weight| !weight.is_zero()) {
            None => Ok(()),
            Some(weight) => {
                let finest = format!("none: {} has no router, so write no steps", Target::name(self));
                Err(TargetError::TooFine { asked: *weight, finest })
            }
        }
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        Ok(standing(Marks::of(&self.0.get().await?).fence))
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        self.check(&[wanted.weight]).await.map(|()| standing(Some(wanted.fence)))
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        Ok(standing(Some(fence)))
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        stream::iter([Ok(standing(None))]).chain(stream::pending()).boxed()
    }
}
