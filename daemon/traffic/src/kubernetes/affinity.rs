//! Session affinity that a target's owner has set, as far as the object says it. Pure.
//!
//! Sluice neither sets nor removes it. Where sessions stay with the version that they began with, the weight is a share of new
//! sessions, not of requests: after a rise the canary gets less than its step, after weight 0 it still gets its sessions.

use kube::api::DynamicObject;
use serde_json::Value;

use super::decide::as_json;
use super::document::annotation_title;
use super::marks::annotation;
use super::rules::expand;
use super::weighted::Pattern;

/// How a kind of router is told to keep sessions between versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// HTTPRoute, GRPCRoute: `sessionPersistence` of a rule
    /// (<https://gateway-api.sigs.k8s.io/geps/gep-1619/>).
    GatewayApi,
    /// TraefikService: `sticky` of the weighted list; that of a single Service keeps a session with a pod, not with a version
    /// (<https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/crd/http/traefikservice/>).
    Traefik,
    /// AWS: stickiness of a forward action's target groups, in this annotation
    /// (<https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/ingress/annotations/#actions>).
    Alb(String),
}

/// What is to be said of it, once for each place that says it.
pub(crate) fn warnings(form: &Form, object: &DynamicObject) -> Vec<String> {
    places(form, object)
        .into_iter()
        .map(|place| {
            format!(
                "{place} keeps sessions with the version that they began with: the weight is a share of new sessions, so the canary gets \
                 less than its step at first, and after weight 0 its sessions stay with it until they end or its pods go (limits.drain, \
                 limits.onUndrained)"
            )
        })
        .collect()
}

fn places(form: &Form, object: &DynamicObject) -> Vec<String> {
    match form {
        Form::GatewayApi => in_object(object, &["spec", "rules", "*", "sessionPersistence"]),
        Form::Traefik => in_object(object, &["spec", "weighted", "sticky"]),
        Form::Alb(name) => {
            let action = annotation(object, name).and_then(|text| serde_json::from_str::<Value>(text).ok());
            let is_on = action.is_some_and(|action| {
                [
                    ["forwardConfig", "targetGroupStickinessConfig", "enabled"],
                    ["ForwardConfig", "TargetGroupStickinessConfig", "Enabled"],
                ]
                .iter()
                .any(|fields| fields.iter().fold(&action, |value, field| &value[*field]) == true)
            });
            is_on.then(|| annotation_title(name)).into_iter().collect()
        }
    }
}

fn in_object(object: &DynamicObject, pattern: Pattern) -> Vec<String> {
    let json = as_json(object);
    let found = expand(&json, pattern).into_iter().filter(|path| {
        let value = path.iter().fold(&json, |value, token| match token.parse::<usize>() {
            Ok(at) => &value[at],
            Err(_) => &value[token.as_str()],
        });
        !value.is_null()
    });
    found.map(|path| path.join(".")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(form: &Form, object: Value) -> Vec<String> {
        let mut object = object;
        object["metadata"]["name"] = json!("checkout");
        places(form, &serde_json::from_value(object).unwrap())
    }

    #[test]
    fn affinity_between_versions_is_told_with_its_place_and_that_of_pods_is_not() {
        let route = json!({"spec": {"rules": [{"sessionPersistence": {"type": "Cookie"}}, {}]}});
        assert_eq!(told(&Form::GatewayApi, route), ["spec.rules.0.sessionPersistence"]);
        let service = |sticky: Value| json!({"spec": {"weighted": {"services": [{"sticky": {"cookie": {}}}], "sticky": sticky}}});
        assert_eq!(
            told(&Form::Traefik, service(json!({"cookie": {"name": "lvl1"}}))),
            ["spec.weighted.sticky"]
        );
        assert!(told(&Form::Traefik, service(Value::Null)).is_empty());
    }

    #[test]
    fn stickiness_of_target_groups_is_read_as_it_is_written() {
        let name = "alb.ingress.kubernetes.io/actions.shop";
        let ingress = |text: &str| json!({"metadata": {"annotations": {name: text}}});
        let alb = Form::Alb(name.to_owned());
        let on =
            r#"{"forwardConfig":{"targetGroupStickinessConfig":{"enabled":true,"durationSeconds":200}}}"#;
        assert_eq!(told(&alb, ingress(on)), [format!("metadata.annotations[{name}]")]);
        let aws = r#"{"ForwardConfig":{"TargetGroupStickinessConfig":{"Enabled":true}}}"#;
        assert_eq!(told(&alb, ingress(aws)).len(), 1);
        assert!(told(&alb, ingress(&on.replace("true", "false"))).is_empty());
        assert!(told(&alb, ingress("no json")).is_empty());
    }
}
