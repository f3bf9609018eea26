//! Bad input: a clear answer, and nothing else happens.

use anyhow::{Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use sluice_rig::wait;
use sluice_tests::bus::Heard;
use sluice_tests::{LIMIT, Output, PolicyText, World, cli, story};

#[test]
fn messages_that_cannot_be_read_go_to_the_dead_letters_with_the_reason_and_change_nothing() -> Result<()> {
    story(async {
        let world = World::open("unreadable").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        for (number, (subject, body, reason)) in unreadable(&world.namespace).into_iter().enumerate() {
            world.bus.store(&subject, HeaderMap::new(), body.clone()).await?;
            // The letter with these bytes: one that is written twice is no other.
            let ours = |letter: &Heard| {
                letter.header("Sluice-Subject") == Some(subject.as_str()) && letter.body == body
            };
            let letter = || async { Ok(world.bus.dead().into_iter().find(ours)) };
            let kept = wait::until(&format!("dead letter {number}"), LIMIT, letter).await?;
            let told = kept.header("Sluice-Reason").unwrap_or_default().to_owned();
            ensure!(told.contains(reason), "{subject}: {told:?} does not say {reason:?}");
        }
        let after = daemon.view(&world.rollout()).await?;
        ensure!(after.phase == "observing" && after.rollout.attempt() == "v2", "it had an effect: {after:?}");
        let history = daemon.history(&world.rollout()).await?;
        ensure!(history.iter().all(|line| line.event != "override"), "it had an effect: {history:?}");
        ensure!(daemon.views().await?.len() == 1, "it began a rollout");
        world.wait_weights(&[0.0, 10.0]).await?;
        Ok(())
    })
}

/// Subject, body, and words that the reason must have.
fn unreadable(namespace: &str) -> Vec<(String, Vec<u8>, &'static str)> {
    let event = |rollout: &str| format!("sluice.event.{namespace}.{rollout}.announced");
    let command = |action: &str| format!("sluice.override.ann.{namespace}.checkout.{action}");
    let announced = |kind: &str, data: Value| {
        json!({"specversion": "1.0", "id": "x", "source": "ci", "type": kind, "data": data})
            .to_string()
            .into_bytes()
    };
    let release = "dev.sluice.release.announced";
    vec![
        (event("checkout"), b"\xff\xfe not json".to_vec(), "not JSON"),
        (event("checkout"), b"{}".to_vec(), "specversion"),
        (event("checkout"), br#"{"specversion":"1.0","id":"1","source":"ci"}"#.to_vec(), "type"),
        (
            event("checkout"),
            br#"{"specversion":"1.0","id":"1","id":"2","source":"ci","type":"t"}"#.to_vec(),
            "id",
        ),
        (event("checkout"), announced("com.example.lunch", Value::Null), "announces no release"),
        (event("checkout"), announced(release, json!({"vresion": "v2"})), "vresion"),
        (event("nobody"), announced(release, json!({})), "no policy"),
        (event("check%20out"), announced(release, json!({})), "no policy"),
        (event("checkout"), announced(release, json!({"attempt": "A B"})), "attempt"),
        (command("abort"), b"[1, 2]".to_vec(), "command"),
        (command("abort"), br#"{"reson": "x"}"#.to_vec(), "reson"),
        (command("explode"), b"{}".to_vec(), "explode"),
        (command("set-weight"), br#"{"weight": 101}"#.to_vec(), "101"),
        (command("set-weight"), b"{}".to_vec(), "weight"),
    ]
}

#[test]
fn a_wrong_policy_is_refused_with_file_line_and_field_and_the_others_are_served() -> Result<()> {
    story(async {
        let world = World::open("wrong-policy").await?;
        let right = world.policy(json!({}));
        let typo = wrong(&world, "typo", |yaml| yaml.replace("\"holdback\"", "\"holdbak\""));
        let falling = wrong(&world, "falling", |yaml| yaml.replace("\"weight\": 50", "\"weight\": 5"));
        let daemon = world.daemon_with(vec![right, typo, falling]).await?;

        for (name, line, field) in [("typo", true, "holdbak"), ("falling", false, "spec.steps")] {
            let file = daemon.policies().join(format!("{name}.yaml"));
            let checked = cli::sluice(&["validate", &file.display().to_string()], &[]).await?;
            ensure!(checked.code == 2, "{checked:?}");
            ensure!(checked.text().contains(&format!("{name}.yaml")), "{checked:?}");
            ensure!(checked.text().contains(field), "{checked:?}");
            ensure!(!line || names_a_line(&checked, &format!("{name}.yaml:")), "no line: {checked:?}");
            let rollout = format!("{}/{name}", world.namespace);
            let refused = daemon.cli(&["start", &rollout, "--version", "v2"]).await?;
            ensure!(refused.code == 1 && refused.text().contains(field), "{refused:?}");
        }
        let fine = daemon.cli(&["start", &world.rollout(), "--version", "v2"]).await?;
        ensure!(fine.code == 0, "{fine:?}");
        Ok(())
    })
}

/// Another policy's file, made wrong.
fn wrong(world: &World, name: &str, spoil: impl Fn(String) -> String) -> PolicyText {
    let usual = world.policy(json!({})).yaml;
    let renamed = usual.replace(
        "\"name\": \"checkout\",\n    \"namespace\"",
        &format!("\"name\": \"{name}\",\n    \"namespace\""),
    );
    PolicyText::new(&format!("{name}.yaml"), &spoil(renamed))
}

/// `file.yaml:12:` somewhere.
fn names_a_line(output: &Output, file: &str) -> bool {
    let text = output.text();
    text.split(file).skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Rules of the cluster's own, in both forms in which the API server answers: 422, and 403 as a webhook would.
fn rule(namespace: &str, reason: &str) -> String {
    let name = format!("{namespace}-{}", reason.to_lowercase());
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["gateway.networking.k8s.io"], "apiVersions": ["v1"],
                "operations": ["UPDATE"], "resources": ["httproutes"]}]},
            "validations": [{"expression": "request.userInfo.username != 'sluice'", "reason": reason,
                "message": "routes are frozen until Monday"}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector":
                {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}}},
    ]})
    .to_string()
}

#[test]
fn a_rule_of_the_cluster_that_refuses_the_write_is_told_in_its_own_words_and_nothing_is_opened() -> Result<()>
{
    story(async {
        for reason in ["Invalid", "Forbidden"] {
            let world = World::open("frozen-routes").await?;
            world.apply(&rule(&world.namespace, reason)).await?;
            // The API server takes a moment to hold to a new rule.
            let args = ["patch", "httproute", "checkout", "--namespace", &world.namespace, "--type=merge"];
            let probe =
                [&args[..], &["--patch={\"metadata\":{\"labels\":{\"probe\":\"1\"}}}", "--dry-run=server"]]
                    .concat();
            wait::until("the rule to hold", LIMIT, || async {
                Ok(world.kube.kubectl_as("sluice", &probe, None).await.is_err().then_some(()))
            })
            .await?;
            let daemon = world.daemon(json!({})).await?;
            let before = world.route().await?;
            let rollout = world.rollout();
            world.bus.announce(&rollout, "v2").await?;
            let said = |line: &sluice_wire::record::HistoryLine| {
                line.reason.contains("routes are frozen until Monday")
            };
            let line = daemon.wait_history(&rollout, "the rule's own words", said).await?;
            ensure!(line.reason.contains("httproute") && line.reason.contains("kubectl"), "{}", line.reason);
            ensure!(!line.reason.contains("rbac.yaml"), "rights are not what is missing: {}", line.reason);
            ensure!(world.route().await? == before, "the route was written");
        }
        Ok(())
    })
}

#[test]
fn a_canarys_service_that_is_not_there_is_refused_before_anything_is_done() -> Result<()> {
    story(async {
        let world = World::open("no-service").await?;
        let daemon = world.daemon(json!({})).await?;
        world.kubectl(&["delete", "service", "checkout-canary"]).await?;
        let slices = [
            "get",
            "endpointslices",
            "--selector=kubernetes.io/service-name=checkout-canary",
            "--output=name",
        ];
        wait::until("its slices to go", LIMIT, || async {
            Ok(world.kubectl(&slices).await?.trim().is_empty().then_some(()))
        })
        .await?;
        let before = world.route().await?;
        let refused = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(refused.code == 1, "{refused:?}");
        let service = format!("service {}/checkout-canary", world.namespace);
        for word in [service.as_str(), "spec.target", "kubectl -n"] {
            ensure!(refused.text().contains(word), "{word} is missing: {refused:?}");
        }
        ensure!(world.route().await? == before, "the route was written");
        ensure!(daemon.views().await?.is_empty(), "it began");
        Ok(())
    })
}

#[test]
fn a_weight_finer_than_the_target_can_keep_is_refused_with_the_finest_one() -> Result<()> {
    story(async {
        // The route's third backend has a share, so the pair keeps its total of 100: nothing finer than 1 %.
        let world = World::open("finer").await?;
        let daemon = world.daemon(json!({"steps": [{"weight": 0.1}, {"weight": 50}]})).await?;
        let before = world.route().await?;
        let refused = daemon.cli(&["start", &world.rollout(), "--version", "v2", "--wait"]).await?;
        ensure!(refused.code == 1, "{refused:?}");
        ensure!(refused.text().contains("0.1 %") && refused.text().contains("1 %"), "{refused:?}");
        ensure!(world.route().await? == before, "the route was written");
        Ok(())
    })
}
