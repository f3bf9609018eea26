//! No router: the stable workload carries all traffic, and its pods are replaced where they are. There is no weight to write,
//! so nothing is written; the workload's own fence guards what is done to its pods.

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy;

use crate::{Observed, Target, TargetError, Unfit, Wanted, kubernetes::names};

#[derive(Debug)]
pub(crate) struct InPlace {
    namespace: String,
    name: String,
}

pub(crate) fn connect(config: &policy::InPlace, namespace: &str) -> InPlace {
    InPlace { namespace: namespace.to_owned(), name: config.name.clone() }
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
        format!("the pods of {}/{}", self.namespace, self.name)
    }

    fn key(&self) -> String {
        format!("in-place/{}/{}", self.namespace, self.name)
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
        Ok(standing(None))
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
