//! A stand-in for OpenShift's deployment config controller: it makes a ReplicationController of each version of a
//! DeploymentConfig, scales the versions, and reports. What it keeps of the real one (`openshift/openshift-controller-manager`,
//! `pkg/apps/deploymentconfig`, and `openshift/library-go`, `pkg/apps/appsutil`):
//!
//! - With the trigger `ConfigChange`, and not while it is paused, a changed template raises `status.latestVersion`, and not until
//!   then is a ReplicationController made. Its template carries the controller's own labels and annotations.
//! - The latest version follows `spec.replicas`, the others go when it is available.
//! - `status.observedGeneration` is raised when the version of that generation is there, not before.
//!
//! It has no deployer pods, so it does not keep to a strategy's surge, runs no hooks and never fails. Images are as they are written.
//! The API server of OpenShift fills in a template's defaults, this one's CRD does not: write templates out.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::kube::{Crds, Kube, Watch};

const CONFIG: &str = "deploymentconfigs.apps.openshift.io";
const NAME: &str = "openshift.io/deployment-config.name";
const VERSION: &str = "openshift.io/deployment-config.latest-version";
const DEPLOYMENT: &str = "openshift.io/deployment.name";
/// The config that a version was made of, as JSON.
const ENCODED: &str = "openshift.io/encoded-deployment-config";

const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Running until it is dropped.
#[derive(Debug)]
pub struct DeploymentConfigs {
    task: JoinHandle<()>,
}

impl DeploymentConfigs {
    /// Plays the controller in one namespace. The control plane needs the CRDs [`Crds::Routers`].
    pub async fn play(kube: &'static Kube, namespace: &str) -> Result<Self> {
        let path = format!("/apis/apps.openshift.io/v1/namespaces/{namespace}/deploymentconfigs");
        let configs = kube.watch(&path).await.with_context(|| format!("{CONFIG} ({:?})", Crds::Routers))?;
        let versions = kube.watch(&format!("/api/v1/namespaces/{namespace}/replicationcontrollers")).await?;
        let namespace = namespace.to_owned();
        Ok(Self { task: tokio::spawn(async move { follow(kube, &namespace, configs, versions).await }) })
    }
}

impl Drop for DeploymentConfigs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(kube: &Kube, namespace: &str, configs: Watch, versions: Watch) {
    loop {
        let known = (configs.events().len(), versions.events().len());
        // Another's write came first, or the API server is away.
        if reconcile_all(kube, namespace).await.is_err() {
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        }
        tokio::select! {
            () = configs.changed(known.0) => {}
            () = versions.changed(known.1) => {}
        }
    }
}

async fn reconcile_all(kube: &Kube, namespace: &str) -> Result<()> {
    let all = format!("{CONFIG},replicationcontrollers");
    let listed = kube.kubectl(&["get", &all, "--namespace", namespace, "--output=json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let items = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    for config in items.iter().filter(|item| item["kind"] == "DeploymentConfig") {
        let name = &config["metadata"]["name"];
        let versions = items.iter().filter(|item| item["metadata"]["labels"][NAME] == *name).collect();
        Config { kube, namespace, config, versions }.reconcile().await?;
    }
    Ok(())
}

struct Config<'a> {
    kube: &'a Kube,
    namespace: &'a str,
    config: &'a Value,
    versions: Vec<&'a Value>,
}

impl Config<'_> {
    async fn reconcile(&self) -> Result<()> {
        let latest = self.config["status"]["latestVersion"].as_u64().unwrap_or(0);
        let number = latest.to_string();
        let made = self.versions.iter().find(|one| one["metadata"]["annotations"][VERSION] == number);
        match made {
            None if latest > 0 => self.make(latest).await,
            Some(made) if self.template_of(made) == self.config["spec"]["template"] || !self.may_begin() => {
                self.scale(made).await?;
                self.report(latest, made).await
            }
            _ if self.may_begin() => self.write_status(&json!({"latestVersion": latest + 1})).await,
            _ => Ok(()),
        }
    }

    fn may_begin(&self) -> bool {
        let spec = &self.config["spec"];
        let triggers = spec["triggers"].as_array().map(Vec::as_slice).unwrap_or_default();
        spec["paused"] != true && triggers.iter().any(|trigger| trigger["type"] == "ConfigChange")
    }

    fn template_of(&self, version: &Value) -> Value {
        let encoded = version["metadata"]["annotations"][ENCODED].as_str().unwrap_or_default();
        let config: Value = serde_json::from_str(encoded).unwrap_or_default();
        config["spec"]["template"].clone()
    }

    fn name(&self) -> &str {
        self.config["metadata"]["name"].as_str().unwrap_or_default()
    }

    async fn make(&self, number: u64) -> Result<()> {
        let (name, version) = (self.name(), format!("{}-{number}", self.name()));
        let own = json!({"deployment": version, "deploymentconfig": name});
        let mut template = self.config["spec"]["template"].clone();
        add(&mut template["metadata"]["labels"], &own);
        let notes = json!({NAME: name, VERSION: number.to_string(), DEPLOYMENT: version});
        add(&mut template["metadata"]["annotations"], &notes);
        let mut selector = self.config["spec"]["selector"].clone();
        add(&mut selector, &own);
        let owner = json!({"apiVersion": self.config["apiVersion"], "kind": "DeploymentConfig", "name": name,
            "uid": self.config["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true});
        let encoded = self.config.to_string();
        let object = json!({"apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": version, "labels": {NAME: name}, "ownerReferences": [owner],
                "annotations": {NAME: name, VERSION: number.to_string(), ENCODED: encoded}},
            "spec": {"replicas": self.config["spec"]["replicas"], "selector": selector, "template": template}});
        self.kube.apply(self.namespace, &object.to_string()).await
    }

    async fn scale(&self, latest: &Value) -> Result<()> {
        let wanted = self.config["spec"]["replicas"].as_u64().unwrap_or(0);
        let there = latest["status"]["availableReplicas"].as_u64().unwrap_or(0) >= wanted;
        for version in &self.versions {
            let is_latest = version["metadata"]["name"] == latest["metadata"]["name"];
            let replicas = if is_latest { wanted } else { 0 };
            if (is_latest || there) && version["spec"]["replicas"] != replicas {
                let name = version["metadata"]["name"].as_str().unwrap_or_default();
                let patch = json!({"spec": {"replicas": replicas}});
                self.patch(&["replicationcontroller", name], &patch).await?;
            }
        }
        Ok(())
    }

    async fn report(&self, number: u64, latest: &Value) -> Result<()> {
        let count = |version: &Value, field: &str| version["status"][field].as_u64().unwrap_or(0);
        let all = |field: &str| self.versions.iter().map(|version| count(version, field)).sum::<u64>();
        let (replicas, available) = (all("replicas"), all("availableReplicas"));
        self.write_status(&json!({
            "latestVersion": number, "observedGeneration": self.config["metadata"]["generation"],
            "replicas": replicas, "updatedReplicas": count(latest, "replicas"), "availableReplicas": available,
            "readyReplicas": all("readyReplicas"), "unavailableReplicas": replicas.saturating_sub(available),
        }))
        .await
    }

    async fn write_status(&self, status: &Value) -> Result<()> {
        let known = &self.config["status"];
        let is_known = status.as_object().into_iter().flatten().all(|(field, value)| known[field] == *value);
        if is_known {
            return Ok(());
        }
        let patch = json!({"metadata": {"resourceVersion": self.config["metadata"]["resourceVersion"]}, "status": status});
        self.patch(&[CONFIG, self.name(), "--subresource=status"], &patch).await
    }

    async fn patch(&self, what: &[&str], patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let args = ["--namespace", self.namespace, "--type=merge", "--patch", &patch];
        self.kube.kubectl(&[&["patch"], what, &args].concat()).await.map(drop)
    }
}

fn add(to: &mut Value, more: &Value) {
    if !to.is_object() {
        *to = Value::Object(Map::new());
    }
    if let (Some(to), Some(more)) = (to.as_object_mut(), more.as_object()) {
        to.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}
