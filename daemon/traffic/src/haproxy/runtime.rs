//! HAProxy's runtime API: one line of commands per connection, answered in words.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::TargetError;

/// For one line and its answer. HAProxy answers from its event loop, in well under a millisecond.
const LIMIT: Duration = Duration::from_secs(2);

/// An answer is at most a buffer of HAProxy's (16 kB); more is cut.
const MOST_ANSWER_BYTES: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tcp(address) => address.fmt(f),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub address: Address,
}

impl Runtime {
    pub fn new(address: Address) -> Runtime {
        Runtime { address }
    }

    /// `get weight` answers `13 (initial 256)`.
    pub async fn weight(&self, backend: &str, server: &str) -> Result<u64, TargetError> {
        let answer = self.ask(&format!("get weight {backend}/{server}")).await?;
        let number = answer.split_whitespace().next().and_then(|number| number.parse().ok());
        number.ok_or_else(|| self.refusal(backend, server, &answer))
    }

    /// All in one line, so that they take effect together. It says nothing when it obeys.
    pub async fn set_weights(&self, backend: &str, weights: &[(String, u64)]) -> Result<(), TargetError> {
        let commands: Vec<String> =
            weights.iter().map(|(server, n)| format!("set weight {backend}/{server} {n}")).collect();
        let answer = self.ask(&commands.join("; ")).await?;
        let servers: Vec<&str> = weights.iter().map(|(server, _)| server.as_str()).collect();
        if answer.is_empty() { Ok(()) } else { Err(self.refusal(backend, &servers.join(","), &answer)) }
    }

    /// The line that shows a backend's servers.
    pub fn show(&self, backend: &str) -> String {
        match &self.address {
            Address::Unix(path) => {
                format!("echo 'show servers state {backend}' | socat {} -", path.display())
            }
            Address::Tcp(address) => format!("echo 'show servers state {backend}' | socat tcp:{address} -"),
        }
    }

    async fn ask(&self, line: &str) -> Result<String, TargetError> {
        let talk = async {
            match &self.address {
                Address::Unix(path) => converse(UnixStream::connect(path).await?, line).await,
                Address::Tcp(address) => converse(TcpStream::connect(address).await?, line).await,
            }
        };
        let answer = tokio::time::timeout(LIMIT, talk).await.map_err(|_| TargetError::Timeout(LIMIT))?;
        answer.map_err(|error| self.no_connection(&error))
    }

    fn no_connection(&self, error: &std::io::Error) -> TargetError {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such socket; is HAProxy running, with `stats socket <this path> level admin`?"
            }
            std::io::ErrorKind::PermissionDenied => {
                "this user may not use it; give `stats socket` a mode, user or group that lets it"
            }
            std::io::ErrorKind::ConnectionRefused => "nobody listens there; is HAProxy running?",
            _ => return TargetError::Unreachable(format!("HAProxy's socket {}: {error}", self.address)),
        };
        TargetError::Unreachable(format!("HAProxy's socket {}: {why}", self.address))
    }

    /// HAProxy's own words, and what they mean for us.
    fn refusal(&self, backend: &str, servers: &str, answer: &str) -> TargetError {
        let words = answer.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = format!(
            "HAProxy at {} says of {backend}/{servers}: {words:?} (see: {})",
            self.address,
            self.show(backend)
        );
        if words.contains("No such") {
            TargetError::NotAsNeeded(text)
        } else if words.contains("ermission denied") {
            TargetError::Refused(format!("{text}; the socket needs `level admin`"))
        } else {
            TargetError::Refused(text)
        }
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> std::io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}
