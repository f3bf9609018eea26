//! A Job of the policy's image, run to its end: hooks and tests before, between and after the steps.
//!
//! What has run is read from the cluster, where the Jobs of one question (a rollout's gate) carry one label and are numbered:
//! asked again after a crash, the one that runs is waited for, and none runs twice.

use std::time::Duration;

use futures::StreamExt;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_wire::policy;

use crate::kubernetes::object::{KindName, Object, PatchFailure};
use crate::kubernetes::patch::{add, path};
use crate::{Clients, TargetError};

const JOB: KindName =
    KindName { group: "batch", version: "v1", kind: "Job", plural: "jobs", kubectl: "job", short: "job" };

/// Jobs of one question.
const QUESTION: &str = "sluice.dev/question";
/// Whose they are, for people: `kubectl get jobs -l sluice.dev/gate=smoke`.
const GATE: &str = "sluice.dev/gate";

/// How long a Job that has ended stays, with its log.
const KEPT: Duration = Duration::from_secs(86_400);

/// A Job whose time was set to end has ended within this, its pods' grace included; else that is told, and tried again.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// What is asked of a Job.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub namespace: &'a str,
    /// The rollout's id: one question for each gate of each attempt.
    pub rollout: String,
    pub gate: &'a str,
    pub job: &'a policy::Job,
    /// Beside the policy's own.
    pub env: Vec<(&'static str, String)>,
    /// Where the last one has failed, another one is run.
    pub again: bool,
}

/// How a Job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    Succeeded,
    /// In the cluster's words, with the `kubectl` line that shows its log.
    Failed(String),
}

impl Question<'_> {
    /// Runs it, or waits for the one that runs, until it has ended. Cancel-safe; the Job goes on.
    pub async fn answered(&self, clients: &Clients) -> Result<Ran, TargetError> {
        let jobs = Object::connect(clients, &JOB, self.namespace, "").await?;
        let label = format!("{QUESTION}={}", self.hash());
        let all = jobs.list(&ListParams::default().labels(&label)).await?;
        let latest = all.iter().max_by_key(|job| number(job));
        let next = match latest {
            None => 0,
            Some(job) if self.again && matches!(ended(job), Some(Ran::Failed(_))) => number(job) + 1,
            Some(job) => number(job),
        };
        let job = jobs.sibling(&format!("sluice-{}-{}-{next}", self.short(), self.hash()));
        if latest.is_none_or(|latest| number(latest) < next) {
            job.create(&self.body(&job.place.name, next)?).await?;
        }
        wait(&job).await
    }

    /// None of its Jobs runs any more, nor a pod of one. Ends a Job by its own time limit: it has failed then, and goes with its log
    /// as any other does.
    pub async fn stopped(&self, clients: &Clients) -> Result<(), TargetError> {
        let jobs = Object::connect(clients, &JOB, self.namespace, "").await?;
        let label = format!("{QUESTION}={}", self.hash());
        let all = jobs.list(&ListParams::default().labels(&label)).await?;
        for running in all.iter().filter(|job| ended(job).is_none()) {
            let job = jobs.sibling(running.metadata.name.as_deref().unwrap_or_default());
            match job.patch(vec![add(path(["spec", "activeDeadlineSeconds"]), 1)]).await {
                Ok(_) => match tokio::time::timeout(ENDS_WITHIN, wait(&job)).await {
                    Ok(ended) => ended.map(drop)?,
                    Err(_) => {
                        let title = job.place.title();
                        let why = format!(
                            "{title}: still runs {ENDS_WITHIN:?} after its time was set to end; delete it"
                        );
                        return Err(TargetError::Pending(why));
                    }
                },
                Err(PatchFailure::Other(error)) => return Err(error),
                Err(PatchFailure::Unprocessable(words)) => {
                    return Err(TargetError::Refused(format!("{}: {words}", job.place.title())));
                }
            }
        }
        Ok(())
    }

    fn hash(&self) -> String {
        let text = format!("{}/{}", self.rollout, self.gate);
        Sha256::digest(text).iter().take(5).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of the gate's name what a Job's name may have.
    fn short(&self) -> String {
        let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name: String = self.gate.to_ascii_lowercase().chars().filter(fits).take(30).collect();
        if name.is_empty() { "gate".to_owned() } else { name }
    }

    fn body(&self, name: &str, number: u64) -> Result<DynamicObject, TargetError> {
        let job = self.job;
        let own = job.env.iter().map(|(name, value)| json!({"name": name, "value": value}));
        let env: Vec<Value> =
            self.env.iter().map(|(name, value)| json!({"name": name, "value": value})).chain(own).collect();
        let mut container = json!({"name": "gate", "image": job.image, "env": env});
        for (field, words) in [("command", &job.command), ("args", &job.args)] {
            if !words.is_empty() {
                container[field] = json!(words);
            }
        }
        let mut pod = json!({"restartPolicy": "Never", "containers": [container],
            "automountServiceAccountToken": job.service_account.is_some()});
        if let Some(account) = &job.service_account {
            pod["serviceAccountName"] = json!(account);
        }
        let labels =
            json!({QUESTION: self.hash(), GATE: self.short(), "app.kubernetes.io/managed-by": "sluice"});
        let annotations = json!({"sluice.dev/rollout": self.rollout, NUMBER: number.to_string()});
        let body = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {"backoffLimit": 0, "activeDeadlineSeconds": job.timeout.0.as_secs().max(1),
                "ttlSecondsAfterFinished": KEPT.as_secs(),
                "template": {"metadata": {"labels": labels}, "spec": pod}}});
        serde_json::from_value(body).map_err(|error| TargetError::NotAsNeeded(format!("job {name}: {error}")))
    }
}

const NUMBER: &str = "sluice.dev/number";

fn number(job: &DynamicObject) -> u64 {
    let text = job.metadata.annotations.as_ref().and_then(|all| all.get(NUMBER));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn wait(job: &Object) -> Result<Ran, TargetError> {
    let mut states = job.watch();
    while let Some(state) = states.next().await {
        match state {
            Ok(Some(state)) => {
                if let Some(ran) = ended(&state) {
                    return Ok(match ran {
                        Ran::Succeeded => Ran::Succeeded,
                        Ran::Failed(why) => Ran::Failed(format!(
                            "{}: {why} (see: kubectl -n {} logs job/{})",
                            job.place.title(),
                            job.place.namespace,
                            job.place.name
                        )),
                    });
                }
            }
            Ok(None) => return Ok(Ran::Failed(format!("{} was deleted before its end", job.place.title()))),
            Err(error) if error.retryable() => tracing::debug!(%error, "waiting goes on"),
            Err(error) => return Err(error),
        }
    }
    Err(TargetError::Unreachable(format!("the watch of {} ended", job.place.title())))
}

/// `Complete` or `Failed` (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions>).
fn ended(job: &DynamicObject) -> Option<Ran> {
    let conditions = job.data["status"]["conditions"].as_array()?;
    let stands = |kind: &str| conditions.iter().find(|one| one["type"] == kind && one["status"] == "True");
    if stands("Complete").is_some() {
        return Some(Ran::Succeeded);
    }
    let failed = stands("Failed")?;
    Some(Ran::Failed(failed["message"].as_str().unwrap_or("it failed").to_owned()))
}
