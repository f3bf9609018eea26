//! Records of other versions of Sluice, in both stores: an older one is migrated and goes on, a newer one is left alone, byte
//! for byte, and whoever looks is told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_bus::{Bus, Doors, Embedded, Store};
use sluice_outbound::Outbound;
use sluice_rollout::{RolloutId, State, Timestamp};
use sluice_wire::record::{Charter, Owner, Saved, VERSION};

use super::{Daemon, Setup};
use crate::control::Control;

const LIMIT: Duration = Duration::from_secs(30);
/// Of this one nothing else was kept.
const GONE: &str = "open/shop/gone/v2";

fn policy(name: &str) -> String {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "target": {"webhook": {"url": "http://127.0.0.1:9/"}},
            "metrics": {"scrape": {"stable": ["http://127.0.0.1:9/"], "canary": ["http://127.0.0.1:9/"]}},
            "steps": [{"weight": 5}],
            "gates": [{"name": "somebody-says-yes", "approval": {}}],
        },
    })
    .to_string()
}

/// A rollout as a Sluice whose records have this version left it: its keys, and what its state's is.
async fn left(store: &dyn Store, name: &str, version: u32) -> Bytes {
    let id = RolloutId::new("shop", name, "v2").unwrap();
    let policy = policy(name);
    let charter = json!({
        "version": version.min(VERSION), "id": id, "release": "v2", "actor": null, "key": "ci 1",
        "policyHash": Charter::hash(&policy), "policy": policy, "announced": 1_700_000_000_000_i64,
    });
    let owner = Owner { daemon: "one".into(), incarnation: "before".into(), epoch: 3, cluster: None };
    let state = State { revision: 1, ..State::new(id.clone(), 3, Timestamp::from_millis(1_700_000_000_000)) };
    let mut saved = serde_json::to_value(Saved { version, owner, state, untold: Vec::new() }).unwrap();
    if version < VERSION {
        let state = saved["state"].as_object_mut().unwrap();
        assert!(state.remove("sizes_left").is_some() && state.remove("target_unseen").is_some());
    }
    let state = Bytes::from(saved.to_string());
    let keys: [(String, Value); 3] = [
        (format!("charter/shop/{name}/v2"), charter),
        (format!("open/shop/{name}/v2"), json!({"rollout": id, "daemon": "one"})),
        (format!("current/shop/{name}"), json!({"ids": [id], "epoch": 3})),
    ];
    for (key, value) in keys {
        store.put(&key, Bytes::from(value.to_string()), 0).await.unwrap();
    }
    store.put(&key(name), state.clone(), 0).await.unwrap();
    state
}

fn key(name: &str) -> String {
    format!("state/shop/{name}/v2")
}

async fn state(store: &dyn Store, name: &str) -> Bytes {
    store.get(&key(name)).await.unwrap().unwrap().0
}

async fn older_and_newer_records<B: Bus + Store + Doors + 'static>(bus: Arc<B>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    bus.init().await.unwrap();
    left(&*bus, "older", 1).await;
    let newer = left(&*bus, "newer", VERSION + 7).await;
    let gone = RolloutId::new("shop", "gone", "v2").unwrap();
    let gone = json!({"rollout": gone, "daemon": "one"}).to_string();
    bus.put(GONE, Bytes::from(gone), 0).await.unwrap();
    let daemon = Daemon::start(Setup {
        bus: bus.clone(),
        store: bus.clone(),
        doors: bus.clone(),
        daemon: "one".into(),
        incarnation: "now".into(),
        cluster: None,
        alone: true,
        policies: Vec::new(),
        cluster_policies: None,
        cluster_rights: crate::cluster_rights::Rights::default(),
        kubeconfig: None,
        kube_context: None,
        signers: None,
        outbound: Outbound::default(),
    })
    .await
    .unwrap();
    // The owner's first save is the recovery's.
    let goes_on = async {
        loop {
            let saved: Value = serde_json::from_slice(&state(&*bus, "older").await).unwrap();
            if saved["owner"]["incarnation"] == "now" && saved["state"]["revision"].as_u64() > Some(1) {
                return saved;
            }
            tokio::task::yield_now().await;
        }
    };
    let saved = tokio::time::timeout(LIMIT, goes_on).await.expect("the older one does not go on");
    assert_eq!((&saved["version"], &saved["state"]["sizes_left"]), (&json!(VERSION), &json!(false)));
    assert_eq!(daemon.rollout("shop", "older", None).await.unwrap().phase, "gated");

    let shown = daemon.rollouts().await.into_iter().find(|view| view.rollout.name() == "newer").unwrap();
    let said = format!("state/shop/newer/v2: version {}, and this Sluice reads up to {VERSION}", VERSION + 7);
    assert!(shown.phase == "unknown" && shown.reason.starts_with(&said), "{shown:?}");
    assert!(daemon.metrics().contains("\nsluice_rollouts_left 1\n"), "{}", daemon.metrics());
    let refused = daemon.command("ann", "shop", "newer", "abort", "k1".into(), Default::default()).await;
    assert!(!refused.accepted, "{refused:?}");
    daemon.shutdown().await;
    assert_eq!(state(&*bus, "newer").await, newer, "it is not as it was");
    assert_eq!(bus.get(GONE).await.unwrap(), None, "it is tried again for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_embedded_store() {
    older_and_newer_records(Arc::new(Embedded::in_memory().unwrap())).await;
}

#[cfg(feature = "real")]
#[tokio::test(flavor = "multi_thread")]
async fn in_jetstream() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = sluice_rig::nats::Nats::start(sluice_rig::nats::NatsOptions::latest()).await.unwrap();
    let config = sluice_bus::NatsConfig { daemon: "one".into(), ..sluice_bus::NatsConfig::at(server.url()) };
    older_and_newer_records(Arc::new(sluice_bus::Nats::connect(config).await.unwrap())).await;
}
