//! What can go wrong on the bus and in the store, and whether trying again helps.

use std::time::Duration;

/// Why the bus did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No connection. Trying again helps once the server is back.
    #[error("the bus cannot be reached: {0}")]
    Unreachable(String),
    /// Whether it was done is not known; a repeat with the same id has no second effect.
    #[error("no answer from the bus within {0:?}")]
    Timeout(Duration),
    /// The credentials, or what they permit. Trying again does not help.
    #[error("the bus refuses: {0}")]
    Denied(String),
    /// A stream, bucket, consumer or the server itself. `why` ends with the remedy.
    #[error("{what} is not as Sluice needs it: {why}")]
    Setup { what: String, why: String },
    /// Nobody listens on the request door just now.
    #[error(
        "nobody answers on {subject}: no daemon is running; a message to sluice.override.… is kept until one does"
    )]
    NoResponders { subject: String },
    /// The subject is none of ours, or could not be a subject at all. Trying again does not help.
    #[error("subject {subject:?} is refused: {why}")]
    Subject { subject: String, why: String },
    /// Trying again does not help.
    #[error("{what} has {bytes} bytes, more than {most}")]
    TooLarge { what: String, bytes: usize, most: usize },
    /// No room, or a disk that fails. What was saved before stays; trying again helps
    /// once there is room.
    #[error("the bus could not save: {0}")]
    Storage(String),
    #[error("{0}")]
    Other(String),
}

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else saved first; read again and decide.
    #[error("{key} was saved by somebody else meanwhile")]
    Conflict { key: String },
    #[error("the value of {key} has {bytes} bytes, more than {most}")]
    TooLarge { key: String, bytes: usize, most: usize },
    /// No key or log can have this name.
    #[error("{key:?} is no name for a key or log: {why}")]
    Key { key: String, why: &'static str },
    /// It stands there and says nothing to this Sluice: it is left alone, and trying again does not help.
    #[error("{why}")]
    Unread { key: String, why: String },
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl StoreError {
    /// As [`BusError::is_passing`].
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Bus(error) => error.is_passing(),
            Self::Conflict { .. } | Self::TooLarge { .. } | Self::Key { .. } | Self::Unread { .. } => false,
        }
    }
}

impl BusError {
    /// Whether the same call may succeed later without anybody changing something.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) | Self::NoResponders { .. } | Self::Storage(_) => true,
            Self::Denied(_)
            | Self::Setup { .. }
            | Self::Subject { .. }
            | Self::TooLarge { .. }
            | Self::Other(_) => false,
        }
    }

    /// An error with its causes, in one line.
    pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let mut words: Vec<String> = causes.map(ToString::to_string).collect();
        words.dedup();
        words.join(": ")
    }
}
