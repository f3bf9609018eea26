//! Whatever comes in gets an answer that names the fault, and changes nothing.

use anyhow::Result;
use bytes::Bytes;
use sluice_bus::{BusError, Feed, MOST_BODY_BYTES, MOST_VALUE_BYTES, StoreError};

use super::place::Place;
use super::{LIMIT, body, header, next};

pub async fn subjects_that_would_mean_more_are_refused(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let long = format!("sluice.event.{}", "x".repeat(2000));
    let bad = [
        "",
        " ",
        "sluice.event",
        "sluice.event.",
        "sluice.event..x.y",
        "sluice.event.a b.c.d",
        "sluice.event.*.c.d",
        "sluice.event.a.>",
        "sluice.event.a.b\r\nPUB x 0",
        "other.event.a.b.c",
        "$JS.API.STREAM.DELETE.SLUICE_EVENTS",
        &long,
    ];
    for subject in bad {
        let refused = here.bus.publish_event(subject, &[], body("{}")).await;
        assert!(matches!(refused, Err(BusError::Subject { .. })), "{subject:?}: {refused:?}");
        let refused = here.bus.publish(subject, &[], body("{}"), "").await;
        assert!(matches!(refused, Err(BusError::Subject { .. })), "{subject:?}: {refused:?}");
        let refused = here.bus.request(subject, &[], body("{}"), LIMIT).await;
        assert!(matches!(refused, Err(BusError::Subject { .. })), "{subject:?}: {refused:?}");
    }
    for wrong_door in [
        "sluice.out.a.b.c",
        "sluice.dead",
        "sluice.reply.ann.1",
        "sluice.log.a",
        "sluice.record.a",
        "sluice.request.a.b.c.d",
    ] {
        assert!(here.bus.publish_event(wrong_door, &[], body("{}")).await.is_err(), "{wrong_door} was taken");
    }
    for pattern in [
        "",
        ">",
        "sluice.>",
        "sluice.out.>.x",
        "sluice.out.a*",
        "sluice.log.>",
        "sluice.record.>",
        "sluice.request.>",
        "sluice.out.a b",
    ] {
        assert!(
            matches!(here.bus.follow(pattern, None).await, Err(BusError::Subject { .. })),
            "{pattern:?} was followed"
        );
    }
    Ok(())
}

pub async fn what_is_too_large_is_refused_with_the_limit(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let zeros = |bytes| Bytes::from(vec![b'0'; bytes]);
    let event = "sluice.event.shop.checkout.released";
    here.bus.publish_event(event, &[], zeros(MOST_BODY_BYTES)).await?;
    let refused = here.bus.publish_event(event, &[], zeros(MOST_BODY_BYTES + 1)).await;
    assert!(matches!(refused, Err(BusError::TooLarge { most: MOST_BODY_BYTES, .. })), "{refused:?}");
    let refused = here.bus.publish_event(event, &[header("A", &"x".repeat(100_000))], body("{}")).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");

    here.bus.put("key", zeros(MOST_VALUE_BYTES), 0).await?;
    let refused = here.bus.put("other", zeros(MOST_VALUE_BYTES + 1), 0).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { most: MOST_VALUE_BYTES, .. })), "{refused:?}");
    let refused = here.bus.append("log", zeros(MOST_VALUE_BYTES + 1)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    for key in ["", &"k".repeat(513)] {
        assert!(
            matches!(here.bus.put(key, body("1"), 0).await, Err(StoreError::Key { .. })),
            "{key:?} was taken"
        );
        assert!(matches!(here.bus.get(key).await, Err(StoreError::Key { .. })), "{key:?} was read");
    }

    // The largest that came in can also be put with the dead.
    let mut events = here.bus.subscribe(Feed::Events).await?;
    here.bus.dead(&next(&mut events).await?, &"far too large ".repeat(1000)).await?;
    Ok(())
}

pub async fn headers_that_would_break_the_protocol_are_refused(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let event = "sluice.event.shop.checkout.released";
    for (name, value) in [
        ("", "x"),
        ("a:b", "x"),
        ("a b", "x"),
        ("ä", "x"),
        ("a\r\nb", "x"),
        ("a", "x\r\nb: c"),
        ("a", "x\ny"),
    ] {
        let refused = here.bus.publish_event(event, &[header(name, value)], body("{}")).await;
        assert!(refused.is_err(), "{name:?}: {value:?} was taken");
    }
    Ok(())
}

pub async fn strange_bytes_go_through_unchanged(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let mut events = here.bus.subscribe(Feed::Events).await?;
    let subject = "sluice.event.a%2Eb%20%2A.ch%3Eckout.released";
    for bytes in [&b""[..], b"\x00\x01\xff\xfe", b"\r\nPUB x 0\r\n\r\n", "ä→".as_bytes()] {
        here.bus
            .publish_event(
                subject,
                &[header("X-Ä".trim_end_matches('Ä'), "ä, =%")],
                Bytes::from_static(bytes),
            )
            .await?;
        let delivery = next(&mut events).await?;
        assert_eq!((delivery.subject.as_str(), &delivery.body[..]), (subject, bytes));
        assert_eq!(super::value(&delivery.headers, "x-"), Some("ä, =%"));
        delivery.ack.done().await?;
    }
    Ok(())
}
