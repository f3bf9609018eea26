//! What needs no HAProxy: names, addresses, the ledger.

use sluice_rollout::{RolloutId, Weight};
use sluice_wire::policy;

use super::*;

fn config(socket: &str) -> policy::Haproxy {
    policy::Haproxy {
        socket: socket.into(),
        backend: "app".into(),
        stable: vec!["stable".into()],
        canary: vec!["canary".into()],
    }
}

fn wanted(rollout: &str, percent: f64, fence: &str) -> Wanted {
    Wanted {
        rollout: RolloutId::new("shop", "checkout", rollout).unwrap(),
        weight: Weight::from_percent(percent).unwrap(),
        fence: fence.parse().unwrap(),
        abort: (percent == 0.0).then(|| "slow".to_owned()),
        rising: percent > 0.0,
    }
}

#[test]
fn a_socket_is_a_path_or_a_port_on_loopback() {
    assert!(matches!(address("/run/haproxy/admin.sock"), Ok(Address::Unix(_))));
    assert!(matches!(address("127.0.0.1:9999"), Ok(Address::Tcp(_))));
    for bad in ["192.0.2.1:9999", "admin", "127.0.0.1"] {
        let error = address(bad).unwrap_err().to_string();
        assert!(error.contains("target.haproxy.socket") && error.contains("/run/haproxy"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_would_be_another_command_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock").display().to_string();
    let backend = policy::Haproxy { backend: "app; shutdown frontend x".into(), ..config(&socket) };
    let server = policy::Haproxy { canary: vec!["a\nset server".into()], ..config(&socket) };
    let both = policy::Haproxy { canary: vec!["stable".into()], ..config(&socket) };
    let none = policy::Haproxy { canary: Vec::new(), ..config(&socket) };
    for bad in [backend, server, both, none] {
        assert!(matches!(connect(&bad).await, Err(TargetError::NotAsNeeded(_))), "{bad:?} was taken");
    }
}

#[tokio::test]
async fn a_missing_socket_says_what_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let target = connect(&config(&folder.path().join("admin.sock").display().to_string())).await.unwrap();
    let error = target.observe().await.unwrap_err();
    assert!(error.retryable() && error.to_string().contains("stats socket"), "{error}");
}

#[test]
fn fences_and_the_aborts_mark_outlive_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("admin.sock"));
    let first = Ledger::open(&address).unwrap();
    first.keep("app", Entry::default().after(&wanted("v2", 0.0, "2.7"))).unwrap();
    drop(first);

    let entry = Ledger::open(&address).unwrap().entry("app");
    assert!(matches!(entry.admit(&wanted("v2", 5.0, "2.6")), Err(TargetError::Fenced { .. })));
    assert!(matches!(entry.admit(&wanted("v2", 5.0, "3.1")), Err(TargetError::Refused(_))), "it was aborted");
    assert_eq!(entry.admit(&wanted("v2", 0.0, "2.7")), Ok(()), "the same write again");
    assert_eq!(entry.admit(&wanted("v3", 5.0, "3.1")), Ok(()), "the next attempt");
    assert_eq!(entry.after(&wanted("v3", 5.0, "3.1")).abort, None);
}

#[test]
fn within_a_daemon_two_targets_share_one_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("admin.sock"));
    let (one, other) = (Ledger::open(&address).unwrap(), Ledger::open(&address).unwrap());
    one.keep("app", Entry::default().after(&wanted("v2", 5.0, "2.7"))).unwrap();
    assert_eq!(other.entry("app").fence, Some("2.7".parse().unwrap()));
}

#[test]
fn another_daemons_haproxy_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(folder.path().join("admin.sock.sluice.lock")).unwrap();
    lock.lock().unwrap();
    let error = Ledger::open(&Address::Unix(folder.path().join("admin.sock"))).unwrap_err().to_string();
    assert!(error.contains("another daemon"), "{error}");
}
