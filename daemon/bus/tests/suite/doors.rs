//! The doors of people and teams: stored overrides, requests, followers.

use std::time::Duration;

use anyhow::Result;
use sluice_bus::{BusError, Feed, MESSAGE_ID, REPLY_TO};

use super::place::Place;
use super::{LIMIT, body, header, next};

const STORED: &str = "sluice.override.ann.shop.checkout.pause";
const ASKED: &str = "sluice.request.ann.shop.checkout.pause";

pub async fn a_stored_override_waits_for_the_daemon_and_its_answer_is_kept(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut replies = here.bus.follow("sluice.reply.ann.>", None).await?;
    let headers = [header(MESSAGE_ID, "pause 1.0 *"), header(REPLY_TO, "sluice.reply.ann.7")];
    let sequence = here.bus.publish_event(STORED, &headers, body("{}")).await?;
    assert_eq!(here.bus.answer("ann", "pause 1.0 *").await?, None);

    let mut overrides = here.bus.subscribe(Feed::Overrides).await?;
    let delivery = next(&mut overrides).await?;
    assert_eq!((delivery.subject.as_str(), delivery.sequence), (STORED, Some(sequence)));
    delivery.ack.answer(body("paused")).await?;
    delivery.ack.done().await?;

    assert_eq!(here.bus.answer("ann", "pause 1.0 *").await?, Some(body("paused")));
    assert_eq!(here.bus.answer("bob", "pause 1.0 *").await?, None, "another's answer was given out");
    let reply = next(&mut replies).await?;
    assert_eq!((reply.subject.as_str(), reply.body), ("sluice.reply.ann.7", body("paused")));
    Ok(())
}

pub async fn an_answer_goes_nowhere_but_below_its_user(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut overrides = here.bus.subscribe(Feed::Overrides).await?;
    let mut abused = here.bus.follow("sluice.override.>", None).await?;
    for (n, target) in [
        "sluice.reply.bob.1",
        "sluice.override.bob.shop.checkout.abort",
        "sluice.reply.ann.>",
        "$JS.API.INFO",
    ]
    .into_iter()
    .enumerate()
    {
        let id = n.to_string();
        here.bus
            .publish_event(STORED, &[header(REPLY_TO, target), header(MESSAGE_ID, &id)], body("{}"))
            .await?;
        let delivery = next(&mut overrides).await?;
        let refused = delivery.ack.answer(body("paused")).await;
        assert!(matches!(refused, Err(BusError::Denied(_))), "{target}: {refused:?}");
        assert_eq!(here.bus.answer("ann", &id).await?, Some(body("paused")), "the bucket has no answer");
        delivery.ack.done().await?;
        assert_eq!(next(&mut abused).await?.subject, STORED);
    }
    Ok(())
}

pub async fn a_request_is_answered_at_once(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut overrides = here.bus.subscribe(Feed::Overrides).await?;
    let daemon = tokio::spawn(async move {
        let delivery = next(&mut overrides).await?;
        assert_eq!((delivery.subject.as_str(), delivery.sequence, delivery.attempt), (ASKED, None, 1));
        assert!(!delivery.message_id.is_empty());
        delivery.ack.answer([b"did ", &delivery.body[..]].concat().into()).await?;
        delivery.ack.done().await?;
        anyhow::Ok(overrides)
    });
    let answer = here.bus.request(ASKED, &[header("A", "b")], body("it"), LIMIT).await?;
    assert_eq!(answer, body("did it"));
    drop(daemon.await??);
    Ok(())
}

pub async fn a_request_without_a_daemon_says_so(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let nobody = here.bus.request(ASKED, &[], body("{}"), LIMIT).await;
    assert!(matches!(&nobody, Err(BusError::NoResponders { subject }) if subject == ASKED), "{nobody:?}");

    let mut overrides = here.bus.subscribe(Feed::Overrides).await?;
    let asking = here.bus.request(ASKED, &[], body("{}"), Duration::from_millis(300));
    let (silent, taken) = tokio::join!(asking, next(&mut overrides));
    assert!(matches!(silent, Err(BusError::Timeout(_))), "{silent:?}");
    taken?.ack.answer(body("too late")).await?;
    Ok(())
}

pub async fn a_follower_goes_on_where_it_stopped(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let publish = async |n: u32| {
        here.bus
            .publish(
                "sluice.out.shop.checkout.step",
                &[header("N", &n.to_string())],
                body(&n.to_string()),
                "",
            )
            .await
    };
    for n in 1..=150 {
        publish(n).await?;
    }
    let mut all = here.bus.follow("sluice.out.>", Some(0)).await?;
    let mut seen = 0;
    for n in 1..=100 {
        let followed = next(&mut all).await?;
        assert_eq!(followed.body, body(&n.to_string()));
        assert!(followed.sequence > seen && followed.at.is_some());
        seen = followed.sequence;
    }
    drop(all);

    let mut resumed = here.bus.follow("sluice.out.>", Some(seen)).await?;
    let mut fresh = here.bus.follow("sluice.out.>", None).await?;
    publish(151).await?;
    for n in 101..=151 {
        assert_eq!(next(&mut resumed).await?.body, body(&n.to_string()));
    }
    assert_eq!(next(&mut fresh).await?.body, body("151"), "it began before now");
    Ok(())
}

pub async fn a_follower_sees_only_what_its_pattern_matches(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut one = here.bus.follow("sluice.out.*.checkout.>", Some(0)).await?;
    for subject in ["sluice.out.shop.basket.x", "sluice.out.shop.checkout.x", "sluice.out.a%2Eb.checkout.x"] {
        here.bus.publish(subject, &[], body("{}"), "").await?;
    }
    assert_eq!(next(&mut one).await?.subject, "sluice.out.shop.checkout.x");
    assert_eq!(next(&mut one).await?.subject, "sluice.out.a%2Eb.checkout.x");
    Ok(())
}
