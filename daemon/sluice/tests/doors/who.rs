//! Who may do what, before the real daemon: signed commands, a policy's rules of access, addresses that a policy may not
//! name, and secrets that nothing says.

use nkeys::KeyPair;
use serde_json::json;

use super::cli::Ran;
use super::site::Site;

fn refused(ran: &Ran, why: &str) {
    assert!(ran.code == 1 && ran.out.contains(why), "{why}: {ran:?}");
}

#[tokio::test]
async fn a_policy_says_which_users_may_do_which_action() {
    let mut site = Site::closed().await;
    site.policy("checkout", |spec| {
        spec["access"] =
            json!([{"users": ["ann"], "actions": ["*"]}, {"users": ["*"], "actions": ["abort"]}]);
    });
    site.open().await;
    assert_eq!(site.sluice("start shop/checkout --version v2").await.code, 0);
    refused(&site.sluice("promote shop/checkout --user eve").await, "lets eve do abort, and not promote");
    refused(&site.sluice("pause --all --user eve").await, "lets eve do abort, and not pause");
    assert_eq!(site.phase("shop/checkout").await, "gated");
    assert_eq!(site.sluice("abort shop/checkout --user eve").await.code, 0);
    refused(&site.sluice("retry shop/checkout --user eve").await, "and not retry");
    site.until_taken("retry shop/checkout --user ann --id again").await;
    let metrics = reqwest::get(format!("{}/metrics", site.url())).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("sluice_refused_commands_total{kind=\"access\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_signed_command_has_its_effect_once_and_an_unsigned_one_none() {
    let mut site = Site::closed().await;
    site.policy("checkout", |_| ());
    let (ann, eve) = (KeyPair::new_user(), KeyPair::new_user());
    site.put("ann.seed", ann.seed().unwrap());
    site.put("eve.seed", eve.seed().unwrap());
    let signers = site.put("signers", format!("ann {}\n", ann.public_key()));
    site.more = vec!["--signers".into(), signers.display().to_string()];
    site.open().await;
    assert_eq!(site.sluice("start shop/checkout --version v2 --attempt one").await.code, 0);

    refused(&site.sluice("promote shop/checkout --user ann").await, "--sign-with");
    refused(&site.sluice("promote shop/checkout --user ann --sign-with eve.seed").await, "none of ann's");
    refused(&site.sluice("promote shop/checkout --user eve --sign-with eve.seed").await, "none of eve's");
    assert_eq!(site.phase("shop/checkout").await, "gated", "nothing has had any effect");

    // A key that is added counts at once.
    site.put("signers", format!("ann {}\neve {}\n", ann.public_key(), eve.public_key()));
    let aborted = site.sluice("abort shop/checkout --user eve --sign-with eve.seed --id x1 -o json").await;
    assert_eq!(aborted.code, 0, "{aborted:?}");

    // What somebody else wrote down of it: the same command again, and changed.
    let claim =
        sluice_wire::signature::Claim { user: "ann", namespace: "shop", name: "checkout", action: "abort" };
    let command =
        sluice_wire::message::Command { id: Some("x2".into()), reason: "seen".into(), ..Default::default() };
    let seed = site.dir.path().join("ann.seed");
    let now = sluice::runtime::clock::now();
    let signature = sluice::signing::sign(&seed, claim, now, &command).unwrap();
    let body = serde_json::to_value(sluice_wire::message::Command { signature: Some(signature), ..command })
        .unwrap();
    site.until_taken("start shop/checkout --version v2 --attempt two --id two").await;
    let mut changed = body.clone();
    changed["reason"] = json!("another");
    let (status, answer) = site.send("abort", "ann", &changed).await;
    assert!(status == 409 && answer["message"].as_str().unwrap().contains("does not fit"), "{answer}");
    let (status, answer) = site.send("promote", "ann", &body).await;
    assert!(status == 409 && answer["message"].as_str().unwrap().contains("does not fit"), "{answer}");
    let (status, first) = site.send("abort", "ann", &body).await;
    assert_eq!((status, &first["rollout"]), (200, &json!("shop/checkout@two")), "{first}");

    // It never meets a later attempt, nor after a restart.
    site.until_taken("start shop/checkout --version v2 --attempt three --id three").await;
    let (_, again) = site.send("abort", "ann", &body).await;
    assert_eq!(again, first, "a repeat gets the first answer again");
    site.stop().await;
    site.open().await;
    site.until(|| async { site.phase("shop/checkout@three").await == "gated" }).await;
    let (_, again) = site.send("abort", "ann", &body).await;
    assert_eq!(again, first);
    assert_eq!(site.phase("shop/checkout").await, "gated", "the third attempt stands where it stood");
}

#[tokio::test]
async fn a_policy_reaches_neither_metadata_services_nor_the_daemons_own_api() {
    let mut site = Site::closed().await;
    let own = site.port.address().port();
    for (name, url) in [
        ("literal", format!("http://127.0.0.1:{own}/events/shop/checkout")),
        ("by-name", format!("http://localhost:{own}/events/shop/checkout")),
        ("metadata", "http://169.254.169.254/latest/meta-data".to_owned()),
        ("mapped", "http://[::ffff:a9fe:a9fe]/".to_owned()),
    ] {
        site.policy(name, |spec| spec["target"]["webhook"]["url"] = json!(url));
    }
    let scrape = format!("http://127.0.0.1:{own}/metrics");
    site.policy("scraping", |spec| {
        spec["metrics"]["scrape"]["stable"] = json!([scrape]);
    });
    site.policy("gated", |spec| {
        spec["gates"] =
            json!([{"name": "self", "webhook": {"url": format!("http://127.0.0.1:{own}/healthz")}}]);
    });
    site.open().await;
    for (name, why) in [
        ("literal", "own API"),
        ("by-name", "own API"),
        ("metadata", "link-local or metadata"),
        ("mapped", "link-local or metadata"),
        ("scraping", "own API"),
    ] {
        let ran = site.sluice(&format!("start shop/{name} --version v2")).await;
        assert!(ran.code == 1 && ran.out.contains(why), "{name}: {ran:?}");
    }
    // A gate that may not be asked says no.
    assert_eq!(site.sluice("start shop/gated --version v2").await.code, 0);
    site.until(|| async { site.phase("shop/gated").await == "failed" }).await;
    site.until_said("history shop/gated", |ran| ran.out.contains("own API")).await;
    site.stop().await;

    // The operator's word counts.
    site.more = vec!["--allow-address".into(), "127.0.0.0/8,::1".into()];
    site.open().await;
    let ran = site.sluice("start shop/literal --version v2").await;
    assert!(
        ran.code == 1 && !ran.out.contains("own API"),
        "it is asked, and answers that there is no such path: {ran:?}"
    );
}

/// What a policy names as a secret is sent to where it says: so it can name no other file of the host.
#[tokio::test]
async fn a_policy_names_no_file_as_a_secret_but_those_below_the_daemons_folder() {
    let mut site = Site::closed().await;
    std::fs::create_dir(site.dir.path().join("secrets")).unwrap();
    site.put("private", "the host's own");
    std::os::unix::fs::symlink("../private", site.dir.path().join("secrets/link")).unwrap();
    site.put("secrets/token", "a token");
    let private = site.dir.path().join("private").display().to_string();
    let prometheus = json!({"prometheus": {"url": "http://127.0.0.1:1", "tokenFile": private,
        "labels": {"by": "app", "stable": "a", "canary": "b"}}});
    site.policy("target", |spec| spec["target"]["webhook"]["tokenFile"] = json!(private));
    site.policy("metrics", |spec| spec["metrics"] = prometheus);
    site.policy("slack", |spec| spec["alerts"] = json!([{"slack": {"urlFile": "/etc/passwd"}}]));
    site.policy("hook", |spec| {
        spec["alerts"] = json!([{"webhook": {"url": "http://127.0.0.1:1", "tokenFile": "../private"}}]);
    });
    site.policy("link", |spec| spec["target"]["webhook"]["tokenFile"] = json!("link"));
    site.policy("fine", |spec| spec["target"]["webhook"]["tokenFile"] = json!("token"));
    site.more = vec![
        "--secrets".into(),
        "/nowhere".into(),
        "--secrets".into(),
        site.dir.path().join("secrets").display().to_string(),
    ];
    site.open().await;
    for name in ["target", "metrics", "slack", "hook", "link"] {
        let ran = site.sluice(&format!("start shop/{name} --version v2")).await;
        assert!(ran.code == 1 && ran.out.contains("--secrets DIR"), "{name}: {ran:?}");
    }
    let ran = site.sluice("start shop/fine --version v2").await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Each of these stands in a file, a header or a URL, and in nothing that the daemon says or keeps.
#[tokio::test]
async fn secrets_are_in_nothing_that_the_daemon_says_or_keeps() {
    const SECRETS: [&str; 7] = [
        "token-of-ann-7f3a9c21",
        "token-of-target-51be",
        "token-of-alerts-c07d",
        "slack-path-9e44aa",
        "token-of-prometheus-2b",
        "wrong-token-e1f0c3d2",
        "SUAKEYSEEDTHATNOBODYSHOULDSEE",
    ];
    let [ann, target, alerts, slack, prometheus, wrong, seed] = SECRETS;
    let mut site = Site::closed().await;
    let file = |name: &str, text: &str| site.put(name, format!("{text}\n")).display().to_string();
    let (target, alerts, prometheus) =
        (file("target", target), file("alerts", alerts), file("prometheus", prometheus));
    let slack = file("slack", &format!("http://127.0.0.1:1/services/{slack}"));
    let tokens = file("tokens", &format!("ann {ann}"));
    let signers = file("signers", "nobody");
    file("ann.token", ann);
    file("wrong.token", wrong);
    file("damaged.seed", &seed.repeat(3));
    let sinks = json!([
        {"slack": {"urlFile": slack}},
        {"webhook": {"url": "http://127.0.0.1:1/on-call", "tokenFile": alerts}},
    ]);
    site.policy("checkout", |spec| {
        spec["target"]["webhook"]["tokenFile"] = json!(target);
        spec["alerts"] = sinks.clone();
    });
    site.policy("blind", |spec| {
        spec["metrics"] = json!({"prometheus": {"url": "http://127.0.0.1:1", "tokenFile": prometheus,
            "labels": {"by": "app", "stable": "a", "canary": "b"}}});
        spec["gates"] = json!([]);
        spec["alerts"] = sinks.clone();
        spec["limits"] = json!({"troubleAfter": "1s", "prepare": "3s"});
    });
    let secrets = ["--secrets".to_owned(), site.dir.path().display().to_string()];
    site.more = [&["--http-tokens".to_owned(), tokens.clone()][..], &secrets].concat();
    site.open().await;
    let mut said = String::new();
    let mut say = |ran: Ran| said += &format!("{}\n{}\n", ran.out, ran.err);
    say(site.sluice("status --token-file wrong.token").await);
    say(site.sluice("status").await);
    for line in [
        "start shop/checkout --version v2",
        "promote shop/checkout",
        "promote shop/checkout --sign-with damaged.seed",
        "abort shop/checkout",
        "explain shop/checkout",
        "history shop/checkout",
    ] {
        say(site.sluice(&format!("{line} --token-file ann.token")).await);
    }
    // Its target is free again.
    say(site.until_taken("start shop/blind --version v2 --id blind --token-file ann.token").await);
    // Until alerts were tried and the metrics failed, so that all of it has been read and used.
    let log_file = site.dir.path().join("log");
    let log = || std::fs::read_to_string(&log_file).unwrap();
    site.until(|| async {
        log().contains("alert not taken yet") && log().contains("prometheus http://127.0.0.1:1")
    })
    .await;
    say(site.sluice("status -o json --token-file ann.token").await);
    say(site.sluice("history shop/blind -o json --token-file ann.token").await);
    for path in ["metrics", "openapi.json", "readyz"] {
        said += &reqwest::get(format!("{}/{path}", site.url())).await.unwrap().text().await.unwrap();
    }
    // A token file that is wrong is told of, and so is one of signers.
    site.put("tokens", format!("ann {ann}\nbob short\n"));
    let ran = site.sluice("status --token-file ann.token").await;
    assert!(ran.code == 3, "{ran:?}");
    site.stop().await;
    site.more = [&["--signers".to_owned(), signers][..], &secrets].concat();
    site.open().await;
    refused(&site.sluice("abort shop/blind --reason now").await, "--sign-with");
    site.stop().await;

    let kept = walk(&site.dir.path().join("data"));
    assert!(
        log().contains("token file cannot be used") && kept.len() > 10_000,
        "{} bytes are kept",
        kept.len()
    );
    for secret in SECRETS {
        assert!(!log().contains(secret), "{secret} stands in the log");
        assert!(!said.contains(secret), "{secret} was said: {said}");
        let found = kept.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} stands in the store");
    }
}

/// Everything that the embedded bus keeps: states, histories, events.
fn walk(folder: &std::path::Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.flatten().collect()
}
