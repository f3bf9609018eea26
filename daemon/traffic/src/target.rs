//! The one list of targets.

use std::sync::Arc;

use sluice_rollout::Weight;
use sluice_wire::policy::{self, NameValue, Testers};

use crate::kubernetes::routers::{
    alb, ambassador, apisix, avi, contour, gateway, gloo, knative, kuma, nginx, openshift, skipper, smi,
    traefik, virtualservice,
};
use crate::kubernetes::testers::{Door, Form as TestersForm};
use crate::kubernetes::{KubeTarget, affinity, names, object::Object, selector, weighted::Weighted};
use crate::openshift::{OpenShiftRoute, RouteVersions};
use crate::workload::controller::Controller;
use crate::{Clients, Target, TargetError, Unfit, argo, haproxy, in_place, replicas, webhook};

/// How a target is worked with.
enum Form<'a> {
    /// Integers in a Kubernetes object.
    Router(Box<Weighted>),
    Flip(&'a policy::ServiceFlip),
    Replicas(&'a policy::PodShare),
    ArgoRollout(&'a policy::PlainRoute),
    InPlace(&'a policy::InPlace),
    Haproxy(&'a policy::Haproxy),
    Webhook(&'a policy::Webhook),
}

fn form(target: &policy::Target) -> Form<'_> {
    let router = match target {
        policy::Target::HttpRoute(route) => gateway::http(route),
        policy::Target::GrpcRoute(route) => gateway::grpc(route),
        policy::Target::TlsRoute(route) => gateway::tls(route),
        policy::Target::TcpRoute(route) => gateway::tcp(route),
        policy::Target::VirtualService(service) => virtualservice::describe(service),
        policy::Target::OpenShiftRoute(route) => openshift::describe(route),
        policy::Target::AviPoolGroup(group) => avi::describe(group),
        policy::Target::HttpProxy(proxy) => contour::describe(proxy),
        policy::Target::TraefikService(service) => traefik::describe(service),
        policy::Target::TrafficSplit(split) => smi::describe(split),
        policy::Target::NginxIngress(ingress) => nginx::describe(ingress),
        policy::Target::AlbIngress(ingress) => alb::describe(ingress),
        policy::Target::ApisixRoute(route) => apisix::describe(route),
        policy::Target::RouteTable(table) => gloo::describe(table),
        policy::Target::MeshHttpRoute(route) => kuma::describe(route),
        policy::Target::Mapping(mapping) => ambassador::describe(mapping),
        policy::Target::SkipperIngress(ingress) => skipper::describe(ingress),
        policy::Target::KnativeService(service) => knative::describe(service),
        policy::Target::Service(flip) => return Form::Flip(flip),
        policy::Target::Replicas(share) => return Form::Replicas(share),
        policy::Target::ArgoRollout(rollout) => return Form::ArgoRollout(rollout),
        policy::Target::InPlace(config) => return Form::InPlace(config),
        policy::Target::Haproxy(config) => return Form::Haproxy(config),
        policy::Target::Webhook(config) => return Form::Webhook(config),
    };
    Form::Router(Box::new(router))
}

/// The policy's target, ready to be asked. Reads nothing from it yet: `check` and `observe` do.
/// `workloads`: what runs the versions, where their pods are the weight. `namespace`: the policy's own, for targets that name none.
pub async fn connect(
    target: &policy::Target,
    testers: Option<&Testers>,
    workloads: &policy::Workloads,
    namespace: &str,
    clients: &Clients,
) -> Result<Arc<dyn Target>, TargetError> {
    Ok(match form(target) {
        Form::Router(router) => {
            let router = Weighted { door: door(target, testers)?, ..*router };
            let object = connect_router(&router, target, namespace, clients).await?;
            if let policy::Target::OpenShiftRoute(route) = target {
                let router = KubeTarget::new(RouteVersions::new(router, route), object);
                return Ok(Arc::new(OpenShiftRoute::new(router, route, clients)));
            }
            Arc::new(KubeTarget::new(router, object).keeping_sessions(affinity_form(target)))
        }
        Form::Flip(flip) => Arc::new(selector::connect(flip, namespace, clients).await?),
        Form::Replicas(share) => Arc::new(replicas::connect(share, workloads, namespace, clients).await?),
        Form::ArgoRollout(rollout) => Arc::new(argo::connect(rollout, namespace, clients).await?),
        Form::InPlace(config) => Arc::new(in_place::connect(config, namespace, clients).await?),
        Form::Haproxy(config) => Arc::new(haproxy::connect(config).await?),
        Form::Webhook(config) => Arc::new(webhook::connect(config, clients)?),
    })
}

async fn connect_router(
    router: &Weighted,
    target: &policy::Target,
    namespace: &str,
    clients: &Clients,
) -> Result<Object, TargetError> {
    let Some(name) = target.object() else {
        return Err(TargetError::NotAsNeeded(format!("target.{} names no object", router.word)));
    };
    let namespace = name.namespace.unwrap_or(namespace);
    Object::connect(clients, &router.kind, namespace, name.name).await
}

/// What is wrong with the block itself, and which of the policy's weights it can never express. Nothing outside is asked.
pub fn check(policy: &policy::Policy) -> Vec<Unfit> {
    let spec = &policy.spec;
    let mut unfit = check_block(spec, &weights(policy));
    unfit.extend(door(&spec.target, spec.testers.as_ref()).err());
    unfit
}

/// The steps' weights and the bake's, with the fields that they stand in.
fn weights(policy: &policy::Policy) -> Vec<(String, Weight)> {
    let machine = policy.machine();
    let steps = machine.steps.iter().enumerate();
    let steps = steps.map(|(index, step)| (format!("spec.steps[{index}].weight"), step.weight));
    steps.chain(machine.bake.map(|bake| ("spec.bake.holdback".to_owned(), bake.weight))).collect()
}

/// The fewest stable pods with which the policy's weights are shares of pods; `None` where the target is a router.
pub fn fewest_stable_pods(policy: &policy::Policy) -> Option<u32> {
    let weights: Vec<Weight> = weights(policy).into_iter().map(|(_, weight)| weight).collect();
    matches!(policy.spec.target, policy::Target::Replicas(_))
        .then(|| replicas::fewest_stable_pods(&weights))
        .flatten()
}

/// What the policy's rollouts write, as people call it: `httproute shop/checkout`. Two policies that write the same cannot run
/// a rollout at once. `None` for a webhook, which is no object.
pub fn written(policy: &policy::Policy) -> Option<String> {
    let (spec, own) = (&policy.spec, policy.metadata.namespace.as_str());
    let title = |short: &str| {
        let object = spec.target.object()?;
        Some(format!("{short} {}/{}", object.namespace.unwrap_or(own), object.name))
    };
    match form(&spec.target) {
        Form::Router(router) => title(router.kind.short),
        Form::Flip(_) => title(selector::SERVICE.short),
        Form::ArgoRollout(_) => title(argo::ROLLOUT.short),
        Form::Replicas(_) => {
            let (controller, name) = Controller::of(&spec.workloads.canary)?;
            Some(format!("{} {own}/{name}", controller.kind().short))
        }
        Form::InPlace(config) => Some(format!("pods of {own}/{}", config.name)),
        Form::Haproxy(config) => Some(format!("backend {} of HAProxy at {}", config.backend, config.socket)),
        Form::Webhook(_) => None,
    }
}

/// How the target tells testers' requests, if the policy names any.
fn door(target: &policy::Target, testers: Option<&Testers>) -> Result<Option<Door>, Unfit> {
    let Some(testers) = testers else { return Ok(None) };
    let form = testers_form(target).ok_or_else(|| Unfit {
        field: "spec.testers".to_owned(),
        why: "this target cannot tell requests by a header or cookie (docs/targets has those that can); leave it out".to_owned(),
    })?;
    if let (TestersForm::Nginx, Testers::Cookie(NameValue { value, .. })) = (form, testers)
        && value != "always"
    {
        let why = format!(
            "{value:?}: this controller knows a canary's cookie by the value always alone; write that"
        );
        return Err(Unfit { field: "spec.testers.cookie.value".to_owned(), why });
    }
    Ok(Some(Door { form, testers: testers.clone() }))
}

/// Where an owner may keep sessions with a version; other routers keep them with a pod, or elsewhere.
fn affinity_form(target: &policy::Target) -> Option<affinity::Form> {
    if let policy::Target::AlbIngress(ingress) = target {
        return Some(affinity::Form::Alb(alb::annotation_of(ingress)));
    }
    let is_gateway_api = matches!(target, policy::Target::HttpRoute(_) | policy::Target::GrpcRoute(_));
    let is_traefik = matches!(target, policy::Target::TraefikService(_));
    is_gateway_api
        .then_some(affinity::Form::GatewayApi)
        .or_else(|| is_traefik.then_some(affinity::Form::Traefik))
}

fn testers_form(target: &policy::Target) -> Option<TestersForm> {
    match target {
        policy::Target::HttpRoute(_) | policy::Target::GrpcRoute(_) => Some(TestersForm::GatewayApi),
        policy::Target::VirtualService(service) => match service.protocol {
            policy::Protocol::Http => Some(TestersForm::Istio),
            policy::Protocol::Tls | policy::Protocol::Tcp => None,
        },
        policy::Target::HttpProxy(_) => Some(TestersForm::Contour),
        policy::Target::NginxIngress(_) => Some(TestersForm::Nginx),
        policy::Target::TlsRoute(_)
        | policy::Target::TcpRoute(_)
        | policy::Target::OpenShiftRoute(_)
        | policy::Target::AviPoolGroup(_)
        | policy::Target::TraefikService(_)
        | policy::Target::TrafficSplit(_)
        | policy::Target::AlbIngress(_)
        | policy::Target::ApisixRoute(_)
        | policy::Target::RouteTable(_)
        | policy::Target::MeshHttpRoute(_)
        | policy::Target::Mapping(_)
        | policy::Target::SkipperIngress(_)
        | policy::Target::KnativeService(_)
        | policy::Target::Service(_)
        | policy::Target::Replicas(_)
        | policy::Target::ArgoRollout(_)
        | policy::Target::Haproxy(_)
        | policy::Target::InPlace(_)
        | policy::Target::Webhook(_) => None,
    }
}

fn check_block(spec: &policy::Spec, weights: &[(String, Weight)]) -> Vec<Unfit> {
    let steps: Vec<Weight> = weights.iter().take(spec.steps.len()).map(|(_, weight)| *weight).collect();
    match form(&spec.target) {
        Form::Router(router) => check_router(&router, &spec.target, &steps),
        Form::Flip(flip) => selector::check(flip),
        Form::Replicas(_) => replicas::check(&spec.workloads, weights),
        Form::ArgoRollout(rollout) => argo::check(rollout),
        Form::InPlace(config) => in_place::check(config),
        Form::Haproxy(config) => haproxy::check(config, &steps),
        Form::Webhook(config) => webhook::check(config).err().into_iter().collect(),
    }
}

fn check_router(router: &Weighted, target: &policy::Target, weights: &[Weight]) -> Vec<Unfit> {
    let (Some(object), Some(arms)) = (target.object(), target.arms()) else { return Vec::new() };
    let mut unfit = names::check(router.word, object.name, object.namespace, arms);
    let finer = weights.iter().filter(|weight| !router.can_ever_express(**weight));
    unfit.extend(finer.map(|weight| {
        Unfit::new(
            router.word,
            format!("{weight} is finer than its weights can be; see docs/targets for how fine"),
        )
    }));
    unfit
}
