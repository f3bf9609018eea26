//! Watches that rollouts share, as the API server's audit log tells of them.

use std::sync::Arc;

use futures::stream::BoxStream;
use sluice_traffic::{Clients, Observed, Target, TargetError};
use sluice_wire::policy;

use crate::shop::{Shop, failed, fence, has_percent, seen, up, weight};

const MANY: usize = 10;

fn route(name: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, spec: {{parentRefs: \
         [{{name: gateway}}], rules: [{{backendRefs: [{{name: stable, port: 80, weight: 100}}, \
         {{name: canary, port: 80, weight: 0}}]}}]}}}}"
    )
}

fn names() -> Vec<String> {
    (0..MANY).map(|number| format!("route{number}")).collect()
}

async fn with_routes(shop: Shop) -> Shop {
    let routes: Vec<String> = names().iter().map(|name| route(name)).collect();
    shop.apply(&routes.join("\n---\n")).await;
    shop
}

type States = BoxStream<'static, Result<Observed, TargetError>>;

async fn target(shop: &Shop, clients: &Clients, name: &str) -> Arc<dyn Target> {
    let target = serde_json::json!({"httpRoute": {"name": name, "stable": "stable", "canary": "canary"}});
    let target: policy::Target = serde_json::from_value(target).unwrap();
    sluice_traffic::connect(&target, None, &policy::Workloads::default(), &shop.namespace, clients)
        .await
        .unwrap()
}

/// Every route as one daemon follows it, each seen once.
async fn followed(shop: &Shop, clients: &Clients) -> Vec<States> {
    let mut all = Vec::new();
    for name in names() {
        let mut states = target(shop, clients, &name).await.watch();
        seen(&mut states, "the present state", has_percent(0.0)).await;
        all.push(states);
    }
    all
}

/// A new weight of one is told to who follows it.
async fn hears_its_news(shop: &Shop, clients: &Clients, all: &mut [States]) {
    let wrote = target(shop, clients, "route3").await.apply(&up(5.0, "1.1")).await.unwrap();
    assert_eq!(wrote.canary, weight(5.0));
    let told = seen(&mut all[3], "the new weight", has_percent(5.0)).await;
    assert_eq!(told.fence, Some(fence("1.1")));
}

#[tokio::test]
async fn all_targets_of_a_kind_and_namespace_are_one_watch_and_each_hears_its_own_news() {
    let shop = with_routes(Shop::open("one-watch").await).await;
    let (clients, mark) = (shop.clients(), shop.kube.audit.mark().unwrap());
    let mut all = followed(&shop, &clients).await;
    let asked = shop.kube.audit.requests("sluice", &shop.namespace, mark).unwrap();
    assert!((1..=2).contains(&asked), "a listing and a watch, not {asked} requests");

    hears_its_news(&shop, &clients, &mut all).await;
    shop.kubectl(&["delete", "httproute/route4"]).await;
    let gone = failed(&mut all[4], "the deletion").await.to_string();
    assert!(gone.contains("route4 does not exist"), "{gone}");
}

#[tokio::test]
async fn where_only_some_objects_may_be_watched_each_is_watched_alone() {
    let shop = with_routes(Shop::bare("by-name").await).await;
    let named: Vec<String> = names().iter().map(|name| format!("--resource-name={name}")).collect();
    let kind = "--resource=httproutes.gateway.networking.k8s.io";
    let mut role = vec!["create", "role", "routes", "--verb=get,list,watch,patch", kind];
    role.extend(named.iter().map(String::as_str));
    shop.kubectl(&role).await;
    shop.kubectl(&["create", "rolebinding", "routes", "--role=routes", "--user=sluice"]).await;
    let clients = shop.clients();
    let mut all = followed(&shop, &clients).await;
    hears_its_news(&shop, &clients, &mut all).await;
}
