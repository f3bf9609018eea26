//! The objects of a shop, as their owner writes them.

/// Beside the pair: a third backend with a share of its own, filters, another rule, a rule whose weight is absent,
/// annotations and labels of somebody else.
pub(super) const HTTP_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: checkout, labels: {team: shop}, annotations: {example.com/owner: payments}}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [shop.example]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}, headers: [{name: tenant, value: beta}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: via, value: gateway}]}}]
    timeouts: {request: 10s}
    backendRefs:
    - {name: checkout, port: 80, weight: 100}
    - {name: legacy, port: 80, weight: 10}
    - {name: checkout-canary, port: 80, weight: 0}
  - matches: [{path: {type: PathPrefix, value: /static}}]
    backendRefs: [{name: static, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs:
    - {name: checkout, port: 80}
    - {name: checkout-canary, port: 80, weight: 0}
";

pub(super) const VIRTUAL_SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: checkout, labels: {team: shop}, annotations: {example.com/owner: payments}}
spec:
  hosts: [shop.example]
  http:
  - name: main
    match: [{uri: {prefix: /}}]
    retries: {attempts: 2}
    route:
    - {destination: {host: checkout, port: {number: 80}}, weight: 100, headers: {request: {set: {via: mesh}}}}
    - {destination: {host: checkout-canary, port: {number: 80}}, weight: 0}
  - name: static
    match: [{uri: {prefix: /static}}]
    route: [{destination: {host: static}}]
";

/// By this Argo's controller tells versions, and Services select one.
pub(super) const HASH: &str = "rollouts-pod-template-hash";

pub(super) const ARGO_ROLLOUT: &str = "
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: checkout}
spec:
  replicas: 3
  selector: {matchLabels: {shop: checkout}}
  template:
    metadata: {labels: {shop: checkout, version: v1}}
    spec: {containers: [{name: app, image: 'registry.example/checkout:v1'}]}
  strategy:
";

/// `app` tells a version's pods by the name of its Service, as the router does.
pub(super) const ARGO_CANARY: &str = "    canary:
      stableService: checkout
      canaryService: checkout-canary
      stableMetadata: {labels: {app: checkout}}
      canaryMetadata: {labels: {app: checkout-canary}}
      scaleDownDelaySeconds: 2
      trafficRouting: {istio: {virtualService: {name: checkout, routes: [main]}}}
      steps: [{pause: {}}, {setWeight: 10}, {pause: {}}, {setWeight: 25}, {pause: {}}, {setWeight: 50}, {pause: {}}, {setWeight: 90}, {pause: {}}]
";

pub(super) const ARGO_BLUE_GREEN: &str = "    blueGreen:
      activeService: checkout
      previewService: checkout-preview
      activeMetadata: {labels: {app: checkout}}
      previewMetadata: {labels: {app: checkout-preview}}
      autoPromotionEnabled: false
      scaleDownDelaySeconds: 60
";

/// Avi's annotation. Its members are `checkout` and `checkout-canary`, in this order.
pub(super) const POOL_GROUP: &str = "avi_proxy";

pub(super) fn pool_group(canary: u64, stable: u64) -> String {
    format!(
        "{{\"virtualservice\": {{\"east_west_placement\": true}}, \"poolgroup\": {{\"members\": [\
         {{\"ratio\": {stable}, \"pool_ref\": \"/api/pool/?name=checkout-pool-http-tcp\", \"x\": 1.50}}, \
         {{\"pool_ref\": \"/api/pool/?name=checkout-canary-pool-http-tcp\", \"ratio\":{canary}}}]}}}}"
    )
}

pub(super) fn deployment(name: &str, version: &str, replicas: u32, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  template:
    metadata: {{labels: {{app: {name}, version: {version}{more}}}}}
    spec: {{containers: [{{name: app, image: 'registry.example/checkout:{version}'}}]}}
"
    )
}

pub(super) const ROUTE: &str = "
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: checkout, labels: {team: shop}, annotations: {haproxy.router.openshift.io/timeout: 10s}}
spec:
  host: shop.example
  port: {targetPort: 80}
  to: {kind: Service, name: checkout, weight: 100}
  alternateBackends: [{kind: Service, name: checkout-canary, weight: 0}]
";

/// Written out as OpenShift's API server keeps it: the CRD of the tests fills no defaults in.
pub(super) fn deployment_config(name: &str, version: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps.openshift.io/v1
kind: DeploymentConfig
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{app: {name}}}
  triggers: [{{type: ConfigChange}}]
  strategy: {{type: Rolling, rollingParams: {{timeoutSeconds: 600}}}}
  template:
    metadata: {{labels: {{app: {name}, version: {version}}}}}
    spec:
      containers:
      - {{name: app, image: 'registry.example/checkout:{version}', imagePullPolicy: IfNotPresent, resources: {{}},
          terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File}}
      dnsPolicy: ClusterFirst
      restartPolicy: Always
      schedulerName: default-scheduler
      securityContext: {{}}
      terminationGracePeriodSeconds: 30
"
    )
}

pub(super) fn service(name: &str, app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {app}}}, ports: [{{port: 80}}]}}\n"
    )
}

/// A Service of all versions' pods, until a controller narrows it down to one.
pub(super) fn of_shop(name: &str) -> String {
    service(name, "all").replace("app: all", "shop: checkout")
}

/// The VirtualService with both versions behind one host.
pub(super) fn by_subset() -> String {
    VIRTUAL_SERVICE
        .replace("host: checkout,", "host: checkout, subset: stable,")
        .replace("host: checkout-canary,", "host: checkout, subset: canary,")
}

pub(super) const DESTINATION_RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: checkout}
spec:
  host: checkout
  subsets:
  - {name: stable, labels: {app: checkout}}
  - {name: canary, labels: {app: checkout-canary}}
";
