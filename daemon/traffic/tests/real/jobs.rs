//! Jobs that answer a gate, under the Job controller.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_rig::kube::stages::{FAILS, RUNS_ON};
use sluice_traffic::job::{Question, Ran};
use sluice_wire::policy::Job;
use sluice_wire::units::Span;

use crate::shop::{LIMIT, Shop};

fn job(image: &str) -> Job {
    Job {
        image: image.to_owned(),
        command: vec!["run".to_owned(), "--all".to_owned()],
        args: Vec::new(),
        env: BTreeMap::from([("SUITE".to_owned(), "smoke".to_owned())]),
        service_account: None,
        timeout: Span::from_secs(600),
    }
}

fn question<'a>(shop: &'a Shop, gate: &'a str, job: &'a Job, again: bool) -> Question<'a> {
    let env = vec![("OPENSHIFT_DEPLOYMENT_NAME", "checkout-canary".to_owned())];
    Question { namespace: &shop.namespace, rollout: "shop/checkout@v2".to_owned(), gate, job, env, again }
}

async fn jobs(shop: &Shop, gate: &str) -> Vec<Value> {
    let text = shop
        .kubectl(&["get", "jobs", "--output=json", "--selector", &format!("sluice.dev/gate={gate}")])
        .await;
    serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_job_is_run_once_however_often_it_is_asked_and_a_retry_runs_another() {
    let shop = Shop::with_routers("jobs").await;
    let clients = shop.clients();
    let good = job("registry.example/tests:1");
    let refused =
        question(&shop, "Smoke test", &good, false).answered(&clients).await.unwrap_err().to_string();
    assert!(refused.contains("rbac.yaml"), "{refused}");

    shop.bind("sluice-jobs").await;
    for _ in 0..2 {
        assert_eq!(question(&shop, "Smoke test", &good, false).answered(&clients).await, Ok(Ran::Succeeded));
    }
    let ran = jobs(&shop, "smoketest").await;
    assert_eq!(ran.len(), 1, "{ran:?}");
    let container = &ran[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["run", "--all"]));
    assert_eq!(container["env"][0], json!({"name": "OPENSHIFT_DEPLOYMENT_NAME", "value": "checkout-canary"}));

    let bad = job(FAILS);
    for again in [false, false, true] {
        let Ok(Ran::Failed(why)) = question(&shop, "bad", &bad, again).answered(&clients).await else {
            panic!("a Job of {FAILS} did not fail")
        };
        assert!(why.contains("logs job/sluice-bad-"), "{why}");
    }
    assert_eq!(jobs(&shop, "bad").await.len(), 2, "one, and one by the retry");
}

#[tokio::test]
async fn a_job_that_still_runs_is_ended_before_what_it_does_is_undone() {
    let shop = Shop::with_routers("jobs-stopped").await;
    shop.bind("sluice-jobs").await;
    let clients = shop.clients();
    let stuck = Job { timeout: Span::from_secs(3_600), ..job(RUNS_ON) };
    let asked = question(&shop, "stuck", &stuck, false);
    let answer = tokio::spawn({
        let (clients, namespace, job) = (shop.clients(), shop.namespace.clone(), stuck.clone());
        async move {
            let env = Vec::new();
            let rollout = "shop/checkout@v2".to_owned();
            let asked =
                Question { namespace: &namespace, rollout, gate: "stuck", job: &job, env, again: false };
            asked.answered(&clients).await
        }
    });
    let made = || async { Ok((!jobs(&shop, "stuck").await.is_empty()).then_some(())) };
    sluice_rig::wait::until("the Job", LIMIT, made).await.unwrap();
    asked.stopped(&clients).await.unwrap();
    let Ok(Ran::Failed(why)) = answer.await.unwrap() else { panic!("it ended well") };
    assert!(why.contains("deadline"), "{why}");
    asked.stopped(&clients).await.unwrap();
    question(&shop, "never asked", &stuck, false).stopped(&clients).await.unwrap();
}
