//! Options that every command understands.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sluice_wire::units::Span;

use super::NatsAccess;

const HEADING: &str = "Global options";
const REACHING: &str = "How the daemon is reached";

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The daemon's HTTP API; with --nats the bus is used in its place.
    #[arg(long, global = true, env = "SLUICE_SERVER", default_value = "http://127.0.0.1:7878", value_name = "URL", help_heading = REACHING)]
    pub server: String,
    #[command(flatten)]
    pub nats: NatsAccess,
    /// For people, or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t, help_heading = HEADING)]
    pub output: Output,
    /// Who asks; $USER if left out. Where the server has tokens, the token says it.
    #[arg(long, global = true, env = "SLUICE_USER", value_name = "NAME", help_heading = HEADING)]
    pub user: Option<String>,
    /// File with the bearer token for the HTTP API.
    #[arg(long, global = true, env = "SLUICE_TOKEN_FILE", value_name = "FILE", help_heading = REACHING)]
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) that sign the daemon's, in place of the system's, where --server is https://.
    #[arg(long, global = true, env = "SLUICE_CA", value_name = "FILE", help_heading = REACHING)]
    pub ca: Option<PathBuf>,
    /// The namespace of names that give none; with --all: only this one. `default` if left out.
    #[arg(short, long, global = true, env = "SLUICE_NAMESPACE", value_name = "NAME", help_heading = HEADING)]
    pub namespace: Option<String>,
    /// How long an answer may take, 10s if left out. With `start --wait` or `watch`: how long the rollout may take.
    #[arg(long, global = true, value_name = "SPAN", value_parser = Span::parse, help_heading = HEADING)]
    pub timeout: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

impl Global {
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// `--user`, then $USER (or $LOGNAME), then `unknown`.
    pub fn user(&self) -> String {
        let from = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
        self.user
            .clone()
            .or_else(|| from("USER"))
            .or_else(|| from("LOGNAME"))
            .unwrap_or_else(|| "unknown".to_owned())
    }

    pub fn json(&self) -> bool {
        self.output == Output::Json
    }
}
