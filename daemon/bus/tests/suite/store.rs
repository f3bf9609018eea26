//! Keys with compare-and-swap, and logs.

use anyhow::Result;
use bytes::Bytes;
use sluice_bus::{BusError, Limits, StoreError};

use super::body;
use super::place::{Place, Wishes};

pub async fn only_the_expected_revision_is_replaced(place: &Place) -> Result<()> {
    let here = place.make().await?;
    assert_eq!(here.bus.get("rollouts/a/state").await?, None);
    let first = here.bus.put("rollouts/a/state", body("1"), 0).await?;
    let second = here.bus.put("rollouts/a/state", body("2"), first).await?;
    assert!(second > first);
    for stale in [0, first, second + 1] {
        let refused = here.bus.put("rollouts/a/state", body("3"), stale).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{stale}: {refused:?}");
    }
    let missing = here.bus.put("rollouts/b/state", body("1"), second).await;
    assert!(matches!(missing, Err(StoreError::Conflict { .. })), "{missing:?}");
    assert_eq!(here.bus.get("rollouts/a/state").await?, Some((body("2"), second)));
    assert_eq!(here.bus.put("empty", Bytes::new(), 0).await.map(|_| ()), Ok(()));
    assert_eq!(here.bus.get("empty").await?.map(|(value, _)| value), Some(Bytes::new()));
    Ok(())
}

pub async fn of_many_savers_one_wins(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let saves = names.iter().map(|name| here.bus.put("owner", body(name), 0));
    let outcomes = futures::future::join_all(saves).await;
    let won: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let lost = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Conflict { .. }))).count();
    assert_eq!(lost, 19, "{outcomes:?}");
    assert_eq!(here.bus.get("owner").await?.map(|(value, _)| value), Some(body(&names[won[0].0])));
    Ok(())
}

pub async fn a_deleted_key_leaves_no_trace(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let before = here.bus.put("a/b", body("1"), 0).await?;
    here.bus.put("a/c", body("1"), 0).await?;
    here.bus.delete("a/b").await?;
    here.bus.delete("a/b").await?;
    here.bus.delete("never was").await?;
    assert_eq!(here.bus.get("a/b").await?, None);
    assert_eq!(here.bus.keys("a/").await?, ["a/c"]);
    let stale = here.bus.put("a/b", body("2"), before).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    let after = here.bus.put("a/b", body("2"), 0).await?;
    assert!(after > before, "a revision came twice");
    Ok(())
}

pub async fn keys_are_found_by_prefix_whatever_their_names(place: &Place) -> Result<()> {
    let here = place.make().await?;
    let strange = [
        "r/a.b/state",
        "r/a b/state",
        "r/a*/state",
        "r/>/state",
        "r/ä/state",
        "r/a=2Eb/state",
        "r//state",
        "r/",
    ];
    for (n, key) in strange.into_iter().chain(["s/x", "r"]).enumerate() {
        here.bus.put(key, body(&n.to_string()), 0).await?;
    }
    let mut wanted = strange.to_vec();
    wanted.sort_unstable();
    assert_eq!(here.bus.keys("r/").await?, wanted);
    assert_eq!(here.bus.keys("r/a").await?, ["r/a b/state", "r/a*/state", "r/a.b/state", "r/a=2Eb/state"]);
    assert_eq!(here.bus.keys("").await?.len(), strange.len() + 2);
    assert_eq!(here.bus.keys("nothing/").await?, Vec::<String>::new());

    let entries = here.bus.scan("r/a.").await?;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].key.as_str(), &entries[0].value), ("r/a.b/state", &body("0")));
    here.bus.put("r/a.b/state", body("new"), entries[0].revision).await?;
    for key in strange {
        assert!(here.bus.get(key).await?.is_some(), "{key:?} is gone");
    }
    Ok(())
}

pub async fn a_log_keeps_its_last_lines_in_order(place: &Place) -> Result<()> {
    let limits = Limits { log_lines: 50, ..Limits::default() };
    let here = place.make_with(Wishes { limits, ..Wishes::default() }).await?;
    for n in 0..80 {
        here.bus.append("history/shop/a.b", body(&n.to_string())).await?;
    }
    here.bus.append("history/shop/a", body("other")).await?;
    let numbers = |from: usize, to: usize| (from..to).map(|n| body(&n.to_string())).collect::<Vec<_>>();
    assert_eq!(here.bus.log("history/shop/a.b", 1000).await?, numbers(30, 80));
    assert_eq!(here.bus.log("history/shop/a.b", 3).await?, numbers(77, 80));
    assert_eq!(here.bus.log("history/shop/a", 10).await?, [body("other")]);
    assert_eq!(here.bus.log("history/shop", 10).await?, Vec::<Bytes>::new());
    Ok(())
}

pub async fn a_record_is_read_on_from_any_place_and_keeps_its_last_batches(place: &Place) -> Result<()> {
    let limits = Limits { record_batches: 30, ..Limits::default() };
    let here = place.make_with(Wishes { limits, ..Wishes::default() }).await?;
    for n in 0..40 {
        here.bus.append_record("record.shop.a@1", body(&format!("{n:04}"))).await?;
        here.bus.append_record("record.shop.b@1", body("other")).await?;
    }
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = here.bus.record("record.shop.a@1", after, 42).await?;
        let Some((last, _)) = page.last() else { break };
        assert!(page.len() <= 10 && *last > after, "a page of {} that ends at {last}", page.len());
        after = *last;
        read.extend(page.into_iter().map(|(_, batch)| batch));
    }
    assert_eq!(read, (10..40).map(|n| body(&format!("{n:04}"))).collect::<Vec<_>>());
    let large = here.bus.record("record.shop.b@1", 0, 1).await?;
    assert_eq!(large.len(), 1, "one batch always goes, however large");
    assert_eq!(here.bus.record("record.shop.c@1", 0, 42).await?, Vec::new());
    Ok(())
}

pub async fn a_flood_of_records_pushes_no_line_of_a_log_out(place: &Place) -> Result<()> {
    let mut limits = Limits::default();
    limits.records.bytes = 64 * 1024;
    let here = place.make_with(Wishes { limits, ..Wishes::default() }).await?;
    here.bus.append("history/shop/a", body("first")).await?;
    let batch = Bytes::from(vec![b'x'; 4 * 1024]);
    for _ in 0..40 {
        here.bus.append_record("record.shop.a@1", batch.clone()).await?;
    }
    assert_eq!(here.bus.log("history/shop/a", 10).await?, [body("first")]);
    let left = here.bus.record("record.shop.a@1", 0, usize::MAX).await?;
    assert!((1..=16).contains(&left.len()), "{} batches are left of 64 kB", left.len());
    Ok(())
}

pub async fn a_full_store_refuses_and_keeps_what_it_has(place: &Place) -> Result<()> {
    let limits = Limits { state_bytes: 200 * 1024, ..Limits::default() };
    let here = place.make_with(Wishes { limits, ..Wishes::default() }).await?;
    let large = Bytes::from(vec![b'x'; 90 * 1024]);
    let first = here.bus.put("a", large.clone(), 0).await?;
    here.bus.put("b", large.clone(), 0).await?;
    let refused = here.bus.put("c", large.clone(), 0).await;
    assert!(matches!(refused, Err(StoreError::Bus(BusError::Storage(_)))), "{refused:?}");
    assert_eq!(here.bus.keys("").await?, ["a", "b"]);
    here.bus.put("a", body("small"), first).await?;
    here.bus.put("c", large, 0).await?;
    Ok(())
}
