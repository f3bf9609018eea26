//! Every target and workload on real servers: kube-apiserver with etcd, controllers and fake pods, and HAProxy.
//! `cargo test -p sluice-traffic --features real`; a missing server fails and says what to run.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]

mod argo;
mod configs;
mod haproxy;
mod httproute;
mod jobs;
mod openshift;
mod replacing;
mod replicas;
mod routers;
mod selector;
mod shop;
mod virtualservice;
mod watches;
mod workloads;
