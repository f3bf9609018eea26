//! nats-server: both releases, and every way to be let in.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::ConnectOptions;
use sluice_rig::nats::{Auth, Nats, NatsOptions, Release};

/// Of the server, however busy the machine and its disk are.
const LIMIT: Duration = Duration::from_secs(120);

async fn publishes(nats: &Nats, options: ConnectOptions) -> Result<()> {
    let patient = options.connection_timeout(LIMIT).request_timeout(Some(LIMIT));
    let client = patient.connect(nats.url()).await.with_context(|| nats.server.log_tail())?;
    let mut context = async_nats::jetstream::new(client);
    context.set_timeout(LIMIT);
    let config = async_nats::jetstream::stream::Config {
        name: "events".into(),
        subjects: vec!["events.>".into()],
        ..Default::default()
    };
    context.get_or_create_stream(config).await?;
    context.publish("events.one", "hello".into()).await?.await?;
    Ok(())
}

async fn stored(nats: &Nats) -> Result<u64> {
    let client = ConnectOptions::new().connection_timeout(LIMIT).request_timeout(Some(LIMIT));
    let client = client.connect(nats.url()).await?;
    Ok(async_nats::jetstream::new(client).get_stream("events").await?.cached_info().state.messages)
}

#[tokio::test]
async fn both_releases_keep_their_streams_over_a_crash() -> Result<()> {
    for release in [Release::Debian, Release::Latest] {
        let mut nats = Nats::start(NatsOptions { release, ..NatsOptions::default() }).await?;
        publishes(&nats, ConnectOptions::new()).await?;
        let away = nats.crash_and_return().await?;
        println!("{release:?}: version {}, away for {away:?}", nats.monitor("varz").await?["version"]);
        assert_eq!(stored(&nats).await?, 1);
    }
    Ok(())
}

#[tokio::test]
async fn tokens_and_passwords_let_in_and_keep_out() -> Result<()> {
    let nats = Nats::start(NatsOptions::default().auth(Auth::Token("secret".into()))).await?;
    publishes(&nats, ConnectOptions::with_token("secret".into())).await?;
    assert!(async_nats::connect(nats.url()).await.is_err());

    let auth = Auth::User { name: "ci".into(), password: "secret".into() };
    let nats = Nats::start(NatsOptions::default().auth(auth)).await?;
    publishes(&nats, ConnectOptions::with_user_and_password("ci".into(), "secret".into())).await?;
    assert!(async_nats::connect(nats.url()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn keys_and_credentials_let_in() -> Result<()> {
    for release in [Release::Debian, Release::Latest] {
        let nats = Nats::start(NatsOptions { release, ..NatsOptions::default().auth(Auth::Nkey) }).await?;
        let seed = nats.nkey_seed.clone().context("a seed")?;
        publishes(&nats, ConnectOptions::with_nkey(seed)).await?;
        assert!(async_nats::connect(nats.url()).await.is_err());

        let nats =
            Nats::start(NatsOptions { release, ..NatsOptions::default().auth(Auth::Operator) }).await?;
        let file = nats.credentials.clone().context("a file")?;
        publishes(&nats, ConnectOptions::with_credentials_file(file).await?).await?;
        assert!(async_nats::connect(nats.url()).await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn tls_with_and_without_the_clients_certificate() -> Result<()> {
    sluice_rig::http::install_crypto();
    for asks_client in [false, true] {
        let nats = Nats::start(NatsOptions { tls: Some(asks_client), ..NatsOptions::default() }).await?;
        let files = nats.certificates.clone().context("certificates")?;
        let options = ConnectOptions::new().require_tls(true).add_root_certificates(files.ca);
        let options = if asks_client {
            options.add_client_certificate(files.client, files.client_key)
        } else {
            options
        };
        publishes(&nats, options).await?;
    }
    Ok(())
}

#[tokio::test]
async fn permissions_refuse_anothers_subject() -> Result<()> {
    let users = r#"users = [{user: anna, password: a, permissions: {publish: ["sluice.override.anna.>"], subscribe: ["_INBOX.>"]}}]"#;
    let nats = Nats::start(NatsOptions::default().auth(Auth::Users(users.into()))).await?;
    let (refusals, mut refused) = tokio::sync::mpsc::channel(8);
    let options =
        ConnectOptions::with_user_and_password("anna".into(), "a".into()).event_callback(move |event| {
            let refusals = refusals.clone();
            async move {
                let _ = refusals.send(event.to_string()).await;
            }
        });
    let client = options.connection_timeout(LIMIT).connect(nats.url()).await?;
    client.publish("sluice.override.ben.shop.checkout.abort", "".into()).await?;
    client.flush().await?;
    let seen = tokio::time::timeout(LIMIT, async {
        while let Some(event) = refused.recv().await {
            if event.to_lowercase().contains("permissions violation") {
                return event;
            }
        }
        "no refusal".to_owned()
    });
    assert!(seen.await?.contains("sluice.override.ben"));
    Ok(())
}
