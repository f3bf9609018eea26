//! The stories, and what they lean on.

pub mod bad_input;
pub mod doors;
#[cfg(feature = "real")]
mod entry;
mod file;
pub mod messages;
pub mod place;
#[cfg(feature = "real")]
mod restart;
#[cfg(feature = "real")]
mod setup;
pub mod store;

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

/// Longer than anything takes on a busy machine; nothing waits for it when all is well.
pub const LIMIT: Duration = Duration::from_secs(180);

/// The next item of an endless stream.
pub async fn next<T>(stream: &mut BoxStream<'static, T>) -> Result<T> {
    let next = tokio::time::timeout(LIMIT, stream.next()).await.context("nothing came")?;
    next.context("the stream ended")
}

pub fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The value of a header, in any case.
pub fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
