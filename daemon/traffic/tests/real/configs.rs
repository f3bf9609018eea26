//! A DeploymentConfig's life cycle on the real API server: recreate, rolling, back, undo. The rig plays its controller
//! (`sluice_rig::DeploymentConfigs`), Kubernetes' own runs the ReplicationControllers.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_rig::{DeploymentConfigs, wait};
use sluice_rollout::RolloutId;
use sluice_traffic::{AtStart, Size, TargetError, Workloads, connect_history};
use sluice_wire::policy::{
    self, InPlace, InPlaceKind, PodCount, PromoteBy, Recreate, Replace, Rolling, Workload,
};

use crate::shop::{LIMIT, Shop, fence, rollout};

const START: AtStart = AtStart { stable: 3, canary: 0, stable_min: None };
const A: &str = "deploymentconfigs.apps.openshift.io/a";
const B: &str = "deploymentconfigs.apps.openshift.io/b";

/// Written out as OpenShift's API server keeps it: the CRD here fills no defaults in.
fn config(name: &str, replicas: u32, image: &str) -> String {
    json!({"apiVersion": "apps.openshift.io/v1", "kind": "DeploymentConfig", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"app": name}, "triggers": [{"type": "ConfigChange"}],
            "strategy": {"type": "Recreate", "recreateParams": {"timeoutSeconds": 60}, "resources": {"limits": {"cpu": "1"}}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {
                "containers": [{"name": "app", "image": image, "imagePullPolicy": "IfNotPresent", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30}}}})
    .to_string()
}

struct Configs {
    shop: Shop,
    _controller: DeploymentConfigs,
}

/// `a` with three pods of `checkout:1`, `b` with none and the template of `checkout:2`.
async fn configs(label: &str) -> Configs {
    let shop = Shop::with_routers(label).await;
    shop.bind("sluice-workloads").await;
    shop.apply(&format!("{}\n---\n{}", config("a", 3, "checkout:1"), config("b", 0, "checkout:2"))).await;
    let _controller = DeploymentConfigs::play(shop.kube, &shop.namespace).await.unwrap();
    shop.kube.wait(&shop.namespace, A, "jsonpath={.status.availableReplicas}=3", LIMIT).await.unwrap();
    Configs { shop, _controller }
}

fn a() -> Workload {
    Workload::DeploymentConfig("a".to_owned())
}

impl Configs {
    async fn workloads(&self, replace: Option<Replace>, from_history: Option<String>) -> Arc<dyn Workloads> {
        let workloads = policy::Workloads {
            stable: a(),
            canary: Workload::DeploymentConfig("b".to_owned()),
            promote: PromoteBy::CopyTemplate,
            replace,
            from_replica_set: from_history,
            ..policy::Workloads::default()
        };
        let target =
            policy::Target::InPlace(InPlace { name: "a".to_owned(), kind: InPlaceKind::DeploymentConfig });
        self.shop.workloads(&workloads, &target).await
    }

    async fn field(&self, pointer: &str) -> Value {
        self.shop.get(A).await.pointer(pointer).cloned().unwrap_or_default()
    }

    async fn image(&self) -> Value {
        self.field("/spec/template/spec/containers/0/image").await
    }

    /// Revision, image, whether its template stands, whether it was put back.
    async fn history(&self) -> Vec<(u64, String, bool, bool)> {
        let history = connect_history(&a(), &self.shop.namespace, &self.shop.clients()).await.unwrap();
        let all = history.read().await.unwrap().into_iter();
        all.map(|one| (one.number, one.images.join(","), one.current, one.reverted)).collect()
    }

    async fn images_of_pods(&self) -> Vec<String> {
        let path = "jsonpath={range .items[*]}{.spec.containers[0].image}{'\\n'}{end}";
        let pods = self.shop.kubectl(&["get", "pods", "--selector=app=a", "-o", path]).await;
        pods.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_deployment_config_is_recreated_and_put_back_and_goes_back_to_a_named_revision() {
    let c = configs("config-cycle").await;
    let workloads = c.workloads(Some(Replace::Recreate(Recreate::default())), None).await;
    workloads.check().await.unwrap();
    assert_eq!(workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap(), START);
    for number in ["1.2", "1.3"] {
        workloads.empty_stable(fence(number)).await.unwrap();
    }
    assert_eq!((c.images_of_pods().await, c.image().await), (vec![], json!("checkout:1")));
    for number in ["1.4", "1.5"] {
        workloads.promote_first(fence(number)).await.unwrap();
        assert_eq!(c.images_of_pods().await, ["checkout:2"], "one pod is proved");
    }
    for number in ["1.6", "1.7"] {
        workloads.promote(START, fence(number)).await.unwrap();
        assert_eq!(c.images_of_pods().await, ["checkout:2", "checkout:2", "checkout:2"]);
    }
    assert_eq!(c.field("/status/latestVersion").await, 2, "what runs again begins nothing new");

    workloads.restore(START, fence("1.8")).await.unwrap();
    assert_eq!(c.image().await, "checkout:1");
    let known = c.history().await;
    let (v1, v2) = ("checkout:1".to_owned(), "checkout:2".to_owned());
    assert_eq!(known, [(1, v1.clone(), true, false), (2, v2, false, true), (3, v1, true, false)]);

    let history = connect_history(&a(), &c.shop.namespace, &c.shop.clients()).await.unwrap();
    let refused = history.to_undo_to(None).await.unwrap_err().to_string();
    assert!(refused.contains("was not put back"), "{refused}");
    let second = history.to_undo_to(Some(2)).await.unwrap();
    let undoing = c.workloads(None, Some(second.kept_by)).await;
    undoing.promote(START, fence("1.9")).await.unwrap();
    let all = vec!["checkout:2".to_owned(); 3];
    wait::until_equal("the last pods of another version to end", LIMIT, all, || async {
        Ok(c.images_of_pods().await)
    })
    .await
    .unwrap();
    let template = c.field("/spec/template/metadata").await;
    assert_eq!(template, json!({"labels": {"app": "a"}}), "what the controller had added stays away");
}

#[tokio::test]
async fn a_rolling_strategy_stands_only_while_a_deployment_config_is_rolled() {
    let c = configs("config-rolling").await;
    let path = format!("/apis/apps.openshift.io/v1/namespaces/{}/deploymentconfigs", c.shop.namespace);
    let watch = c.shop.kube.watch(&path).await.unwrap();
    let own = c.field("/spec/strategy").await;
    let rolling =
        Rolling { max_surge: PodCount::Pods(1), max_unavailable: PodCount::Percent(0), ..Rolling::default() };
    let workloads = c.workloads(Some(Replace::Rolling(rolling)), None).await;
    workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    workloads.promote(START, fence("1.2")).await.unwrap();
    assert_eq!((c.image().await, c.field("/spec/strategy").await), (json!("checkout:2"), own.clone()));
    let asked = json!({"type": "Rolling", "resources": own["resources"],
        "rollingParams": {"maxSurge": 1, "maxUnavailable": "0%", "timeoutSeconds": 600}});
    watch
        .wait_for("the policy's strategy", LIMIT, |seen| seen.object["spec"]["strategy"] == asked)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deployment_config_whose_triggers_are_in_the_way_is_refused_with_the_remedy() {
    let c = configs("config-triggers").await;
    let workloads = c.workloads(None, None).await;
    let automatic =
        json!([{"type": "ConfigChange"}, {"type": "ImageChange", "imageChangeParams": {"automatic": true}}]);
    c.shop.edit(A, &json!({"spec": {"triggers": automatic}}).to_string()).await;
    let refused = workloads.check().await.unwrap_err();
    let TargetError::NotAsNeeded(words) = &refused else { panic!("{refused:?}") };
    assert!(words.contains("spec.triggers") && words.contains("--manual"), "{words}");
    let paused = json!({"spec": {"paused": true, "triggers": [{"type": "ConfigChange"}]}});
    c.shop.edit(A, &paused.to_string()).await;
    let refused = workloads.check().await.unwrap_err().to_string();
    assert!(refused.contains("spec.paused") && refused.contains("resume it"), "{refused}");
}

#[tokio::test]
async fn without_triggers_each_version_is_begun_as_oc_rollout_latest_does_it_and_not_while_it_is_paused() {
    let c = configs("config-latest").await;
    let none = json!({"spec": {"triggers": []}}).to_string();
    for config in [A, B] {
        c.shop.edit(config, &none).await;
    }
    let workloads = c.workloads(None, None).await;
    workloads.check().await.unwrap();
    workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    // The pipeline's own edit begins nothing; the release does.
    let image =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "checkout:3"}]);
    c.shop.kubectl(&["patch", B, "--type=json", "--patch", &image.to_string()]).await;
    for number in ["1.2", "1.3"] {
        workloads.raise_canary(1, fence(number)).await.unwrap();
    }
    c.shop.kube.wait(&c.shop.namespace, B, "jsonpath={.status.updatedReplicas}=1", LIMIT).await.unwrap();
    assert_eq!(c.shop.get(B).await["status"]["latestVersion"], 2, "what runs again begins nothing new");
    let size = workloads.observe().await.unwrap().canary;
    assert_eq!(size, Size { wanted: 1, available: 1 });

    // The canary's template has changed since the start, so the rollout is another one.
    workloads.at_start(&later(), None, fence("1.4")).await.unwrap();
    workloads.promote(START, fence("1.5")).await.unwrap();
    assert_eq!((c.image().await, c.field("/status/latestVersion").await), (json!("checkout:3"), json!(2)));
    workloads.restore(START, fence("1.6")).await.unwrap();
    assert_eq!((c.image().await, c.field("/status/latestVersion").await), (json!("checkout:1"), json!(3)));

    c.shop.edit(A, r#"{"spec": {"paused": true}}"#).await;
    let refused = workloads.promote(START, fence("1.7")).await.unwrap_err().to_string();
    assert!(refused.contains("spec.paused") && refused.contains("resume it"), "{refused}");
    assert_eq!((c.image().await, c.field("/status/latestVersion").await), (json!("checkout:1"), json!(3)));
}

fn later() -> RolloutId {
    RolloutId::new("shop", "checkout", "v3").unwrap()
}
