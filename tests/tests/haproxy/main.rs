//! Two systemd services behind HAProxy, no Kubernetes, no NATS, no Prometheus: the daemon keeps its own bus in a file and
//! scrapes the services itself, and HAProxy carries real requests all the while. Some stories read what the services or
//! HAProxy's own exporter show through Prometheus instead.
//!
//! A story opens a [`shop`], lets a daemon watch it, and says what must come of it: the weights as HAProxy's own
//! `get weight` told them, the requests as the services counted them, the history, the events, the exit code.
//! `cargo test -p sluice-tests --features real --test haproxy`; a missing server fails and says what to run.

mod bad_input;
mod boundaries;
mod cluster;
mod crashes;
mod disk;
mod exporter;
mod hands;
mod house;
mod people;
mod prometheus;
mod releases;
mod shop;
mod split;
