//! How a Deployment's pods come to another template and back, under the Deployment controller: recreate, rolling, undo.

use serde_json::{Value, json};
use sluice_rig::kube::Seen;
use sluice_rig::kube::stages::FAILS;
use sluice_rig::page::Page;
use sluice_rollout::RolloutId;
use sluice_traffic::{Workloads, connect_history};
use sluice_wire::policy::{self, PodCount, Policy, PromoteBy, Recreate, Replace, Rolling, Workload};

use crate::shop::{LIMIT, Shop, fence, rollout};
use crate::workloads::{START, Versions, by, route, versions};

impl Versions {
    async fn replaced(
        &self,
        replace: Option<Replace>,
        from_replica_set: Option<String>,
    ) -> std::sync::Arc<dyn Workloads> {
        let workloads = policy::Workloads { replace, from_replica_set, ..by(PromoteBy::CopyTemplate) };
        self.shop.workloads(&workloads, &route()).await
    }

    async fn image(&self) -> Value {
        self.template("checkout").await["spec"]["containers"][0]["image"].clone()
    }

    /// Revision, image, whether it runs now, whether it was put back.
    async fn history(&self) -> Vec<(u64, String, bool, bool)> {
        let history = connect_history(&checkout(), &self.shop.namespace, &self.shop.clients()).await.unwrap();
        let all = history.read().await.unwrap().into_iter();
        all.map(|one| (one.number, one.images.join(","), one.current, one.reverted)).collect()
    }

    async fn to_undo_to(&self, wanted: Option<u64>) -> Result<u64, String> {
        let history = connect_history(&checkout(), &self.shop.namespace, &self.shop.clients()).await.unwrap();
        history.to_undo_to(wanted).await.map(|one| one.number).map_err(|error| error.to_string())
    }
}

fn checkout() -> Workload {
    Workload::Deployment("checkout".to_owned())
}

fn recreate() -> Option<Replace> {
    Some(Replace::Recreate(Recreate::default()))
}

#[tokio::test]
async fn the_pages_policy_fits_its_objects_and_its_role_is_enough() {
    let page = Page::read("in-place").unwrap();
    let policy = Policy::parse("in-place", page.policy.as_bytes()).unwrap();
    let shop = Shop::with_routers("in-place").await;
    shop.bind(&page.role).await;
    shop.apply(&page.objects).await;
    let target = shop.target(&policy.spec.target).await;
    assert_eq!((target.check(&[]).await, target.observe().await.unwrap().fence), (Ok(()), None));
    let workloads = shop.workloads(&policy.spec.workloads, &policy.spec.target).await;
    workloads.check().await.unwrap();
    workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    workloads.empty_stable(fence("1.2")).await.unwrap();
    assert_eq!(
        target.observe().await.unwrap().fence,
        Some(fence("1.2")),
        "the workload's fence is the target's"
    );
}

#[tokio::test]
async fn recreate_empties_stable_proves_one_pod_and_all_of_it_can_run_again_and_be_put_back() {
    let v = versions("recreate", PromoteBy::CopyTemplate).await;
    let workloads = v.replaced(recreate(), None).await;
    workloads.check().await.unwrap();
    workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    for number in ["1.2", "1.3"] {
        workloads.empty_stable(fence(number)).await.unwrap();
    }
    let pods = v.shop.kubectl(&["get", "pods", "--selector=app=checkout", "-o", "name"]).await;
    assert_eq!(
        (pods.trim(), v.image().await),
        ("", json!("checkout:1")),
        "the old ones are gone, nothing is new"
    );

    for number in ["1.4", "1.5"] {
        workloads.promote_first(fence(number)).await.unwrap();
        v.sizes(1, 0).await;
    }
    assert_eq!(v.image().await, "checkout:2");
    for number in ["1.6", "1.7"] {
        workloads.promote(START, fence(number)).await.unwrap();
        v.sizes(3, 0).await;
    }

    workloads.empty_stable(fence("1.8")).await.unwrap();
    workloads.restore(START, fence("1.9")).await.unwrap();
    v.sizes(3, 0).await;
    assert_eq!(v.image().await, "checkout:1", "template and size are back");
    let known = v.history().await;
    let wanted = [(2, "checkout:2".to_owned(), false, true), (3, "checkout:1".to_owned(), true, false)];
    assert_eq!(known, wanted);
    let refused = v.to_undo_to(None).await.unwrap_err();
    assert!(refused.contains("was not put back") && refused.contains("2, 3"), "{refused}");

    // What proves good later is no longer passed over.
    workloads.promote(START, fence("1.10")).await.unwrap();
    assert!(v.history().await.iter().all(|(.., reverted)| !reverted));
    assert_eq!(v.to_undo_to(None).await, Ok(3));
}

#[tokio::test]
async fn an_abort_between_old_and_new_pods_brings_the_old_ones_back() {
    let v = versions("between", PromoteBy::CopyTemplate).await;
    let workloads = v.replaced(recreate(), None).await;
    workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    workloads.empty_stable(fence("1.2")).await.unwrap();
    workloads.restore(START, fence("1.3")).await.unwrap();
    v.sizes(3, 0).await;
    assert_eq!(v.image().await, "checkout:1");
}

#[tokio::test]
async fn the_policys_rolling_strategy_stands_only_while_pods_are_replaced() {
    let v = versions("rolling", PromoteBy::CopyTemplate).await;
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", v.shop.namespace);
    let watch = v.shop.kube.watch(&path).await.unwrap();
    let strategy = async || v.shop.get("deployment/checkout").await["spec"]["strategy"].clone();
    let before = strategy().await;
    let rolling =
        Rolling { max_surge: PodCount::Pods(0), max_unavailable: PodCount::Pods(1), ..Rolling::default() };
    let workloads = v.replaced(Some(Replace::Rolling(rolling)), None).await;
    workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    workloads.promote(START, fence("1.2")).await.unwrap();
    assert_eq!((v.image().await, strategy().await), (json!("checkout:2"), before.clone()));
    let asked = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    let is_last = |seen: &Seen| {
        seen.object["spec"]["template"]["spec"]["containers"][0]["image"] == "checkout:2"
            && seen.object["spec"]["strategy"] == before
    };
    watch.wait_for("the Deployment's own strategy again", LIMIT, is_last).await.unwrap();
    let most = watch.events().into_iter().filter(|seen| seen.name() == "checkout").map(|seen| {
        let stood = seen.object["spec"]["strategy"] == asked;
        (stood, seen.object["status"]["replicas"].as_u64().unwrap_or(0))
    });
    let seen: Vec<(bool, u64)> = most.collect();
    assert!(seen.iter().any(|(stood, _)| *stood), "the policy's strategy never stood there: {seen:?}");
    assert!(seen.iter().all(|(_, pods)| *pods <= 3), "a pod above stable's size: {seen:?}");
    workloads.restore(START, fence("1.3")).await.unwrap();
    assert_eq!(v.image().await, "checkout:1");
}

#[tokio::test]
async fn a_named_revision_comes_back_and_one_that_is_not_there_is_told() {
    let v = versions("undo", PromoteBy::CopyTemplate).await;
    v.workloads.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    v.workloads.promote(START, fence("1.2")).await.unwrap();
    assert_eq!(v.to_undo_to(None).await, Ok(1));
    let history = connect_history(&checkout(), &v.shop.namespace, &v.shop.clients()).await.unwrap();
    let first = history.to_undo_to(Some(1)).await.unwrap();
    let undoing = v.replaced(None, Some(first.kept_by)).await;
    for number in ["1.3", "1.4"] {
        undoing.promote(START, fence(number)).await.unwrap();
        assert_eq!(v.image().await, "checkout:1", "also when its revision has got another number");
    }
    undoing.restore(START, fence("1.5")).await.unwrap();
    assert_eq!(v.image().await, "checkout:2", "an undo can be aborted, too");
    let refused = v.to_undo_to(Some(9)).await.unwrap_err();
    assert!(refused.contains("no revision 9") && refused.contains("sluice revisions"), "{refused}");
    let gone = v.replaced(None, Some("checkout-9".into())).await;
    let gone = gone.promote(START, fence("1.6")).await.unwrap_err().to_string();
    assert!(
        gone.contains("checkout-9") && gone.contains("is gone") && gone.contains("sluice revisions"),
        "{gone}"
    );
}

#[tokio::test]
async fn a_job_of_the_users_image_replaces_stable_and_what_it_comes_to_is_looked_at() {
    let v = versions("custom", PromoteBy::CopyTemplate).await;
    let custom = |image: &str| {
        let job = json!({"image": image, "args": ["--until=50%"], "timeout": "60s"});
        Some(Replace::Custom(serde_json::from_value(job).unwrap()))
    };
    let failing = v.replaced(custom(FAILS), None).await;
    failing.check().await.unwrap();
    failing.at_start(&rollout(), None, fence("1.1")).await.unwrap();
    let failed = failing.promote(START, fence("1.2")).await.unwrap_err().to_string();
    assert!(failed.contains("the custom deployment failed") && failed.contains("logs job/"), "{failed}");
    failing.restore(START, fence("1.3")).await.unwrap();
    assert_eq!(v.image().await, "checkout:1");

    let next = RolloutId::new("shop", "checkout", "v3").unwrap();
    let deployer = v.replaced(custom("registry.example/deployer:1"), None).await;
    deployer.at_start(&next, None, fence("2.1")).await.unwrap();
    // The pods of these tests do nothing.
    let idle = deployer.promote(START, fence("2.2")).await.unwrap_err().to_string();
    assert!(idle.contains("it runs checkout:1 and not checkout:2"), "{idle}");
    v.shop.kubectl(&["set", "image", "deployment/checkout", "app=checkout:2"]).await;
    for number in ["2.3", "2.4"] {
        deployer.promote(START, fence(number)).await.unwrap();
    }
    let selector = "--selector=sluice.dev/gate=workloadsreplacecustom";
    let jobs = v.shop.kubectl(&["get", "jobs", selector, "--output=json"]).await;
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 2, "one for each rollout");
    let told = jobs["items"][0]["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    for (name, value) in [
        ("OPENSHIFT_DEPLOYMENT_NAME", "checkout-canary"),
        ("OPENSHIFT_DEPLOYMENT_NAMESPACE", v.shop.namespace.as_str()),
        ("SLUICE_STABLE", "checkout"),
    ] {
        assert!(told.as_array().unwrap().contains(&json!({"name": name, "value": value})), "{told}");
    }
    deployer.restore(START, fence("2.5")).await.unwrap();
    assert_eq!(v.image().await, "checkout:1", "what the Job has done is put back");
}
