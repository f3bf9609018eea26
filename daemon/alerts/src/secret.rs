//! Secrets in files, read each time they are needed, so that a rotated one is in use at once.

use std::time::Duration;

use secrecy::SecretString;
use sluice_outbound::{Outbound, SecretError};

use crate::SinkError;

/// Somebody has to mend the file first.
const AGAIN: Duration = Duration::from_secs(15);

/// A file that cannot be read now may be there later.
pub(crate) async fn read(outbound: &Outbound, file: &str) -> Result<SecretString, SinkError> {
    outbound.secret(file).await.map_err(|error| match error {
        SecretError::Outside { .. } => SinkError::Final { why: error.to_string() },
        SecretError::Unusable { .. } => SinkError::Passing { why: error.to_string(), after: Some(AGAIN) },
    })
}

/// Said when the policy is taken, and not by the first alert.
pub(crate) fn check(outbound: &Outbound, file: Option<&String>) -> Result<(), SinkError> {
    let checked = file.map_or(Ok(()), |file| outbound.check_secret(file));
    checked.map_err(|error| SinkError::Final { why: error.to_string() })
}
