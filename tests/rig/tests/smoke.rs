//! Each real server, started and made to do one real thing. `cargo test -p sluice-rig --features real`

#[path = "smoke/kube.rs"]
mod kube;
#[path = "smoke/nats.rs"]
mod nats;
#[path = "smoke/traffic.rs"]
mod traffic;
#[path = "smoke/watching.rs"]
mod watching;
