//! From `main` to the command: arguments, the one crypto provider, the log, the runtime.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::FromArgMatches;
use tracing_subscriber::EnvFilter;

use super::{Cli, Exit, LogFormat, Verb, command, habits};
use crate::commands;

/// All of `main`.
pub fn entry() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return spoken(&habits::advised(error)).into(),
    };
    // Two providers in one process make rustls panic; the first one installed stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    log_to_stderr(log_format(&cli.verb), default_level(&cli.verb));
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(commands::dispatch(cli)).into(),
        Err(error) => {
            tracing::error!(%error, "the runtime cannot start");
            Exit::Unreachable.into()
        }
    }
}

/// Help and version are no errors.
fn spoken(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() { Exit::WrongUse } else { Exit::Well }
}

/// The log goes to stderr, so that stdout stays for answers. `SLUICE_LOG` narrows or widens it (`debug`,
/// `sluice=debug,kube=warn`). A second call changes nothing.
pub fn log_to_stderr(format: LogFormat, default_level: &str) {
    let filter = std::env::var("SLUICE_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default_level));
    // Colours are for people: a log in a file is read by programs.
    let colour = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

fn log_format(verb: &Verb) -> LogFormat {
    if let Verb::Run(args) = verb { args.log_format } else { LogFormat::Text }
}

fn default_level(verb: &Verb) -> &'static str {
    // The clients of Kubernetes and NATS have a line for every attempt; what is waited for is said by us, once.
    if matches!(verb, Verb::Run(_)) { "info,kube_client=off,async_nats=error" } else { "error" }
}
