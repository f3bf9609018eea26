//! `permissions.conf` on the real servers, subject by subject: what each user may publish and subscribe to, and what not.

use anyhow::{Context, Result, ensure};
use sluice_rig::nats::Release;
use sluice_rig::{Nats, NatsOptions};
use sluice_tests::{LIMIT, story};
use tokio::sync::mpsc;

use crate::text;

/// Forbidden to everybody: once the server has refused it, it has refused everything before it too.
const LAST: &str = "not.ours";

/// A `+` in front: allowed. What follows is a subject to publish, or with `<` one to subscribe to.
const TABLE: [(&str, &[&str]); 4] = [
    (
        "sluice-admin",
        &[
            "+$JS.API.STREAM.INFO.SLUICE_EVENTS",
            "+$JS.API.STREAM.CREATE.SLUICE_EVENTS",
            "-$JS.API.STREAM.DELETE.SLUICE_EVENTS",
            "-$JS.API.STREAM.PURGE.SLUICE_OVERRIDES",
            "-$JS.API.STREAM.MSG.GET.KV_SLUICE_STATE",
            "-$KV.SLUICE_STATE.state.shop",
            "-sluice.override.ann.shop.checkout.abort",
            "-sluice.event.shop.checkout.announced",
            "-<sluice.>",
        ],
    ),
    (
        "sluice",
        &[
            "+$KV.SLUICE_STATE.state.shop",
            "+sluice.out.shop.checkout.finished",
            "+sluice.dead",
            "+sluice.reply.ann.1",
            "+<sluice.request.>",
            // Commands that came in by HTTP go on to the rollout's owner, another daemon, on the person's behalf.
            "+sluice.override._daemon.shop.checkout.abort",
            "+sluice.request._daemon.shop.checkout.abort",
            // Whoever has stolen its credential speaks on no person's subject.
            "-sluice.override.ann.shop.checkout.abort",
            "-sluice.request.ann.shop.checkout.abort",
            // It announces no release, and takes nothing away.
            "-sluice.event.shop.checkout.announced",
            "-$JS.API.STREAM.CREATE.SLUICE_EVENTS",
            "-$JS.API.STREAM.UPDATE.SLUICE_EVENTS",
            "-$JS.API.STREAM.DELETE.KV_SLUICE_STATE",
            "-$JS.API.STREAM.PURGE.SLUICE_OVERRIDES",
            "-$JS.API.CONSUMER.DELETE.SLUICE_EVENTS.sluice",
            "-<_INBOX_ann.>",
        ],
    ),
    (
        "ann",
        &[
            "+sluice.override.ann.shop.checkout.abort",
            "+sluice.request.ann._all._all.pause",
            "+<sluice.reply.ann.>",
            "-sluice.override.bob.shop.checkout.abort",
            "-sluice.request.bob.shop.checkout.status",
            "-sluice.override._daemon.shop.checkout.abort",
            "-sluice.request._daemon.shop.checkout.abort",
            "-sluice.event.shop.checkout.announced",
            "-sluice.out.shop.checkout.finished",
            "-sluice.reply.bob.1",
            "-$KV.SLUICE_STATE.state.shop",
            "-$KV.SLUICE_ANSWERS.ann.1",
            "-$JS.API.STREAM.MSG.GET.KV_SLUICE_STATE",
            "-$JS.API.DIRECT.GET.KV_SLUICE_ANSWERS.$KV.SLUICE_ANSWERS.bob.1",
            "-<sluice.request.>",
            "-<sluice.override.>",
            "-<_INBOX_sluice.>",
        ],
    ),
    (
        "ci-shop",
        &[
            "+sluice.event.shop.checkout.announced",
            "+sluice.request.ci-shop.shop.checkout.status",
            "-sluice.event.bank.checkout.announced",
            "-sluice.request.ci-shop.shop.checkout.abort",
            "-sluice.request.ci-shop.bank.checkout.status",
            "-sluice.override.ci-shop.shop.checkout.abort",
            "-sluice.override.ann.shop.checkout.promote",
            "-sluice.dead",
            "-<sluice.out.>",
        ],
    ),
];

/// What the server refuses of these, in its own words.
async fn refused(url: &str, user: &str, subjects: &[&str]) -> Result<Vec<String>> {
    let (told, mut events) = mpsc::unbounded_channel();
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), "pw".to_owned())
        .connection_timeout(LIMIT)
        .event_callback(move |event| {
            let _ = told.send(event.to_string().to_lowercase());
            async {}
        });
    let client = options.connect(url).await?;
    let mut held = Vec::new();
    for subject in subjects.iter().chain(&[&*format!("-{LAST}")]) {
        match subject[1..].strip_prefix('<') {
            Some(subject) => held.push(client.subscribe(subject.to_owned()).await?),
            None => client.publish(subject[1..].to_owned(), "{}".into()).await?,
        }
        client.flush().await?;
    }
    let mut refused = Vec::new();
    loop {
        let event = tokio::time::timeout(LIMIT, events.recv()).await.context("the last one was taken")?;
        let event = event.context("no connection")?;
        if event.contains(&format!("\"{LAST}\"")) {
            return Ok(refused);
        }
        refused.push(event);
    }
}

async fn hold(release: Release) -> Result<()> {
    let users = ["SLUICE_ADMIN", "SLUICE", "ANN", "CI_SHOP"].map(|user| format!("{user}_PASSWORD: pw\n"));
    let more = format!("{}{}", users.concat(), text("nats/permissions.conf")?);
    let nats = Nats::start(NatsOptions { release, more, ..NatsOptions::default() }).await?;
    for (user, subjects) in TABLE {
        let refused = refused(&nats.url(), user, subjects).await?;
        for subject in subjects {
            let bare = subject[1..].trim_start_matches('<').to_lowercase();
            let is_refused = refused.iter().any(|words| words.contains(&format!("\"{bare}\"")));
            ensure!(is_refused == subject.starts_with('-'), "{user} {subject}: {refused:#?}");
        }
    }
    Ok(())
}

#[test]
fn nobody_gets_beyond_their_subjects_on_debians_nats() -> Result<()> {
    story(hold(Release::Debian))
}

#[test]
fn nobody_gets_beyond_their_subjects_on_the_newest_nats() -> Result<()> {
    story(hold(Release::Latest))
}
