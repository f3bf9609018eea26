//! What `init` makes, and what it says of a server that is not as it should be.

use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::jetstream::{self, consumer, kv, stream};
use sluice_bus::{Bus, BusError, Doors, Nats, NatsConfig, STATE_BUCKET, Store};
use sluice_rig::{NatsOptions, nats};

use super::body;

const BOTH: [fn() -> NatsOptions; 2] = [NatsOptions::default, NatsOptions::latest];

async fn raw(server: &nats::Nats) -> Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(server.url()).await?))
}

async fn connect(server: &nats::Nats) -> Result<Nats> {
    Ok(Nats::connect(NatsConfig::at(server.url())).await?)
}

/// The complaint of `init`, which must be about the setup.
async fn complaint(server: &nats::Nats) -> Result<String> {
    match connect(server).await?.init().await {
        Err(error @ BusError::Setup { .. }) => Ok(error.to_string()),
        other => anyhow::bail!("init came to {other:?}"),
    }
}

#[tokio::test]
async fn the_servers_are_those_that_the_stories_name() -> Result<()> {
    for (options, wanted) in [(NatsOptions::default(), "2.9."), (NatsOptions::latest(), "2.1")] {
        let version = nats::Nats::start(options).await?.monitor("varz").await?["version"].to_string();
        ensure!(version.starts_with(&format!("\"{wanted}")), "{version} is not {wanted}");
    }
    Ok(())
}

#[tokio::test]
async fn init_says_what_it_made_and_a_second_daemon_makes_only_its_consumer() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options()).await?;
        let made = connect(&server).await?.init().await?;
        assert_eq!(made.len(), 10, "{made:#?}");
        ensure!(made[0].contains("SLUICE_EVENTS") && made[0].contains("sluice.event.>"), "{made:#?}");
        let second = NatsConfig { daemon: "sluice 1.b".into(), ..NatsConfig::at(server.url()) };
        let made = Nats::connect(second).await?.init().await?;
        assert_eq!(made.len(), 1, "{made:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_jetstream_it_says_how_to_switch_it_on() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(NatsOptions { jetstream: false, ..options() }).await?;
        let told = complaint(&server).await?;
        ensure!(told.contains("JetStream is off") && told.contains("-js"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn without_init_it_says_to_run_it() -> Result<()> {
    let server = nats::Nats::start(NatsOptions::default()).await?;
    let bus = connect(&server).await?;
    for (what, error) in [
        ("publish", bus.publish_event("sluice.event.a.b.c", &[], body("{}")).await.err()),
        ("subscribe", bus.subscribe(sluice_bus::Feed::Events).await.err()),
        ("healthy", bus.healthy().await.err()),
    ] {
        ensure!(error.as_ref().is_some_and(|e| e.to_string().contains("sluice init")), "{what}: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_not_as_it_should_be_is_named_with_the_field() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options()).await?;
        let wrong = stream::Config {
            name: "SLUICE_EVENTS".into(),
            subjects: vec!["sluice.event.>".into()],
            max_age: Duration::from_secs(3600),
            retention: stream::RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        };
        raw(&server).await?.create_stream(wrong).await?;
        let told = complaint(&server).await?;
        for part in [
            "SLUICE_EVENTS",
            "max_age is 3600s, wanted 259200s",
            "retention is WorkQueue",
            "nats stream edit",
        ] {
            ensure!(told.contains(part), "{part:?} is missing in: {told}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn another_stream_with_our_subjects_is_reported() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options()).await?;
        let other = stream::Config {
            name: "ALL".into(),
            subjects: vec!["sluice.>".into()],
            ..stream::Config::default()
        };
        raw(&server).await?.create_stream(other).await?;
        let told = complaint(&server).await?;
        ensure!(told.contains("another stream has some of its subjects"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_room_is_reported() -> Result<()> {
    for options in BOTH {
        let folder = tempfile::tempdir()?;
        let more = format!(
            "jetstream {{ store_dir: \"{}\", max_mem: 1M, max_file: 100M }}",
            folder.path().display()
        );
        let server = nats::Nats::start(NatsOptions { jetstream: false, more, ..options() }).await?;
        let told = complaint(&server).await?;
        ensure!(told.contains("no room"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_consumer_that_would_lose_messages_is_reported() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options()).await?;
        let bus = connect(&server).await?;
        bus.init().await?;
        let events = raw(&server).await?.get_stream("SLUICE_EVENTS").await?;
        events.delete_consumer("sluice").await?;
        let twice = consumer::pull::Config {
            durable_name: Some("sluice".into()),
            max_deliver: 2,
            ..Default::default()
        };
        events.create_consumer(twice).await?;
        let told = complaint(&server).await?;
        ensure!(told.contains("nats consumer rm SLUICE_EVENTS sluice"), "{told}");
    }
    Ok(())
}

/// Other tools read and write the same bucket; the marker that they leave for a deleted key is no value.
#[tokio::test]
async fn the_bucket_is_one_for_other_tools_too() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options()).await?;
        let bus = connect(&server).await?;
        bus.init().await?;
        let bucket: kv::Store = raw(&server).await?.get_key_value(STATE_BUCKET).await?;
        let revision = bus.put("rollouts/shop/state", body("1"), 0).await?;
        assert_eq!(bucket.get("rollouts.shop.state").await?, Some(body("1")));

        bucket.delete("rollouts.shop.state").await?;
        assert_eq!(bus.get("rollouts/shop/state").await?, None);
        assert_eq!(bus.keys("rollouts/").await?, Vec::<String>::new());
        ensure!(
            bus.put("rollouts/shop/state", body("2"), revision).await.is_err(),
            "a stale revision was taken"
        );
        bus.put("rollouts/shop/state", body("2"), 0).await?;
        assert_eq!(bucket.get("rollouts.shop.state").await?, Some(body("2")));
    }
    Ok(())
}
