//! Stable replaced by a Job of the user's own image: OpenShift's Custom strategy, for every kind of workload. The Job is told which
//! workload holds the new version, and what it does is its own affair; what it comes to is looked at here: stable runs the new
//! version's images and its pods are available, or its former template is put back.

use sluice_rollout::Fence;
use sluice_wire::policy::Job;

use super::config::check_paused;
use super::deployment::{AT_START, Deployment, FORMER, Remembered};
use super::promotion::images;
use super::replacing::check_unchanged;
use crate::job::{Question, Ran};
use crate::kubernetes::marks::annotation;
use crate::kubernetes::object::Change;
use crate::{Clients, TargetError};

/// In place of a gate's name; no gate is called so by chance.
const QUESTION: &str = "workloads.replace.custom";

/// What the Job works with.
pub(super) struct Custom<'a> {
    pub stable: &'a Deployment,
    pub canary: &'a Deployment,
    pub job: &'a Job,
    pub clients: &'a Clients,
}

impl Custom<'_> {
    /// Runs the Job, or waits for the one that runs; ends when stable's pods of the new version are available. Cancel-safe.
    pub async fn promote(&self, fence: Fence) -> Result<(), TargetError> {
        let stable = &self.stable;
        let (before, source) = (stable.object.get().await?, self.canary.object.get().await?);
        check_paused(&stable.object.place, &before)?;
        check_unchanged(self.canary, &before, &source)?;
        if annotation(&before, FORMER).is_none() {
            let former = stable.revisions.present(&stable.object.place, &before).await?;
            let keep = |_: &kube::api::DynamicObject| {
                Ok(Change { annotations: vec![(FORMER, Some(former.clone()))], ..Change::default() })
            };
            stable.object.edit(fence, keep).await?;
        }
        if let Ran::Failed(why) = self.question().await?.answered(self.clients).await? {
            return Err(TargetError::NotAsNeeded(format!("the custom deployment failed: {why}")));
        }
        let (runs, wanted) = (images(&stable.object.get().await?), images(&source));
        if runs != wanted {
            let why = format!(
                "the custom deployment has ended well, but it runs {} and not {}; its Job has to give it the new version's images",
                runs.join(", "),
                wanted.join(", ")
            );
            return Err(stable.object.place.unfit("spec.template", why));
        }
        stable.wait_until_rolled_out().await
    }

    /// Ends a Job that still runs, before what it has done is undone.
    pub async fn stop(&self) -> Result<(), TargetError> {
        self.question().await?.stopped(self.clients).await
    }

    /// One Job for each rollout, whose id stands on stable from its start on.
    async fn question(&self) -> Result<Question<'_>, TargetError> {
        let (stable, canary) = (&self.stable.object, &self.canary.object);
        let kept = stable.get().await?;
        let kept = annotation(&kept, AT_START).and_then(|text| serde_json::from_str::<Remembered>(text).ok());
        let missing =
            || TargetError::Changed(format!("{}: annotation {AT_START} is gone", stable.place.title()));
        let rollout = kept.ok_or_else(missing)?.rollout;
        let env = vec![
            ("SLUICE_ROLLOUT", rollout.clone()),
            ("SLUICE_STABLE", stable.place.name.clone()),
            ("OPENSHIFT_DEPLOYMENT_NAME", canary.place.name.clone()),
            ("OPENSHIFT_DEPLOYMENT_NAMESPACE", canary.place.namespace.clone()),
        ];
        let namespace = &stable.place.namespace;
        Ok(Question { namespace, rollout, gate: QUESTION, job: self.job, env, again: false })
    }
}
