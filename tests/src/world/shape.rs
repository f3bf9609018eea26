//! What carries the traffic, and what stands around it: an HTTPRoute, a VirtualService, or a Service whose selector
//! is flipped. One enum, so that one story can be told of each.

use serde_json::{Value, json};

use super::WorldOptions;
use super::manifests::{
    ARGO_BLUE_GREEN, ARGO_CANARY, ARGO_ROLLOUT, DESTINATION_RULE, HASH, HTTP_ROUTE, POOL_GROUP, ROUTE,
    VIRTUAL_SERVICE, by_subset, deployment, deployment_config, of_shop, pool_group, service,
};

/// Which kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    #[default]
    HttpRoute,
    VirtualService,
    /// The same with one host, whose DestinationRule has the versions as subsets.
    Subsets,
    /// Blue and green behind one Service.
    Service,
    /// An Argo Rollout in front of a VirtualService that Argo's controller writes. What is watched is the VirtualService; the
    /// canary begins with [`Shape::next`].
    ArgoRollout,
    /// An Argo Rollout that is blue and green. What is watched is the active Service.
    ArgoBlueGreen,
    /// Two Deployments behind one Service and no router. The canary is called `checkout`, since its size is the weight.
    Replicas,
    /// Avi's pool group in an annotation of the Service `checkout`. The versions change roles with every release.
    PoolGroup,
    /// An OpenShift Route in front of two DeploymentConfigs, whose controller the rig plays.
    Route,
}

impl Shape {
    /// A merge patch: a Rollout's template becomes this version's.
    pub fn next(version: &str) -> String {
        json!({"spec": {"template": {"metadata": {"labels": {"version": version}},
            "spec": {"containers": [{"name": "app", "image": format!("registry.example/checkout:{version}")}]}}}})
        .to_string()
    }

    /// The label of pods by which a router tells the versions: its values are [`Shape::backends`]' names.
    pub fn version_label(self) -> &'static str {
        match self {
            Shape::HttpRoute
            | Shape::VirtualService
            | Shape::Subsets
            | Shape::Service
            | Shape::PoolGroup
            | Shape::Route
            | Shape::ArgoRollout => "app",
            Shape::ArgoBlueGreen => HASH,
            Shape::Replicas => "shop",
        }
    }

    /// As `kubectl get` names it.
    pub fn resource(self) -> &'static str {
        match self {
            Shape::HttpRoute => "httproute",
            Shape::VirtualService | Shape::Subsets | Shape::ArgoRollout => "virtualservice",
            Shape::Service | Shape::PoolGroup | Shape::ArgoBlueGreen => "service",
            Shape::Replicas => "deployment",
            Shape::Route => "routes.route.openshift.io",
        }
    }

    /// The API's path of all such objects of a namespace.
    pub fn path(self, namespace: &str) -> String {
        match self {
            Shape::HttpRoute => {
                format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes")
            }
            Shape::VirtualService | Shape::Subsets | Shape::ArgoRollout => {
                format!("/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices")
            }
            Shape::Service | Shape::PoolGroup | Shape::ArgoBlueGreen => {
                format!("/api/v1/namespaces/{namespace}/services")
            }
            Shape::Replicas => format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
            Shape::Route => format!("/apis/route.openshift.io/v1/namespaces/{namespace}/routes"),
        }
    }

    /// Everything in the shop's namespace.
    pub(super) fn objects(self, options: &WorldOptions) -> String {
        let labels: Vec<String> =
            options.canary_labels.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let route = match self {
            Shape::HttpRoute => HTTP_ROUTE.to_owned(),
            Shape::VirtualService | Shape::ArgoRollout => VIRTUAL_SERVICE.to_owned(),
            Shape::Subsets => by_subset(),
            Shape::Service => service("checkout", self.stable_name()),
            Shape::ArgoBlueGreen | Shape::Replicas => of_shop("checkout"),
            Shape::Route => ROUTE.to_owned(),
            Shape::PoolGroup => service("checkout", "checkout").replace(
                "metadata: {name: checkout}",
                &format!(
                    "metadata: {{name: checkout, annotations: {{{POOL_GROUP}: '{}'}}}}",
                    pool_group(0, 1)
                ),
            ),
        };
        let others = match self {
            // The controller narrows both down to a version each.
            Shape::ArgoRollout => ["checkout", "checkout-canary"].map(of_shop).join("\n---\n"),
            Shape::ArgoBlueGreen => of_shop("checkout-preview"),
            Shape::HttpRoute | Shape::VirtualService | Shape::Route => {
                [service("checkout", "checkout"), service("checkout-canary", "checkout-canary")]
                    .join("\n---\n")
            }
            Shape::Subsets => [service("checkout", "checkout"), DESTINATION_RULE.to_owned()].join("\n---\n"),
            Shape::Service => service("checkout-preview", self.canary_name()),
            Shape::PoolGroup => service("checkout-canary", "checkout-canary"),
            Shape::Replicas => String::new(),
        };
        let pods = match self {
            Shape::ArgoRollout => format!("{ARGO_ROLLOUT}{ARGO_CANARY}"),
            Shape::ArgoBlueGreen => format!("{ARGO_ROLLOUT}{ARGO_BLUE_GREEN}"),
            Shape::HttpRoute | Shape::VirtualService | Shape::Subsets | Shape::Service | Shape::PoolGroup => {
                [
                    deployment(self.stable_name(), "v1", 3, ""),
                    deployment(self.canary_name(), "v2", options.canary_replicas, &labels.join(", ")),
                ]
                .join("\n---\n")
            }
            Shape::Route => [
                deployment_config(self.stable_name(), "v1", 3),
                deployment_config(self.canary_name(), "v2", options.canary_replicas),
            ]
            .join("\n---\n"),
            Shape::Replicas => [
                deployment(self.stable_name(), "v1", 3, "shop: checkout"),
                deployment(self.canary_name(), "v2", options.canary_replicas, "shop: checkout"),
            ]
            .join("\n---\n"),
        };
        [pods, others, route].join("\n---\n")
    }

    /// The stable Deployment, and the label `app` of its pods.
    pub fn stable_name(self) -> &'static str {
        match self {
            Shape::HttpRoute
            | Shape::VirtualService
            | Shape::Subsets
            | Shape::ArgoRollout
            | Shape::ArgoBlueGreen
            | Shape::Route
            | Shape::PoolGroup => "checkout",
            Shape::Service => "checkout-blue",
            Shape::Replicas => "checkout-main",
        }
    }

    /// The canary Deployment, and the label `app` of its pods.
    pub fn canary_name(self) -> &'static str {
        match self {
            Shape::HttpRoute
            | Shape::VirtualService
            | Shape::Subsets
            | Shape::ArgoRollout
            | Shape::Route
            | Shape::PoolGroup => "checkout-canary",
            Shape::Service => "checkout-green",
            Shape::ArgoBlueGreen => "checkout-preview",
            Shape::Replicas => "checkout",
        }
    }

    pub fn stable_label(self) -> (&'static str, &'static str) {
        ("app", self.stable_name())
    }

    pub fn canary_label(self) -> (&'static str, &'static str) {
        ("app", self.canary_name())
    }

    /// The policy's `target`.
    pub fn target(self) -> Value {
        let pair = json!({"name": "checkout", "stable": self.stable_name(), "canary": self.canary_name()});
        match self {
            Shape::HttpRoute => json!({"httpRoute": pair}),
            Shape::VirtualService => json!({"virtualService": pair}),
            Shape::Subsets => json!({"virtualService": {"name": "checkout", "host": "checkout",
                "stable": "stable", "canary": "canary"}}),
            Shape::ArgoRollout | Shape::ArgoBlueGreen => json!({"argoRollout": pair}),
            Shape::PoolGroup => json!({"aviPoolGroup": pair}),
            Shape::Route => json!({"openShiftRoute": pair}),
            Shape::Replicas => json!({"replicas": {"service": "checkout"}}),
            Shape::Service => json!({"service": {"name": "checkout",
                "stable": {"app": self.stable_name()}, "canary": {"app": self.canary_name()}}}),
        }
    }

    /// The policy's `workloads`.
    pub fn workloads(self) -> Value {
        let promote = match self {
            Shape::HttpRoute | Shape::VirtualService | Shape::Subsets | Shape::Route | Shape::Replicas => {
                "copyTemplate"
            }
            Shape::Service | Shape::PoolGroup => "swap",
            // It runs both versions itself.
            Shape::ArgoRollout | Shape::ArgoBlueGreen => return Value::Null,
        };
        let kind = if self == Shape::Route { "deploymentConfig" } else { "deployment" };
        json!({"stable": {kind: self.stable_name()}, "canary": {kind: self.canary_name()},
            "promote": promote, "scaleDownDelay": "1s"})
    }

    /// What such a target asks of the rest of the policy.
    pub(super) fn spec(self) -> Value {
        match self {
            Shape::HttpRoute | Shape::VirtualService | Shape::Subsets | Shape::PoolGroup | Shape::Route => {
                json!({})
            }
            Shape::ArgoRollout => {
                json!({"metrics": {"prometheus": {"labels": {"by": "rollouts_pod_template_hash"}}}})
            }
            Shape::ArgoBlueGreen => json!({"steps": [], "bake": {"for": "3s", "holdback": "0%"},
                "metrics": {"prometheus": {"labels": {"by": "rollouts_pod_template_hash"}}},
                "analysis": {"slo": {"errors": "2%"}}}),
            Shape::Service => json!({"steps": [], "bake": {"for": "3s", "holdback": "0%"},
                "analysis": {"slo": {"errors": "2%"}}}),
            // One and three pods beside stable's three.
            Shape::Replicas => json!({"steps": [{"weight": 25}], "bake": {"for": "3s", "holdback": "50%"}}),
        }
    }

    /// Each backend's Service (or, for a flip, the pods' label `app`) with its weight, as a router reads them.
    pub fn backends(self, object: &Value) -> Vec<(String, u64)> {
        let list =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self {
            Shape::HttpRoute => list("/spec/rules/0/backendRefs")
                .iter()
                .map(|backend| (name(&backend["name"]), backend["weight"].as_u64().unwrap_or(1)))
                .collect(),
            // A subset's pods are labelled with its Deployment's name.
            Shape::Subsets => list("/spec/http/0/route")
                .iter()
                .map(|route| {
                    let of_canary = route["destination"]["subset"] == "canary";
                    let app = if of_canary { self.canary_name() } else { self.stable_name() };
                    (app.to_owned(), route["weight"].as_u64().unwrap_or(0))
                })
                .collect(),
            Shape::VirtualService | Shape::ArgoRollout => list("/spec/http/0/route")
                .iter()
                .map(|route| (name(&route["destination"]["host"]), route["weight"].as_u64().unwrap_or(0)))
                .collect(),
            Shape::Service | Shape::ArgoBlueGreen => {
                vec![(name(&object["spec"]["selector"][self.version_label()]), 1)]
            }
            Shape::PoolGroup => {
                let text = object["metadata"]["annotations"][POOL_GROUP].as_str().unwrap_or_default();
                let group: Value = serde_json::from_str(text).unwrap_or_default();
                let ratio = |at: usize| group["poolgroup"]["members"][at]["ratio"].as_u64().unwrap_or(0);
                vec![("checkout".to_owned(), ratio(0)), ("checkout-canary".to_owned(), ratio(1))]
            }
            Shape::Route => list("/spec/alternateBackends")
                .iter()
                .chain([&object["spec"]["to"]])
                .map(|backend| (name(&backend["name"]), backend["weight"].as_u64().unwrap_or(100)))
                .collect(),
            // The Service sends to all its pods alike.
            Shape::Replicas => vec![("checkout".to_owned(), 1)],
        }
    }

    /// A JSON Patch that writes the pair's weights in the first rule.
    pub fn weights_patch(self, canary: u32, stable: u32) -> Value {
        let add = |path: &str, weight: u32| json!({"op": "add", "path": path, "value": weight});
        match self {
            Shape::HttpRoute => json!([
                add("/spec/rules/0/backendRefs/0/weight", stable),
                add("/spec/rules/0/backendRefs/2/weight", canary),
                add("/spec/rules/2/backendRefs/0/weight", stable),
                add("/spec/rules/2/backendRefs/1/weight", canary)
            ]),
            Shape::VirtualService | Shape::Subsets | Shape::ArgoRollout => {
                json!([
                    add("/spec/http/0/route/0/weight", stable),
                    add("/spec/http/0/route/1/weight", canary)
                ])
            }
            Shape::PoolGroup => json!([{"op": "add", "path": "/metadata/annotations/avi_proxy",
                "value": pool_group(canary.into(), stable.into())}]),
            Shape::Replicas => json!([add("/spec/replicas", canary)]),
            Shape::Route => {
                json!([add("/spec/to/weight", stable), add("/spec/alternateBackends/0/weight", canary)])
            }
            // The selector is Argo's controller's.
            Shape::ArgoBlueGreen => json!([]),
            Shape::Service => {
                let name = if canary > stable { self.canary_name() } else { self.stable_name() };
                json!([{"op": "add", "path": "/spec/selector/app", "value": name}])
            }
        }
    }

    /// The object with the pair's weights taken out: what must never change.
    pub fn without_weights(self, object: &Value) -> Value {
        let mut object = object.clone();
        let pair = [self.stable_name(), self.canary_name()];
        let ours = |backend: &Value| backend["name"].as_str().is_some_and(|name| pair.contains(&name));
        match self {
            Shape::HttpRoute => each(&mut object, "/spec/rules", |rule| {
                each(rule, "/backendRefs", |backend| drop_if(backend, ours, "weight"));
            }),
            Shape::VirtualService | Shape::Subsets | Shape::ArgoRollout => {
                each(&mut object, "/spec/http", |http| {
                    each(http, "/route", |route| {
                        let of_pair = |route: &Value| {
                            let host = route["destination"]["host"].as_str();
                            host.is_some_and(|host| pair.contains(&host))
                        };
                        drop_if(route, of_pair, "weight");
                    });
                })
            }
            Shape::Service | Shape::ArgoBlueGreen => {
                drop_if(&mut object["spec"]["selector"], |_| true, self.version_label());
            }
            Shape::Replicas => drop_if(&mut object["spec"], |_| true, "replicas"),
            Shape::Route => {
                drop_if(&mut object["spec"]["to"], ours, "weight");
                each(&mut object, "/spec/alternateBackends", |backend| drop_if(backend, ours, "weight"));
            }
            Shape::PoolGroup => {
                let ratios: Vec<u64> = self.backends(&object).into_iter().map(|(_, ratio)| ratio).collect();
                let text = object.pointer_mut("/metadata/annotations/avi_proxy");
                // Byte for byte: with these ratios the text has to be the one that its owner wrote.
                if let Some(text) = text.filter(|text| **text == pool_group(ratios[1], ratios[0])) {
                    *text = json!("as its owner wrote it");
                }
            }
        }
        object
    }

    /// The canary's part of the pair, in percent.
    pub fn canary_percent(self, object: &Value) -> Option<f64> {
        if self == Shape::Replicas {
            // Beside stable's three.
            let pods = object["spec"]["replicas"].as_f64()?;
            return Some(100.0 * pods / (3.0 + pods));
        }
        let backends = self.backends(object);
        let of =
            |wanted: &str| backends.iter().find(|(name, _)| name == wanted).map_or(0, |(_, weight)| *weight);
        let (stable, canary) = (of(self.stable_name()), of(self.canary_name()));
        (stable + canary > 0).then(|| canary as f64 * 100.0 / (stable + canary) as f64)
    }
}

fn each(object: &mut Value, pointer: &str, change: impl FnMut(&mut Value)) {
    let list = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten().for_each(change);
}

fn drop_if(object: &mut Value, wanted: impl Fn(&Value) -> bool, field: &str) {
    if wanted(object)
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove(field);
    }
}
