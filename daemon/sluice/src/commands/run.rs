//! `run`: the daemon, until somebody stops it.

use futures::future::OptionFuture;
use sluice_bus::BusError;

use crate::cli::{Exit, Global, RunArgs, RunOptions};
use crate::http::check_tokens;
use crate::runtime::serve::{Served, serve};
use crate::signing::read_keys;

use super::Failure;
use super::watch::Stop;

pub async fn perform(args: RunArgs, global: &Global) -> Result<Exit, Failure> {
    let options = args.resolve(global).map_err(|why| Failure::input(why, "see `sluice run --help`"))?;
    forbid_core_dumps();
    warn_of_readers(&options);
    look_at_files(&options).await?;
    let mut stop = Stop::new()?;
    let served = serve(&options).await.map_err(failed)?;
    tracing::info!(daemon = options.daemon, address = %served.address, "running");
    tokio::select! {
        () = stop.asked() => {}
        () = served.daemon.displaced() => return displaced(served, &options).await,
    }
    tracing::info!(
        "stopping; rollouts stay where they are and are taken up by another daemon, or by the next start"
    );
    served.stop().await.map_err(failed)?;
    Ok(Exit::Well)
}

/// Two with one name cannot both own what stands under it; the later one does.
async fn displaced(served: Served, options: &RunOptions) -> Result<Exit, Failure> {
    served.stop().await.map_err(failed)?;
    let remedy = "give each daemon a name of its own with --daemon (in Kubernetes a StatefulSet does)";
    Err(Failure::server(format!("another daemon named {} has started since", options.daemon), remedy))
}

fn failed(error: anyhow::Error) -> Failure {
    let remedy = match error.downcast_ref::<BusError>() {
        Some(BusError::Unreachable(_) | BusError::Timeout(_)) => "is the server there? --nats names it",
        Some(BusError::Denied(_)) => {
            "see deploy/nats/permissions.conf for the daemon's rights, and --nats-creds-file and its like in `sluice run --help`"
        }
        Some(_) | None => "`sluice run --help` explains every option; the log above may say more",
    };
    Failure::server(format!("{error:#}"), remedy)
}

/// Files that are read when they are needed are looked at once now, so that a wrong name is not found out by who is turned
/// away. A daemon that has rollouts to look after starts all the same.
async fn look_at_files(options: &RunOptions) -> Result<(), Failure> {
    if let Some(file) = options.kubeconfig.as_ref().filter(|file| !file.is_file()) {
        let error = format!("--kubeconfig {}: there is no such file", file.display());
        return Err(Failure::input(error, "name a kubeconfig that works with kubectl"));
    }
    if let Some(Err(why)) = OptionFuture::from(options.http_tokens.as_deref().map(check_tokens)).await {
        tracing::error!(
            "--http-tokens: {why}; nobody is let in until it is mended (one `user token` a line)"
        );
    }
    if let Some(Err(why)) = OptionFuture::from(options.signers.as_deref().map(read_keys)).await {
        tracing::error!(
            "--signers: {why}; no command is taken until it is mended (one `user PUBLIC-KEY` a line)"
        );
    }
    Ok(())
}

/// A dump of this process would hold tokens and keys. Debuggers of the same user are kept out as well.
#[cfg(target_os = "linux")]
fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be forbidden; a dump would hold secrets");
    }
}

#[cfg(not(target_os = "linux"))]
fn forbid_core_dumps() {
    tracing::warn!("core dumps of this process hold secrets: forbid them (ulimit -c 0)");
}

fn warn_of_readers(options: &RunOptions) {
    let address = options.listen;
    if !address.ip().is_loopback() && options.http_tokens.is_none() {
        tracing::warn!(%address, "without --http-tokens anybody who reaches this port may read, and only this host may write");
    }
    if !address.ip().is_loopback() && options.http_tokens.is_some() && options.tls.is_none() {
        tracing::warn!(%address, "tokens cross the network in clear: give --tls-cert and --tls-key, or put something before it that speaks TLS");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn what_holds_secrets_leaves_no_core_dump() {
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        forbid_core_dumps();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
