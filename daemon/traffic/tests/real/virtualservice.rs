use serde_json::json;
use sluice_wire::policy;

use crate::shop::{Shop, abort, fence, has_percent, owners, seen, up, weight};

const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: checkout}
spec:
  hosts: [shop.example]
  http:
  - name: main
    retries: {attempts: 3}
    route:
    - destination: {host: checkout, port: {number: 80}}
    - destination: {host: canary.example.svc.cluster.local}
      headers: {response: {add: {version: two}}}
      weight: 0
    - destination: {host: stranger.example.com}
      weight: 0
";

fn config() -> policy::Target {
    policy::Target::VirtualService(policy::VirtualService {
        name: "checkout".into(),
        namespace: None,
        stable: "checkout".into(),
        canary: "canary.example.svc.cluster.local".into(),
        host: None,
        protocol: policy::Protocol::Http,
        routes: Vec::new(),
    })
}

#[tokio::test]
async fn opens_and_closes_and_changes_nothing_else() {
    let shop = Shop::open("istio").await;
    shop.apply(&SERVICE.replace(
        "host: checkout, port: {number: 80}}",
        "host: checkout, port: {number: 80}}\n      weight: 100",
    ))
    .await;
    let before = owners(shop.get("virtualservice/checkout").await);
    let target = shop.target(&config()).await;
    target.check(&[weight(0.1), weight(50.0)]).await.unwrap();
    let mut states = target.watch();
    for (wanted, canary, stable) in [
        (up(5.0, "1.1"), 5, 95),
        (up(0.1, "1.2"), 10, 9_990),
        (up(50.0, "1.3"), 50, 50),
        (abort("1.4"), 0, 100),
    ] {
        assert_eq!(target.apply(&wanted).await.unwrap().canary, wanted.weight);
        let mut expected = before.clone();
        expected["spec"]["http"][0]["route"][1]["weight"] = json!(canary);
        expected["spec"]["http"][0]["route"][0]["weight"] = json!(stable);
        assert_eq!(owners(shop.get("virtualservice/checkout").await), expected);
        seen(&mut states, "our write", has_percent(wanted.weight.percent())).await;
    }
    assert!(matches!(target.apply(&up(5.0, "1.1")).await, Err(sluice_traffic::TargetError::Fenced { .. })));
    target.release(fence("1.5")).await.unwrap();
    assert_eq!(owners(shop.get("virtualservice/checkout").await), before);
}

#[tokio::test]
async fn weights_that_nobody_wrote_are_not_all_zero() {
    let shop = Shop::open("unweighted").await;
    shop.apply(SERVICE).await;
    let target = shop.target(&config()).await;
    let error = target.observe().await.unwrap_err().to_string();
    assert!(error.contains("both backends have weight 0") && error.contains("spec.http[0]"), "{error}");
    assert_eq!(
        target.apply(&abort("1.1")).await.unwrap().canary,
        weight(0.0),
        "it can be closed all the same"
    );
}
