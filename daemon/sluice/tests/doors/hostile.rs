//! Whatever arrives gets an answer that names the place and the remedy, and changes nothing.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::http::{HttpLimits, HttpOptions, Rate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake::{Fake, House, answer, open, open_with};

const PAUSE: &str = "/api/v1/rollouts/shop/checkout/pause";
/// No allowance comes back and no connection is idle for too long while a test runs, however slow the machine is.
const NEVER_MEANWHILE: Duration = Duration::from_secs(3600);
const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"ci","type":"t","data":{}}"#;

fn nothing_happened(house: &House) {
    assert_eq!(house.commands(), []);
    assert_eq!(house.announcements(), []);
}

fn explains(fault: &Value) {
    for part in ["error", "remedy"] {
        assert!(fault[part].as_str().is_some_and(|text| text.len() > 3), "no {part} in {fault}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_command_name_what_is_wrong() {
    let house = open(Fake::new()).await;
    for (action, body, told) in [
        ("pause", "{", "EOF"),
        ("pause", "\u{0}\u{1}", "expected value"),
        ("pause", "[]", "array"),
        ("pause", r#"{"resaon":"x"}"#, "resaon"),
        ("pause", r#"{"revision":-1}"#, "-1"),
        ("explode", "{}", "explode"),
        ("set-weight", "{}", "weight"),
        ("set-weight", r#"{"weight":101}"#, "0 to 100"),
        ("set-weight", r#"{"weight":0.001}"#, "two decimals"),
        ("extend", r#"{"by":"soon"}"#, "30s"),
        ("pause", r#"{"id":""}"#, "id"),
    ] {
        let (status, fault) = house.post(&format!("/api/v1/rollouts/shop/checkout/{action}"), body).await;
        assert_eq!(status, 400, "{action} {body}");
        explains(&fault);
        assert!(fault.to_string().contains(told), "{action} {body}: {fault}");
    }
    let (status, _) = house.post(PAUSE, json!({"reason": "x".repeat(501)}).to_string()).await;
    assert_eq!(status, 400);
    nothing_happened(&house);
}

#[tokio::test]
async fn bodies_that_are_no_event_name_the_attribute() {
    let house = open(Fake::new()).await;
    for (body, told) in [
        ("", "JSON"),
        ("null", "CloudEvent"),
        (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "source"),
        (r#"{"specversion":"0.3","id":"1","source":"a","type":"t"}"#, "0.3"),
        (r#"{"specversion":"1.0","id":"1","id":"2","source":"a","type":"t"}"#, "twice"),
        (r#"{"specversion":"1.0","id":"1","source":"a","type":"t","time":"tomorrow"}"#, "RFC 3339"),
    ] {
        let (status, fault) = house.post("/events/shop/checkout", body).await;
        assert_eq!(status, 400, "{body}");
        explains(&fault);
        assert!(fault.to_string().contains(told), "{body}: {fault}");
    }
    nothing_happened(&house);
}

#[tokio::test]
async fn names_cannot_lead_elsewhere() {
    let house = open(Fake::new()).await;
    for name in
        ["a%20b", "%2A", "%3E", "..%2F..", "a%2Fb", "A", "%FF", "-a", "a%00", "_all%2E", &"x".repeat(300)]
    {
        for path in
            [format!("/api/v1/rollouts/shop/{name}/abort"), format!("/api/v1/rollouts/{name}/checkout/abort")]
        {
            let (status, fault) = house.post(&path, "{}").await;
            assert_eq!(status, 400, "{path}");
            explains(&fault);
        }
        assert_eq!(house.get(&format!("/api/v1/rollouts/shop/{name}")).await.0, 400, "{name}");
        assert_eq!(house.post(&format!("/events/shop/{name}"), EVENT).await.0, 400, "{name}");
    }
    let subject = EVENT.replace("\"id\"", "\"subject\":\"shop/*\",\"id\"");
    assert_eq!(house.post("/events", subject).await.0, 400);
    assert_eq!(house.post("/api/v1/rollouts/_all/checkout/abort", "{}").await.0, 400);
    nothing_happened(&house);
}

#[tokio::test]
async fn names_with_dots_are_names() {
    let house = open(Fake::new()).await;
    assert_eq!(house.post("/api/v1/rollouts/shop/check.out/abort", "{}").await.0, 200);
    assert_eq!(house.commands()[0].place, "shop/check.out");
}

#[tokio::test]
async fn what_is_too_large_is_not_read_to_its_end() {
    let house = open(Fake::new()).await;
    let padded = |bytes: usize| format!("{}{}", EVENT, " ".repeat(bytes));
    assert_eq!(raw_post(&house, "/events/shop/checkout", &padded(10 << 20)).await, 413);
    let policy = EVENT.replace("{}", &json!({"policy": {"spec": "x".repeat(300 * 1024)}}).to_string());
    let (status, fault) = house.post("/events/shop/checkout", policy).await;
    assert_eq!(status, 413);
    explains(&fault);
    assert_eq!(house.post(PAUSE, " ".repeat(100 * 1024)).await.0, 413);
    nothing_happened(&house);
}

/// Writes as far as the server reads, and gives the status that it sends.
async fn raw_post(house: &House, path: &str, body: &str) -> u16 {
    let address = house.url.trim_start_matches("http://");
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
    let text = head + body;
    let writing = tokio::spawn(async move {
        // The server may hang up before it has everything: that is the point.
        let _ = write.write_all(text.as_bytes()).await;
        write
    });
    let mut status = [0; 12];
    read.read_exact(&mut status).await.unwrap();
    writing.abort();
    String::from_utf8_lossy(&status[9..12]).parse().unwrap()
}

#[tokio::test]
async fn wrong_paths_and_methods_say_so_in_json() {
    let house = open(Fake::new()).await;
    let (status, fault) = house.get("/api/v2/rollouts").await;
    assert_eq!(status, 404);
    explains(&fault);
    let (status, fault) = house.get(PAUSE).await;
    assert_eq!(status, 405);
    explains(&fault);
    assert_eq!(house.post("/api/v1/rollouts/shop/checkout/history", "{}").await.0, 405);
    nothing_happened(&house);
}

#[tokio::test]
async fn no_browser_changes_anything_for_another_site() {
    let house = open(Fake::new()).await;
    let own = house.url.clone();
    for (name, value, status) in [
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Host", "evil.example", 403),
        ("X-Forwarded-For", "203.0.113.7", 403),
        ("Origin", own.as_str(), 200),
        ("Sec-Fetch-Site", "same-origin", 200),
    ] {
        for path in [PAUSE, "/api/v1/rollouts/_all/_all/abort"] {
            let request = reqwest::Client::new().post(house.at(path)).header(name, value);
            let (given, fault) = answer(request).await;
            assert_eq!(given, status, "{name}: {value}");
            if status == 403 {
                explains(&fault);
            }
        }
    }
    assert_eq!(house.commands().len(), 4, "the two that are our own");
}

#[tokio::test]
async fn a_user_that_could_not_be_shown_is_unknown() {
    let house = open(Fake::new()).await;
    for user in ["", "%0Aroot", &"x".repeat(200)] {
        let request = reqwest::Client::new().post(house.at(PAUSE)).header("Sluice-User", user);
        assert_eq!(answer(request).await.0, 200);
    }
    assert!(house.commands().iter().all(|command| command.user == "unknown"));
}

#[tokio::test]
async fn a_flood_is_slowed_down_and_told_when_to_come_back() {
    let rate = Rate { one_per: NEVER_MEANWHILE, burst: 3 };
    let limits = HttpLimits { events: rate, commands: rate, ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(house.post("/events/shop/checkout", EVENT).await.0);
    }
    assert_eq!(statuses, [202, 202, 202, 429]);
    let request = reqwest::Client::new().post(house.at("/events/shop/checkout")).body(EVENT);
    let retry: u64 =
        request.send().await.unwrap().headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=NEVER_MEANWHILE.as_secs() + 1).contains(&retry), "Retry-After: {retry}");
    assert_eq!(house.post(PAUSE, "").await.0, 200, "a flood of events never delays a command");
}

#[tokio::test]
async fn a_new_name_is_no_new_allowance() {
    let limits =
        HttpLimits { commands: Rate { one_per: NEVER_MEANWHILE, burst: 2 }, ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    let mut statuses = Vec::new();
    for user in ["a", "b", "c"] {
        statuses
            .push(answer(reqwest::Client::new().post(house.at(PAUSE)).header("Sluice-User", user)).await.0);
    }
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn slow_headers_end_and_hold_nobody_up() {
    let limits = HttpLimits { headers: Duration::from_secs(3), ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    let address = house.url.trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"POST /events HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(house.get("/healthz").await.0, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(180), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a connection without a whole header is still open");
    }
    nothing_happened(&house);
}

#[tokio::test]
async fn a_body_that_never_ends_gets_an_answer() {
    let limits = HttpLimits { request: Duration::from_millis(300), ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    let address = house.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("POST {PAUSE} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    tokio::time::timeout(Duration::from_secs(180), stream.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status[9..12], b"504");
    nothing_happened(&house);
}

#[tokio::test]
async fn an_answer_that_does_not_come_says_that_nothing_is_known() {
    let limits = HttpLimits { command: Duration::from_millis(200), ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    *house.fake.mute.lock().unwrap() = true;
    let (status, fault) = house.post(PAUSE, r#"{"id": "pause-7"}"#).await;
    assert_eq!(status, 504);
    assert!(fault["remedy"].as_str().unwrap().contains("send it again with id \"pause-7\""), "{fault}");
}

#[tokio::test]
async fn commands_that_outlast_their_answer_do_not_pile_up_and_an_abort_is_let_in() {
    let limits =
        HttpLimits { command: Duration::from_millis(500), waiting_commands: 2, ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    *house.fake.mute.lock().unwrap() = true;
    for _ in 0..2 {
        assert_eq!(house.post(PAUSE, "{}").await.0, 504, "it waits on, though nobody waits for it");
    }
    let (status, fault) = house.post(PAUSE, "{}").await;
    assert_eq!(status, 503);
    assert!(fault["error"].as_str().unwrap().contains("2 commands wait"), "{fault}");
    *house.fake.mute.lock().unwrap() = false;
    assert_eq!(house.post(&PAUSE.replace("pause", "abort"), "{}").await.0, 200);
}

#[tokio::test]
async fn beyond_its_connections_the_door_lets_newcomers_wait() {
    const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let limits = HttpLimits { connections: 1, headers: NEVER_MEANWHILE, ..HttpLimits::default() };
    let house = open_with(Fake::new(), HttpOptions { limits, ..HttpOptions::default() }).await;
    let address = house.url.trim_start_matches("http://").to_owned();
    let mut first = TcpStream::connect(&address).await.unwrap();
    let mut second = TcpStream::connect(&address).await.unwrap();
    let mut byte = [0; 12];
    for _ in 0..2 {
        second.write_all(ASK).await.unwrap();
        first.write_all(ASK).await.unwrap();
        first.read_exact(&mut byte).await.unwrap();
        let early = second.try_read(&mut byte).map_err(|error| error.kind());
        assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "it was let in beside the first");
    }
    drop(first);
    let answered = tokio::time::timeout(Duration::from_secs(180), second.read_exact(&mut byte)).await;
    answered.expect("a place that was given back is nobody's").unwrap();
    assert_eq!(&byte[9..12], b"200");
}
