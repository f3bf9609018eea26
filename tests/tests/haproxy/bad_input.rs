//! Whatever arrives is answered with place and remedy, and changes nothing else.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rig::http;
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, story};

use crate::house::{announce, announcement, command, run, until_weight};
use crate::shop::Shop;

#[test]
fn whatever_arrives_is_answered_with_place_and_remedy_and_a_running_release_goes_on() -> Result<()> {
    story(async {
        let shop = Shop::open("stormy").await?;
        let daemon = run(vec![shop.policy()]).await?;
        announce(&daemon, &shop, "v2").await?;
        until_weight(&daemon, &shop, 5.0).await?;
        command(&daemon, &shop.rollout(), "pause", json!({"reason": "in the storm"})).await?;
        let before = daemon.view(&shop.rollout()).await?;

        for bad in announcements(&shop).into_iter().chain(commands(&shop)) {
            bad.is_answered(&daemon).await?;
        }

        let after = daemon.view(&shop.rollout()).await?;
        assert_eq!((after.rollout, after.phase, after.weight), (before.rollout, before.phase, before.weight));
        assert_eq!(daemon.views().await?.len(), 1, "a message that was refused left a rollout behind");
        command(&daemon, &shop.rollout(), "resume", json!({"reason": "over"})).await?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted), "{}", daemon.account(&shop.rollout()).await);
        shop.weights_were(&[0.0, 5.0, 25.0, 50.0, 90.0, 100.0]).await
    })
}

#[test]
fn a_wrong_policy_file_is_refused_with_file_line_and_field_and_the_former_one_holds() -> Result<()> {
    story(async {
        let shop = Shop::open("misspelt").await?;
        let daemon = run(vec![shop.policy()]).await?;
        let mut wrong = shop.policy();
        wrong.yaml = wrong.yaml.replace("\"holdback\"", "\"holdbak\"");
        daemon.write_policy(&wrong)?;

        let file = daemon.policies().join(&wrong.file).display().to_string();
        let told = daemon.cli(&["validate", &file]).await?;
        ensure!(told.code == 2, "{}", told.text());
        for word in [wrong.file.as_str(), "holdbak", "holdback"] {
            ensure!(told.text().contains(word), "{word} is not named: {}", told.text());
        }
        let line = 1 + wrong.yaml.lines().position(|line| line.contains("holdbak")).unwrap_or_default();
        ensure!(told.text().contains(&format!(":{line}:")), "line {line} is not named: {}", told.text());

        announce(&daemon, &shop, "v2").await?;
        let view = daemon.wait_for_end(&shop.rollout()).await?;
        assert_eq!(view.outcome, Some(Outcome::Promoted));
        Ok(())
    })
}

/// A request that cannot be taken, and what its answer has to say.
struct Bad {
    what: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    says: &'static [&'static str],
}

impl Bad {
    /// The status, and every word of it in `error` and `remedy` (or in the refusal's `message`).
    async fn is_answered(&self, daemon: &Daemon) -> Result<()> {
        let url = format!("{}{}", daemon.url(), self.path);
        let mut request = http::client()?.post(url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(status == self.status, "{}: {status} instead of {}: {text}", self.what, self.status);
        let body: Value = serde_json::from_str(&text)?;
        let words =
            ["error", "remedy", "message"].map(|field| body[field].as_str().unwrap_or_default()).join(" ");
        for word in self.says {
            ensure!(words.contains(word), "{}: nothing about {word:?} in {words}", self.what);
        }
        Ok(())
    }
}

const STRUCTURED: &str = "application/cloudevents+json";

fn announcements(shop: &Shop) -> Vec<Bad> {
    let path = format!("/events/{}", shop.rollout());
    let bad = |what, body: Vec<u8>, status, says| Bad {
        what,
        path: path.clone(),
        headers: vec![("Content-Type", STRUCTURED.to_owned())],
        body,
        status,
        says,
    };
    let event = |change: fn(&mut Value)| {
        let mut event = announcement("v9");
        change(&mut event);
        event.to_string().into_bytes()
    };
    let policy = |change: fn(&mut Value)| {
        let mut event = announcement("v9");
        let mut policy: Value = serde_json::from_str(&shop.policy().yaml).unwrap_or_default();
        change(&mut policy["spec"]);
        event["data"]["policy"] = policy;
        event.to_string().into_bytes()
    };
    let twice = announcement("v9").to_string().replacen("{", "{\"id\":\"other\",", 1).into_bytes();
    let huge = event(|event| event["data"]["policy"] = json!("x".repeat(10 << 20)));
    vec![
        bad("bytes that are no JSON", b"\x00\xff not json".to_vec(), 400, &["JSON"]),
        bad("half a message", event(|_| ())[..40].to_vec(), 400, &["JSON"]),
        bad("no CloudEvent", b"{\"version\": \"v9\"}".to_vec(), 400, &["specversion"]),
        bad("no id", event(|event| drop(event.as_object_mut().map(|map| map.remove("id")))), 400, &["id"]),
        bad("an empty source", event(|event| event["source"] = json!("")), 400, &["source"]),
        bad("an id that is a number", event(|event| event["id"] = json!(7)), 400, &["id", "string"]),
        bad("an attribute given twice", twice, 400, &["id", "twice"]),
        bad("an old specversion", event(|event| event["specversion"] = json!("0.3")), 400, &["0.3", "1.0"]),
        bad(
            "a time that is none",
            event(|event| event["time"] = json!("tomorrow")),
            400,
            &["time", "RFC 3339"],
        ),
        bad(
            "a time from the future",
            event(|event| event["time"] = json!("2999-01-01T00:00:00Z")),
            409,
            &["2999", "future", "clock"],
        ),
        bad(
            "an unknown type",
            event(|event| event["type"] = json!("com.example.lunch")),
            409,
            &["com.example.lunch", "dev.sluice.release.announced"],
        ),
        bad(
            "an unknown field",
            event(|event| event["data"]["versoin"] = json!("v9")),
            409,
            &["versoin", "version"],
        ),
        bad(
            "an attempt with a wildcard",
            event(|event| event["data"]["attempt"] = json!("v*")),
            409,
            &["v*", "attempt"],
        ),
        bad(
            "a weight of 101 %",
            policy(|spec| spec["steps"][0]["weight"] = json!(101)),
            409,
            &["101", "100"],
        ),
        bad(
            "a weight too fine for HAProxy",
            policy(|spec| spec["steps"][0]["weight"] = json!(0.1)),
            409,
            &["0.1", "0.39"],
        ),
        bad(
            "steps that go down",
            policy(|spec| spec["steps"][1]["weight"] = json!(1)),
            409,
            &["step 2", "rise"],
        ),
        bad("no steps", policy(|spec| spec["steps"] = json!([])), 409, &["step"]),
        bad(
            "an unknown target",
            policy(|spec| spec["target"] = json!({"haprxy": {}})),
            409,
            &["haprxy", "haproxy"],
        ),
        bad(
            "a ratio on the wrong side",
            policy(|spec| spec["analysis"]["errors"] = json!({"ratios": [1.1]})),
            409,
            &["errors.ratios[0]"],
        ),
        bad("a policy of 10 MB", huge, 413, &["policy", "kB"]),
        Bad {
            path: "/events/shop/nowhere".into(),
            ..bad("no such policy", event(|_| ()), 409, &["shop/nowhere", "shop/stormy"])
        },
        Bad {
            path: "/events/shop/a%20b".into(),
            ..bad("a name with a space", event(|_| ()), 400, &["a b", "lower-case"])
        },
        Bad {
            path: "/events/shop/%3E".into(),
            ..bad("a name that is a wildcard", event(|_| ()), 400, &[">", "lower-case"])
        },
        Bad {
            path: "/events/shop/.stormy".into(),
            ..bad("a name that begins with a dot", event(|_| ()), 400, &[".stormy", "beginning"])
        },
        Bad {
            path: "/events".into(),
            ..bad("no policy named at all", event(|_| ()), 400, &["which policy", "subject"])
        },
        Bad {
            headers: vec![
                ("ce-specversion", "1.0".into()),
                ("ce-id", "1".into()),
                ("ce-id", "2".into()),
                ("ce-source", "ci".into()),
            ],
            ..bad("a header given twice", b"{}".to_vec(), 400, &["ce-id", "twice"])
        },
        Bad {
            headers: vec![
                ("ce-specversion", "1.0".into()),
                ("ce-id", "1".into()),
                ("ce-source", "ci".into()),
            ],
            ..bad("binary without a type", b"{}".to_vec(), 400, &["type"])
        },
    ]
}

fn commands(shop: &Shop) -> Vec<Bad> {
    let bad = |what, action: &str, body: &str, status, says| Bad {
        what,
        path: format!("/api/v1/rollouts/{}/{action}", shop.rollout()),
        headers: vec![("Content-Type", "application/json".to_owned())],
        body: body.as_bytes().to_vec(),
        status,
        says,
    };
    vec![
        bad("an unknown action", "explode", "{}", 400, &["explode", "promote-full"]),
        bad("no command", "abort", "nonsense", 400, &["command", "reason"]),
        bad("an unknown field", "abort", r#"{"resaon": "x"}"#, 400, &["resaon", "reason"]),
        bad("no weight", "set-weight", r#"{"reason": "x"}"#, 400, &["weight", r#"{"weight": 5}"#]),
        bad("a weight of 101 %", "set-weight", r#"{"weight": 101}"#, 400, &["101", "100"]),
        bad("a weight above the step's", "set-weight", r#"{"weight": 60}"#, 409, &["60 %", "5 %"]),
        bad("a step that is not there", "skip", r#"{"to": 9}"#, 409, &["9", "later steps"]),
        bad("a span without a unit", "extend", r#"{"by": "10"}"#, 400, &["10", "30s"]),
    ]
}
