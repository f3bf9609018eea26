//! Every router that has a page in `docs/targets`, with that page's object, policy and rights, against its project's CRD: opened,
//! closed, fenced, written back by GitOps, put back. Two numbers change, and nothing else.

use serde_json::Value;
use sluice_rig::page::Page;
use sluice_traffic::TargetError;
use sluice_wire::policy::Policy;

use crate::shop::{Shop, abort, fence, has_percent, owners, seen, up, weight};

/// What a page is expected to come to.
struct Expected {
    /// As `kubectl get` names the object.
    object: &'static str,
    /// Pointers to what changes in it, in order.
    changes: &'static [&'static str],
    /// The numbers at 5 % and at 50 %.
    written: [&'static str; 2],
}

async fn shop(page: &Page, label: &str) -> Shop {
    let shop = Shop::with_routers(label).await;
    shop.bind("sluice-workloads").await;
    shop.bind(&page.role).await;
    shop.apply(&page.objects).await;
    shop
}

async fn story(name: &str, expected: Expected) {
    let page = Page::read(name).unwrap();
    let shop = shop(&page, name).await;
    let policy = Policy::parse(name, page.policy.as_bytes()).unwrap();
    let before = owners(shop.get(expected.object).await);
    let target = shop.target(&policy.spec.target).await;
    let steps: Vec<_> = policy.spec.steps.iter().map(|step| step.weight).collect();
    target.check(&steps).await.unwrap();
    let mut states = target.watch();
    seen(&mut states, "the object at rest", has_percent(0.0)).await;

    for (wanted, written) in [up(5.0, "1.1"), up(50.0, "1.2")].into_iter().zip(expected.written) {
        let read = target.apply(&wanted).await.unwrap();
        assert_eq!((read.canary, read.written.as_str()), (wanted.weight, written));
        let now = owners(shop.get(expected.object).await);
        assert_eq!(changes(&before, &now, ""), expected.changes, "{now:#}");
    }
    let late = target.apply(&up(60.0, "1.1")).await;
    assert!(matches!(late, Err(TargetError::Fenced { .. })), "a former owner's write: {late:?}");

    seen(&mut states, "our write", has_percent(50.0)).await;
    shop.apply(&page.objects).await;
    seen(&mut states, "that a GitOps tool wrote it back", has_percent(0.0)).await;
    target.observe().await.unwrap();
    target.apply(&up(50.0, "1.3")).await.unwrap();

    let closed = target.apply(&abort("1.4")).await.unwrap();
    assert_eq!(closed.canary, weight(0.0));
    assert_eq!(closed.abort.unwrap().reason, "errors 4 % over 1 %");
    target.release(fence("1.5")).await.unwrap();
    assert_eq!(owners(shop.get(expected.object).await), before, "the original is back");
}

/// Pointers to all that differs.
fn changes(before: &Value, now: &Value, at: &str) -> Vec<String> {
    match (before, now) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let below = |key: &String| {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                changes(&before[key], &now[key], &format!("{at}/{escaped}"))
            };
            keys.into_iter().flat_map(below).collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let pairs = one.iter().zip(other).enumerate();
            pairs.flat_map(|(index, (one, other))| changes(one, other, &format!("{at}/{index}"))).collect()
        }
        (one, other) if one == other => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

#[tokio::test]
async fn affinity_of_the_owners_survives_and_is_told_where_it_keeps_sessions_with_a_version() {
    let page = Page::read("traefik-service").unwrap();
    let shop = shop(&page, "sticky").await;
    let policy = Policy::parse("traefik-service", page.policy.as_bytes()).unwrap();
    let target = shop.target(&policy.spec.target).await;
    target.check(&[weight(5.0)]).await.unwrap();
    assert_eq!(target.warnings(), Vec::<String>::new());

    let sticky = serde_json::json!({"cookie": {"name": "version"}});
    let patch = serde_json::json!({"spec": {"weighted": {"sticky": sticky}}});
    shop.edit("traefikservice/checkout", &patch.to_string()).await;
    target.check(&[weight(5.0)]).await.unwrap();
    let told = target.warnings();
    assert!(
        told.len() == 1 && told[0].starts_with("spec.weighted.sticky keeps sessions with the version"),
        "{told:?}"
    );
    target.apply(&up(5.0, "1.1")).await.unwrap();
    target.apply(&abort("1.2")).await.unwrap();
    target.release(fence("1.3")).await.unwrap();
    let kept = shop.get("traefikservice/checkout").await["spec"]["weighted"]["sticky"].clone();
    assert_eq!(kept, sticky, "as its owner wrote it");
}

macro_rules! routers {
    ($($test:ident: $page:literal, $object:literal, [$($change:literal),*], $five:literal, $fifty:literal;)*) => {
        $(#[tokio::test]
        async fn $test() {
            story($page, Expected { object: $object, changes: &[$($change),*], written: [$five, $fifty] }).await;
        })*

        #[test]
        fn every_page_is_told() {
            // Those have stories of their own: a controller writes the weights, there are none, or pods are the weight.
            let apart = ["argo-rollout", "in-place", "replicas"].map(str::to_owned);
            let mut told = [&apart[..], &[$($page.to_owned()),*]].concat();
            told.sort();
            assert_eq!(Page::names().unwrap(), told);
        }
    };
}

routers! {
    http_route: "http-route", "httproute/checkout",
        ["/spec/rules/0/backendRefs/0/weight", "/spec/rules/0/backendRefs/1/weight"], "500/9500", "5000/5000";
    grpc_route: "grpc-route", "grpcroute/checkout",
        ["/spec/rules/0/backendRefs/0/weight", "/spec/rules/0/backendRefs/1/weight"], "500/9500", "5000/5000";
    tls_route: "tls-route", "tlsroute/checkout",
        ["/spec/rules/0/backendRefs/0/weight", "/spec/rules/0/backendRefs/1/weight"], "500/9500", "5000/5000";
    tcp_route: "tcp-route", "tcproute/checkout",
        ["/spec/rules/0/backendRefs/0/weight", "/spec/rules/0/backendRefs/1/weight"], "500/9500", "5000/5000";
    virtual_service: "virtual-service", "virtualservice/checkout",
        ["/spec/http/0/route/0/weight", "/spec/http/0/route/1/weight"], "5/95", "50/50";
    virtual_service_by_subset: "virtual-service-subset", "virtualservice/checkout",
        ["/spec/http/0/route/0/weight", "/spec/http/0/route/1/weight"], "5/95", "50/50";
    openshift_route: "openshift-route", "routes.route.openshift.io/checkout",
        ["/spec/alternateBackends/0/weight", "/spec/to/weight"], "5/95", "50/50";
    avi_pool_group: "avi-pool-group", "service/avisvca", ["/metadata/annotations/avi_proxy"], "1/19", "1/1";
    http_proxy: "http-proxy", "httpproxy/checkout",
        ["/spec/routes/0/services/0/weight", "/spec/routes/0/services/1/weight"], "5/95", "50/50";
    traefik_service: "traefik-service", "traefikservice/checkout",
        ["/spec/weighted/services/0/weight", "/spec/weighted/services/1/weight"], "5/95", "50/50";
    traffic_split: "traffic-split", "trafficsplit/checkout",
        ["/spec/backends/0/weight", "/spec/backends/1/weight"], "5/95", "50/50";
    nginx_ingress: "nginx-ingress", "ingress/checkout-canary",
        ["/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight"], "50/950", "500/500";
    alb_ingress: "alb-ingress", "ingress/checkout",
        ["/metadata/annotations/alb.ingress.kubernetes.io~1actions.shop"], "5/95", "50/50";
    apisix_route: "apisix-route", "apisixroute/checkout",
        ["/spec/http/0/backends/0/weight", "/spec/http/0/backends/1/weight"], "5/95", "50/50";
    route_table: "route-table", "routetable/checkout",
        ["/spec/routes/0/routeAction/multi/destinations/0/weight", "/spec/routes/0/routeAction/multi/destinations/1/weight"],
        "5/95", "50/50";
    mesh_http_route: "mesh-http-route", "meshhttproute/checkout",
        ["/spec/to/0/rules/0/default/backendRefs/0/weight", "/spec/to/0/rules/0/default/backendRefs/1/weight"],
        "5/95", "50/50";
    mapping: "mapping", "mapping/checkout-canary", ["/spec/weight"], "5/95", "50/50";
    skipper_ingress: "skipper-ingress", "ingress/checkout",
        ["/metadata/annotations/zalando.org~1backend-weights"], "5/95", "50/50";
    knative_service: "knative-service", "services.serving.knative.dev/checkout",
        ["/spec/traffic/0/percent", "/spec/traffic/1/percent"], "5/95", "50/50";
}
