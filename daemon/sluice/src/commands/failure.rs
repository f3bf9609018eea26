//! Why a command ended early, what to do, and the exit code.

use std::io::{self, Write};

use serde_json::json;
use sluice_traffic::TargetError;

use crate::cli::Exit;
use crate::client::ClientError;
use crate::picture::clean;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{error}")]
    Input { error: String, remedy: String },
    /// A server that this command needs.
    #[error("{error}")]
    Server { error: String, remedy: String },
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub fn input(error: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure::Input { error: error.into(), remedy: remedy.into() }
    }

    pub fn server(error: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure::Server { error: error.into(), remedy: remedy.into() }
    }

    /// Of a command that speaks to the cluster itself.
    pub fn target(error: &TargetError, remedy: &str) -> Failure {
        match error {
            TargetError::NotAsNeeded(_) | TargetError::Refused(_) => Self::input(error.to_string(), remedy),
            TargetError::Fenced { .. }
            | TargetError::Changed(_)
            | TargetError::Unreachable(_)
            | TargetError::Pending(_)
            | TargetError::Timeout(_)
            | TargetError::TooFine { .. } => Self::server(error.to_string(), remedy),
        }
    }

    /// Says it once, on stderr; JSON for programs.
    pub fn tell(&self, json: bool) -> Exit {
        if !self.is_closed_pipe() {
            let (error, remedy) = (clean(&self.to_string()), clean(&self.remedy()));
            let text = if json {
                json!({"error": error, "remedy": remedy}).to_string()
            } else {
                format!("error: {error}\n  help: {remedy}")
            };
            // Nobody is left to be told that stderr is gone.
            let _ = writeln!(io::stderr(), "{text}");
        }
        self.exit()
    }

    pub fn exit(&self) -> Exit {
        match self {
            Failure::Client(error) => error.exit(),
            Failure::Input { .. } => Exit::WrongUse,
            Failure::Server { .. } => Exit::Unreachable,
            Failure::Output(_) if self.is_closed_pipe() => Exit::Well,
            Failure::Output(_) => Exit::WrongUse,
        }
    }

    fn remedy(&self) -> String {
        match self {
            Failure::Client(error) => error.remedy(),
            Failure::Input { remedy, .. } | Failure::Server { remedy, .. } => remedy.clone(),
            Failure::Output(_) => "is the disk full?".to_owned(),
        }
    }

    /// `sluice status | head` is no fault.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
