//! The control plane: controllers, pods that behave as told, permissions and the audit log.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use sluice_rig::fleet::{Fleet, Place};
use sluice_rig::{Kube, wait};

const LIMIT: Duration = Duration::from_secs(120);

fn deployment(name: &str, replicas: u32, ready: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, \
         selector: {{matchLabels: {{app: {name}}}}}, \
         template: {{metadata: {{labels: {{app: {name}, sluice.test/ready: {ready}}}, \
         annotations: {{sluice.test/ready-after: 1500ms}}}}, \
         spec: {{containers: [{{name: main, image: rig}}]}}}}}}}}"
    )
}

#[tokio::test]
async fn deployments_become_available_or_not_as_their_pods_are_told() -> Result<()> {
    let kube = Kube::shared().await?;
    let ns = kube.namespace("pods").await?;
    let fleet = Fleet::follow(kube, &ns, Place::Loopback).await?;
    let all =
        [deployment("good", 3, "at-once"), deployment("slow", 1, "slow"), deployment("stuck", 1, "never")];
    kube.apply(&ns, &all.join("\n---\n")).await?;
    kube.wait(&ns, "deployment/good", "condition=Available", LIMIT).await?;
    kube.wait(&ns, "deployment/slow", "condition=Available", LIMIT).await?;
    kube.wait(&ns, "deployment/stuck", "jsonpath={.status.unavailableReplicas}=1", LIMIT).await?;
    fleet.wait_until_ready(("app", "good"), 3, LIMIT).await?;
    // Those of the other two run by now, which their own watch may have told a moment later.
    wait::until_equal("all running pods", LIMIT, 5, async || Ok(fleet.targets().len())).await?;
    assert!(fleet.ready(("app", "stuck")).is_empty());
    assert_ne!(fleet.pick(("app", "good"), 0), fleet.pick(("app", "good"), 1));
    assert_eq!(fleet.pick(("app", "stuck"), 0), None);

    // A ready pod can lose its readiness, and get it back.
    kube.kubectl(&["-n", &ns, "label", "pod", "-l", "app=good", "sluice.test/ready=never", "--overwrite"])
        .await?;
    fleet.wait_until_ready(("app", "good"), 0, LIMIT).await.with_context(|| kube.kubelet.log_tail())?;
    kube.kubectl(&["-n", &ns, "label", "pod", "-l", "app=good", "sluice.test/ready-"]).await?;
    fleet.wait_until_ready(("app", "good"), 3, LIMIT).await?;
    kube.kubectl(&["-n", &ns, "scale", "deployment/good", "--replicas=1"]).await?;
    fleet.wait_until_ready(("app", "good"), 1, LIMIT).await
}

#[tokio::test]
async fn the_audit_log_and_the_watch_tell_who_wrote_which_weight() -> Result<()> {
    let kube = Kube::shared().await?;
    let ns = kube.namespace("weights").await?;
    let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: checkout}, \
                 spec: {rules: [{backendRefs: [{name: checkout, port: 80, weight: 100}, {name: checkout-canary, port: 80, weight: 0}]}]}}";
    kube.apply(&ns, route).await?;
    let path = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{ns}/httproutes");
    let watch = kube.watch(&path).await?;
    let mark = kube.audit.mark()?;

    let patch = r#"[{"op":"add","path":"/spec/rules/0/backendRefs/1/weight","value":5}]"#;
    let args = ["-n", &ns, "patch", "httproute/checkout", "--type=json", "--patch", patch];
    // Nobody has given `person` a role.
    assert!(kube.kubectl_as("person", &args, None).await.is_err());
    kube.kubectl(&args).await?;

    let pointer = "/spec/rules/0/backendRefs/1/weight";
    watch.wait_for("the new weight", LIMIT, |seen| seen.object.pointer(pointer) == Some(&json!(5))).await?;
    assert_eq!(watch.values("checkout", pointer), [json!(0), json!(5)]);

    assert!(kube.audit.by("person", &ns, mark)?.iter().all(|write| write.code == 403));
    let writes = kube.audit.by(Kube::ADMIN, &ns, mark)?;
    assert_eq!(writes.len(), 1, "{writes:#?}");
    assert_eq!(
        (writes[0].verb.as_str(), writes[0].name.as_str(), writes[0].code),
        ("patch", "checkout", 200)
    );
    assert_eq!(writes[0].body[0]["value"], json!(5));
    Ok(())
}
