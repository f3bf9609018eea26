//! The demo's four releases come out as they should, on the real daemon, and so do their decision records.
#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

use std::{path::Path, sync::Arc, time::Duration};

use sluice::{
    control::Control,
    demo::tour::{ACTS, Pace, Tour},
    http::{HttpOptions, serve},
};
use tokio::{net::TcpListener, process::Command};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn every_release_of_the_demo_comes_out_as_it_should_and_its_record_replays() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tour = Tour::start(Pace { step: Duration::from_secs(3), requests: 200 }).await.unwrap();
    let endings = tour
        .play(|view| {
            println!(
                "{} {} {} {} | {}",
                view.rollout,
                view.phase,
                view.weight,
                view.reason,
                view.waits_for.clone().unwrap_or_default()
            )
        })
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let server = open(tour.control(), &shutdown).await;
    for act in ACTS {
        recorded(&server, act.name).await;
    }
    shutdown.cancel();
    tour.stop().await;
    for ending in &endings {
        println!("{}", serde_json::to_string(ending).unwrap());
    }
    assert!(endings.iter().all(|ending| ending.is_as_expected()), "{endings:#?}");
}

/// The same door as `sluice run` has.
async fn open(control: Arc<dyn Control>, shutdown: &CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, control, HttpOptions::default(), shutdown.clone()));
    format!("http://{address}")
}

/// Exported and replayed as a person would, from the daemon and from the file; a file with one count changed does not
/// come out.
async fn recorded(server: &str, name: &str) {
    let rollout = format!("demo/{name}@v2");
    let (code, record) = sluice(server, &["record", &rollout]).await;
    assert_eq!(code, Some(0), "{record}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    std::fs::write(&file, &record).unwrap();
    for of in [rollout.as_str(), path(&file)] {
        let (code, said) = sluice(server, &["replay", of]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("the same, bit for bit") && said.contains(&rollout), "{said}");
    }
    let (_, explained) = sluice(server, &["explain", &rollout]).await;
    assert!(explained.contains("aborts at"), "what an ended rollout was judged by: {explained}");
    let changed = record.replacen(r#""requests":"#, r#""requests":1"#, 1);
    assert_ne!(changed, record, "no window stands in the record");
    std::fs::write(&file, changed).unwrap();
    let (code, said) = sluice(server, &["replay", path(&file), "-o", "json"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(r#""result":"different""#), "{said}");
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

async fn sluice(server: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = command.args(args).args(["--server", server]).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}
