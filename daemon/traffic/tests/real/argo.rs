//! Rollouts under Argo's own controller: the objects of `docs/targets/argo-rollout.md` and `deploy/examples/argo-rollouts`, with the
//! rights that the page names.

use std::path::Path;

use serde_json::{Value, json};
use sluice_rig::page::Page;
use sluice_rig::{ArgoRollouts, wait};
use sluice_rollout::RolloutId;
use sluice_traffic::{Target, TargetError, Wanted};
use sluice_wire::policy::Policy;
use std::sync::Arc;
use tokio::sync::{OnceCell, RwLock};

use crate::shop::{LIMIT, Shop, abort, fence, has_percent, seen, up, weight};

const ROLLOUT: &str = "rollouts.argoproj.io/checkout";

/// One controller for all; whoever stops it has it alone.
static CONTROLLER: OnceCell<RwLock<ArgoRollouts>> = OnceCell::const_new();

async fn controller(shop: &Shop) -> &'static RwLock<ArgoRollouts> {
    let start = || async { RwLock::new(ArgoRollouts::start(shop.kube).await.unwrap()) };
    CONTROLLER.get_or_init(start).await
}

async fn shop(label: &str, objects: &str, role: &str) -> Shop {
    let shop = Shop::with_routers(label).await;
    controller(&shop).await;
    shop.bind("sluice-workloads").await;
    shop.bind(role).await;
    shop.apply(objects).await;
    shop
}

/// The page's Rollout with its first version stable, and the policy's target.
async fn canary(label: &str) -> (Shop, Arc<dyn Target>) {
    let page = Page::read("argo-rollout").unwrap();
    let shop = shop(label, &page.objects, &page.role).await;
    let policy = Policy::parse("argo-rollout", page.policy.as_bytes()).unwrap();
    let target = shop.target(&policy.spec.target).await;
    stable(&shop, ROLLOUT).await;
    (shop, target)
}

async fn stable(shop: &Shop, what: &str) {
    field(shop, what, "/status/phase", json!("Healthy")).await;
}

async fn field(shop: &Shop, what: &str, pointer: &str, wanted: Value) {
    let name = format!("{what} {pointer}");
    let look = || async { Ok(shop.get(what).await.pointer(pointer).cloned().unwrap_or_default()) };
    wait::until_equal(&name, LIMIT, wanted, look).await.unwrap();
}

async fn set_image(shop: &Shop, what: &str, image: &str) {
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
    shop.kubectl(&["patch", what, "--type=json", "--patch", &patch.to_string()]).await;
}

/// What Istio would read: the canary's weight.
async fn routed(shop: &Shop) -> Value {
    shop.get("virtualservice/checkout").await["spec"]["http"][0]["route"][1]["weight"].clone()
}

/// Until the controller has carried it out, as the daemon's lane does.
async fn carried(target: &Arc<dyn Target>, wanted: &Wanted) {
    let apply = async {
        loop {
            match target.apply(wanted).await {
                Ok(observed) => return assert_eq!(observed.canary, wanted.weight),
                Err(TargetError::Pending(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, apply).await.unwrap_or_else(|_| panic!("{wanted:?} was never carried out"));
}

#[tokio::test]
async fn a_canary_goes_from_pause_to_pause_and_becomes_stable() {
    let (shop, target) = canary("argo").await;
    let _shared = controller(&shop).await.read().await;
    let early = target.check(&[weight(30.0)]).await.unwrap_err().to_string();
    assert!(early.contains("nothing to roll out"), "{early}");
    set_image(&shop, ROLLOUT, "registry.example/checkout:v2").await;
    target.check(&[weight(30.0), weight(60.0)]).await.unwrap();
    let mut states = target.watch();
    seen(&mut states, "the pause before the first weight", has_percent(0.0)).await;
    let before = shop.get(ROLLOUT).await["status"]["stableRS"].clone();
    let [stable_hash, canary_hash] = target.versions().await.unwrap().unwrap();
    assert_eq!(before, json!(stable_hash));

    for (wanted, canary) in [(up(30.0, "1.1"), 30), (up(60.0, "1.2"), 60)] {
        carried(&target, &wanted).await;
        assert_eq!(routed(&shop).await, json!(canary));
    }
    seen(&mut states, "the second weight", has_percent(60.0)).await;
    let late = target.apply(&up(30.0, "1.1")).await;
    assert!(matches!(late, Err(TargetError::Fenced { .. })), "a former owner's write: {late:?}");

    carried(&target, &up(100.0, "1.3")).await;
    let after = shop.get(ROLLOUT).await;
    assert_eq!(after["status"]["stableRS"], json!(canary_hash));
    field(&shop, "virtualservice/checkout", "/spec/http/0/route/1/weight", json!(0)).await;
    let released = target.release(fence("1.4")).await.unwrap();
    assert_eq!(released.canary, weight(0.0), "nothing is beside the stable version any more");
    let left = shop.get(ROLLOUT).await["metadata"]["annotations"].as_object().unwrap().clone();
    let ours: Vec<&String> = left.keys().filter(|name| name.starts_with("sluice.dev/")).collect();
    assert_eq!(ours, ["sluice.dev/fence"]);
}

#[tokio::test]
async fn an_abort_takes_the_traffic_away_and_a_new_attempt_retries() {
    let (shop, target) = canary("argo-abort").await;
    let _shared = controller(&shop).await.read().await;
    set_image(&shop, ROLLOUT, "registry.example/checkout:v2").await;
    target.check(&[weight(30.0)]).await.unwrap();
    carried(&target, &up(30.0, "1.1")).await;
    carried(&target, &abort("1.2")).await;
    assert_eq!(routed(&shop).await, json!(0));
    let aborted = shop.get(ROLLOUT).await;
    assert_eq!(aborted["status"]["abort"], true);
    let rise = target.apply(&up(60.0, "1.3")).await.unwrap_err().to_string();
    assert!(rise.contains("was aborted (errors 4 % over 1 %)"), "{rise}");

    let again = RolloutId::new("shop", "checkout", "again").unwrap();
    carried(&target, &Wanted { rollout: again, ..up(30.0, "2.1") }).await;
    assert_eq!(routed(&shop).await, json!(30));
}

#[tokio::test]
async fn what_people_do_beside_it_is_seen_and_put_back_or_respected() {
    let (shop, target) = canary("argo-beside").await;
    let _shared = controller(&shop).await.read().await;
    set_image(&shop, ROLLOUT, "registry.example/checkout:v2").await;
    target.check(&[weight(30.0)]).await.unwrap();
    carried(&target, &up(30.0, "1.1")).await;
    let mut states = target.watch();
    // As `kubectl argo rollouts promote` does it.
    let by_hand = async |status: &str| {
        shop.kubectl(&["patch", ROLLOUT, "--subresource=status", "--type=merge", "--patch", status]).await
    };
    by_hand(r#"{"status": {"pauseConditions": null}}"#).await;
    seen(&mut states, "somebody's promotion", has_percent(60.0)).await;
    carried(&target, &up(30.0, "1.2")).await;
    assert_eq!(routed(&shop).await, json!(30));

    by_hand(r#"{"status": {"abort": true}}"#).await;
    seen(&mut states, "somebody's abort", has_percent(0.0)).await;
    let refused = target.apply(&up(30.0, "1.3")).await.unwrap_err().to_string();
    assert!(refused.contains("status.abort: somebody else has aborted it"), "{refused}");
    carried(&target, &abort("1.4")).await;
}

#[tokio::test]
async fn an_abort_waits_for_a_controller_that_is_down_and_is_carried_out_by_its_next_start() {
    let (shop, target) = canary("argo-down").await;
    set_image(&shop, ROLLOUT, "registry.example/checkout:v2").await;
    let mut alone = controller(&shop).await.write().await;
    target.check(&[weight(30.0)]).await.unwrap();
    carried(&target, &up(30.0, "1.1")).await;
    alone.server.kill();
    let pending = target.apply(&abort("1.2")).await.unwrap_err();
    assert!(
        pending.retryable() && pending.to_string().contains("has not taken the traffic away"),
        "{pending}"
    );
    assert_eq!(shop.get(ROLLOUT).await["status"]["abort"], true, "it stands written");
    alone.server.start_again().await.unwrap();
    carried(&target, &abort("1.2")).await;
    assert_eq!(routed(&shop).await, json!(0));
}

#[tokio::test]
async fn blue_becomes_green_and_green_blue_again() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/argo-rollouts");
    let text = |name: &str| std::fs::read_to_string(file.join(name)).unwrap();
    let basket = "rollouts.argoproj.io/basket";
    let shop = shop("argo-green", &text("blue-green.yaml"), "sluice-argo-rollout").await;
    let _shared = controller(&shop).await.read().await;
    let policy = Policy::parse("basket", text("policies/basket.yaml").as_bytes()).unwrap();
    let target = shop.target(&policy.spec.target).await;
    stable(&shop, basket).await;
    let active =
        async || shop.get("service/basket").await["spec"]["selector"]["rollouts-pod-template-hash"].clone();
    let blue = active().await;
    set_image(&shop, basket, "registry.example/basket:v2").await;
    target.check(&[weight(100.0)]).await.unwrap();
    let before = shop.get(basket).await["spec"].clone();

    carried(&target, &up(100.0, "1.1")).await;
    let green = active().await;
    assert!(green.is_string() && green != blue, "{green}");
    field(&shop, basket, "/status/stableRS", green.clone()).await;
    assert_eq!(shop.get(basket).await["spec"], before, "nothing of the owner's is changed");
    assert_eq!(target.observe().await.unwrap().canary, weight(100.0));

    carried(&target, &abort("1.2")).await;
    assert_eq!(active().await, blue);
    let image = "/spec/template/spec/containers/0/image";
    field(&shop, basket, image, json!("registry.example/basket:v1")).await;
    target.release(fence("1.3")).await.unwrap();
}
