//! Two Deployments behind one Service and no router, with the page's objects, policy and rights.

use serde_json::json;
use sluice_rig::page::Page;
use sluice_traffic::{Target, TargetError, Wanted};
use sluice_wire::policy::Policy;
use std::sync::Arc;

use crate::shop::{LIMIT, Shop, abort, fence, has_percent, owners, seen, up, weight};

const CANARY: &str = "deployment/checkout-canary";

struct Replicas {
    shop: Shop,
    target: Arc<dyn Target>,
    policy: Policy,
}

async fn replicas(label: &str) -> Replicas {
    let page = Page::read("replicas").unwrap();
    let shop = Shop::with_routers(label).await;
    shop.bind("sluice-workloads").await;
    shop.bind(&page.role).await;
    shop.apply(&page.objects).await;
    shop.kube
        .wait(&shop.namespace, "deployment/checkout", "jsonpath={.status.availableReplicas}=9", LIMIT)
        .await
        .unwrap();
    let policy = Policy::parse("replicas", page.policy.as_bytes()).unwrap();
    let target = connect(&shop, &policy).await;
    Replicas { shop, target, policy }
}

async fn connect(shop: &Shop, policy: &Policy) -> Arc<dyn Target> {
    let clients = shop.clients();
    let spec = &policy.spec;
    sluice_traffic::connect(&spec.target, None, &spec.workloads, &shop.namespace, &clients).await.unwrap()
}

#[tokio::test]
async fn pods_are_the_weight_and_nothing_else_changes() {
    let Replicas { shop, target, policy } = replicas("replicas").await;
    let before = [owners(shop.get("deployment/checkout").await), owners(shop.get("service/checkout").await)];
    let steps: Vec<_> = policy.spec.steps.iter().map(|step| step.weight).collect();
    target.check(&[&steps[..], &[weight(50.0)]].concat()).await.unwrap();
    let mut states = target.watch();
    seen(&mut states, "the canary at rest", has_percent(0.0)).await;

    for (wanted, written) in [(up(10.0, "1.1"), "1/9"), (up(25.0, "1.2"), "3/9")] {
        let read = target.apply(&wanted).await.unwrap();
        assert_eq!((read.canary, read.written.as_str()), (wanted.weight, written));
        let pods = shop.get(CANARY).await["status"]["availableReplicas"].clone();
        assert_eq!(
            pods,
            written.split('/').next().unwrap().parse::<u64>().unwrap(),
            "written, and in effect"
        );
        // The workloads' part keeps its hands off.
        let workloads = shop.workloads(&policy.spec.workloads, &policy.spec.target).await;
        workloads.raise_canary(9, fence("1.9")).await.unwrap();
        workloads.take_over(fence("1.9")).await.unwrap();
    }
    let late = target.apply(&up(50.0, "1.1")).await;
    assert!(matches!(late, Err(TargetError::Fenced { .. })), "a former owner's write: {late:?}");

    shop.kubectl(&["scale", CANARY, "--replicas=9"]).await;
    seen(&mut states, "that somebody scaled it", has_percent(50.0)).await;
    target.apply(&Wanted { rising: false, ..up(25.0, "1.3") }).await.unwrap();
    assert_eq!(shop.get(CANARY).await["spec"]["replicas"], 3);

    let closed = target.apply(&abort("1.4")).await.unwrap();
    assert_eq!((closed.canary, closed.written.as_str()), (weight(0.0), "0/9"));
    let again = target.apply(&up(10.0, "1.5")).await;
    assert!(matches!(again, Err(TargetError::Refused(_))), "an abort's mark stands: {again:?}");
    target.release(fence("1.6")).await.unwrap();
    assert_eq!(owners(shop.get(CANARY).await)["spec"]["replicas"], 0);
    let after = [owners(shop.get("deployment/checkout").await), owners(shop.get("service/checkout").await)];
    assert_eq!(before.map(|object| object["spec"].clone()), after.map(|object| object["spec"].clone()));
}

#[tokio::test]
async fn what_pods_cannot_say_and_what_gives_them_another_meaning_is_refused_with_the_remedy() {
    let Replicas { shop, target, mut policy } = replicas("replicas-unfit").await;
    let refused = async |target: &Arc<dyn Target>, percent: f64, words: &[&str]| {
        let refused = target.check(&[weight(percent)]).await.unwrap_err().to_string();
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    };
    refused(&target, 20.0, &["2 are 18.19 %", "3 are 25 %", "checkout-canary"]).await;
    refused(&target, 1.0, &["the finest is 10 %"]).await;

    shop.kubectl(&["autoscale", CANARY, "--min=1", "--max=3", "--cpu-percent=50"]).await;
    refused(&target, 10.0, &["hpa", "checkout-canary", "delete that autoscaler"]).await;
    shop.kubectl(&["delete", "hpa/checkout-canary"]).await;
    shop.kubectl(&["scale", CANARY, "--replicas=1"]).await;
    refused(&target, 10.0, &["spec.replicas", "scale it to 0"]).await;
    shop.kubectl(&["scale", CANARY, "--replicas=0"]).await;
    target.check(&[weight(10.0)]).await.unwrap();

    shop.edit("service/checkout", &json!({"spec": {"selector": {"track": "stable"}}}).to_string()).await;
    refused(&target, 10.0, &["no label track: stable", "service"]).await;
    policy.spec.target = serde_json::from_value(json!({"replicas": {"service": "chekout"}})).unwrap();
    refused(&connect(&shop, &policy).await, 10.0, &["chekout does not exist", "kubectl"]).await;
}
