use serde_json::{Value, json};
use sluice_rollout::RolloutId;
use sluice_traffic::{AtStart, Size, Sizes, TargetError, Workloads};
use sluice_wire::policy::{self, PromoteBy, Workload};

use crate::shop::{LIMIT, Shop, fence, owners, rollout, seen};

/// Sizes of [`SHOP`] at rest.
pub const START: AtStart = AtStart { stable: 3, canary: 0, stable_min: None };

pub const SHOP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout}
spec:
  replicas: 3
  selector: {matchLabels: {app: checkout}}
  template:
    metadata: {labels: {app: checkout, release: '1'}}
    spec: {containers: [{name: app, image: 'checkout:1', env: [{name: MODE, value: old}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout-canary}
spec:
  replicas: 0
  selector: {matchLabels: {app: checkout-canary}}
  template:
    metadata: {labels: {app: checkout-canary, release: '2'}}
    spec: {containers: [{name: app, image: 'checkout:2'}]}
---
apiVersion: v1
kind: Service
metadata: {name: checkout-canary}
spec: {ports: [{port: 80}], selector: {app: checkout-canary}}
";

const AUTOSCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: checkout}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: checkout}
  minReplicas: 1
  maxReplicas: 10
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
";

pub fn route() -> policy::Target {
    policy::Target::HttpRoute(policy::RuleRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "checkout".into(),
        canary: "checkout-canary".into(),
        port: None,
        rules: Vec::new(),
    })
}

pub fn by(promote: PromoteBy) -> policy::Workloads {
    policy::Workloads {
        stable: Workload::Deployment("checkout".into()),
        canary: Workload::Deployment("checkout-canary".into()),
        promote,
        ..policy::Workloads::default()
    }
}

pub struct Versions {
    pub shop: Shop,
    pub workloads: std::sync::Arc<dyn Workloads>,
}

/// Both Deployments at rest, the canary at 0.
pub async fn versions(label: &str, promote: PromoteBy) -> Versions {
    versions_of(label, promote, SHOP).await
}

async fn versions_of(label: &str, promote: PromoteBy, yaml: &str) -> Versions {
    let shop = Shop::open(label).await;
    shop.apply(yaml).await;
    shop.kube
        .wait(&shop.namespace, "deployment/checkout", "jsonpath={.status.availableReplicas}=3", LIMIT)
        .await
        .unwrap();
    let workloads = shop.workloads(&by(promote), &route()).await;
    Versions { shop, workloads }
}

impl Versions {
    pub async fn template(&self, name: &str) -> Value {
        self.shop.get(&format!("deployment/{name}")).await["spec"]["template"].clone()
    }

    pub async fn replicas(&self, name: &str) -> Value {
        self.shop.get(&format!("deployment/{name}")).await["spec"]["replicas"].clone()
    }

    pub async fn sizes(&self, stable: u32, canary: u32) {
        let full = |n| Size { wanted: n, available: n };
        let wanted = Sizes { stable: full(stable), canary: full(canary) };
        seen(&mut self.workloads.watch(), &format!("{wanted:?}"), |sizes| *sizes == wanted).await;
    }

    async fn refusal(&self) -> String {
        self.workloads.check().await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn the_canary_goes_up_stable_is_held_and_all_comes_back() {
    let v = versions("scale", PromoteBy::CopyTemplate).await;
    v.workloads.check().await.unwrap();
    let before = owners(v.shop.get("deployment/checkout").await)["spec"].clone();
    let start = v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    assert_eq!(start, START);

    v.workloads.raise_canary(2, fence("1.2")).await.unwrap();
    v.workloads.raise_canary(1, fence("1.3")).await.unwrap();
    v.sizes(3, 2).await;
    assert_eq!(v.workloads.observe().await.unwrap().canary, Size { wanted: 2, available: 2 });
    assert_eq!(
        v.workloads.at_start(&rollout(), None, fence("1.4")).await.unwrap(),
        start,
        "a second call answers alike"
    );

    let mut states = v.workloads.watch();
    v.shop.kubectl(&["scale", "deployment/checkout", "--replicas=1"]).await;
    seen(&mut states, "that stable was shrunk", |sizes| sizes.stable.wanted == 1).await;
    v.workloads.hold_stable(3, fence("1.5")).await.unwrap();
    v.sizes(3, 2).await;

    let late = v.workloads.set_canary(9, fence("0.9")).await;
    assert!(matches!(late, Err(TargetError::Fenced { .. })), "{late:?}");
    v.workloads.set_canary(0, fence("1.6")).await.unwrap();
    v.workloads.release_stable(start, fence("1.7")).await.unwrap();
    v.sizes(3, 0).await;
    assert_eq!(owners(v.shop.get("deployment/checkout").await)["spec"], before);
}

#[tokio::test]
async fn a_new_owner_fences_the_former_one_off_before_it_writes_anything_else() {
    let v = versions("taken-over", PromoteBy::CopyTemplate).await;
    v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    let spec = async |name: &str| owners(v.shop.get(name).await)["spec"].clone();
    let before = (spec("deployment/checkout").await, spec("deployment/checkout-canary").await);
    v.workloads.take_over(fence("2.1")).await.unwrap();
    v.workloads.take_over(fence("2.1")).await.unwrap();
    for late in [
        v.workloads.raise_canary(2, fence("1.9")).await,
        v.workloads.promote(START, fence("1.10")).await,
        v.workloads.take_over(fence("1.11")).await,
    ] {
        assert!(matches!(late, Err(TargetError::Fenced { .. })), "{late:?}");
    }
    let after = (spec("deployment/checkout").await, spec("deployment/checkout-canary").await);
    assert_eq!(after, before, "only the fence was raised");
}

#[tokio::test]
async fn a_release_that_superseded_another_remembers_the_sizes_from_before_both() {
    let v = versions("chain", PromoteBy::CopyTemplate).await;
    let start = v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    v.workloads.raise_canary(2, fence("1.2")).await.unwrap();
    let newer: RolloutId = rollout().to_string().replace('@', "@newer-").parse().unwrap();
    assert_eq!(v.workloads.at_start(&newer, Some(&rollout()), fence("2.1")).await.unwrap(), start);
    assert_eq!(v.workloads.at_start(&newer, None, fence("2.2")).await.unwrap(), start, "it is remembered");
}

#[tokio::test]
async fn an_autoscalers_minimum_is_the_floor_and_comes_back() {
    let v = versions("autoscaled", PromoteBy::CopyTemplate).await;
    v.shop.apply(AUTOSCALER).await;
    let before = owners(v.shop.get("hpa/checkout").await)["spec"].clone();
    let minimum = async || v.shop.get("hpa/checkout").await["spec"]["minReplicas"].clone();
    let start = v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    assert_eq!((start.stable, start.stable_min), (3, Some(1)));
    v.workloads.hold_stable(3, fence("1.2")).await.unwrap();
    assert_eq!(minimum().await, 3);

    // Somebody takes both back while the rollout runs; the same wish puts them right again.
    v.shop.edit("hpa/checkout", r#"{"spec":{"minReplicas":2}}"#).await;
    v.shop.kubectl(&["scale", "deployment/checkout", "--replicas=2"]).await;
    v.workloads.hold_stable(3, fence("1.2")).await.unwrap();
    assert_eq!((minimum().await, v.replicas("checkout").await), (json!(3), json!(3)));

    let error = v.workloads.hold_stable(11, fence("1.3")).await.unwrap_err().to_string();
    assert!(error.contains("spec.maxReplicas") && error.contains("hpa"), "{error}");
    v.workloads.release_stable(start, fence("1.4")).await.unwrap();
    assert_eq!(owners(v.shop.get("hpa/checkout").await)["spec"], before);
}

#[tokio::test]
async fn promotion_by_copy_keeps_stables_labels_and_can_be_undone() {
    let v = versions("copy", PromoteBy::CopyTemplate).await;
    let before = v.template("checkout").await;
    v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    v.workloads.restore(START, fence("1.2")).await.unwrap();
    assert_eq!(v.template("checkout").await, before, "nothing was promoted yet, so nothing is restored");

    v.workloads.promote(START, fence("1.3")).await.unwrap();
    let promoted = v.template("checkout").await;
    assert_eq!(promoted["metadata"]["labels"], json!({"app": "checkout", "release": "2"}));
    assert_eq!(promoted["spec"], v.template("checkout-canary").await["spec"]);
    assert_eq!(v.replicas("checkout").await, 3, "promotion does not scale");
    v.sizes(3, 0).await;
    let generation = v.shop.get("deployment/checkout").await["metadata"]["generation"].clone();
    v.workloads.promote(START, fence("1.4")).await.unwrap();
    assert_eq!(v.shop.get("deployment/checkout").await["metadata"]["generation"], generation, "done already");

    assert!(matches!(v.workloads.restore(START, fence("1.2")).await, Err(TargetError::Fenced { .. })));
    v.workloads.restore(START, fence("1.5")).await.unwrap();
    assert_eq!(v.template("checkout").await, before);
    v.sizes(3, 0).await;
    v.workloads.restore(START, fence("1.6")).await.unwrap();
}

#[tokio::test]
async fn a_promotion_whose_pods_never_come_up_says_so_and_is_undone() {
    let never = SHOP.replace("release: '2'}", "release: '2', sluice.test/ready: never}");
    let v = versions_of("stuck", PromoteBy::CopyTemplate, &never).await;
    v.shop.edit("deployment/checkout", r#"{"spec":{"progressDeadlineSeconds":2,"minReadySeconds":1}}"#).await;
    let before = v.template("checkout").await;
    let error = tokio::time::timeout(LIMIT, v.workloads.promote(START, fence("1.1")))
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("progress") && error.contains("kubectl") && error.contains("rollout status"),
        "{error}"
    );
    v.workloads.restore(START, fence("1.2")).await.unwrap();
    assert_eq!(v.template("checkout").await, before);
}

#[tokio::test]
async fn a_former_template_that_is_gone_is_told() {
    let v = versions("gone", PromoteBy::CopyTemplate).await;
    v.workloads.promote(START, fence("1.1")).await.unwrap();
    v.shop.edit("deployment/checkout", r#"{"spec":{"revisionHistoryLimit":0}}"#).await;
    let former =
        v.shop.get("deployment/checkout").await["metadata"]["annotations"]["sluice.dev/former-replicaset"]
            .clone();
    let former = format!("replicaset/{}", former.as_str().unwrap());
    v.shop.kube.wait(&v.shop.namespace, &former, "delete", LIMIT).await.unwrap();
    let error = v.workloads.restore(START, fence("1.2")).await.unwrap_err().to_string();
    assert!(error.contains("is gone") && error.contains("sluice revisions"), "{error}");
}

#[tokio::test]
async fn a_canary_that_changed_after_it_was_judged_is_not_promoted() {
    let v = versions("changed", PromoteBy::CopyTemplate).await;
    v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    v.shop.kubectl(&["set", "image", "deployment/checkout-canary", "app=checkout:3"]).await;
    let error = v.workloads.promote(START, fence("1.2")).await.unwrap_err().to_string();
    assert!(error.contains("checkout-canary") && error.contains("what was judged"), "{error}");
}

#[tokio::test]
async fn an_external_promotion_is_waited_for() {
    let v = versions("external", PromoteBy::External).await;
    v.workloads.check().await.unwrap();
    let workloads = v.workloads.clone();
    let promotion = tokio::spawn(async move { workloads.promote(START, fence("1.1")).await });
    v.shop.kubectl(&["set", "image", "deployment/checkout", "app=checkout:2"]).await;
    tokio::time::timeout(LIMIT, promotion).await.unwrap().unwrap().unwrap();
    v.sizes(3, 0).await;
    let error = v.workloads.restore(START, fence("1.2")).await.unwrap_err().to_string();
    assert!(error.contains("checkout:2"), "{error}");
    v.shop.kubectl(&["set", "image", "deployment/checkout", "app=checkout:1"]).await;
    v.workloads.restore(START, fence("1.3")).await.unwrap();
}

#[tokio::test]
async fn a_canary_whose_endpoints_vanish_is_seen_at_once() {
    let v = versions("vanish", PromoteBy::Swap).await;
    let mut endpoints = v.workloads.canary_endpoints().unwrap();
    seen(&mut endpoints, "none yet", |count| *count == 0).await;
    v.workloads.raise_canary(2, fence("1.1")).await.unwrap();
    seen(&mut endpoints, "both", |count| *count == 2).await;
    v.workloads.promote(START, fence("1.2")).await.unwrap();
    v.shop.kubectl(&["label", "pods", "--selector=app=checkout-canary", "sluice.test/ready=never"]).await;
    seen(&mut endpoints, "none, for no pod is ready", |count| *count == 0).await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_the_policy_is_read() {
    let v = versions("checks", PromoteBy::CopyTemplate).await;
    v.shop.edit("deployment/checkout", r#"{"spec":{"revisionHistoryLimit":0}}"#).await;
    assert!(v.refusal().await.contains("spec.revisionHistoryLimit"));

    v.shop.edit("deployment/checkout", r#"{"spec":{"revisionHistoryLimit":5},"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"shop"}}}"#).await;
    let gitops = v.refusal().await;
    assert!(gitops.contains("kustomize.toolkit.fluxcd.io/name") && gitops.contains("external"), "{gitops}");
    v.shop.workloads(&by(PromoteBy::Swap), &route()).await.check().await.unwrap();

    v.shop.edit("deployment/checkout", r#"{"spec":{"paused":true}}"#).await;
    assert!(v.refusal().await.contains("spec.paused"));
    v.shop.edit("deployment/checkout", r#"{"spec":{"paused":false}}"#).await;

    let missing = policy::Workloads { canary: Workload::Deployment("nowhere".into()), ..by(PromoteBy::Swap) };
    let error = v.shop.workloads(&missing, &route()).await.check().await.unwrap_err().to_string();
    assert!(error.contains("nowhere does not exist") && error.contains("kubectl"), "{error}");

    let mut elsewhere = route();
    if let policy::Target::HttpRoute(route) = &mut elsewhere {
        route.canary = "checkout-canray".into();
    }
    let error =
        v.shop.workloads(&by(PromoteBy::Swap), &elsewhere).await.check().await.unwrap_err().to_string();
    let named = error.contains("/checkout-canray") && error.contains("get service,endpointslices");
    assert!(named && error.contains("spec.target"), "{error}");

    let blind = policy::Workloads { promote: PromoteBy::External, ..policy::Workloads::default() };
    let error = v.shop.workloads(&blind, &route()).await.check().await.unwrap_err().to_string();
    assert!(error.contains("workloads.stable"), "{error}");
    let same = policy::Workloads { canary: Workload::Deployment("checkout".into()), ..by(PromoteBy::Swap) };
    assert!(
        v.shop.workloads(&same, &route()).await.check().await.unwrap_err().to_string().contains("are both")
    );
}

#[tokio::test]
async fn a_template_owned_by_gitops_is_known_by_its_fields_manager() {
    let v = versions("owned", PromoteBy::CopyTemplate).await;
    v.workloads.check().await.unwrap();
    let template = SHOP.split("---").next().unwrap();
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=argocd-controller",
        "--namespace",
        &v.shop.namespace,
        "--filename=-",
    ];
    v.shop.kube.kubectl_as(sluice_rig::Kube::ADMIN, &args, Some(template)).await.unwrap();
    let refusal = v.refusal().await;
    assert!(refusal.contains("field manager argocd-controller") && refusal.contains("external"), "{refusal}");
}

#[tokio::test]
async fn stateful_sets_are_scaled_and_waited_for() {
    let shop = Shop::open("stateful").await;
    let set = |name: &str, replicas: u32| {
        format!(
            "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, serviceName: {name}, \
             selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, \
             spec: {{containers: [{{name: app, image: 'checkout:1'}}]}}}}}}}}"
        )
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: checkout-canary}, \
        spec: {ports: [{port: 80}], selector: {app: green}}}";
    shop.apply(&format!("{}\n---\n{}\n---\n{service}", set("blue", 2), set("green", 0))).await;
    let versions = |promote| policy::Workloads {
        stable: Workload::StatefulSet("blue".into()),
        canary: Workload::StatefulSet("green".into()),
        promote,
        ..policy::Workloads::default()
    };
    let workloads = shop.workloads(&versions(PromoteBy::Swap), &route()).await;
    workloads.check().await.unwrap();
    let mut states = workloads.watch();
    let full = |n| Size { wanted: n, available: n };
    seen(&mut states, "blue at its size", |sizes| sizes.stable == full(2)).await;
    let start = workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    assert_eq!(start, AtStart { stable: 2, canary: 0, stable_min: None });
    workloads.raise_canary(2, fence("1.2")).await.unwrap();
    seen(&mut states, "green at its size", |sizes| sizes.canary == full(2)).await;

    shop.kubectl(&["set", "image", "statefulset/green", "app=checkout:2"]).await;
    tokio::time::timeout(LIMIT, workloads.promote(START, fence("1.3"))).await.unwrap().unwrap();
    let green = shop.get("statefulset/green").await;
    assert_eq!(
        green["status"]["currentRevision"], green["status"]["updateRevision"],
        "all pods run the new version"
    );
    workloads.set_stable(0, fence("1.4")).await.unwrap();
    seen(&mut states, "blue gone", |sizes| sizes.stable == full(0)).await;
    let copied =
        shop.workloads(&versions(PromoteBy::CopyTemplate), &route()).await.check().await.unwrap_err();
    assert!(copied.to_string().contains("swap or external"), "{copied}");
}
