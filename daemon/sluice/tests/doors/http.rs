//! The API as people and CI use it.

use serde_json::{Value, json};
use sluice::http::HttpOptions;
use sluice_wire::message::Answer;

use super::fake::{Fake, answer, open, open_with, token_file, view};

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"ci","type":"dev.sluice.release.announced","data":{"version":"v2"}}"#;

#[tokio::test]
async fn a_list_leaves_evidence_out_and_one_rollout_brings_it() {
    let house = open(Fake::new().with(&[view("checkout", json!({})), view("cart", json!({}))])).await;
    let (status, list) = house.get("/api/v1/rollouts").await;
    assert_eq!((status, list.as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(list[0]["evidence"], Value::Null);
    let (_, full) = house.get("/api/v1/rollouts?evidence=true&limit=1").await;
    assert_eq!((full.as_array().map(Vec::len), &full[0]["evidence"]["long"]), (Some(1), &json!("report")));
    let (_, other) = house.get("/api/v1/rollouts?namespace=other").await;
    assert_eq!(other, json!([]));
    let (status, one) = house.get("/api/v1/rollouts/shop/checkout").await;
    assert_eq!(
        (status, &one["phase"], &one["evidence"]["long"]),
        (200, &json!("observing"), &json!("report"))
    );
}

#[tokio::test]
async fn an_attempt_is_named_in_the_query() {
    let house = open(Fake::new().with(&[view("checkout", json!({}))])).await;
    assert_eq!(house.get("/api/v1/rollouts/shop/checkout?attempt=v2-1").await.0, 200);
    assert_eq!(house.get("/api/v1/rollouts/shop/checkout?attempt=v1").await.0, 404);
    assert_eq!(house.get("/api/v1/rollouts/shop/checkout?attempt=V%201").await.0, 400);
    assert_eq!(house.get("/api/v1/rollouts/shop/checkout?atempt=v1").await.0, 400);
}

#[tokio::test]
async fn what_is_not_there_says_what_to_do() {
    let house = open(Fake::new()).await;
    for path in ["/api/v1/rollouts/shop/checkout", "/api/v1/rollouts/shop/checkout/history"] {
        let (status, fault) = house.get(path).await;
        assert_eq!((status, &fault["error"]), (404, &json!("no rollout shop/checkout")));
        assert!(fault["remedy"].as_str().unwrap().contains("sluice status"), "{fault}");
    }
}

#[tokio::test]
async fn a_command_reaches_the_daemon_with_its_user_and_key() {
    let house = open(Fake::new()).await;
    let request = reqwest::Client::new().post(house.at("/api/v1/rollouts/shop/checkout/pause"));
    let body = r#"{"id":"x1","reason":"look","revision":9}"#;
    let (status, answer) = answer(request.header("Sluice-User", "J%C3%B6rg").body(body)).await;
    assert_eq!((status, &answer["message"]), (200, &json!("paused at 5 % (step 1 of 4); revision 10")));
    let commanded = house.commands().remove(0);
    assert_eq!(
        (commanded.user.as_str(), commanded.place.as_str(), commanded.action.as_str()),
        ("Jörg", "shop/checkout", "pause")
    );
    assert_eq!((commanded.key.as_str(), commanded.command.revision), ("x1", Some(9)));
}

#[tokio::test]
async fn commands_without_an_id_are_different_commands() {
    let house = open(Fake::new()).await;
    for _ in 0..2 {
        assert_eq!(house.post("/api/v1/rollouts/_all/_all/abort", "").await.0, 200);
    }
    let commands = house.commands();
    assert_ne!(commands[0].key, commands[1].key);
    assert_eq!(commands[0].place, "_all/_all");
}

#[tokio::test]
async fn a_refusal_is_a_conflict_with_the_answer() {
    let refused = Answer {
        rollout: Some("shop/checkout@v2-1".parse().unwrap()),
        ..Answer::refused("refused: revision 7 expected, it is at 9")
    };
    let house = open(Fake::new().answering(refused)).await;
    let (status, answer) = house.post("/api/v1/rollouts/shop/checkout/promote", r#"{"revision":7}"#).await;
    assert_eq!((status, &answer["message"]), (409, &json!("refused: revision 7 expected, it is at 9")));
}

#[tokio::test]
async fn a_command_for_nobody_is_not_found() {
    let house = open(Fake::new().answering(Answer::refused("no rollout"))).await;
    assert_eq!(house.post("/api/v1/rollouts/shop/checkout/abort", "{}").await.0, 404);
    assert_eq!(house.post("/api/v1/rollouts/_all/_all/abort", "{}").await.0, 409);
}

#[tokio::test]
async fn releases_are_announced_structured_and_binary() {
    let house = open(Fake::new()).await;
    let (status, answer_) = house.post("/events/shop/checkout", EVENT).await;
    assert_eq!((status, &answer_["accepted"]), (202, &json!(true)));
    let binary = reqwest::Client::new().post(house.at("/events/shop/checkout")).body(r#"{"version":"v3"}"#);
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "ci%20main"),
        ("ce-type", "dev.sluice.release.announced"),
    ];
    let binary = headers.into_iter().fold(binary, |request, (name, value)| request.header(name, value));
    assert_eq!(answer(binary.header("Content-Type", "application/json")).await.0, 202);
    let announced = house.announcements();
    assert_eq!(announced[0].1.data["version"], "v2");
    assert_eq!((announced[1].1.source.as_str(), &announced[1].1.data["version"]), ("ci main", &json!("v3")));
}

#[tokio::test]
async fn an_event_that_names_its_policy_needs_no_address() {
    let house = open(Fake::new()).await;
    let event = EVENT.replace("\"id\"", "\"subject\":\"shop/checkout\",\"id\"");
    assert_eq!(house.post("/events", event).await.0, 202);
    assert_eq!(house.announcements()[0].0, "shop/checkout");
    let (status, fault) = house.post("/events", EVENT).await;
    assert_eq!(status, 400);
    assert!(fault["remedy"].as_str().unwrap().contains("namespace/name"), "{fault}");
}

#[tokio::test]
async fn a_batch_has_its_effect_whole_or_not_at_all() {
    let house = open(Fake::new()).await;
    let post = |body: String| {
        let request = reqwest::Client::new().post(house.at("/events/shop/checkout"));
        answer(request.header("Content-Type", "application/cloudevents-batch+json").body(body))
    };
    let (status, answers) = post(format!("[{EVENT},{}]", EVENT.replace("\"1\"", "\"2\""))).await;
    assert_eq!((status, answers.as_array().map(Vec::len)), (202, Some(2)));
    let (status, fault) = post(format!("[{EVENT},{{}}]")).await;
    assert_eq!(status, 400);
    assert!(fault["error"].as_str().unwrap().starts_with("event 2 of the batch"), "{fault}");
    assert_eq!(house.announcements().len(), 2);
}

#[tokio::test]
async fn probes_tell_what_is_missing() {
    let house = open(Fake::new()).await;
    assert_eq!(house.get("/healthz").await.0, 200);
    assert_eq!(house.get("/readyz").await, (200, json!({"ready": true, "missing": []})));
    *house.fake.missing.lock().unwrap() = vec!["the bus cannot be reached".into()];
    let (status, body) = house.get("/readyz").await;
    assert_eq!((status, &body["missing"][0]), (503, &json!("the bus cannot be reached")));
    let metrics = reqwest::get(house.at("/metrics")).await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
}

#[tokio::test]
async fn the_description_is_served() {
    let house = open(Fake::new()).await;
    let (status, document) = house.get("/openapi.json").await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(document["components"]["schemas"]["Command"]["type"], "object");
}

#[tokio::test]
async fn with_a_token_file_a_token_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = token_file(&dir, "ann 0123456789abcdef\n");
    let house =
        open_with(Fake::new(), HttpOptions { tokens: Some(tokens.clone()), ..HttpOptions::default() }).await;
    let pause = |token: &str| {
        let request = reqwest::Client::new().post(house.at("/api/v1/rollouts/shop/checkout/pause"));
        answer(request.header("Sluice-User", "root").bearer_auth(token))
    };
    assert_eq!(house.post("/api/v1/rollouts/shop/checkout/pause", "").await.0, 401);
    assert_eq!(house.get("/api/v1/rollouts").await.0, 401);
    assert_eq!(house.get("/healthz").await.0, 200);
    assert_eq!(pause("0123456789abcdeX").await.0, 401);
    assert_eq!(pause("0123456789abcdef").await.0, 200);
    assert_eq!(house.commands()[0].user, "ann");
    token_file(&dir, "bob fedcba9876543210\n");
    assert_eq!(pause("0123456789abcdef").await.0, 401, "a token that was taken away");
    assert_eq!(pause("fedcba9876543210").await.0, 200, "a token that was given since");
    std::fs::remove_file(&tokens).unwrap();
    let (status, fault) = pause("fedcba9876543210").await;
    assert_eq!(status, 503);
    assert!(!fault.to_string().contains("fedcba"), "{fault}");
}
