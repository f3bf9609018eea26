//! What the HTTP door can be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_bus::Doors;

use super::Tls;

#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// One `user token` a line, read again for every request. With it every question below `/api` and `/events` needs
    /// a token; without it anybody may read, and only this host may write.
    pub tokens: Option<PathBuf>,
    /// Where `GET /events` gets the daemon's own events; without it that route answers 501.
    pub doors: Option<Arc<dyn Doors>>,
    /// Without it the door speaks plain HTTP.
    pub tls: Option<Arc<Tls>>,
    pub limits: HttpLimits,
}

#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// From the first byte of the body to the answer; streams excepted.
    pub request: Duration,
    /// Until a command is answered. It goes on all the same: what was asked for is not half done.
    pub command: Duration,
    /// Commands under way, those that nobody waits for any more included. An abort is not counted.
    pub waiting_commands: usize,
    /// For the headers of a request, and the longest idle time of a connection.
    pub headers: Duration,
    pub connections: usize,
    /// Open streams (`/api/v1/watch`, `GET /events`).
    pub streams: usize,
    /// Announcements, all senders together.
    pub events: Rate,
    /// Commands a user; those without a token count as one user.
    pub commands: Rate,
}

/// One in so long in the long run, and so many at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub one_per: Duration,
    pub burst: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            request: Duration::from_secs(8),
            command: Duration::from_secs(5),
            waiting_commands: 256,
            headers: Duration::from_secs(10),
            connections: 1024,
            streams: 256,
            events: Rate { one_per: Duration::from_millis(5), burst: 2000 },
            commands: Rate { one_per: Duration::from_millis(20), burst: 200 },
        }
    }
}
