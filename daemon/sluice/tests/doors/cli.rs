//! The command line as a process before a daemon that the test plays: what it prints, and how it ends.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::http::HttpOptions;
use sluice_wire::message::Answer;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::fake::{Fake, House, accepted, line, open, open_with, story, token_file, view};

const LIMIT: Duration = Duration::from_secs(180);

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The binary without anything of this machine's in its environment.
pub fn binary(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(words).env_clear().env("USER", "ann").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.kill_on_drop(true);
    command
}

pub async fn ran(mut command: Command) -> Ran {
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("it does not end").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

async fn sluice(house: &House, line: &str) -> Ran {
    sluice_at(&house.url, line).await
}

async fn sluice_at(url: &str, line: &str) -> Ran {
    let mut command = binary(&line.split(' ').collect::<Vec<_>>());
    command.env("SLUICE_SERVER", url);
    ran(command).await
}

#[tokio::test]
async fn status_is_a_table_or_json() {
    let house =
        open(Fake::new().with(&[view("checkout", json!({})), view("cart", json!({"weight": 25.0}))])).await;
    let table = sluice(&house, "status").await;
    assert_eq!(table.code, 0, "{table:?}");
    insta::assert_snapshot!(table.out);
    let list = sluice(&house, "status -o json").await;
    assert_eq!(list.json()[1]["weight"], 25.0);
    let one = sluice(&house, "status shop/checkout -o json").await;
    assert_eq!(one.json()["phase"], "observing");
    assert_eq!(sluice(&house, "status -n other -o json").await.json(), json!([]));
}

#[tokio::test]
async fn an_unknown_rollout_is_wrong_input_and_says_what_to_do() {
    let house = open(Fake::new()).await;
    for line in
        ["status shop/checkout", "history shop/checkout", "explain shop/checkout", "watch shop/checkout"]
    {
        let ran = sluice(&house, line).await;
        assert_eq!(ran.code, 2, "{line}: {ran:?}");
        assert!(ran.err.contains("no rollout shop/checkout") && ran.err.contains("help: "), "{ran:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_exit_three_and_says_where_it_looked() {
    let port = sluice_rig::ports::Port::free().unwrap();
    let url = format!("http://{}", port.address());
    for line in ["status", "watch", "abort shop/checkout", "start shop/checkout --wait"] {
        let ran = sluice_at(&url, line).await;
        assert_eq!(ran.code, 3, "{line}: {ran:?}");
        assert!(ran.err.contains(&url) && ran.err.contains("sluice run"), "{ran:?}");
    }
    let ran = sluice_at(&url, "status -o json").await;
    let fault: Value = serde_json::from_str(&ran.err).unwrap();
    assert!(fault["remedy"].as_str().unwrap().contains("sluice run"));
}

#[tokio::test]
async fn a_command_prints_what_will_happen() {
    let house = open(Fake::new()).await;
    let ran = sluice(&house, "pause shop/checkout@v2-1 --reason looking --revision 9").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "paused at 5 % (step 1 of 4); revision 10\n"));
    let commanded = house.commands().remove(0);
    assert_eq!((commanded.user.as_str(), commanded.command.attempt.as_deref()), ("ann", Some("v2-1")));
    assert_eq!((commanded.command.reason.as_str(), commanded.command.revision), ("looking", Some(9)));
}

#[tokio::test]
async fn every_override_reaches_its_own_action() {
    let house = open(Fake::new()).await;
    let lines = [
        "promote shop/a",
        "promote-full shop/a",
        "pause shop/a",
        "resume shop/a",
        "abort shop/a",
        "retry shop/a",
        "skip shop/a --to 3",
        "set-weight shop/a 2.5",
        "extend shop/a 30m",
    ];
    for line in lines {
        assert_eq!(sluice(&house, line).await.code, 0, "{line}");
    }
    let actions: Vec<String> = house.commands().into_iter().map(|command| command.action).collect();
    let words: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(actions, words);
}

#[tokio::test]
async fn all_of_a_label_is_one_message_with_an_answer_each() {
    let each = vec![
        Answer {
            rollout: Some("shop/a@1".parse().unwrap()),
            ..accepted("aborting: traffic goes to 0 %; revision 4")
        },
        Answer { rollout: Some("shop/b@1".parse().unwrap()), ..Answer::refused("refused: already aborting") },
    ];
    let house = open(Fake::new().answering(Answer { each, ..accepted("1 of 2 rollouts") })).await;
    let ran = sluice(&house, "abort --all -n shop -l team=payments").await;
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.out,
        "1 of 2 rollouts\n  shop/a@1: aborting: traffic goes to 0 %; revision 4\n  shop/b@1: refused: already aborting\n"
    );
    let commanded = house.commands().remove(0);
    assert_eq!(
        (commanded.place.as_str(), commanded.command.selector["team"].as_str()),
        ("shop/_all", "payments")
    );
}

#[tokio::test]
async fn a_refusal_is_exit_one_with_the_reason() {
    let refused = Answer {
        rollout: Some("shop/checkout@v2-1".parse().unwrap()),
        ..Answer::refused("refused: revision 7 expected, it is at 9")
    };
    let house = open(Fake::new().answering(refused)).await;
    let ran = sluice(&house, "promote shop/checkout --revision 7").await;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.out, "shop/checkout@v2-1: refused: revision 7 expected, it is at 9\n");
}

#[tokio::test]
async fn a_release_that_is_promoted_ends_well_and_tells_every_transition() {
    let house = open(Fake::new().playing(&story("promoted", "the new version is the stable one"))).await;
    let ran = sluice(&house, "start shop/checkout --version v2 --wait").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.out);
    let (place, event) = house.announcements().remove(0);
    assert_eq!((place.as_str(), event.kind.as_str()), ("shop/checkout", "dev.sluice.release.announced"));
    assert_eq!((&event.data["version"], &event.data["actor"]), (&json!("v2"), &json!("ann")));
}

#[tokio::test]
async fn a_release_that_is_put_back_is_exit_one() {
    let house = open(Fake::new().playing(&story("reverted", "canary fails 9.0 times as often"))).await;
    let ran = sluice(&house, "start shop/checkout --wait -o json").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let lines = ran.lines();
    assert_eq!(lines[0]["accepted"], true);
    assert_eq!(lines.last().unwrap()["outcome"], "reverted");
    assert_eq!(lines.last().unwrap()["weight"], 0.0);
}

#[tokio::test]
async fn a_release_that_takes_too_long_is_exit_one_and_goes_on() {
    let house = open(Fake::new().playing(&story("promoted", "")[..2])).await;
    // Long enough for it to be announced on a busy machine.
    let ran = sluice(&house, "start shop/checkout --wait --timeout 10s").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("it goes on"), "{ran:?}");
}

#[tokio::test]
async fn a_refused_announcement_is_exit_one() {
    let house = open(
        Fake::new()
            .answering(Answer::refused("no policy shop/checkout; put its file into the policies folder")),
    )
    .await;
    let ran = sluice(&house, "start shop/checkout --wait").await;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.out, "refused: no policy shop/checkout; put its file into the policies folder\n");
}

#[tokio::test]
async fn the_same_id_makes_the_same_announcement() {
    let house = open(Fake::new()).await;
    for _ in 0..2 {
        assert_eq!(sluice(&house, "start shop/checkout --id build-17").await.code, 0);
    }
    let announced = house.announcements();
    assert_eq!(announced[0].1.key(), announced[1].1.key());
}

#[tokio::test]
async fn a_watch_prints_one_line_a_change_and_ends_with_the_rollout() {
    let house = open(Fake::new().with(&[view("checkout", json!({}))])).await;
    let mut command = binary(&["watch", "shop/checkout"]);
    let mut child = command.env("SLUICE_SERVER", &house.url).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().contains("observing"));
    house.fake.change(view("checkout", json!({"evidence": {"more": 1}})));
    house.fake.change(view("checkout", json!({"revision": 10, "phase": "paused"})));
    assert!(lines.next_line().await.unwrap().unwrap().contains("paused"), "evidence alone is no line");
    house.fake.change(story("promoted", "done").remove(2));
    assert!(lines.next_line().await.unwrap().unwrap().contains("promoted"));
    let status = tokio::time::timeout(LIMIT, child.wait()).await.expect("the watch goes on").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_watch_that_runs_out_of_time_says_whether_the_rollout_had_ended() {
    let house = open(Fake::new().with(&[view("checkout", json!({}))])).await;
    // Both at once, since each waits until the end; that is long enough for a busy machine to show what there is.
    let (one, all) = tokio::join!(
        sluice(&house, "watch shop/checkout --timeout 10s"),
        sluice(&house, "watch --timeout 10s -o json")
    );
    assert_eq!(one.code, 1);
    assert_eq!((all.code, all.lines().len()), (0, 1));
}

#[tokio::test]
async fn history_is_told_oldest_first() {
    let house = open(Fake::new()).await;
    story("promoted", "the new version is the stable one")
        .into_iter()
        .for_each(|view| house.fake.change(view));
    let ran = sluice(&house, "history shop/checkout").await;
    assert_eq!(ran.code, 0);
    insta::assert_snapshot!(ran.out);
    let first = &sluice(&house, "history shop/checkout -o json").await.lines()[0];
    assert_eq!(first, &serde_json::to_value(line(&story("promoted", "")[0])).unwrap());
}

#[tokio::test]
async fn explain_says_what_is_known_and_what_to_type() {
    let finding = json!({
        "metric": "errors", "logAbort": 1.2, "abortBar": 4.6052, "logAdvance": 2.4, "advanceBar": 3.0, "gates": true,
        "ratio": 1.1, "ratioLow": 0.4, "ratioHigh": 2.2, "canary": {"n": 1240, "x": 12}, "stable": {"n": 23000, "x": 210},
        "needed": 900, "neededToAbort": null, "neededToAdvance": 900, "minutes": 3.0,
    });
    let evidence = json!({
        "verdict": "undecided", "step": 2, "windows": 12, "logAbort": 1.2, "abortBar": 4.6052, "tolerance": 0.01,
        "history": true, "findings": [finding], "culprits": [],
    });
    let house = open(Fake::new()).await;
    house.fake.change(view("checkout", json!({"evidence": evidence})));
    let ran = sluice(&house, "explain shop/checkout").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.out);
    let json = sluice(&house, "explain shop/checkout -o json").await.json();
    assert!(json["words"].as_str().unwrap().contains("1.1 times as often"));
}

#[tokio::test]
async fn texts_of_others_do_nothing_to_the_terminal() {
    let evil = "x\u{1b}[2J\u{7}";
    let house = open(Fake::new().answering(accepted(evil))).await;
    house.fake.change(view("checkout", json!({"reason": evil, "release": evil})));
    for line in [
        "status",
        "status shop/checkout",
        "history shop/checkout",
        "explain shop/checkout",
        "pause shop/checkout",
    ] {
        let ran = sluice(&house, line).await;
        assert!(!ran.out.contains(['\u{1b}', '\u{7}']), "{line}: {:?}", ran.out);
    }
}

#[tokio::test]
async fn a_token_comes_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = token_file(&dir, "ci 0123456789abcdef\n");
    let house = open_with(Fake::new(), HttpOptions { tokens: Some(tokens), ..HttpOptions::default() }).await;
    let ran = sluice(&house, "pause shop/checkout").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("a token is needed") && ran.err.contains("--token-file"), "{ran:?}");
    let own = dir.path().join("own");
    std::fs::write(&own, "0123456789abcdef\n").unwrap();
    let ran = sluice(&house, &format!("pause shop/checkout --token-file {}", own.display())).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(house.commands()[0].user, "ci");
}

#[tokio::test]
async fn something_else_that_answers_there_is_not_believed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut asked).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<ht>")
                .await;
        }
    });
    let ran = ran(binary(&["status", "--server", &url])).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("not understood"), "{ran:?}");
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_no_fault() {
    let views: Vec<_> = (0..500)
        .map(|number| view(&format!("service-{number}"), json!({"reason": "x".repeat(300)})))
        .collect();
    let house = open(Fake::new().with(&views)).await;
    let mut command = Command::new("sh");
    let line =
        format!("{} status -o json | head -c 10; exit ${{PIPESTATUS:-0}}", env!("CARGO_BIN_EXE_sluice"));
    command.args(["-c", &line]).env("SLUICE_SERVER", &house.url).stdin(Stdio::null());
    let ran = ran(command).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
