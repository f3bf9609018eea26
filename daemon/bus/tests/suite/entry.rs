//! Who gets in, and what he may do there: real servers with passwords, tokens, keys, credentials, TLS and permissions.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use sluice_bus::{
    Bus, BusError, Doors, Feed, MESSAGE_ID, Nats, NatsAuth, NatsConfig, REPLY_TO, Store, StoreError, TlsFiles,
};
use sluice_rig::nats::Auth;
use sluice_rig::{NatsOptions, nats};

use super::{LIMIT, body, header, next};

const BOTH: [fn() -> NatsOptions; 2] = [NatsOptions::default, NatsOptions::latest];
const OWN: &str = "sluice.override.ann.shop.checkout.abort";
const ANOTHERS: &str = "sluice.override.bob.shop.checkout.abort";

/// A file with a secret, and its folder.
fn secret(text: &str) -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{text}\n"))?;
    Ok((folder, file))
}

async fn gets_in(server: &nats::Nats, auth: NatsAuth) -> Result<Nats> {
    let bus = Nats::connect(NatsConfig { auth, ..NatsConfig::at(server.url()) }).await?;
    bus.init().await?;
    bus.healthy().await?;
    Ok(bus)
}

async fn is_denied(server: &nats::Nats, auth: NatsAuth) -> Result<String> {
    match Nats::connect(NatsConfig { auth, ..NatsConfig::at(server.url()) }).await {
        Err(error @ BusError::Denied(_)) => Ok(error.to_string()),
        other => bail!("not denied: {other:?}"),
    }
}

#[tokio::test]
async fn user_and_password() -> Result<()> {
    for options in BOTH {
        let auth = Auth::User { name: "sluice".into(), password: "geheim: \"1\"".into() };
        let server = nats::Nats::start(options().auth(auth)).await?;
        let user = |password_file| NatsAuth::User { name: "sluice".into(), password_file };
        let (_right, file) = secret("geheim: \"1\"")?;
        gets_in(&server, user(file)).await?;
        let (_wrong, file) = secret("falsch")?;
        let told = is_denied(&server, user(file)).await?;
        ensure!(told.contains("password") && !told.contains("falsch"), "{told}");
        is_denied(&server, NatsAuth::Nobody).await?;
        let told = is_denied(&server, user("/no/such/file".into())).await?;
        ensure!(told.contains("/no/such/file"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn token() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options().auth(Auth::Token("geheim".into()))).await?;
        let (_right, file) = secret("geheim")?;
        gets_in(&server, NatsAuth::Token { file }).await?;
        let (_wrong, file) = secret("falsch")?;
        is_denied(&server, NatsAuth::Token { file }).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nkey() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options().auth(Auth::Nkey)).await?;
        let (_right, seed_file) = secret(server.nkey_seed.as_deref().context("no seed")?)?;
        gets_in(&server, NatsAuth::Nkey { seed_file }).await?;
        let (_wrong, seed_file) = secret(&sluice_rig::nats_auth::nkey_seed()?.0)?;
        is_denied(&server, NatsAuth::Nkey { seed_file }).await?;
        let (_broken, seed_file) = secret("SUnothing")?;
        let told = is_denied(&server, NatsAuth::Nkey { seed_file }).await?;
        ensure!(told.contains("no nkey seed"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn credentials_file() -> Result<()> {
    for options in BOTH {
        let server = nats::Nats::start(options().auth(Auth::Operator)).await?;
        let file = server.credentials.clone().context("no credentials")?;
        gets_in(&server, NatsAuth::Credentials { file }).await?;
        is_denied(&server, NatsAuth::Nobody).await?;
    }
    Ok(())
}

/// A password that is changed on the server and in the file, under a running daemon.
#[tokio::test]
async fn a_secret_is_read_anew_at_every_connection() -> Result<()> {
    let auth =
        Auth::Users("users = [{user: old, password: one}, {user: sluice, password: two}], timeout: 5".into());
    let mut server = nats::Nats::start(NatsOptions::default().auth(auth)).await?;
    let (_folder, password_file) = secret("one")?;
    let bus =
        gets_in(&server, NatsAuth::User { name: "old".into(), password_file: password_file.clone() }).await?;
    std::fs::write(&password_file, "wrong")?;
    server.server.stop().await?;
    server.server.start_again().await?;
    sluice_rig::wait::until("the wrong password to be refused", LIMIT, async || {
        Ok(server.server.log().contains("authentication error").then_some(()))
    })
    .await?;
    std::fs::write(&password_file, "one")?;
    sluice_rig::wait::until("the connection", LIMIT, async || Ok(bus.healthy().await.ok())).await
}

#[tokio::test]
async fn tls_with_and_without_a_certificate_of_ours() -> Result<()> {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (options, verify) in BOTH.into_iter().flat_map(|options| [(options, false), (options, true)]) {
        let server = nats::Nats::start(NatsOptions { tls: Some(verify), ..options() }).await?;
        let files = server.certificates.as_ref().context("no certificates")?;
        let ca = TlsFiles { ca: Some(files.ca.clone()), ..TlsFiles::default() };
        let full = TlsFiles {
            certificate: Some(files.client.clone()),
            key: Some(files.client_key.clone()),
            ..ca.clone()
        };
        let connect =
            async |tls: TlsFiles| Nats::connect(NatsConfig { tls, ..NatsConfig::at(server.url()) }).await;

        connect(full.clone()).await?.init().await?;
        let bare = connect(ca.clone()).await;
        ensure!(bare.is_ok() != verify, "verify {verify}, without a certificate: {bare:?}");
        let unknown = connect(TlsFiles::default()).await;
        ensure!(
            matches!(&unknown, Err(BusError::Unreachable(why)) if why.contains("ertificate")),
            "{unknown:?}"
        );
        let half = connect(TlsFiles { key: None, ..full }).await;
        ensure!(matches!(&half, Err(BusError::Setup { why, .. }) if why.contains("go together")), "{half:?}");
    }
    Ok(())
}

/// Authority, server's certificate and our own are all other ones, in the same files, under a running daemon.
#[tokio::test]
async fn renewed_certificates_are_read_at_the_next_connection() -> Result<()> {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut server = nats::Nats::start(NatsOptions { tls: Some(true), ..NatsOptions::default() }).await?;
    let files = server.certificates.clone().context("no certificates")?;
    let tls = TlsFiles {
        ca: Some(files.ca.clone()),
        certificate: Some(files.client.clone()),
        key: Some(files.client_key.clone()),
    };
    let bus = Nats::connect(NatsConfig { tls, ..NatsConfig::at(server.url()) }).await?;
    bus.init().await?;
    let before = std::fs::read(&files.ca)?;
    server.renew_certificates().await?;
    ensure!(std::fs::read(&files.ca)? != before, "the authority is the same");
    sluice_rig::wait::until("the connection", LIMIT, async || Ok(bus.healthy().await.ok())).await
}

#[tokio::test]
async fn nobody_there() -> Result<()> {
    let port = sluice_rig::ports::Port::free()?;
    let nobody = Nats::connect(NatsConfig::at(format!("nats://{}", port.address()))).await;
    ensure!(matches!(&nobody, Err(BusError::Unreachable(why)) if why.contains("refused")), "{nobody:?}");
    let nonsense = Nats::connect(NatsConfig::at("not a url at all")).await;
    ensure!(nonsense.is_err(), "{nonsense:?}");
    Ok(())
}

/// What a daemon needs, and no more; streams were made by somebody else.
const DAEMON: &str = r#"
    publish: [
        "$JS.API.STREAM.INFO.*",
        "$JS.API.CONSUMER.INFO.SLUICE_EVENTS.sluice", "$JS.API.CONSUMER.INFO.SLUICE_OVERRIDES.*",
        "$JS.API.CONSUMER.CREATE.SLUICE_EVENTS.sluice", "$JS.API.CONSUMER.CREATE.SLUICE_OVERRIDES.*",
        "$JS.API.CONSUMER.MSG.NEXT.SLUICE_EVENTS.sluice", "$JS.API.CONSUMER.MSG.NEXT.SLUICE_OVERRIDES.*",
        "$JS.ACK.SLUICE_EVENTS.>", "$JS.ACK.SLUICE_OVERRIDES.>",
        "$JS.API.CONSUMER.CREATE.KV_SLUICE_STATE", "$JS.API.CONSUMER.MSG.NEXT.KV_SLUICE_STATE.*",
        "$JS.API.CONSUMER.CREATE.SLUICE_LOG", "$JS.API.CONSUMER.MSG.NEXT.SLUICE_LOG.*",
        "$JS.API.CONSUMER.CREATE.SLUICE_RECORDS", "$JS.API.CONSUMER.MSG.NEXT.SLUICE_RECORDS.*",
        "$JS.API.STREAM.MSG.GET.KV_SLUICE_STATE", "$JS.API.STREAM.PURGE.KV_SLUICE_STATE",
        "$KV.SLUICE_STATE.>", "$KV.SLUICE_ANSWERS.>",
        "sluice.out.>", "sluice.dead", "sluice.log.>", "sluice.record.>", "sluice.reply.>", "_INBOX_ann.>"
    ]
    subscribe: ["_INBOX_sluice.>", "sluice.request.>"]
"#;

/// What a person needs: the own doors, the own answers, and to see what happens.
const ANN: &str = r#"
    publish: [
        "sluice.override.ann.>", "sluice.request.ann.>",
        "$JS.API.DIRECT.GET.KV_SLUICE_ANSWERS.$KV.SLUICE_ANSWERS.ann.>",
        "$JS.API.STREAM.INFO.SLUICE_OUT", "$JS.API.CONSUMER.CREATE.SLUICE_OUT", "$JS.API.CONSUMER.MSG.NEXT.SLUICE_OUT.*"
    ]
    subscribe: ["_INBOX_ann.>", "sluice.reply.ann.>"]
"#;

async fn as_user(server: &nats::Nats, name: &str) -> Result<Nats> {
    let (_folder, password_file) = secret("pw")?;
    let auth = NatsAuth::User { name: name.into(), password_file };
    let inbox_prefix = (name != "root").then(|| format!("_INBOX_{name}"));
    Ok(Nats::connect(NatsConfig { auth, inbox_prefix, ..NatsConfig::at(server.url()) }).await?)
}

#[tokio::test]
async fn each_has_the_least_permissions_and_all_works() -> Result<()> {
    for options in BOTH {
        let users = format!(
            "users = [{{user: root, password: pw}}, {{user: sluice, password: pw, permissions: {{{DAEMON}}}}}, {{user: ann, \
             password: pw, permissions: {{{ANN}}}}}]"
        );
        let server = nats::Nats::start(options().auth(Auth::Users(users))).await?;
        ensure!(!as_user(&server, "root").await?.init().await?.is_empty());
        let (daemon, ann) = (as_user(&server, "sluice").await?, as_user(&server, "ann").await?);
        daemon.init().await?;
        daemon.healthy().await?;
        persons_commands_are_answered(&daemon, &ann).await?;
        daemons_own_work(&daemon).await?;
        what_is_not_hers_is_refused(&ann, &daemon).await?;
    }
    Ok(())
}

async fn persons_commands_are_answered(daemon: &Nats, ann: &Nats) -> Result<()> {
    let mut overrides = daemon.subscribe(Feed::Overrides).await?;
    let mut replies = ann.follow("sluice.reply.ann.>", None).await?;
    let headers = [header(MESSAGE_ID, "1"), header(REPLY_TO, "sluice.reply.ann.1")];
    ann.publish_event(OWN, &headers, body("{}")).await?;
    let delivery = next(&mut overrides).await?;
    delivery.ack.answer(body("aborted")).await?;
    delivery.ack.done().await?;
    assert_eq!(next(&mut replies).await?.body, body("aborted"));
    assert_eq!(ann.answer("ann", "1").await?, Some(body("aborted")));

    let asking = ann.request("sluice.request.ann.shop.checkout.abort", &[], body("{}"), LIMIT);
    let answering = async { anyhow::Ok(next(&mut overrides).await?.ack.answer(body("at once")).await?) };
    let (answer, answered) = tokio::join!(asking, answering);
    answered?;
    assert_eq!(answer?, body("at once"));
    Ok(())
}

async fn daemons_own_work(daemon: &Nats) -> Result<()> {
    drop(daemon.subscribe(Feed::Events).await?);
    let revision = daemon.put("rollouts/a/state", body("1"), 0).await?;
    daemon.put("rollouts/a/state", body("2"), revision).await?;
    assert_eq!(daemon.get("rollouts/a/state").await?.map(|(value, _)| value), Some(body("2")));
    assert_eq!(daemon.scan("rollouts/").await?.len(), 1);
    daemon.delete("rollouts/a/state").await?;
    daemon.append("history/a", body("line")).await?;
    assert_eq!(daemon.log("history/a", 10).await?, [body("line")]);
    daemon.append_record("record.a", body("batch")).await?;
    assert_eq!(daemon.record("record.a", 0, 1000).await?.len(), 1);
    daemon.publish("sluice.out.shop.checkout.x", &[], body("{}"), "1").await?;
    Ok(())
}

async fn what_is_not_hers_is_refused(ann: &Nats, daemon: &Nats) -> Result<()> {
    let denied = |what: &str, outcome: Option<BusError>| match outcome {
        Some(BusError::Denied(_)) => Ok(()),
        other => bail!("{what} is not denied: {other:?}"),
    };
    denied("another's override", ann.publish_event(ANOTHERS, &[], body("{}")).await.err())?;
    denied("an event", ann.publish_event("sluice.event.shop.checkout.x", &[], body("{}")).await.err())?;
    denied(
        "another's request",
        ann.request("sluice.request.bob.a.b.abort", &[], body("{}"), LIMIT).await.err(),
    )?;
    denied("another's answers", ann.answer("bob", "1").await.err())?;
    denied("another's replies", ann.follow("sluice.reply.bob.>", None).await.err())?;
    denied("the state", ann.get("rollouts/a/state").await.err().map(bus_error))?;
    denied("a save", ann.put("rollouts/a/state", body("x"), 0).await.err().map(bus_error))?;
    denied("a record", ann.append_record("record.a", body("x")).await.err().map(bus_error))?;
    denied("a log", ann.append("history/a", body("x")).await.err().map(bus_error))?;
    denied("the daemon's overrides", ann.subscribe(Feed::Overrides).await.err())?;
    denied("an override of the daemon's", daemon.publish_event(OWN, &[], body("{}")).await.err())?;
    let seen = next(&mut ann.follow("sluice.out.>", Some(0)).await?).await?;
    assert_eq!(seen.subject, "sluice.out.shop.checkout.x");
    Ok(())
}

fn bus_error(error: StoreError) -> BusError {
    match error {
        StoreError::Bus(error) => error,
        other => BusError::Other(other.to_string()),
    }
}
