//! Real servers for tests, each started in a moment on a free loopback port with a folder of its own.
//!
//! ```text
//! nats nats_cluster prometheus alertmanager haproxy kube contour envoy openshift deployment_configs argo toxiproxy
//!        │                                                     one file per server, all alike:
//!        │                                                     options -> start() -> what a test asks of it
//!     server      a program that was started, is ready, and ends with the test
//!        │
//!  binaries ports folder wait http                             what every server leans on
//!
//! service fleet load inbox      a pod, the pods that a cluster says are running, requests, and a webhook's receiver
//! netns                         a network of its own, in which pods' addresses are real
//! ```
//!
//! What holds for all of them:
//! - `start` comes back when the server itself says that it is ready, or fails with the tail of its log.
//! - A missing binary is an error that says what to run. Nothing is skipped.
//! - Everything listens on loopback. Nothing outlives the test process, however it ends.
//! - A test that holds no server runs none: this crate does nothing by itself.

pub mod alertmanager;
pub mod argo;
pub mod binaries;
pub mod contour;
pub mod deployment_configs;
pub mod envoy;
pub mod fleet;
pub mod folder;
pub mod haproxy;
pub mod http;
pub mod inbox;
pub mod kube;
pub mod load;
pub mod nats;
pub mod nats_auth;
pub mod nats_cluster;
pub mod netns;
pub mod openshift;
pub mod page;
pub mod ports;
pub mod prometheus;
mod protobuf;
pub mod server;
pub mod service;
pub mod tls;
pub mod toxiproxy;
pub mod wait;

pub use alertmanager::{Alertmanager, AlertmanagerOptions};
pub use argo::ArgoRollouts;
pub use contour::{Contour, ContourOptions};
pub use deployment_configs::DeploymentConfigs;
pub use envoy::Envoy;
pub use fleet::Fleet;
pub use haproxy::{Haproxy, HaproxyOptions};
pub use inbox::Inbox;
pub use kube::{Kube, KubeOptions};
pub use load::Load;
pub use nats::{Nats, NatsOptions};
pub use nats_cluster::NatsCluster;
pub use openshift::OpenShiftRouter;
pub use prometheus::{Prometheus, PrometheusOptions};
pub use server::Server;
pub use service::Service;
pub use toxiproxy::Toxiproxy;
