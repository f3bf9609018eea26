//! The one list of targets.

use std::sync::Arc;

use sluice_rollout::Weight;
use sluice_wire::policy::{self, NameValue, Testers};

use crate::kubernetes::routers::{
    alb, ambassador, apisix, avi, contour, gateway, gloo, knative, kuma, nginx, openshift, skipper, smi,
    traefik, virtualservice,
};
use crate::kubernetes::testers::{Door, Form as TestersForm};
use crate::kubernetes::{KubeTarget, names, object::Object, selector, weighted::Weighted};
use crate::openshift::OpenShiftRoute;
use crate::{Clients, Target, TargetError, Unfit, argo, haproxy, in_place, webhook};

/// How a target is worked with.
enum Form<'a> {
    /// Integers in a Kubernetes object.
    Router(Box<Weighted>),
    Flip(&'a policy::ServiceFlip),
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
        policy::Target::ArgoRollout(rollout) => return Form::ArgoRollout(rollout),
        policy::Target::InPlace(config) => return Form::InPlace(config),
        policy::Target::Haproxy(config) => return Form::Haproxy(config),
        policy::Target::Webhook(config) => return Form::Webhook(config),
    };
    Form::Router(Box::new(router))
}

/// The policy's target, ready to be asked. Reads nothing from it yet: `check` and `observe` do.
/// `namespace`: the policy's own, for targets that name none.
pub async fn connect(
    target: &policy::Target,
    testers: Option<&Testers>,
    namespace: &str,
    clients: &Clients,
) -> Result<Arc<dyn Target>, TargetError> {
    Ok(match form(target) {
        Form::Router(router) => {
            let router = Weighted { door: door(target, testers)?, ..*router };
            let router = connect_router(router, target, namespace, clients).await?;
            if let policy::Target::OpenShiftRoute(route) = target {
                return Ok(Arc::new(OpenShiftRoute::new(router, route, clients)));
            }
            Arc::new(router)
        }
        Form::Flip(flip) => Arc::new(selector::connect(flip, namespace, clients).await?),
        Form::ArgoRollout(rollout) => Arc::new(argo::connect(rollout, namespace, clients).await?),
        Form::InPlace(config) => Arc::new(in_place::connect(config, namespace, clients).await?),
        Form::Haproxy(config) => Arc::new(haproxy::connect(config).await?),
        Form::Webhook(config) => Arc::new(webhook::connect(config, clients)?),
    })
}

async fn connect_router(
    router: Weighted,
    target: &policy::Target,
    namespace: &str,
    clients: &Clients,
) -> Result<KubeTarget<Weighted>, TargetError> {
    let Some(name) = target.object() else {
        return Err(TargetError::NotAsNeeded(format!("target.{} names no object", router.word)));
    };
    let namespace = name.namespace.unwrap_or(namespace);
    let object = Object::connect(clients, &router.kind, namespace, name.name).await?;
    Ok(KubeTarget::new(router, object))
}

/// What is wrong with the block itself, and which of the policy's weights it can never express. Nothing outside is asked.
pub fn check(target: &policy::Target, testers: Option<&Testers>, weights: &[Weight]) -> Vec<Unfit> {
    let mut unfit = check_block(target, weights);
    unfit.extend(door(target, testers).err());
    unfit
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
        | policy::Target::ArgoRollout(_)
        | policy::Target::Haproxy(_)
        | policy::Target::InPlace(_)
        | policy::Target::Webhook(_) => None,
    }
}

fn check_block(target: &policy::Target, weights: &[Weight]) -> Vec<Unfit> {
    match form(target) {
        Form::Router(router) => check_router(&router, target, weights),
        Form::Flip(flip) => selector::check(flip),
        Form::ArgoRollout(rollout) => argo::check(rollout),
        Form::InPlace(config) => in_place::check(config),
        Form::Haproxy(config) => haproxy::check(config, weights),
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
