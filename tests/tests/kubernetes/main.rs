//! Releases on a real control plane, Prometheus, Alertmanager and NATS, told as stories of one shop each.
//!
//! The weights are those that the API server's watch has told, in order; alerts are those that Alertmanager itself has
//! notified of; exit codes are those of the real program.

mod again;
mod argo;
mod backends;
mod boundaries;
mod clusters;
mod daemons;
mod good;
mod harm;
mod input;
mod lifecycle;
mod older;
mod openshift;
mod outages;
mod outside;
mod people;
mod pipeline;
mod policies;
mod shapes;
mod triggers;
mod worse;
