//! What this crate starts can be started from a spawned task too.

use std::time::Duration;

use sluice_rig::{
    Alertmanager, Haproxy, Inbox, Kube, Nats, NatsOptions, Prometheus, PrometheusOptions, Service,
};

fn sendable<T: Send>(_: T) {}

/// Compiles, or not; nothing is run.
#[expect(dead_code, reason = "only its types are checked")]
fn futures_are_send(
    prometheus: &'static Prometheus,
    alertmanager: &'static Alertmanager,
    kube: &'static Kube,
) {
    sendable(Nats::start(NatsOptions::default()));
    sendable(Prometheus::start(PrometheusOptions::default()));
    sendable(prometheus.wait_until_up(1, Duration::ZERO));
    sendable(alertmanager.wait_until_firing(&[("a", "b")], Duration::ZERO));
    sendable(Haproxy::start(Default::default()));
    sendable(Inbox::start());
    sendable(Kube::shared());
    sendable(kube.watch("/"));
    sendable(Service::start("v1", "a"));
}

#[test]
fn a_client_is_made_without_a_server() {
    assert!(sluice_rig::http::client().is_ok());
}
