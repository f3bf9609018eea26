//! The doors of the binary, told from outside: the HTTP API on real sockets, and the command line as a process, both
//! before a daemon that is played by the test. No server is needed, but for `over_nats`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod cli;
mod fake;
mod hostile;
mod http;
mod offline;
#[cfg(feature = "real")]
mod over_nats;
mod restarts;
mod site;
mod streams;
mod tls;
mod who;
