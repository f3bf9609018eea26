//! `run`: the daemon, until somebody stops it.

use crate::cli::{Exit, Global, RunArgs, RunOptions};
use crate::runtime::serve::{Served, serve};

use super::Failure;
use super::watch::Stop;

pub async fn perform(args: RunArgs, global: &Global) -> Result<Exit, Failure> {
    let options = args.resolve(global).map_err(|why| Failure::input(why, "see `sluice run --help`"))?;
    warn_of_readers(&options);
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
    let remedy = "see the log above, `sluice validate` for policies, and `sluice run --help`";
    Failure::server(format!("{error:#}"), remedy)
}

fn warn_of_readers(options: &RunOptions) {
    let address = options.listen;
    if !address.ip().is_loopback() && options.http_tokens.is_none() {
        tracing::warn!(%address, "without --http-tokens anybody who reaches this port may read, and only this host may write");
    }
}
