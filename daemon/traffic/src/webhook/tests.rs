//! A receiver on loopback that keeps the contract, and several that do not.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Json, Router, routing};
use serde_json::{Value, json};
use sluice_outbound::Outbound;
use sluice_wire::units::Span;

use super::*;
use crate::kubernetes::tests::wanted;

/// What the receiver has, and what it was asked.
#[derive(Clone, Default)]
struct Receiver {
    state: Arc<Mutex<Value>>,
    /// The `Authorization` of each PUT.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl Receiver {
    async fn get(State(receiver): State<Receiver>) -> Json<Value> {
        Json(receiver.state.lock().unwrap().clone())
    }

    async fn put(State(receiver): State<Receiver>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let fence = text("sluice-fence").unwrap();
        receiver.asked.lock().unwrap().push(text("authorization"));
        let mut state = receiver.state.lock().unwrap();
        let held = state["fence"].as_str().map(|text| text.parse::<Fence>().unwrap());
        if held.is_some_and(|held| held > fence.parse().unwrap()) {
            return (StatusCode::CONFLICT, Json(state.clone())).into_response();
        }
        *state = body;
        StatusCode::NO_CONTENT.into_response()
    }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}/weights")
}

async fn receiver() -> (Receiver, String) {
    let receiver = Receiver::default();
    *receiver.state.lock().unwrap() = json!({"canary": 0, "stable": 100});
    let router = Router::new().route("/weights", routing::get(Receiver::get).put(Receiver::put));
    let url = serve(router.with_state(receiver.clone())).await;
    (receiver, url)
}

fn target(url: &str) -> Webhook {
    within(url, Duration::from_secs(60))
}

fn within(url: &str, limit: Duration) -> Webhook {
    target_of(&policy::Webhook { url: url.into(), token_file: None, timeout: Span(limit) }).unwrap()
}

fn target_of(config: &policy::Webhook) -> Result<Webhook, TargetError> {
    // The first of several tests installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outbound = Outbound::default().with_secrets(vec![std::env::temp_dir()]);
    connect(config, &Clients::new(None).unwrap().with_outbound(&outbound).unwrap())
}

#[tokio::test]
async fn a_rollout_through_a_receiver_that_keeps_the_contract() {
    let (receiver, url) = receiver().await;
    let target = target(&url);
    assert_eq!(target.observe().await.unwrap().canary, Weight::ZERO);
    let read = target.apply(&wanted(5.0, "1.1")).await.unwrap();
    assert_eq!(
        (read.canary.percent(), read.written.as_str(), read.fence),
        (5.0, "5/95", Some("1.1".parse().unwrap()))
    );
    let form = json!({"canary": 5.0, "stable": 95.0, "rollout": "shop/checkout@v2", "fence": "1.1"});
    assert_eq!(*receiver.state.lock().unwrap(), form);

    let late = target.apply(&wanted(0.0, "0.9")).await;
    let fenced = TargetError::Fenced { found: "1.1".parse().unwrap(), ours: "0.9".parse().unwrap() };
    assert_eq!(late, Err(fenced), "the receiver refused it");

    let abort = Wanted { abort: Some("slow".into()), ..wanted(0.0, "1.2") };
    assert_eq!(target.apply(&abort).await.unwrap().abort.unwrap().reason, "slow");
    assert!(matches!(target.apply(&wanted(5.0, "1.3")).await, Err(TargetError::Refused(_))));
    let released = target.release("1.4".parse().unwrap()).await.unwrap();
    assert_eq!((released.abort, released.fence), (None, Some("1.4".parse().unwrap())));
}

#[tokio::test]
async fn the_token_is_read_anew_each_time_and_never_shown() {
    let (receiver, url) = receiver().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let token_file = Some(file.display().to_string());
    let target = target_of(&policy::Webhook { url, token_file, timeout: Span::from_secs(60) }).unwrap();
    for token in ["first-secret", "second-secret"] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        target.apply(&wanted(0.0, "1.1")).await.unwrap();
        assert_eq!(*receiver.asked.lock().unwrap().last().unwrap(), Some(format!("Bearer {token}")));
    }
    assert!(!format!("{target:?}").contains("-secret"));
    std::fs::remove_file(&file).unwrap();
    let error = target.apply(&wanted(0.0, "1.1")).await.unwrap_err().to_string();
    assert!(error.contains("tokenFile") && error.contains("token"), "{error}");
}

#[tokio::test]
async fn answers_that_break_the_contract_are_told_apart() {
    let hangs = Router::new().route("/weights", routing::any(std::future::pending::<StatusCode>));
    let limit = Duration::from_millis(300);
    assert_eq!(within(&serve(hangs).await, limit).observe().await, Err(TargetError::Timeout(limit)));

    let leads_away = || async { Redirect::temporary("http://169.254.169.254/latest/meta-data") };
    let moved = target(&serve(Router::new().route("/weights", routing::any(leads_away))).await);
    let error = moved.apply(&wanted(0.0, "1.1")).await.unwrap_err();
    assert!(!error.retryable() && error.to_string().contains("redirects are not followed"), "{error}");

    let text = || async { ([(header::CONTENT_TYPE, "text/plain")], "hello") };
    let error = target(&serve(Router::new().route("/weights", routing::get(text))).await)
        .observe()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not of the form"), "{error}");

    let busy = || async { StatusCode::SERVICE_UNAVAILABLE };
    assert!(
        target(&serve(Router::new().route("/weights", routing::any(busy))).await)
            .observe()
            .await
            .unwrap_err()
            .retryable()
    );

    let endless = || async { "x".repeat(100_000) };
    let error = target(&serve(Router::new().route("/weights", routing::get(endless))).await)
        .observe()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn nobody_listening_can_be_tried_again() {
    let error = target("http://127.0.0.1:1/?key=hidden").observe().await.unwrap_err();
    assert!(error.retryable() && !error.to_string().contains("hidden"), "{error}");
}

#[test]
fn urls_that_a_policy_may_not_have() {
    let table = [
        ("ftp://host/x", "http"),
        ("not a url", "http://host:port/path"),
        ("http://user:pass@host/", "tokenFile"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://[::ffff:a9fe:a9fe]/", "link-local"),
        ("http://2852039166/", "link-local"), // the same address as one number
    ];
    for (url, word) in table {
        let block =
            policy::Webhook { url: url.to_owned(), token_file: None, timeout: Span(Duration::from_secs(1)) };
        let error = target_of(&block).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("pass@"), "{url}: {error}");
    }
    checked("https://router.example/weights?key=1").unwrap();
}

#[test]
fn shares_are_rounded_but_never_to_none_or_all() {
    let percent = |canary, stable| share(canary, stable).map(Weight::percent);
    assert_eq!(percent(5.0, 95.0), Some(5.0));
    assert_eq!(percent(1.0, 3.0), Some(25.0));
    assert_eq!(percent(0.000_1, 100.0), Some(0.01));
    assert_eq!(percent(0.0, 1.0), Some(0.0));
    for bad in [(0.0, 0.0), (-1.0, 2.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0)] {
        assert_eq!(percent(bad.0, bad.1), None);
    }
}
