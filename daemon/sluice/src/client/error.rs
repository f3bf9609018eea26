//! Why a question got no answer, what a person can do, and with which code the command ends.

use std::time::Duration;

use crate::cli::Exit;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("nobody can be reached at {at}: {why}")]
    Unreachable { at: String, why: String },
    /// Its certificate is signed by nobody who is trusted here, is for another name, or is not valid now.
    #[error("{at} cannot be trusted: {why}")]
    Untrusted { at: String, why: String },
    /// Whether a command took effect is not known.
    #[error("no answer from {at} within {limit:?}")]
    Silent { at: String, limit: Duration },
    #[error("{error}")]
    Unknown { error: String, remedy: String },
    /// No permission, or no (right) token.
    #[error("{error}")]
    Denied { error: String, remedy: String },
    #[error("{error}")]
    BadInput { error: String, remedy: String },
    #[error("{at} answers with status {status}: {error}")]
    Server { at: String, status: u16, error: String },
    /// Something else answers there, or another version.
    #[error("what {at} answers is not understood: {why}")]
    Strange { at: String, why: String },
}

impl ClientError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } | Self::Denied { .. } | Self::BadInput { .. } => Exit::WrongUse,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Silent { .. }
            | Self::Server { .. }
            | Self::Strange { .. } => Exit::Unreachable,
        }
    }

    /// What the person can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "start a daemon with `sluice run`, or say where it is: --server URL or \
                                         $SLUICE_SERVER for HTTP, --nats URL or $SLUICE_NATS for the bus"
                    .to_owned()
            }
            Self::Untrusted { .. } => {
                "--ca FILE or $SLUICE_CA names the certificates that sign the daemon's; --server must name it as its \
                 certificate does"
                    .to_owned()
            }
            Self::Silent { .. } => {
                "whether it took effect is not known: look with `sluice status`, or repeat it with \
                                    the same --id, which never has a second effect"
                    .to_owned()
            }
            Self::Server { .. } => "see the daemon's log and its /readyz".to_owned(),
            Self::Strange { .. } => {
                "is this a Sluice daemon, of the same version? See `sluice --version`".to_owned()
            }
            Self::Unknown { remedy, .. } | Self::Denied { remedy, .. } | Self::BadInput { remedy, .. } => {
                remedy.clone()
            }
        }
    }

    /// Whether the same question may get an answer a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Server { .. } => true,
            Self::Untrusted { .. }
            | Self::Unknown { .. }
            | Self::Denied { .. }
            | Self::BadInput { .. }
            | Self::Strange { .. } => false,
        }
    }
}
