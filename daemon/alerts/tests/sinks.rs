//! Each sink against a receiver on loopback: what goes over the wire, and what comes of each answer.
#![expect(clippy::unwrap_used, reason = "a test may end where what it builds on fails")]

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_alerts::{Exchange, Settings, Sink, SinkError, connect};
use sluice_outbound::Outbound;
use sluice_rig::{Inbox, http::install_crypto};
use sluice_rollout::{AlertKind, Timestamp};
use sluice_wire::{
    alert::{Alert, AlertStatus},
    policy::AlertSink,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn alert(kind: AlertKind, status: AlertStatus) -> Alert {
    Alert {
        rollout: "shop/checkout@v2".parse().unwrap(),
        kind,
        status,
        summary: "errors <b>worse</b> & rising".into(),
        details: [
            ("weight".to_owned(), "5 %".to_owned()),
            ("next-step".to_owned(), "sluice explain".to_owned()),
        ]
        .into(),
        since: Timestamp::from_millis(1_790_000_000_000),
        at: Timestamp::from_millis(1_790_000_060_000),
    }
}

fn firing() -> Alert {
    alert(AlertKind::Aborting, AlertStatus::Firing)
}

fn sinks(block: Value) -> Result<Vec<Arc<dyn Sink>>, SinkError> {
    install_crypto();
    let block: AlertSink = serde_json::from_value(block).unwrap();
    let outbound = Outbound::default().with_secrets(vec![std::env::temp_dir()]);
    connect(&[block], &outbound, || reqwest::Client::builder().no_proxy())
}

fn sink(block: Value) -> Arc<dyn Sink> {
    sinks(block).unwrap().remove(0)
}

struct SecretFile(tempfile::NamedTempFile);

impl SecretFile {
    fn holding(text: &str) -> SecretFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        SecretFile(file)
    }

    fn now_holds(&self, text: &str) {
        fs::write(self.0.path(), text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

/// Answers every request with these bytes, and gives what it was sent.
async fn answering(answer: &'static str) -> Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            take_whole(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok((url, task))
}

/// Reads a request to its end: whoever hangs up before it may take the answer away with that.
async fn take_whole(stream: &mut TcpStream) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

async fn answer_to(answer: &'static str) -> Result<(), SinkError> {
    let (url, task) = answering(answer).await.unwrap();
    let result = sink(json!({"webhook": {"url": url}})).send(&[firing()]).await;
    task.abort();
    result
}

#[tokio::test]
async fn alertmanager_gets_labels_that_stay_and_annotations_that_may_change() -> Result<()> {
    let inbox = Inbox::start().await?;
    let token = SecretFile::holding("s3cret\n");
    let sink = sink(json!({"alertmanager": {
        "url": inbox.url("/am/"), "tokenFile": token.path(), "labels": {"team": "shop", "severity": "page"}}}));
    sink.send(&[firing(), alert(AlertKind::Blind, AlertStatus::Resolved)]).await?;

    let letter = inbox.letters().remove(0);
    assert_eq!((letter.method.as_str(), letter.path.as_str()), ("POST", "/am/api/v2/alerts"));
    assert_eq!(letter.headers["authorization"], "Bearer s3cret");
    let body = letter.json();
    let labels = json!({"alertname": "SluiceRolloutAborting", "namespace": "shop", "rollout": "checkout",
        "attempt": "v2", "kind": "aborting", "severity": "page", "team": "shop"});
    assert_eq!(body[0]["labels"], labels);
    assert_eq!(body[0]["annotations"]["summary"], "errors <b>worse</b> & rising");
    assert_eq!(body[0]["annotations"]["next_step"], "sluice explain");
    assert_eq!(body[0]["startsAt"], "2026-09-21T14:13:20Z");
    assert!(ends(&body[0])? > jiff::Timestamp::now(), "a firing alert ends in the future");
    assert_eq!(body[1]["startsAt"], "2026-09-21T14:13:20Z");
    assert!(ends(&body[1])? < jiff::Timestamp::now(), "a resolved one in the past");
    Ok(())
}

fn ends(posted: &Value) -> Result<jiff::Timestamp> {
    Ok(posted["endsAt"].as_str().context("no endsAt")?.parse()?)
}

#[tokio::test]
async fn each_alertmanager_replica_is_a_sink_and_all_are_one_receiver() {
    let replicas =
        sinks(json!({"alertmanager": {"urls": ["http://127.0.0.1:1", "http://127.0.0.1:2"]}})).unwrap();
    let names: Vec<String> = replicas.iter().map(|sink| sink.name()).collect();
    assert_eq!(names, ["alertmanager http://127.0.0.1:1", "alertmanager http://127.0.0.1:2"]);
    assert_eq!(replicas[0].receiver(), replicas[1].receiver());
    assert_eq!(replicas[0].repeat(), Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn slack_gets_a_section_an_alert_at_the_url_that_the_file_holds_just_then() -> Result<()> {
    let inbox = Inbox::start().await?;
    let file = SecretFile::holding(&format!("{}\n", inbox.url("/services/T0/B0/first")));
    let sink = sink(json!({"slack": {"urlFile": file.path()}}));
    sink.send(&[firing()]).await?;
    file.now_holds(&inbox.url("/services/T0/B0/second"));
    sink.send(&[alert(AlertKind::Blind, AlertStatus::Resolved), firing()]).await?;

    let letters = inbox.letters();
    let paths: Vec<&str> = letters.iter().map(|letter| letter.path.as_str()).collect();
    assert_eq!(paths, ["/services/T0/B0/first", "/services/T0/B0/second"]);
    assert_eq!(letters[0].json()["text"], "checkout (shop) is being put back");
    let section = letters[0].json()["blocks"][0]["text"]["text"].as_str().context("no text")?.to_owned();
    assert!(
        section.contains("errors &lt;b&gt;worse&lt;/b&gt; &amp; rising") && section.contains("• weight: 5 %"),
        "{section}"
    );
    assert_eq!(letters[1].json()["blocks"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn slacks_url_shows_in_no_error_nor_debug() {
    for text in ["http://127.0.0.1:1/services/T0/hush", "hush", "http://169.254.169.254/hush", ""] {
        let file = SecretFile::holding(text);
        let sink = sink(json!({"slack": {"urlFile": file.path()}}));
        let error = sink.send(&[firing()]).await.unwrap_err();
        assert!(matches!(error, SinkError::Passing { .. }), "{text:?} can be mended in the file: {error:?}");
        let shown = format!("{error} {error:?} {sink:?} {}", sink.name());
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_yet_is_waited_for() {
    let sink = sink(json!({"slack": {"urlFile": "nonexistent/slack"}}));
    let error = sink.send(&[firing()]).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Passing { why, after: Some(_) } if why.contains("nonexistent/slack")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_webhook_gets_json_a_token_and_a_key_that_tells_a_repeat() -> Result<()> {
    let inbox = Inbox::start().await?;
    let token = SecretFile::holding("t0ken");
    let sink = sink(json!({"webhook": {"url": inbox.url("/hook?team=shop"), "tokenFile": token.path()}}));
    sink.send(&[firing()]).await?;
    sink.send(&[firing()]).await?;
    sink.send(&[alert(AlertKind::Aborting, AlertStatus::Resolved)]).await?;

    let letters = inbox.letters();
    assert_eq!(letters[0].path, "/hook?team=shop");
    assert_eq!(letters[0].headers["authorization"], "Bearer t0ken");
    let keys: Vec<&String> = letters.iter().map(|letter| &letter.headers["idempotency-key"]).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[1], keys[2]);
    let (fired, resolved) = (letters[0].json()["alerts"][0].clone(), letters[2].json()["alerts"][0].clone());
    assert_eq!(fired["id"], resolved["id"]);
    assert_eq!((&fired["status"], &resolved["status"]), (&json!("firing"), &json!("resolved")));
    assert_eq!(fired["rollout"], "checkout");
    assert_eq!(fired["since"], "2026-09-21T14:13:20Z");
    Ok(())
}

#[tokio::test]
async fn answers_are_told_apart_by_whether_trying_again_helps() {
    let ok = answer_to("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(ok, Ok(()));
    let busy =
        answer_to("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\ncontent-length: 0\r\n\r\n").await;
    let thirty = Duration::from_secs(30);
    assert!(
        matches!(busy, Err(SinkError::Passing { after: Some(after), .. }) if after == thirty),
        "{busy:?}"
    );
    let down = answer_to("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(down, Err(SinkError::Passing { after: None, .. })), "{down:?}");
    let token = answer_to("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    assert!(
        matches!(token, Err(SinkError::Passing { after: Some(_), .. })),
        "a person mends a token: {token:?}"
    );
    let body = answer_to("HTTP/1.1 400 Bad Request\r\ncontent-length: 14\r\n\r\ninvalid\nblocks").await;
    assert!(matches!(&body, Err(SinkError::Final { why }) if why.contains("invalid blocks")), "{body:?}");
    let cut = answer_to("").await;
    assert!(matches!(cut, Err(SinkError::Unanswered { .. })), "{cut:?}");
}

#[tokio::test]
async fn nobody_listening_is_passing_and_known_not_to_have_been_taken() {
    let port = sluice_rig::ports::Port::free().unwrap();
    let error =
        sink(json!({"webhook": {"url": format!("http://{}", port.address())}})).send(&[firing()]).await;
    assert!(matches!(error, Err(SinkError::Passing { .. })), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let inbox = Inbox::start().await?;
    let location: &'static str =
        format!("HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inbox.url("/else"))
            .leak();
    assert!(matches!(answer_to(location).await, Err(SinkError::Passing { .. })));
    assert!(inbox.letters().is_empty());
    Ok(())
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_is_sent() {
    for block in [
        json!({"webhook": {"url": "http://169.254.169.254/latest"}}),
        json!({"webhook": {"url": "nonsense"}}),
        json!({"alertmanager": {}}),
        json!({"alertmanager": {"url": "http://[fe80::1]:9093"}}),
    ] {
        assert!(matches!(sinks(block.clone()), Err(SinkError::Final { .. })), "{block} was taken");
    }
}

#[tokio::test]
async fn policies_that_name_the_same_sink_share_it() -> Result<()> {
    install_crypto();
    let inbox = Inbox::start().await?;
    let exchange =
        Exchange::new(Outbound::default(), || reqwest::Client::builder().no_proxy(), Settings::default());
    let block: AlertSink = serde_json::from_value(json!({"webhook": {"url": inbox.url("/hook")}}))?;
    let other: AlertSink = serde_json::from_value(json!({"webhook": {"url": inbox.url("/other")}}))?;
    let (one, two) =
        (exchange.dispatcher(std::slice::from_ref(&block))?, exchange.dispatcher(&[block, other])?);
    assert_eq!(exchange.stats().len(), 2);

    let mut second = firing();
    second.rollout = "shop/basket@v7".parse()?;
    let (first, second) = (one.fire(firing()), two.fire(second));
    first.confirmed().await;
    second.confirmed().await;
    let hook: Vec<_> = inbox.letters().into_iter().filter(|letter| letter.path == "/hook").collect();
    assert_eq!(hook.len(), 1, "both alerts went together");
    assert_eq!(hook[0].json()["alerts"].as_array().map(Vec::len), Some(2));

    // A sink stays while alerts are up in it, and goes when nobody needs it.
    drop((one, two));
    exchange.dispatcher(&[])?;
    assert_eq!(exchange.stats().len(), 2);
    Ok(())
}
