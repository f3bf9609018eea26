//! What becomes of templates, and how far a Deployment has come. Pure.

use kube::api::DynamicObject;
use serde_json::{Map, Value};

/// The label that the Deployment controller puts on a ReplicaSet's template, and on nothing else.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

/// The canary's pod template as stable is to get it: labels that stable's selector names stay stable's (the API server refuses
/// a template that its selector does not match), and labels that only the canary's selector names are left out, or the
/// canary's Service and Deployment would take stable's pods for theirs.
pub(crate) fn template_for_stable(stable: &DynamicObject, canary: &DynamicObject) -> Value {
    let mut template = canary.data["spec"]["template"].clone();
    let own = &stable.data["spec"]["template"]["metadata"]["labels"];
    let Some(labels) = labels_mut(&mut template) else { return template };
    for key in selected_keys(canary).into_iter().chain(selected_keys(stable)) {
        match own.get(&key) {
            Some(value) => labels.insert(key, value.clone()),
            None => labels.remove(&key),
        };
    }
    labels.remove(TEMPLATE_HASH);
    template
}

/// A ReplicaSet's template as its owner had it; `hash`: the label that the owner's controller has put on it.
pub(crate) fn template_of_replica_set(replica_set: &DynamicObject, hash: &str) -> Value {
    let mut template = replica_set.data["spec"]["template"].clone();
    if let Some(labels) = labels_mut(&mut template) {
        labels.remove(hash);
    }
    template
}

/// The DeploymentConfig, as JSON, that OpenShift's controller has made a ReplicationController of.
const ENCODED_CONFIG: &str = "openshift.io/encoded-deployment-config";

/// The template as the DeploymentConfig's owner had it: the ReplicationController's own carries labels of the controller's, which
/// owners write, too (`oc new-app` does).
pub(crate) fn template_of_replication_controller(controller: &DynamicObject) -> Option<Value> {
    let encoded = controller.metadata.annotations.as_ref()?.get(ENCODED_CONFIG)?;
    let config: Value = serde_json::from_str(encoded).ok()?;
    config.pointer("/spec/template").filter(|template| template.is_object()).cloned()
}

fn labels_mut(template: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = template.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    metadata.as_object_mut()?.entry("labels").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Labels that a workload's selector names. A DeploymentConfig's is the labels themselves.
fn selected_keys(workload: &DynamicObject) -> Vec<String> {
    let selector = &workload.data["spec"]["selector"];
    let bare = selector.as_object().filter(|all| all.values().all(Value::is_string));
    let labels = bare.or_else(|| selector["matchLabels"].as_object());
    let plain = labels.into_iter().flat_map(|labels| labels.keys().cloned());
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    plain.chain(expressions.filter_map(|expression| expression["key"].as_str().map(str::to_owned))).collect()
}

/// The images that a template runs, by container, in order.
pub(crate) fn images(deployment: &DynamicObject) -> Vec<String> {
    let spec = &deployment.data["spec"]["template"]["spec"];
    let containers = spec["containers"].as_array().into_iter().flatten();
    let mut images: Vec<String> =
        containers.filter_map(|container| container["image"].as_str().map(str::to_owned)).collect();
    images.sort();
    images
}

/// How far a Deployment has come with its present template and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// What it waits for.
    Waiting(String),
    /// Its progress deadline has passed; in the cluster's words.
    Stuck(String),
}

/// As `kubectl rollout status` sees it.
pub(crate) fn progress(deployment: &DynamicObject) -> Progress {
    let status = &deployment.data["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = deployment.data["spec"]["replicas"].as_i64().unwrap_or(1);
    let (updated, available) = (count("updatedReplicas"), count("availableReplicas"));
    let waiting = |what: String| Progress::Waiting(what);
    if count("observedGeneration") < deployment.metadata.generation.unwrap_or(0) {
        return waiting("the Deployment controller has not seen the change yet".into());
    }
    if let Some(words) = deadline_exceeded(status) {
        return Progress::Stuck(words);
    }
    if updated < wanted {
        waiting(format!("{updated} of {wanted} pods have the new template"))
    } else if count("replicas") > updated {
        waiting(format!("{} old pods are still there", count("replicas") - updated))
    } else if available < updated {
        waiting(format!("{available} of {updated} pods are available"))
    } else {
        Progress::Done
    }
}

/// The same of a StatefulSet, whose pods are replaced from the last to the first, down to its partition. With `OnDelete` somebody
/// else replaces them, and only readiness is waited for.
pub(crate) fn stateful_progress(set: &DynamicObject) -> Progress {
    let (spec, status) = (&set.data["spec"], &set.data["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    let waiting = |what: String| Progress::Waiting(what);
    if count("observedGeneration") < set.metadata.generation.unwrap_or(0) {
        return waiting("the StatefulSet controller has not seen the change yet".into());
    }
    if count("readyReplicas") < wanted {
        return waiting(format!("{} of {wanted} pods are ready", count("readyReplicas")));
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Progress::Done;
    }
    let due = (wanted - partition).max(0);
    if partition > 0 && count("updatedReplicas") < due {
        waiting(format!(
            "{} of {due} pods above the partition have the new template",
            count("updatedReplicas")
        ))
    } else if partition == 0 && status["updateRevision"] != status["currentRevision"] {
        waiting(format!("{} of {wanted} pods have the new template", count("updatedReplicas")))
    } else {
        Progress::Done
    }
}

/// The same of a DeploymentConfig: its status counts the same things, of its latest version.
pub(crate) fn config_progress(config: &DynamicObject) -> Progress {
    match config.data["status"]["latestVersion"].as_i64() {
        None | Some(0) => {
            Progress::Waiting("no version of it was ever rolled out (oc rollout latest)".into())
        }
        Some(_) => progress(config),
    }
}

/// The second is OpenShift's, of a rollout that somebody has cancelled.
fn deadline_exceeded(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array()?;
    let ends = ["ProgressDeadlineExceeded", "RolloutCancelled"];
    let stuck = conditions.iter().find(|condition| ends.iter().any(|end| condition["reason"] == *end))?;
    Some(stuck["message"].as_str().unwrap_or("its progress deadline has passed").to_owned())
}

/// Who would put stable's old template back, if a GitOps tool owns it: what says so.
pub(crate) fn gitops_owner(deployment: &DynamicObject) -> Option<String> {
    mark_of_owner(deployment).or_else(|| manager_of_template(deployment))
}

fn mark_of_owner(deployment: &DynamicObject) -> Option<String> {
    const ANNOTATIONS: [&str; 1] = ["argocd.argoproj.io/tracking-id"];
    const LABELS: [&str; 3] =
        ["argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"];
    let metadata = &deployment.metadata;
    let annotation =
        ANNOTATIONS.into_iter().find(|name| metadata.annotations.iter().any(|all| all.contains_key(*name)));
    let label = LABELS.into_iter().find(|name| metadata.labels.iter().any(|all| all.contains_key(*name)));
    annotation.map(|name| format!("annotation {name}")).or_else(|| label.map(|name| format!("label {name}")))
}

/// A GitOps controller that has written the pod template. (Argo CD's older way of tracking, label `app.kubernetes.io/instance`,
/// is everybody's label: only the manager's name tells.)
fn manager_of_template(deployment: &DynamicObject) -> Option<String> {
    const MANAGERS: [&str; 6] = [
        "argocd-controller",
        "argocd-application-controller",
        "kustomize-controller",
        "helm-controller",
        "fleetagent",
        "configsync",
    ];
    let entries = deployment.metadata.managed_fields.as_ref()?;
    let owns = entries.iter().find(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let template =
            entry.fields_v1.as_ref().is_some_and(|fields| !fields.0["f:spec"]["f:template"].is_null());
        template && MANAGERS.iter().any(|known| manager == *known || manager.starts_with("argocd"))
    })?;
    Some(format!("field manager {}", owns.manager.as_deref().unwrap_or_default()))
}
