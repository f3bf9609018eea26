//! What only a file can do: outlive the process, belong to one of them, be none of ours.

use std::time::Duration;

use anyhow::Result;
use sluice_bus::{Bus, BusError, Doors, Embedded, EmbeddedConfig, Feed, MESSAGE_ID, Store};

use super::{body, header, next};

const EVENT: &str = "sluice.event.shop.checkout.released";

#[tokio::test]
async fn everything_is_there_after_it_was_closed_and_opened_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = EmbeddedConfig::at(folder.path().join("bus.redb"));
    let bus = Embedded::open(config.clone())?;
    let id = [header(MESSAGE_ID, "1")];
    let done = bus.publish_event(EVENT, &id, body("done")).await?;
    let left = bus.publish_event(EVENT, &[], body("left")).await?;
    bus.publish("sluice.out.shop.checkout.x", &[header("A", "b")], body("out"), "").await?;
    let revision = bus.put("key", body("value"), 0).await?;
    bus.append("log", body("line")).await?;
    let mut events = bus.subscribe(Feed::Events).await?;
    let first = next(&mut events).await?;
    assert_eq!(first.sequence, Some(done));
    first.ack.done().await?;
    assert_eq!(next(&mut events).await?.attempt, 1);
    drop((events, first, bus));

    let bus = Embedded::open(config)?;
    let again = next(&mut bus.subscribe(Feed::Events).await?).await?;
    assert_eq!((again.sequence, again.attempt), (Some(left), 2), "the delivery before was not counted");
    assert_eq!(bus.publish_event(EVENT, &id, body("done")).await?, done, "the id was forgotten");
    assert_eq!(bus.get("key").await?, Some((body("value"), revision)));
    assert_eq!(bus.log("log", 9).await?, [body("line")]);
    let out = next(&mut bus.follow("sluice.out.>", Some(0)).await?).await?;
    assert_eq!((out.body, out.headers), (body("out"), vec![header("A", "b")]));
    Ok(())
}

#[tokio::test]
async fn a_second_process_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = EmbeddedConfig::at(folder.path().join("bus.redb"));
    let first = Embedded::open(config.clone())?;
    let second = Embedded::open(config.clone());
    assert!(
        matches!(&second, Err(error) if error.to_string().contains("another process has it open")),
        "{second:?}"
    );
    drop(first);
    Embedded::open(config)?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "dear diary ".repeat(1000))?;
    let refused = Embedded::open(EmbeddedConfig::at(&path));
    assert!(
        matches!(&refused, Err(BusError::Setup { what, .. }) if what.contains("notes.txt")),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_to_string(&path)?, "dear diary ".repeat(1000));
    let nowhere = Embedded::open(EmbeddedConfig::at(folder.path().join("no/such/folder/bus.redb")));
    assert!(matches!(&nowhere, Err(error) if error.to_string().contains("No such file")), "{nowhere:?}");
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_it() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bus.redb");
    Embedded::open(EmbeddedConfig::at(&path))?;
    assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

#[tokio::test]
async fn two_clones_share_the_overrides_and_one_gone_leaves_them_to_the_other() -> Result<()> {
    let bus =
        Embedded::open(EmbeddedConfig { ack_wait: Duration::from_secs(3), ..EmbeddedConfig::default() })?;
    let mut first = bus.subscribe(Feed::Overrides).await?;
    let mut second = bus.clone().subscribe(Feed::Overrides).await?;
    bus.publish_event("sluice.override.ann.shop.checkout.abort", &[], body("{}")).await?;
    let taken = next(&mut first).await?;
    drop((taken, first));
    let again = next(&mut second).await?;
    assert_eq!(again.attempt, 2);
    again.ack.done().await?;
    Ok(())
}
