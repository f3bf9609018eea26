//! What outlives the daemon's process, on the embedded bus with its file.

use serde_json::json;
use sluice_rig::inbox::Inbox;
use sluice_rig::ports::Port;

use super::site::Site;

#[tokio::test]
async fn an_alert_that_nobody_heard_of_before_the_daemon_died_is_told_by_the_next_one() {
    let mut site = Site::closed().await;
    let on_call = Inbox::start().await.unwrap();
    on_call.answer_with(503, "").unwrap();
    let nobody = Port::free().unwrap();
    site.policy("checkout", |spec| {
        let metrics = format!("http://{}/metrics", nobody.address());
        spec["metrics"] = json!({"scrape": {"stable": [metrics], "canary": [metrics]}});
        spec["alerts"] = json!([{"webhook": {"url": on_call.url("/on-call")}}]);
        spec["limits"] = json!({"troubleAfter": "1s"});
        spec["gates"] = json!([]);
    });
    site.open().await;
    assert_eq!(site.sluice("start shop/checkout --version v2").await.code, 0);
    site.until(|| async { !on_call.letters().is_empty() }).await;
    let aborted = site.sluice("abort shop/checkout --reason enough").await;
    assert_eq!(aborted.code, 0, "{aborted:?}");
    assert_eq!(site.phase("shop/checkout").await, "failed", "the alert is over, and was told to nobody");
    // Before it is saved it is nothing that outlives the process.
    site.until_said("history shop/checkout", |ran| ran.out.contains("enough")).await;
    site.stop().await;

    let before = on_call.letters().len();
    on_call.answer_with(200, "").unwrap();
    site.open().await;
    let news = || async {
        on_call.letters()[before..].iter().any(|letter| letter.body.contains("over by now, was up from"))
    };
    site.until(news).await;
}
