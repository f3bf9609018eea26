//! Secrets in files, read each time they are needed, so that a rotated one is in use at once.

use std::{io, path::Path, time::Duration};

use secrecy::SecretString;

use crate::SinkError;

/// A secret is a line, not a document.
const MOST_BYTES: u64 = 8 * 1024;
/// Somebody has to mend the file first.
const AGAIN: Duration = Duration::from_secs(15);

/// The file's text without surrounding space. A file that cannot be read now may be there later.
pub(crate) async fn read(path: &str) -> Result<SecretString, SinkError> {
    let text = limited(Path::new(path)).await.map_err(|error| later(path, &error.to_string()))?;
    match text.trim() {
        "" => Err(later(path, "it is empty")),
        secret => Ok(SecretString::from(secret.to_owned())),
    }
}

async fn limited(path: &Path) -> io::Result<String> {
    if tokio::fs::metadata(path).await?.len() > MOST_BYTES {
        return Err(io::Error::other("it is larger than a secret"));
    }
    tokio::fs::read_to_string(path).await
}

fn later(path: &str, why: &str) -> SinkError {
    SinkError::Passing { why: format!("{path} cannot be used: {why}"), after: Some(AGAIN) }
}
