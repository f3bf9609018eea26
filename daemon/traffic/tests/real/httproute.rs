use std::time::Duration;

use serde_json::{Value, json};
use sluice_traffic::TargetError;
use sluice_wire::policy;

use crate::shop::{LIMIT, Shop, abort, failed, fence, has_percent, owners, seen, up, weight};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: checkout, labels: {team: shop}}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [shop.example]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}, headers: [{name: a, value: b}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: via, value: gateway}]}}]
    backendRefs:
    - {name: checkout, port: 80, weight: 100}
    - {name: legacy, port: 80, weight: 0}
    - {name: checkout-canary, port: 80, weight: 0}
  - matches: [{path: {type: PathPrefix, value: /static}}]
    backendRefs: [{name: static, port: 80}]
";

const CANARY: &str = "/spec/rules/0/backendRefs/2/weight";

fn config() -> policy::Target {
    policy::Target::HttpRoute(policy::RuleRoute {
        name: "checkout".into(),
        namespace: None,
        stable: "checkout".into(),
        canary: "checkout-canary".into(),
        port: None,
        rules: Vec::new(),
    })
}

async fn shop(label: &str) -> Shop {
    let shop = Shop::open(label).await;
    shop.apply(ROUTE).await;
    shop
}

#[tokio::test]
async fn opens_and_closes_and_changes_nothing_else() {
    let shop = shop("route").await;
    let path = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes", shop.namespace);
    let watch = shop.kube.watch(&path).await.unwrap();
    let before = owners(shop.get("httproute/checkout").await);
    let target = shop.target(&config()).await;
    target.check(&[weight(0.01), weight(5.0), weight(50.0)]).await.unwrap();

    for (wanted, canary) in [(up(5.0, "1.1"), 500), (up(50.0, "1.2"), 5_000), (abort("1.3"), 0)] {
        let read = target.apply(&wanted).await.unwrap();
        assert_eq!((read.canary, read.fence), (wanted.weight, Some(wanted.fence)));
        let mut expected = before.clone();
        expected["spec"]["rules"][0]["backendRefs"][2]["weight"] = json!(canary);
        expected["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(10_000 - canary);
        assert_eq!(owners(shop.get("httproute/checkout").await), expected);
    }
    let mark = target.observe().await.unwrap().abort.unwrap();
    assert_eq!((mark.rollout.as_str(), mark.reason.as_str()), ("shop/checkout@v2", "errors 4 % over 1 %"));

    target.release(fence("1.4")).await.unwrap();
    assert_eq!(owners(shop.get("httproute/checkout").await), before, "the original is back");
    watch
        .wait_for("the last write", LIMIT, |seen| {
            seen.object["metadata"]["annotations"]["sluice.dev/fence"] == "1.4"
        })
        .await
        .unwrap();
    assert_eq!(watch.values("checkout", CANARY), [json!(0), json!(500), json!(5_000), json!(0)]);
}

#[tokio::test]
async fn one_write_is_one_patch_once_the_object_has_been_seen() {
    let shop = shop("patches").await;
    let target = shop.target(&config()).await;
    target.observe().await.unwrap();
    let mark = shop.kube.audit.mark().unwrap();
    target.apply(&up(5.0, "1.1")).await.unwrap();
    target.apply(&abort("1.2")).await.unwrap();
    let writes = shop.kube.audit.by("sluice", &shop.namespace, mark).unwrap();
    assert_eq!(
        writes.iter().map(|write| (write.verb.as_str(), write.code)).collect::<Vec<_>>(),
        [("patch", 200); 2]
    );
    assert!(
        writes[1]
            .body
            .as_array()
            .unwrap()
            .iter()
            .all(|operation| operation["path"] != "/metadata/resourceVersion")
    );
}

#[tokio::test]
async fn a_former_owners_late_write_is_refused_by_the_server() {
    let shop = shop("fenced").await;
    let (former, owner) = (shop.target(&config()).await, shop.target(&config()).await);
    former.apply(&up(5.0, "1.7")).await.unwrap();
    owner.apply(&up(10.0, "2.1")).await.unwrap();
    // It has seen nothing of that: only the test in its patch can stop it.
    let late = TargetError::Fenced { found: fence("2.1"), ours: fence("1.8") };
    assert_eq!(former.apply(&up(50.0, "1.8")).await, Err(late.clone()));
    assert_eq!(former.apply(&abort("1.8")).await, Err(late));
    assert_eq!(owner.observe().await.unwrap().canary, weight(10.0));
}

#[tokio::test]
async fn going_down_nothing_stands_in_the_way_and_going_up_a_change_does() {
    let shop = shop("stale").await;
    let target = shop.target(&config()).await;
    target.observe().await.unwrap();
    shop.edit("httproute/checkout", r#"{"metadata":{"annotations":{"note":"mine"}}}"#).await;
    target.apply(&abort("1.1")).await.unwrap();
    assert_eq!(shop.get("httproute/checkout").await["metadata"]["annotations"]["note"], "mine");

    shop.edit("httproute/checkout", r#"{"spec":{"hostnames":["other.example"]}}"#).await;
    let next = |number| sluice_traffic::Wanted {
        rollout: sluice_rollout::RolloutId::new("shop", "checkout", "v3").unwrap(),
        ..up(5.0, number)
    };
    assert!(matches!(target.apply(&next("1.2")).await, Err(TargetError::Changed(_))));
    target.observe().await.unwrap();
    assert_eq!(target.apply(&next("1.2")).await.unwrap().canary, weight(5.0));

    // A controller's status moves nothing that counts.
    let status = json!({"status": {"parents": [{"parentRef": {"name": "gateway"}, "controllerName": "example.com/c", "conditions": [
        {"type": "Accepted", "status": "False", "reason": "NoMatchingParent", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]}]}});
    shop.kubectl(&[
        "patch",
        "httproute/checkout",
        "--subresource=status",
        "--type=merge",
        "--patch",
        &status.to_string(),
    ])
    .await;
    target.apply(&next("1.3")).await.unwrap();
}

#[tokio::test]
async fn an_object_that_was_replaced_is_noticed_and_can_be_closed_at_once() {
    let shop = shop("replaced").await;
    let target = shop.target(&config()).await;
    target.apply(&up(5.0, "1.1")).await.unwrap();
    shop.kubectl(&["delete", "httproute/checkout"]).await;
    shop.apply(ROUTE).await;
    assert!(matches!(target.apply(&up(10.0, "1.2")).await, Err(TargetError::Changed(_))));
    shop.kubectl(&["delete", "httproute/checkout"]).await;
    shop.apply(ROUTE).await;
    assert_eq!(target.apply(&abort("1.3")).await.unwrap().canary, weight(0.0));
}

#[tokio::test]
async fn a_gitops_tool_that_writes_the_old_weights_back_is_seen_at_once() {
    let shop = shop("gitops").await;
    shop.kube.allow_everything("gitops").await.unwrap();
    let target = shop.target(&config()).await;
    let mut states = target.watch();
    seen(&mut states, "the present state", has_percent(0.0)).await;
    target.apply(&up(5.0, "1.1")).await.unwrap();
    seen(&mut states, "our own write", has_percent(5.0)).await;
    shop.kube.apply_as("gitops", &shop.namespace, ROUTE).await.unwrap();
    let back = seen(&mut states, "the old weights", has_percent(0.0)).await;
    assert_eq!(
        (back.written.as_str(), back.fence),
        ("0/100", Some(fence("1.1"))),
        "our fence is none of its fields"
    );
    shop.kubectl(&["delete", "httproute/checkout"]).await;
    assert!(failed(&mut states, "the deletion").await.to_string().contains("does not exist"));
    shop.apply(ROUTE).await;
    seen(&mut states, "the new object", |observed| observed.fence.is_none()).await;
}

#[tokio::test]
async fn a_third_backend_survives_byte_for_byte() {
    let shop = shop("third").await;
    shop.apply(&ROUTE.replace("{name: legacy, port: 80, weight: 0}", "{name: legacy, port: 80, weight: 11}"))
        .await;
    let legacy = |object: Value| object["spec"]["rules"][0]["backendRefs"][1].to_string();
    let before = legacy(shop.get("httproute/checkout").await);
    let target = shop.target(&config()).await;
    assert!(matches!(target.check(&[weight(0.5)]).await, Err(TargetError::TooFine { .. })));
    for wanted in [up(5.0, "1.1"), up(50.0, "1.2"), abort("1.3")] {
        target.apply(&wanted).await.unwrap();
        assert_eq!(legacy(shop.get("httproute/checkout").await), before);
    }
}

#[tokio::test]
async fn refusals_say_what_and_where_and_change_nothing() {
    let shop = shop("refused").await;
    let target = shop.target(&config()).await;
    target.observe().await.unwrap();
    forbid_canary_weights(&shop).await;
    let mut states = target.watch();
    // The policy takes effect a moment after it is there.
    let mut numbers = 1..;
    let denied = loop {
        let number = format!("1.{}", numbers.next().unwrap());
        if let Err(error) = target.apply(&up(50.0, &number)).await {
            break error;
        }
    };
    let TargetError::Refused(words) = &denied else { panic!("{denied:?}") };
    assert!(words.contains("no canary today") && words.contains("kubectl"), "{words}");
    seen(&mut states, "what stands there", |_| true).await;

    let missing = policy::RuleRoute { name: "nowhere".into(), ..http_route() };
    let error =
        shop.target(&policy::Target::HttpRoute(missing)).await.observe().await.unwrap_err().to_string();
    assert!(error.contains("nowhere does not exist") && error.contains("kubectl -n"), "{error}");

    let lonely = policy::RuleRoute { canary: "checkout-next".into(), ..http_route() };
    let error = shop
        .target(&policy::Target::HttpRoute(lonely))
        .await
        .check(&[weight(5.0)])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("backend checkout-next") && error.contains("spec.rules"), "{error}");
}

fn http_route() -> policy::RuleRoute {
    let policy::Target::HttpRoute(route) = config() else { unreachable!() };
    route
}

async fn forbid_canary_weights(shop: &Shop) {
    let namespace = &shop.namespace;
    let rule = format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {namespace}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
    resourceRules: [{{apiGroups: [gateway.networking.k8s.io], apiVersions: [v1], operations: [UPDATE], resources: [httproutes]}}]
  validations:
  - {{expression: 'object.spec.rules[0].backendRefs[2].weight == 0', message: no canary today}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {namespace}}}
spec: {{policyName: {namespace}, validationActions: [Deny]}}
"
    );
    shop.apply(&rule).await;
}

#[tokio::test]
async fn without_the_right_to_patch_the_servers_words_are_told() {
    let shop = shop("rights").await;
    shop.kubectl(&["delete", "rolebinding/sluice"]).await;
    shop.may_patch("httproutes.gateway.networking.k8s.io", false).await;
    let error = shop.target(&config()).await.observe().await.unwrap_err();
    assert!(
        matches!(&error, TargetError::Refused(words) if words.contains("cannot get resource")),
        "{error}"
    );
    let mut states = shop.target(&config()).await.watch();
    assert!(failed(&mut states, "the missing right").await.to_string().contains("cannot list resource"));
    shop.apply(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: sluice}, \
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: sluice}, \
         subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: sluice}]}",
    )
    .await;
    seen(&mut states, "the route, once it may be seen", |_| true).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_one_attempt() {
    let shop = shop("silent").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config_of_nobody = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], \
         users: [{{name: u, user: {{}}}}], contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}",
        listener.local_addr().unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, config_of_nobody).unwrap();
    let attempt = Duration::from_millis(200);
    let clients = sluice_traffic::Clients::new(Some(file)).unwrap().with_attempt(attempt);
    let target =
        sluice_traffic::connect(&config(), None, &policy::Workloads::default(), &shop.namespace, &clients)
            .await
            .unwrap();
    assert_eq!(target.apply(&abort("1.1")).await, Err(TargetError::Timeout(attempt)));
    drop(listener);
    assert!(target.apply(&abort("1.1")).await.unwrap_err().retryable());
}
