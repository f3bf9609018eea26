//! Against Alertmanager itself: what it lists, and what it tells a receiver of its own.
#![expect(clippy::unwrap_used, reason = "a test may end where what it builds on fails")]

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sluice_alerts::{Dispatcher, Outcome, connect};
use sluice_outbound::Outbound;
use sluice_rig::{Alertmanager, AlertmanagerOptions, Inbox, http::install_crypto, ports::Port, wait};
use sluice_rollout::{AlertKind, Timestamp};
use sluice_wire::{
    alert::{Alert, AlertStatus},
    policy::AlertSink,
};

/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
const OURS: [(&str, &str); 3] = [("rollout", "checkout"), ("namespace", "shop"), ("kind", "aborting")];

fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

fn alert(summary: &str, since: Timestamp) -> Alert {
    Alert {
        rollout: "shop/checkout@v2".parse().unwrap(),
        kind: AlertKind::Aborting,
        status: AlertStatus::Firing,
        summary: summary.into(),
        details: [("weight".to_owned(), "5 %".to_owned())].into(),
        since,
        at: now(),
    }
}

fn dispatcher(urls: &[String]) -> Result<Dispatcher> {
    patient(urls, "0s")
}

fn patient(urls: &[String], at_least: &str) -> Result<Dispatcher> {
    install_crypto();
    let block: AlertSink =
        serde_json::from_value(json!({"alertmanager": {"urls": urls, "repeat": "2s", "atLeast": at_least}}))?;
    Ok(Dispatcher::new(connect(&[block], &Outbound::default(), || reqwest::Client::builder().no_proxy())?))
}

/// It forgets after a second what is posted without an end, and tells at once.
async fn forgetful(inbox: &Inbox) -> Result<Alertmanager> {
    waiting(inbox, "0s").await
}

/// It waits for so long before it tells anybody.
async fn waiting(inbox: &Inbox, group_wait: &str) -> Result<Alertmanager> {
    let config = format!(
        "global: {{resolve_timeout: 1s}}\n\
         route: {{receiver: r, group_by: ['...'], group_wait: {group_wait}, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: {:?}, send_resolved: true}}]}}]\n",
        inbox.url("/told")
    );
    Alertmanager::start(AlertmanagerOptions { config: Some(config), ..AlertmanagerOptions::default() }).await
}

async fn ends_at(alertmanager: &Alertmanager) -> Result<jiff::Timestamp> {
    let listed = alertmanager.alerts_with(&OURS).await?;
    Ok(listed.first().context("it is gone")?.ends_at.parse()?)
}

fn told(inbox: &Inbox, status: &str) -> usize {
    inbox.letters().iter().filter(|letter| letter.json()["status"] == status).count()
}

#[tokio::test]
async fn an_alert_stays_up_as_long_as_it_fires_and_is_resolved_once() -> Result<()> {
    let inbox = Inbox::start().await?;
    let alertmanager = forgetful(&inbox).await?;
    let dispatcher = dispatcher(&[alertmanager.url()])?;
    let since = now();
    let delivered = dispatcher.fire(alert("the canary is worse", since)).confirmed().await;
    assert_eq!(delivered[0].outcome, Outcome::Told);

    let seen = alertmanager.wait_until_firing(&OURS, LIMIT).await?;
    assert_eq!(seen.labels["alertname"], "SluiceRolloutAborting");
    assert_eq!(seen.labels["attempt"], "v2");
    assert_eq!(seen.annotations["summary"], "the canary is worse");
    assert_eq!(seen.annotations["weight"], "5 %");

    // The end that the first post named passes, and it is still up: the repeats have moved it.
    let first_end: jiff::Timestamp = seen.ends_at.parse()?;
    wait::until("the alert to outlive its first end", LIMIT, async || {
        let end = ends_at(&alertmanager).await?;
        if jiff::Timestamp::now() <= first_end {
            bail!("not yet, it ends {end}");
        }
        Ok(Some(()))
    })
    .await?;
    assert_eq!(alertmanager.alerts_with(&OURS).await?.len(), 1);

    // News changes the annotations of the same alert.
    dispatcher.fire(alert("weight 0 is not read back yet", since)).confirmed().await;
    wait::until_equal("the new summary", LIMIT, "weight 0 is not read back yet".to_owned(), async || {
        let listed = alertmanager.alerts_with(&OURS).await?;
        Ok(listed.first().context("it is gone")?.annotations["summary"].clone())
    })
    .await?;
    assert_eq!(alertmanager.alerts().await?.len(), 1);

    let over = Alert { at: now(), ..alert("weight 0 was read back", since) };
    assert_eq!(dispatcher.resolve(over.clone()).confirmed().await[0].outcome, Outcome::Told);
    alertmanager.wait_until_resolved(&OURS, LIMIT).await?;
    dispatcher.resolve(over).confirmed().await;
    inbox.wait_for(LIMIT, |letter| letter.json()["status"] == "resolved").await?;
    assert_eq!((told(&inbox, "firing"), told(&inbox, "resolved")), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_alert_that_was_up_for_a_moment_only_is_resolved_at_once() -> Result<()> {
    let inbox = Inbox::start().await?;
    let alertmanager = forgetful(&inbox).await?;
    let dispatcher = dispatcher(&[alertmanager.url()])?;
    let since = now();
    dispatcher.fire(alert("worse", since)).confirmed().await;
    dispatcher.resolve(alert("over", since)).confirmed().await;
    let listed = alertmanager.alerts_with(&OURS).await?;
    assert!(listed.is_empty(), "{listed:?}");
    Ok(())
}

#[tokio::test]
async fn an_abort_that_is_over_within_the_groups_wait_reaches_a_person_all_the_same() -> Result<()> {
    let inbox = Inbox::start().await?;
    let alertmanager = waiting(&inbox, "1s").await?;
    let dispatcher = patient(&[alertmanager.url()], "2s")?;
    let since = now();
    let (fired, over) =
        (dispatcher.fire(alert("worse", since)), dispatcher.resolve(alert("put back", since)));
    assert_eq!(fired.confirmed().await[0].outcome, Outcome::Told);
    assert_eq!(over.confirmed().await[0].outcome, Outcome::Told);
    inbox.wait_for(LIMIT, |letter| letter.json()["status"] == "resolved").await?;
    assert_eq!((told(&inbox, "firing"), told(&inbox, "resolved")), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_alert_ends_by_itself_when_nobody_is_left_to_keep_it_up() -> Result<()> {
    let inbox = Inbox::start().await?;
    let alertmanager = forgetful(&inbox).await?;
    let dispatcher = dispatcher(&[alertmanager.url()])?;
    dispatcher.fire(alert("worse", now())).confirmed().await;
    alertmanager.wait_until_firing(&OURS, LIMIT).await?;
    drop(dispatcher);
    alertmanager.wait_until_resolved(&OURS, LIMIT).await
}

#[tokio::test]
async fn of_two_replicas_one_is_dead_and_has_it_too_when_it_is_back() -> Result<()> {
    let (inbox, port) = (Inbox::start().await?, Port::free()?);
    let (well, mut other) = (forgetful(&inbox).await?, forgetful(&inbox).await?);
    other.server.kill();
    let nobody = format!("http://{}", port.address());
    let dispatcher = dispatcher(&[other.url(), well.url(), nobody])?;
    let since = now();
    let delivered = dispatcher.fire(alert("worse", since)).told().await;
    assert_eq!(delivered.len(), 1, "one replica is enough: {delivered:?}");
    assert!(delivered[0].sink.ends_with(&well.url()), "{delivered:?}");
    well.wait_until_firing(&OURS, LIMIT).await?;

    other.server.start_again().await?;
    other.wait_until_firing(&OURS, LIMIT).await?;
    let over = Alert { at: now(), ..alert("over", since) };
    assert!(dispatcher.resolve(over).told().await.iter().any(|delivery| delivery.outcome == Outcome::Told));
    well.wait_until_resolved(&OURS, LIMIT).await?;
    other.wait_until_resolved(&OURS, LIMIT).await
}

#[tokio::test]
async fn a_new_daemon_keeps_up_and_resolves_what_a_former_one_fired() -> Result<()> {
    let inbox = Inbox::start().await?;
    let alertmanager = forgetful(&inbox).await?;
    let since = now();
    let former = dispatcher(&[alertmanager.url()])?;
    former.fire(alert("worse", since)).confirmed().await;
    former.shutdown(LIMIT).await;

    let latter = dispatcher(&[alertmanager.url()])?;
    let first_end = ends_at(&alertmanager).await?;
    latter.restore(&[alert("worse", since)]);
    wait::until("the new daemon to keep it up", LIMIT, async || {
        Ok((ends_at(&alertmanager).await? > first_end && jiff::Timestamp::now() > first_end).then_some(()))
    })
    .await?;
    latter.resolve(Alert { at: now(), ..alert("over", since) }).confirmed().await;
    alertmanager.wait_until_resolved(&OURS, LIMIT).await?;
    inbox.wait_for(LIMIT, |letter| letter.json()["status"] == "resolved").await?;
    assert_eq!((told(&inbox, "firing"), told(&inbox, "resolved")), (1, 1));
    Ok(())
}
