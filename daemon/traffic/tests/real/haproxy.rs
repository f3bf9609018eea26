use std::net::SocketAddr;

use sluice_rig::{Haproxy, HaproxyOptions};
use sluice_traffic::TargetError;
use sluice_wire::policy;

use crate::shop::{abort, failed, fence, has_percent, seen, up, weight};

/// Nobody answers there; only weights are looked at.
fn nobody() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

async fn haproxy() -> Haproxy {
    Haproxy::start(HaproxyOptions::stable_and_canary(nobody(), nobody())).await.unwrap()
}

fn config(haproxy: &Haproxy) -> policy::Haproxy {
    policy::Haproxy {
        socket: haproxy.socket().display().to_string(),
        backend: Haproxy::BACKEND.into(),
        stable: vec!["stable".into()],
        canary: vec!["canary".into()],
    }
}

async fn connect(config: policy::Haproxy) -> std::sync::Arc<dyn sluice_traffic::Target> {
    sluice_rig::http::install_crypto();
    let clients = sluice_traffic::Clients::new(None).unwrap();
    sluice_traffic::connect(
        &policy::Target::Haproxy(config),
        None,
        &policy::Workloads::default(),
        "shop",
        &clients,
    )
    .await
    .unwrap()
}

async fn weights(haproxy: &Haproxy) -> (u16, u16) {
    (haproxy.weight("canary").await.unwrap(), haproxy.weight("stable").await.unwrap())
}

#[tokio::test]
async fn opens_and_closes() {
    let haproxy = haproxy().await;
    let target = connect(config(&haproxy)).await;
    assert!(matches!(target.check(&[weight(0.1)]).await, Err(TargetError::TooFine { .. })));
    target.check(&[weight(0.4), weight(5.0), weight(50.0)]).await.unwrap();
    for (wanted, numbers) in [
        (up(5.0, "1.1"), (13, 247)),
        (up(50.0, "1.2"), (256, 256)),
        (abort("1.3"), (0, 256)),
        (up(0.0, "1.4"), (0, 256)),
    ] {
        // The last one is no rise, whatever it says: nothing is refused that goes to 0.
        let wanted = sluice_traffic::Wanted { rising: !wanted.weight.is_zero(), ..wanted };
        let read = target.apply(&wanted).await.unwrap();
        assert_eq!((read.canary, read.fence), (wanted.weight, Some(wanted.fence)));
        assert_eq!(weights(&haproxy).await, numbers);
    }
    assert!(target.observe().await.unwrap().abort.is_some());
    assert!(matches!(target.apply(&up(5.0, "1.2")).await, Err(TargetError::Fenced { .. })));
    assert!(
        matches!(target.apply(&up(5.0, "1.5")).await, Err(TargetError::Refused(_))),
        "aborted is aborted"
    );
    assert_eq!(target.release(fence("1.6")).await.unwrap().abort, None);
}

#[tokio::test]
async fn weights_lost_at_a_restart_or_set_by_hand_are_seen() {
    let mut haproxy = haproxy().await;
    let target = connect(config(&haproxy)).await;
    let mut states = target.watch();
    target.apply(&up(5.0, "1.1")).await.unwrap();
    seen(&mut states, "our write", has_percent(5.0)).await;
    haproxy.set_weight("canary", 256).await.unwrap();
    seen(&mut states, "a weight set by hand", |observed| observed.canary > weight(50.0)).await;
    haproxy.server.kill();
    assert!(failed(&mut states, "that HAProxy is gone").await.retryable());
    haproxy.server.start_again().await.unwrap();
    let lost = seen(&mut states, "the configured weights", has_percent(0.0)).await;
    assert_eq!(lost.fence, Some(fence("1.1")), "the fence is ours and stays");
    assert_eq!(target.apply(&up(5.0, "1.2")).await.unwrap().canary, weight(5.0));
}

#[tokio::test]
async fn haproxys_own_words_are_told() {
    let haproxy = haproxy().await;
    let no_backend = policy::Haproxy { backend: "nowhere".into(), ..config(&haproxy) };
    let no_server = policy::Haproxy { canary: vec!["nobody".into()], ..config(&haproxy) };
    for (config, word) in [(no_backend, "No such backend"), (no_server, "No such server")] {
        let error = connect(config).await.observe().await.unwrap_err();
        let text = error.to_string();
        assert!(!error.retryable() && text.contains(word) && text.contains("socat"), "{text}");
    }
}

#[tokio::test]
async fn a_socket_that_may_only_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("user.sock").display().to_string();
    let more = format!("global\n  stats socket {socket} mode 600 level user\n");
    let options = HaproxyOptions { more, ..HaproxyOptions::stable_and_canary(nobody(), nobody()) };
    let haproxy = Haproxy::start(options).await.unwrap();
    let error = connect(policy::Haproxy { socket, ..config(&haproxy) })
        .await
        .apply(&up(5.0, "1.1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("level admin"), "{error}");
}

#[tokio::test]
async fn several_servers_of_a_version_share_its_weight() {
    let arm = |name: &str| sluice_rig::haproxy::Arm { name: name.into(), address: nobody(), weight: 100 };
    let servers = ["s1", "s2", "s3", "c1"].map(arm).to_vec();
    let haproxy = Haproxy::start(HaproxyOptions { servers, ..HaproxyOptions::default() }).await.unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let target = connect(policy::Haproxy {
        stable: names(&["s1", "s2", "s3"]),
        canary: names(&["c1"]),
        ..config(&haproxy)
    })
    .await;
    let read = target.apply(&up(25.0, "1.1")).await.unwrap();
    assert_eq!((read.canary, read.written.as_str()), (weight(25.0), "256/256+256+256"));
    target.apply(&abort("1.2")).await.unwrap();
    assert_eq!(haproxy.weight("c1").await.unwrap(), 0);
}
