//! Server-sent events, on real connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use sluice::http::{HttpLimits, HttpOptions};
use sluice_bus::{Bus, Embedded};

use super::fake::{Fake, House, open, open_with, view};

const LIMIT: Duration = Duration::from_secs(180);

/// A stream of events, read one by one.
struct Reading {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    text: String,
}

impl Reading {
    async fn of(house: &House, path: &str, last: Option<u64>) -> Reading {
        let request = reqwest::Client::new().get(house.at(path));
        let request = last.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        Reading { bytes: response.bytes_stream().boxed(), text: String::new() }
    }

    /// The next event's id and data; nothing at the end.
    async fn next(&mut self) -> Option<(Option<u64>, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let Some(data) = field("data:") {
                    return Some((
                        field("id:").and_then(|id| id.parse().ok()),
                        serde_json::from_str(data).unwrap(),
                    ));
                }
                continue;
            }
            let part = tokio::time::timeout(LIMIT, self.bytes.next()).await.expect("no event in time")?;
            self.text.push_str(std::str::from_utf8(&part.ok()?).unwrap());
        }
    }
}

#[tokio::test]
async fn a_watch_tells_what_stands_and_then_every_change() {
    let house = open(Fake::new().with(&[view("checkout", json!({})), view("cart", json!({}))])).await;
    let mut all = Reading::of(&house, "/api/v1/watch", None).await;
    let mut cart = Reading::of(&house, "/api/v1/watch?namespace=shop&name=cart", None).await;
    assert_eq!(all.next().await.unwrap().1["rollout"], "shop/checkout@v2-1");
    assert_eq!(all.next().await.unwrap().1["rollout"], "shop/cart@v2-1");
    assert_eq!(cart.next().await.unwrap().1["rollout"], "shop/cart@v2-1");
    house.fake.change(view("checkout", json!({"revision": 10})));
    house.fake.change(view("cart", json!({"revision": 11})));
    assert_eq!(all.next().await.unwrap().1["revision"], 10);
    assert_eq!(all.next().await.unwrap().1["revision"], 11);
    assert_eq!(cart.next().await.unwrap().1["revision"], 11);
}

async fn with_bus() -> (House, Arc<Embedded>) {
    let bus = Arc::new(Embedded::in_memory().unwrap());
    let options = HttpOptions { doors: Some(bus.clone()), ..HttpOptions::default() };
    (open_with(Fake::new(), options).await, bus)
}

async fn tell(bus: &Embedded, name: &str, number: u64) {
    let body = Bytes::from(json!({"number": number}).to_string());
    bus.publish(&format!("sluice.out.shop.{name}.started"), &[], body, "").await.unwrap();
}

#[tokio::test]
async fn events_are_told_and_a_reader_goes_on_where_it_was() {
    let (house, bus) = with_bus().await;
    tell(&bus, "checkout", 1).await;
    let mut first = Reading::of(&house, "/events?after=0", None).await;
    let (id, event) = first.next().await.unwrap();
    assert_eq!(event["number"], 1);
    drop(first);
    tell(&bus, "cart", 2).await;
    tell(&bus, "checkout", 3).await;
    let mut again = Reading::of(&house, "/events", id).await;
    assert_eq!(again.next().await.unwrap().1["number"], 2);
    assert_eq!(again.next().await.unwrap().1["number"], 3);
    let mut one = Reading::of(&house, "/events?namespace=shop&name=checkout", id).await;
    assert_eq!(one.next().await.unwrap().1["number"], 3);
}

#[tokio::test]
async fn a_daemon_that_passes_no_events_on_says_so() {
    let house = open(Fake::new()).await;
    assert_eq!(house.get("/events").await.0, 501);
}

#[tokio::test]
async fn wrong_questions_for_a_stream_are_refused() {
    let (house, _bus) = with_bus().await;
    for path in [
        "/events?name=checkout",
        "/events?namespace=a%20b",
        "/events?after=x",
        "/api/v1/watch?names=x",
        "/api/v1/watch?name=cart",
    ] {
        assert_eq!(house.get(path).await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn streams_are_counted_and_free_their_place() {
    let limits = HttpLimits { streams: 1, ..HttpLimits::default() };
    let house = open_with(
        Fake::new().with(&[view("cart", json!({}))]),
        HttpOptions { limits, ..HttpOptions::default() },
    )
    .await;
    let mut open = Reading::of(&house, "/api/v1/watch", None).await;
    open.next().await.unwrap();
    assert_eq!(house.get("/api/v1/watch").await.0, 503);
    drop(open);
    let free = async {
        // The server sees a closed connection when it next writes.
        while reqwest::get(house.at("/api/v1/watch")).await.unwrap().status() != 200 {
            house.fake.change(view("cart", json!({})));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, free).await.expect("the place was never freed");
}

#[tokio::test]
async fn open_streams_end_with_the_daemon() {
    let mut house = open(Fake::new().with(&[view("cart", json!({}))])).await;
    let mut reading = Reading::of(&house, "/api/v1/watch", None).await;
    reading.next().await.unwrap();
    house.stop.cancel();
    assert!(reading.next().await.is_none());
    let served = house.served.take().unwrap();
    tokio::time::timeout(LIMIT, served).await.expect("still serving").unwrap().unwrap();
}
