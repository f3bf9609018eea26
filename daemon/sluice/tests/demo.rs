//! The demo's four releases come out as they should, on the real daemon.

use std::time::Duration;

use sluice::demo::tour::{Pace, Tour};

#[tokio::test(flavor = "multi_thread")]
async fn every_release_of_the_demo_comes_out_as_it_should() {
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
    tour.stop().await;
    for ending in &endings {
        println!("{}", serde_json::to_string(ending).unwrap());
    }
    assert!(endings.iter().all(|ending| ending.is_as_expected()), "{endings:#?}");
}
