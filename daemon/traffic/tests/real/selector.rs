use std::collections::BTreeMap;
use std::time::Duration;

use sluice_rig::{Kube, KubeOptions};
use sluice_traffic::{Clients, Observed, TargetError};
use sluice_wire::policy;

use crate::shop::{LIMIT, Shop, abort, failed, has_percent, owners, seen, up, weight};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: checkout}
spec:
  ports: [{port: 80, targetPort: 8080}]
  selector: {app: checkout, version: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: blue}
spec:
  replicas: 2
  selector: {matchLabels: {app: checkout, version: blue}}
  template:
    metadata: {labels: {app: checkout, version: blue}}
    spec: {containers: [{name: app, image: 'checkout:1'}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: green}
spec:
  replicas: 3
  selector: {matchLabels: {app: checkout, version: green}}
  template:
    metadata: {labels: {app: checkout, version: green}}
    spec: {containers: [{name: app, image: 'checkout:2'}]}
";

fn config() -> policy::Target {
    let version = |name: &str| BTreeMap::from([("version".to_owned(), name.to_owned())]);
    policy::Target::Service(policy::ServiceFlip {
        name: "checkout".into(),
        namespace: None,
        stable: version("blue"),
        canary: version("green"),
    })
}

#[tokio::test]
async fn flips_and_flips_back_with_the_endpoints_following() {
    let shop = Shop::open("flip").await;
    shop.apply(SHOP).await;
    for version in ["blue", "green"] {
        shop.kube
            .wait(&shop.namespace, &format!("deployment/{version}"), "condition=Available", LIMIT)
            .await
            .unwrap();
    }
    let before = owners(shop.get("service/checkout").await);
    let target = shop.target(&config()).await;
    assert!(matches!(target.check(&[weight(5.0)]).await, Err(TargetError::TooFine { .. })));
    target.check(&[weight(100.0)]).await.unwrap();
    let workloads = policy::Workloads {
        stable: policy::Workload::Deployment("blue".into()),
        canary: policy::Workload::Deployment("green".into()),
        promote: policy::PromoteBy::Swap,
        ..policy::Workloads::default()
    };
    let mut endpoints = shop.workloads(&workloads, &config()).await.canary_endpoints().unwrap();
    seen(&mut endpoints, "blue's pods", |count| *count == 2).await;

    let read = target.apply(&up(100.0, "1.1")).await.unwrap();
    assert_eq!((read.canary, read.written.as_str()), (weight(100.0), "version=green"));
    assert_eq!(
        shop.get("service/checkout").await["spec"]["selector"]["app"],
        "checkout",
        "the other label stays"
    );
    seen(&mut endpoints, "green's pods", |count| *count == 3).await;
    shop.kubectl(&["scale", "deployment/green", "--replicas=0"]).await;
    seen(&mut endpoints, "that they have vanished", |count| *count == 0).await;

    assert_eq!(target.apply(&abort("1.2")).await.unwrap().canary, weight(0.0));
    seen(&mut endpoints, "blue's pods again", |count| *count == 2).await;
    assert_eq!(owners(shop.get("service/checkout").await), before);
}

#[tokio::test]
async fn a_flip_that_somebody_undoes_or_widens_is_seen() {
    let shop = Shop::open("undone").await;
    shop.apply(SHOP).await;
    let target = shop.target(&config()).await;
    let mut states = target.watch();
    target.apply(&up(100.0, "1.1")).await.unwrap();
    seen(&mut states, "our flip", has_percent(100.0)).await;
    shop.edit("service/checkout", r#"{"spec":{"selector":{"version":"blue"}}}"#).await;
    seen(&mut states, "the undone flip", has_percent(0.0)).await;
    // A stale view going up is refused by the tests on the labels: a Service has no generation.
    assert!(matches!(target.apply(&up(100.0, "1.2")).await, Err(TargetError::Changed(_))));
    let observed: Observed = target.observe().await.unwrap();
    assert_eq!(observed.fence, Some("1.1".parse().unwrap()));
    assert_eq!(target.apply(&up(100.0, "1.2")).await.unwrap().canary, weight(100.0));
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_and_its_return_is_seen() {
    let mut kube = Kube::start(KubeOptions::default()).await.unwrap();
    kube.apply("default", SHOP).await.unwrap();
    let connect = async |attempt| {
        let clients = Clients::new(Some(kube.kubeconfig(Kube::ADMIN))).unwrap().with_attempt(attempt);
        let none = policy::Workloads::default();
        sluice_traffic::connect(&config(), None, &none, "default", &clients).await.unwrap()
    };
    let (target, hasty) = (connect(LIMIT).await, connect(Duration::from_secs(2)).await);
    let mut states = target.watch();
    seen(&mut states, "the present state", has_percent(0.0)).await;
    kube.api.kill();
    let error = failed(&mut states, "that the server is gone").await;
    assert!(error.retryable(), "{error}");
    let gone = target.apply(&abort("1.1")).await.unwrap_err();
    assert!(gone.retryable(), "{gone}");
    kube.api.start_again().await.unwrap();
    target.apply(&up(100.0, "1.2")).await.unwrap();
    seen(&mut states, "our flip", has_percent(100.0)).await;
    kube.api.freeze().unwrap();
    // Threads of the server may still answer for a moment.
    while hasty.observe().await.is_ok() {}
    let frozen = hasty.apply(&abort("1.3")).await;
    assert!(matches!(frozen, Err(TargetError::Timeout(_))), "{frozen:?}");
    kube.api.thaw().unwrap();
    // The write that was not answered may have arrived; the same one again comes to the same.
    assert_eq!(target.apply(&abort("1.3")).await.unwrap().canary, weight(0.0));
}
