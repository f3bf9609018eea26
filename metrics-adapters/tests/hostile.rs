//! Servers that answer what they should not: an error each, with its place; never a reading, never a panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use sluice_metrics_adapters::{Ask, Clock, Http, Reading, Source, SourceError, Sources, connect};
use sluice_outbound::Outbound;
use support::{Answer, Stub, ask, http, json, policy};

/// Longer than any answer takes on a busy machine.
const PATIENT: &str = "1m";
/// For those who never answer.
const SOON: &str = "400ms";

/// A source at this stub, and asks of rollouts `a0`, `a1`, … there.
fn prometheus(url: &str, rollouts: usize, more: &str) -> (Arc<dyn Source>, Vec<Ask>) {
    prometheus_within(PATIENT, url, rollouts, more)
}

fn prometheus_within(limit: &str, url: &str, rollouts: usize, more: &str) -> (Arc<dyn Source>, Vec<Ask>) {
    let policies: Vec<_> = (0..rollouts)
        .map(|n| {
            let block = format!("{{prometheus: {{url: '{url}', timeout: {limit}{more}, labels: {{stable: a{n}, canary: a{n}-canary}}}}}}");
            policy(&format!("a{n}"), &block)
        })
        .collect();
    let outbound = Outbound::default().with_secrets(vec![std::env::temp_dir()]);
    let http = Http { most_bytes: 100_000, outbound, ..Http::default() };
    (connect(&policies[0].spec.metrics, &http).unwrap(), policies.iter().map(ask).collect())
}

async fn read_one(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Result<Reading, SourceError> {
    read_within(PATIENT, answer).await
}

async fn read_within(
    limit: &str,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Result<Reading, SourceError> {
    let stub = Stub::start(answer).await;
    let (source, asks) = prometheus_within(limit, &stub.url(), 1, "");
    source.read(&asks, 5_000).await.remove(0)
}

const EMPTY: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
const BAD: &str = r#"{"status":"error","errorType":"bad_data","error":"1:7: parse error"}"#;

#[tokio::test]
async fn answers_that_are_none_are_errors_with_their_reason() {
    for (status, kind, body, words) in [
        (200, "text/html", "<html>please log in</html>", "text/html begins with: <html>please log in"),
        (
            200,
            "application/json",
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
            "a matrix",
        ),
        (200, "application/json", r#"{"status":"success","data":{"resu"#, "column"),
        (200, "application/json", "", "EOF"),
        (400, "application/json", BAD, "1:7: parse error"),
        (401, "text/plain", "who are you?", "HTTP 401: who are you?"),
        (
            503,
            "application/json",
            r#"{"status":"error","errorType":"timeout","error":"slow"}"#,
            "HTTP 503: timeout: slow",
        ),
    ] {
        let error = read_one(move |_| http(status, kind, body)).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("prometheus http://127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer = |_: &str| {
        Answer::Bytes(
            b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
        )
    };
    assert!(matches!(read_one(answer).await, Err(SourceError::Status { status: 302, .. })));
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_never_comes_or_never_ends_is_an_error() {
    let cut = read_one(|_| {
        Answer::Bytes(b"HTTP/1.1 200 X\r\ncontent-length: 900\r\n\r\n{\"status\":\"succ".to_vec())
    })
    .await;
    assert!(matches!(cut, Err(SourceError::Unreachable { .. })), "{cut:?}");
    let silent = read_within(SOON, |_| Answer::Silence).await;
    assert!(matches!(silent, Err(SourceError::Timeout { .. })), "{silent:?}");
    let endless = read_one(|_| json(200, &" ".repeat(200_000))).await;
    assert!(matches!(endless, Err(SourceError::TooLarge { most_bytes: 100_000, .. })), "{endless:?}");
}

#[tokio::test]
async fn every_query_is_a_form_with_its_time_the_headers_and_todays_token() {
    let stub = Stub::start(|_| json(200, EMPTY)).await;
    let token = std::env::temp_dir().join(format!("sluice-token-{}", std::process::id()));
    let more = format!(", headers: {{X-Scope-OrgID: shop}}, tokenFile: '{}'", token.display());
    let (source, asks) = prometheus(&stub.url(), 1, &more);
    for (number, secret) in ["first", "second"].iter().enumerate() {
        std::fs::write(&token, format!("{secret}\n")).unwrap();
        source.read(&asks, 1_790_000_000_123).await.remove(0).unwrap();
        let request = stub.requests().remove(number).to_ascii_lowercase();
        for part in [
            "post /api/v1/query http/1.1".to_owned(),
            "content-type: application/x-www-form-urlencoded".to_owned(),
            "time=1790000000.123".to_owned(),
            "partial_response=false".to_owned(),
            "nocache=1".to_owned(),
            "x-scope-orgid: shop".to_owned(),
            "accept-encoding: gzip".to_owned(),
            format!("authorization: bearer {secret}"),
        ] {
            assert!(request.contains(&part), "{part} is not in {request}");
        }
    }
    std::fs::remove_file(&token).unwrap();
    let error = source.read(&asks, 5_000).await.remove(0).unwrap_err();
    assert!(matches!(&error, SourceError::Config { what, .. } if what.contains("token file")), "{error}");
}

#[tokio::test]
async fn a_batch_that_is_refused_is_asked_again_one_by_one() {
    let stub = Stub::start(|request| {
        let spoiled = request.contains("a1-canary");
        if spoiled { json(400, BAD) } else { json(200, EMPTY) }
    })
    .await;
    let (source, asks) = prometheus(&stub.url(), 3, "");
    let answers = source.read(&asks, 5_000).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(matches!(&answers[1], Err(SourceError::Query { query, .. }) if query.contains("a1-canary")));
    assert_eq!(stub.requests().len(), 4, "the batch, and each of three");
}

#[tokio::test]
async fn a_hundred_and_twenty_rollouts_are_three_queries() {
    let stub = Stub::start(|_| json(200, EMPTY)).await;
    let (source, asks) = prometheus(&stub.url(), 120, "");
    assert!(source.read(&asks, 5_000).await.iter().all(Result::is_ok));
    assert_eq!(stub.requests().len(), 3);
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone() {
    let stub = Stub::start(|_| http(500, "text/plain", "broken")).await;
    let (source, asks) = prometheus(&stub.url(), 1, "");
    // Until then; after its pause it would be tried again.
    let mut refusals = Vec::new();
    while refusals.len() < 20 && !matches!(refusals.last(), Some(Err(SourceError::Open { .. }))) {
        refusals.push(source.read(&asks, 5_000).await.remove(0));
    }
    assert!(matches!(refusals.last(), Some(Err(SourceError::Open { .. }))), "{refusals:?}");
    assert!(stub.requests().len() < 10, "{} requests", stub.requests().len());
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let failures = AtomicUsize::new(0);
    let stub = Stub::start(move |_| {
        let broken = failures.fetch_add(1, Ordering::SeqCst) < 6;
        if broken { http(502, "text/plain", "gone") } else { json(200, EMPTY) }
    })
    .await;
    let (source, asks) = prometheus(&stub.url(), 1, "");
    let back = async {
        while source.read(&asks, 5_000).await.remove(0).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), back).await.expect("it is found again");
}

#[tokio::test]
async fn one_rollout_has_one_read_on_its_way() {
    let stub = Stub::start(|_| Answer::Silence).await;
    let (source, asks) = prometheus_within(SOON, &stub.url(), 1, "");
    let (first, second) = futures::join!(source.read(&asks, 5_000), source.read(&asks, 5_000));
    assert!(matches!(first[0], Err(SourceError::Timeout { .. })), "{first:?}");
    assert!(matches!(second[0], Err(SourceError::Busy { .. })), "{second:?}");
}

#[tokio::test]
async fn a_servers_clock_is_told_by_its_dates_and_followed() {
    let stub = Stub::start(|_| {
        let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(30));
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        let head = format!(
            "HTTP/1.1 200 X\r\ndate: {date}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        Answer::Bytes([head.as_bytes(), body.as_bytes()].concat())
    })
    .await;
    let (source, asks) = prometheus(&stub.url(), 1, "");
    assert_eq!(source.clock(), Clock::default());
    source.read(&asks, 5_000).await.remove(0).unwrap();
    // A busy machine only makes it less certain, which is nearer to 0.
    let clock = source.clock();
    assert!((-30_000..=-15_000).contains(&clock.ahead_ms), "{clock:?}");
    assert_eq!(clock.followed_ms, clock.ahead_ms);
    source.read(&asks, 5_000).await.remove(0).unwrap();
    let times: Vec<f64> = stub
        .requests()
        .iter()
        .filter_map(|request| request.rsplit('&').find_map(|field| field.strip_prefix("time=")?.parse().ok()))
        .collect();
    assert!(times[0] == 5.0 && times[1] >= 20.0, "the newest there is, by whichever clock: {times:?}");
}

#[tokio::test]
async fn the_servers_warnings_are_complaints() {
    let warned = EMPTY.replace(r#""data""#, r#""warnings":["store gateway 3 is away"],"data""#);
    let reading = read_one(move |_| json(200, &warned)).await.unwrap();
    assert!(reading.complaints[0].contains("store gateway 3 is away"));
}

#[tokio::test]
async fn policies_of_one_server_share_its_source() {
    let sources = Sources::new(Http::default());
    let at = |url: &str| {
        policy("a", &format!("{{prometheus: {{url: '{url}', labels: {{stable: a, canary: b}}}}}}"))
    };
    let one = sources.connect(&at("http://127.0.0.1:1").spec.metrics).unwrap();
    let two = sources.connect(&at("http://127.0.0.1:1").spec.metrics).unwrap();
    let other = sources.connect(&at("http://127.0.0.1:2").spec.metrics).unwrap();
    assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &other));
    assert!(sources.connect(&at("ftp://127.0.0.1:2").spec.metrics).is_err());
}

/// What a stub answers.
type Told = Box<dyn Fn(&str) -> Answer + Send + Sync>;

const GOOD: &str = "http_requests_total{code=\"200\"} 5\nhttp_requests_total{code=\"500\"} 1\n";

async fn scrape(
    limit: &str,
    canary: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Result<Reading, SourceError> {
    let (stable, canary) = (Stub::start(|_| http(200, "text/plain", GOOD)).await, Stub::start(canary).await);
    let block = format!(
        "{{scrape: {{stable: ['{}/metrics'], canary: ['{}/metrics'], timeout: {limit}}}}}",
        stable.url(),
        canary.url()
    );
    let policy = policy("a", &block);
    connect(&policy.spec.metrics, &Http::default()).unwrap().read(&[ask(&policy)], 5_000).await.remove(0)
}

#[tokio::test]
async fn a_pod_that_cannot_be_read_whole_is_left_out_with_a_complaint() {
    let both = scrape(PATIENT, |_| http(200, "text/plain", GOOD)).await.unwrap();
    assert_eq!((both.pods.len(), both.next_ms), (2, 10_000));
    assert_eq!((both.pods[1].requests, both.pods[1].errors, both.pods[1].at_ms), (6, 1, 5_000));
    let cut = format!("HTTP/1.1 200 X\r\ncontent-length: 900\r\n\r\n{GOOD}");
    let answers: [(Told, &str); 6] = [
        (Box::new(|_| http(200, "text/plain", &GOOD[..GOOD.len() / 2 + 5])), "cut"),
        (Box::new(move |_| Answer::Bytes(cut.clone().into_bytes())), "reached"),
        (Box::new(|_| http(200, "text/html", "<html>\n")), "text/html"),
        (Box::new(|_| http(503, "text/plain", "starting")), "HTTP 503: starting"),
        (Box::new(|_| Answer::Silence), "no answer within 3s"),
        (Box::new(|_| http(200, "application/openmetrics-text", GOOD)), "# EOF"),
    ];
    for (answer, words) in answers {
        let limit = if words.starts_with("no answer") { "3s" } else { PATIENT };
        let reading = scrape(limit, answer).await.unwrap();
        assert_eq!(reading.pods.len(), 1, "{words}");
        let said = &reading.complaints[0];
        assert!(said.starts_with("canary pod 127.0.0.1:") && said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_pod_that_shows_less_than_before_is_doubted_once() {
    let turns = AtomicUsize::new(0);
    let typed = "# TYPE http_requests_total counter\n";
    let canary = Stub::start(move |_| {
        let first = turns.fetch_add(1, Ordering::SeqCst) == 0;
        http(
            200,
            "text/plain",
            if first { format!("{typed}{GOOD}# TYPE x gauge\nx 1\n") } else { format!("{typed}{GOOD}") },
        )
    })
    .await;
    let stable = Stub::start(|_| http(200, "text/plain", GOOD)).await;
    let block =
        format!("{{scrape: {{stable: ['{}/metrics'], canary: ['{}/metrics']}}}}", stable.url(), canary.url());
    let policy = policy("a", &block);
    let source = connect(&policy.spec.metrics, &Http::default()).unwrap();
    let mut pods = Vec::new();
    for at in [1_000, 2_000, 3_000] {
        pods.push(source.read(&[ask(&policy)], at).await.remove(0).unwrap().pods.len());
    }
    assert_eq!(pods, [2, 1, 2]);
}

#[tokio::test]
async fn if_no_pod_answers_the_source_is_down() {
    let policy = policy(
        "a",
        "{scrape: {stable: ['http://127.0.0.1:1/metrics'], canary: ['http://127.0.0.1:2/metrics']}}",
    );
    let source = connect(&policy.spec.metrics, &Http::default()).unwrap();
    let error = source.read(&[ask(&policy)], 1_000).await.remove(0).unwrap_err();
    assert!(error.is_down(), "{error}");
    let history = source.history(&ask(&policy), 0, 1_000, Duration::from_secs(1)).await;
    assert!(matches!(history, Err(SourceError::Unsupported(_))));
}

#[test]
fn a_scrape_block_that_cannot_work_is_refused_with_its_field() {
    for (block, words) in [
        ("{scrape: {stable: [], canary: ['http://a/metrics']}}", "scrape.stable"),
        ("{scrape: {stable: ['a b'], canary: ['http://a/metrics']}}", "scrape.stable[0]"),
        ("{scrape: {stable: ['ftp://a'], canary: ['http://a/metrics']}}", "http://"),
        (
            "{scrape: {stable: ['http://a/metrics', 'http://a/metrics'], canary: ['http://b/metrics']}}",
            "stable[1]",
        ),
        (
            "{scrape: {stable: ['http://a/metrics'], canary: ['http://b/metrics'], preset: istio}}",
            "scrape.preset",
        ),
    ] {
        let policy = policy("a", block);
        let error = Ask::of(&policy, sluice_rollout::RolloutId::new("shop", "a", "1").unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}
