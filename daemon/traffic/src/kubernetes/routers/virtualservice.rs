//! Istio: `spec.http[i].route[j].weight` of a VirtualService, and the same under `spec.tls` and `spec.tcp`.
//!
//! A weight there is a proportion, and 0 where it is not written and there are several destinations
//! (<https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRouteDestination>). Whole percents are written
//! with a total of 100, which every version of Istio takes (older ones insist on it); finer ones with a total of 10,000.
//! Destinations are known by host, short or in full, or as subsets of one host; matches and destinations that are not ours stay
//! as they are.

use sluice_wire::policy::{Protocol, VirtualService};

use crate::kubernetes::arm::{Arm, Mark};
use crate::kubernetes::document::Source;
use crate::kubernetes::object::KindName;
use crate::kubernetes::weighted::{Choice, Pattern, StableArm, Weighted, percent_or_finer, requires_nothing};

const VIRTUAL_SERVICE: KindName = KindName {
    group: "networking.istio.io",
    version: "v1",
    kind: "VirtualService",
    plural: "virtualservices",
    kubectl: "virtualservices.networking.istio.io",
    short: "virtualservice",
};

const HOST: Pattern = &["destination", "host"];
const SUBSET: Pattern = &["destination", "subset"];

pub(crate) fn describe(service: &VirtualService) -> Weighted {
    Weighted {
        kind: VIRTUAL_SERVICE,
        word: "virtualService",
        source: Source::Object,
        rules: match service.protocol {
            Protocol::Http => &[&["spec", "http", "*"]],
            Protocol::Tls => &[&["spec", "tls", "*"]],
            Protocol::Tcp => &[&["spec", "tcp", "*"]],
        },
        backends: &[&["route", "*"]],
        not_a_backend: None,
        weight: &[&["weight"]],
        absent: Some(0),
        total: percent_or_finer,
        identity: &[HOST, SUBSET, &["destination", "port"]],
        stable: StableArm::Backend(arm(service, &service.stable)),
        canary: arm(service, &service.canary),
        choice: Choice::only_or(&service.routes, "routes"),
        tell_apart: "give each version a host of its own, or say target.virtualService.host and name its subsets",
        requires: requires_nothing,
        door: None,
    }
}

fn arm(service: &VirtualService, name: &str) -> Arm {
    match &service.host {
        None => Arm {
            called: format!("destination with host {name}"),
            marks: vec![Mark::Host(HOST, name.to_owned())],
        },
        Some(host) => Arm {
            called: format!("destination with host {host} and subset {name}"),
            marks: vec![Mark::Host(HOST, host.clone()), Mark::Field(SUBSET, name.into())],
        },
    }
}
