//! A server that goes away and comes back in the middle: subscriptions go on and nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt;
use futures::stream::BoxStream;
use sluice_bus::{Bus, BusError, Delivery, Doors, Feed, Followed, Nats, NatsConfig, Store};
use sluice_rig::{NatsOptions, nats, wait};

use super::{LIMIT, body, next};

const EVENT: &str = "sluice.event.shop.checkout.released";
const ASKED: &str = "sluice.request.ann.shop.checkout.abort";

#[tokio::test]
async fn stopped_2_9() -> Result<()> {
    goes_on(NatsOptions::default(), async |server| server.stop().await).await
}

#[tokio::test]
async fn killed_2_9() -> Result<()> {
    goes_on(NatsOptions::default(), kill).await
}

#[tokio::test]
async fn stopped_latest() -> Result<()> {
    goes_on(NatsOptions::latest(), async |server| server.stop().await).await
}

#[tokio::test]
async fn killed_latest() -> Result<()> {
    goes_on(NatsOptions::latest(), kill).await
}

async fn kill(server: &mut sluice_rig::Server) -> Result<()> {
    server.kill();
    Ok(())
}

/// Everything that was open before the server went away.
struct Open {
    bus: Nats,
    events: BoxStream<'static, Delivery>,
    overrides: BoxStream<'static, Delivery>,
    follower: BoxStream<'static, Followed>,
    published: u64,
    seen: BTreeSet<u64>,
}

async fn goes_on(
    options: NatsOptions,
    end: impl AsyncFnOnce(&mut sluice_rig::Server) -> Result<()>,
) -> Result<()> {
    let mut server = nats::Nats::start(options).await?;
    let mut open = Open::new(&server).await?;
    open.publish(100).await?;
    open.take(30).await?;
    // Taken, and neither acknowledged nor given back when the server goes.
    let held = next(&mut open.events).await?;
    let revision = open.bus.put("key", body("before"), 0).await?;

    end(&mut server.server).await?;
    open.bus_says_that_it_is_away().await?;
    drop(held);
    server.server.start_again().await?;
    wait::until("the connection", LIMIT, async || Ok(open.bus.healthy().await.ok())).await?;

    open.bus.put("key", body("after"), revision).await?;
    open.publish(100).await?;
    open.both_doors_are_open().await?;
    open.take(200).await?;
    open.follower_saw_all_in_order().await?;
    open.nothing_is_left(&server).await
}

impl Open {
    async fn new(server: &nats::Nats) -> Result<Open> {
        let bus =
            Nats::connect(NatsConfig { ack_wait: Duration::from_secs(3), ..NatsConfig::at(server.url()) })
                .await?;
        bus.init().await?;
        Ok(Open {
            events: bus.subscribe(Feed::Events).await?,
            overrides: bus.subscribe(Feed::Overrides).await?,
            follower: bus.follow("sluice.event.>", Some(0)).await?,
            bus,
            published: 0,
            seen: BTreeSet::new(),
        })
    }

    async fn publish(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            let sequence = self.bus.publish_event(EVENT, &[], body("{}")).await?;
            self.published += 1;
            assert_eq!(sequence, self.published);
        }
        Ok(())
    }

    /// Until that many different ones have come.
    async fn take(&mut self, count: usize) -> Result<()> {
        while self.seen.len() < count {
            let delivery = next(&mut self.events).await?;
            acknowledge(&delivery).await?;
            self.seen.extend(delivery.sequence);
        }
        Ok(())
    }

    async fn bus_says_that_it_is_away(&self) -> Result<()> {
        wait::until("the loss to be noticed", LIMIT, async || Ok(self.bus.healthy().await.err())).await?;
        let lost = self.bus.publish("sluice.out.shop.checkout.x", &[], body("{}"), "1").await;
        ensure!(matches!(&lost, Err(BusError::Unreachable(_))), "{lost:?}");
        ensure!(lost.is_err_and(|error| error.is_passing()));
        Ok(())
    }

    async fn both_doors_are_open(&mut self) -> Result<()> {
        let asking = self.bus.request(ASKED, &[], body("{}"), LIMIT);
        let answering = async { anyhow::Ok(next(&mut self.overrides).await?.ack.answer(body("yes")).await?) };
        let (answer, answered) = tokio::join!(asking, answering);
        answered?;
        assert_eq!(answer?, body("yes"));
        self.bus.publish_event("sluice.override.ann.shop.checkout.abort", &[], body("{}")).await?;
        next(&mut self.overrides).await?.ack.done().await?;
        Ok(())
    }

    async fn follower_saw_all_in_order(&mut self) -> Result<()> {
        let published = usize::try_from(self.published)?;
        let all = (&mut self.follower).take(published).map(|followed| followed.sequence).collect();
        let seen: Vec<u64> = tokio::time::timeout(LIMIT, all).await?;
        assert_eq!(seen, (1..=self.published).collect::<Vec<_>>());
        Ok(())
    }

    /// What could not be acknowledged came again until it was.
    async fn nothing_is_left(mut self, server: &nats::Nats) -> Result<()> {
        let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await?);
        let stream = jetstream.get_stream("SLUICE_EVENTS").await?;
        let taking = async {
            loop {
                acknowledge(&next(&mut self.events).await?).await?;
            }
        };
        let empty = wait::until("every message to be acknowledged", LIMIT, async || {
            let info = stream.consumer_info("sluice").await?;
            Ok((info.num_pending == 0 && info.num_ack_pending == 0).then_some(()))
        });
        tokio::select! { failed = taking => failed, empty = empty => empty }
    }
}

async fn acknowledge(delivery: &Delivery) -> Result<()> {
    if let Err(error) = delivery.ack.done().await {
        // Handed out before the server went; it comes again.
        ensure!(error.is_passing(), "{error:?}");
    }
    Ok(())
}
