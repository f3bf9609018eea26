//! `run`: the daemon, until somebody stops it.

use crate::cli::{Exit, Global, RunArgs, RunOptions};
use crate::runtime::serve::serve;

use super::Failure;
use super::watch::Stop;

pub async fn perform(args: RunArgs, global: &Global) -> Result<Exit, Failure> {
    let options = args.resolve(global).map_err(|why| Failure::input(why, "see `sluice run --help`"))?;
    warn_of_readers(&options);
    let mut stop = Stop::new()?;
    let served = serve(&options).await.map_err(failed)?;
    tracing::info!(daemon = options.daemon, address = %served.address, "running");
    stop.asked().await;
    tracing::info!("stopping; rollouts stay where they are and are taken up by the next start");
    served.stop().await.map_err(failed)?;
    Ok(Exit::Well)
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
