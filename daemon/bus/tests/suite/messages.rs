//! Stored messages: delivered until acknowledged, kept once, dead with the reason, overrides first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use sluice_bus::{Doors, Feed, Limits, MESSAGE_ID, ORIGINAL_ID, REASON, SUBJECT, StreamLimits};

use super::place::{Place, Whole, Wishes};
use super::{LIMIT, body, header, next, value};

const EVENT: &str = "sluice.event.shop.checkout.released";
const OUT: &str = "sluice.out.shop.checkout.started";

pub async fn a_message_comes_again_until_it_is_acknowledged(place: &Place) -> Result<()> {
    let here =
        place.make_with(Wishes { ack_wait: Some(Duration::from_secs(3)), ..Wishes::default() }).await?;
    let sequence = here.bus.publish_event(EVENT, &[header("Team", "shop")], body("v2")).await?;
    let mut events = here.bus.subscribe(Feed::Events).await?;

    let first = next(&mut events).await?;
    assert_eq!((first.subject.as_str(), &first.body[..], first.attempt), (EVENT, &b"v2"[..], 1));
    assert_eq!(
        (first.sequence, first.message_id.clone()),
        (Some(sequence), format!("without id {sequence}"))
    );
    assert_eq!(value(&first.headers, "team"), Some("shop"));
    ensure!(first.at.is_some_and(|at| at.millis() > 0), "it does not say when it came");
    drop(first);

    let second = next(&mut events).await?;
    assert_eq!((second.sequence, second.attempt), (Some(sequence), 2));
    second.ack.done().await?;

    let later = here.bus.publish_event(EVENT, &[], body("v3")).await?;
    let third = next(&mut events).await?;
    assert_eq!((third.sequence, third.attempt), (Some(later), 1), "the acknowledged one came again");
    third.ack.done().await?;
    Ok(())
}

pub async fn one_that_is_given_back_lets_others_pass(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut events = here.bus.subscribe(Feed::Events).await?;
    let (slow, quick) = (here.bus.publish_event(EVENT, &[], body("slow")).await?, "quick");

    let delivery = next(&mut events).await?;
    assert_eq!(delivery.sequence, Some(slow));
    delivery.ack.again(Duration::from_secs(3)).await?;
    here.bus.publish_event(EVENT, &[], body(quick)).await?;

    let other = next(&mut events).await?;
    assert_eq!(&other.body[..], quick.as_bytes());
    other.ack.done().await?;
    let again = next(&mut events).await?;
    assert_eq!((again.sequence, again.attempt), (Some(slow), 2));
    again.ack.again(Duration::ZERO).await?;
    assert_eq!(next(&mut events).await?.attempt, 3, "a delay of zero means at once");
    Ok(())
}

pub async fn a_repeat_is_kept_once(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let id = [header(MESSAGE_ID, "ci 1")];
    let first = here.bus.publish_event(EVENT, &id, body("v2")).await?;
    assert_eq!(here.bus.publish_event(EVENT, &id, body("v2")).await?, first);
    let other = here.bus.publish_event(EVENT, &[header(MESSAGE_ID, "ci 2")], body("v3")).await?;
    ensure!(other > first, "{other} does not come after {first}");

    let mut out = here.bus.follow("sluice.out.>", Some(0)).await?;
    for (text, id) in [("a", "1"), ("a again", "1"), ("b", "2"), ("c", ""), ("d", "")] {
        here.bus.publish(OUT, &[], body(text), id).await?;
    }
    for text in ["a", "b", "c", "d"] {
        assert_eq!(&next(&mut out).await?.body[..], text.as_bytes());
    }
    let mut events = here.bus.subscribe(Feed::Events).await?;
    assert_eq!(next(&mut events).await?.message_id, "ci 1");
    assert_eq!(next(&mut events).await?.message_id, "ci 2");
    Ok(())
}

pub async fn what_cannot_be_read_goes_to_the_dead_with_the_reason(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let bytes = Bytes::from_static(b"\x00\xff no JSON \r\n");
    let headers = [header("Ce-Id", "7"), header(MESSAGE_ID, "bad 1"), header(REASON, "a lie")];
    here.bus.publish_event(EVENT, &headers, bytes.clone()).await?;
    let mut events = here.bus.subscribe(Feed::Events).await?;
    let delivery = next(&mut events).await?;

    let reason = "not JSON at line 1\r\nNats-Rollup: all";
    here.bus.dead(&delivery, reason).await?;
    here.bus.dead(&delivery, reason).await?;
    delivery.ack.done().await?;
    let other = here.bus.publish_event(EVENT, &[], body("x")).await?;
    let next_one = next(&mut events).await?;
    assert_eq!(next_one.sequence, Some(other));
    here.bus.dead(&next_one, "the next").await?;

    let mut dead = here.bus.follow("sluice.dead", Some(0)).await?;
    let letter = next(&mut dead).await?;
    assert_eq!((letter.subject.as_str(), &letter.body), ("sluice.dead", &bytes));
    assert_eq!(value(&letter.headers, REASON), Some("not JSON at line 1  Nats-Rollup: all"));
    assert_eq!(value(&letter.headers, SUBJECT), Some(EVENT));
    assert_eq!(value(&letter.headers, ORIGINAL_ID), Some("bad 1"));
    assert_eq!(value(&letter.headers, "ce-id"), Some("7"));
    let reasons = letter.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(REASON)).count();
    assert_eq!(reasons, 1, "the sender's own Sluice-Reason was copied");
    assert_eq!(value(&next(&mut dead).await?.headers, REASON), Some("the next"), "one letter came twice");
    Ok(())
}

pub async fn beyond_its_limit_the_oldest_of_what_happened_goes(place: &Place) -> Result<()> {
    let usual = Limits::default();
    let limits = Limits { out: StreamLimits { bytes: 64 * 1024, ..usual.out }, ..usual };
    let here = place.make_with(Wishes { limits, ..Wishes::default() }).await?;
    for _ in 0..100 {
        here.bus.publish(OUT, &[], Bytes::from(vec![b'x'; 2048]), "").await?;
    }
    let mut kept = here.bus.follow("sluice.out.>", Some(0)).await?;
    let mut sequence = next(&mut kept).await?.sequence;
    assert!((65..=90).contains(&sequence), "the oldest is {sequence}");
    while sequence < 100 {
        assert_eq!(next(&mut kept).await?.sequence, sequence + 1);
        sequence += 1;
    }
    Ok(())
}

pub async fn init_twice_makes_nothing_the_second_time(place: &Place) -> Result<()> {
    let here = place.make().await?;
    assert_eq!(here.bus.init().await?, Vec::<String>::new());
    here.bus.healthy().await?;
    Ok(())
}

/// Events come without an end and nobody takes them; an override sent into the middle of that must still arrive.
pub async fn a_flood_of_events_delays_no_override(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut overrides = here.bus.subscribe(Feed::Overrides).await?;
    let _events_waiting = here.bus.subscribe(Feed::Events).await?;
    let flood = Flood::begin(here.bus.clone());
    flood.reaches(5_000).await?;

    let subject = "sluice.override.ann.shop.checkout.abort";
    here.bus.publish_event(subject, &[header(MESSAGE_ID, "1")], body("{}")).await?;
    let delivery = next(&mut overrides).await?;
    delivery.ack.answer(body("aborted")).await?;
    delivery.ack.done().await?;
    assert_eq!(here.bus.answer("ann", "1").await?, Some(body("aborted")));
    flood.was_still_running().await
}

struct Flood {
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Flood {
    fn begin(bus: Arc<dyn Whole>) -> Flood {
        let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(flow(bus, sent.clone(), stop.clone()));
        Flood { sent, stop, task }
    }

    async fn reaches(&self, count: usize) -> Result<()> {
        let what = format!("{count} events to be taken");
        sluice_rig::wait::until(&what, LIMIT, async || {
            ensure!(!self.task.is_finished(), "the flood ended");
            Ok((self.sent.load(Ordering::Relaxed) >= count).then_some(()))
        })
        .await
    }

    async fn was_still_running(self) -> Result<()> {
        ensure!(!self.task.is_finished(), "the flood ended before the override arrived: nothing was shown");
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn flow(bus: Arc<dyn Whole>, sent: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Result<()> {
    let body = Bytes::from(vec![b'x'; 300]);
    let endless =
        futures::stream::repeat(()).take_while(|()| std::future::ready(!stop.load(Ordering::Relaxed)));
    let mut sending = endless.map(|()| publish(&*bus, body.clone())).buffer_unordered(500).boxed();
    while let Some(taken) = sending.next().await {
        taken?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn publish(bus: &dyn Whole, body: Bytes) -> Result<()> {
    Doors::publish_event(bus, EVENT, &[], body).await?;
    Ok(())
}
