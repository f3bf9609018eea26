//! HTTP as all sinks use it: what may be reached is `sluice-outbound`'s to say; every request has a time limit, and of an
//! answer's body only the beginning is read.

use std::{fmt, time::Duration};

use reqwest::{ClientBuilder, RequestBuilder, Response, StatusCode, Url, header::RETRY_AFTER};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_outbound::{Client, Forbidden, Outbound};

use crate::SinkError;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How much of an answer's body is shown to people.
const SHOWN_BYTES: usize = 200;
/// Nobody asks for longer in earnest.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// What a person has to mend (a token, a channel) is tried again this often.
const MENDED: Duration = Duration::from_secs(60);

/// A URL in which a user, a password or a token may stand.
pub(crate) struct HiddenUrl(Url);

/// A client for what `outbound` lets through; `base` begins it.
pub(crate) fn client(
    outbound: &Outbound,
    base: impl Fn() -> ClientBuilder + Send + Sync + 'static,
) -> Result<Client, SinkError> {
    let make = move || base().connect_timeout(CONNECT_LIMIT).timeout(ANSWER_LIMIT);
    outbound
        .client(make)
        .map_err(|error| SinkError::Final { why: format!("no HTTP client can be made: {}", chain(&error)) })
}

/// An address of the policy, checked as far as that goes without asking DNS.
pub(crate) fn url(text: &str, outbound: &Outbound) -> Result<HiddenUrl, SinkError> {
    let wrong = |why: String| SinkError::Final { why };
    let url = Url::parse(text).map_err(|error| wrong(format!("{text:?} is no URL: {error}")))?;
    outbound.check(&url).map_err(|why| wrong(format!("no alert goes there: {why}")))?;
    Ok(HiddenUrl(url))
}

/// Refused before anything is sent.
pub(crate) fn forbidden(why: Forbidden) -> SinkError {
    SinkError::Final { why: format!("no alert goes there: {why}") }
}

impl HiddenUrl {
    pub fn full(&self) -> Url {
        self.0.clone()
    }

    /// This URL with `path` after its own.
    pub fn below(&self, path: &str) -> Url {
        let mut url = self.full();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// Where it leads, for logs: `https://alerts.example:8443`. The path is left out, since it may be a token.
    pub fn place(&self) -> String {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }

    /// Tells URLs of one place apart: 6 hex digits.
    pub fn mark(&self) -> String {
        Sha256::digest(self.0.as_str()).iter().take(3).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for HiddenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Posts JSON. `what` names the receiver in errors, which never show the URL: it may be a secret.
pub(crate) async fn post(what: &str, request: RequestBuilder, body: &Value) -> Result<(), SinkError> {
    let response = request.json(body).send().await.map_err(|error| unanswered(what, error))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(refused(what, status, response).await),
    }
}

fn unanswered(what: &str, error: reqwest::Error) -> SinkError {
    let error = error.without_url();
    let why = format!("{what}: {}", chain(&error));
    if error.is_connect() { SinkError::Passing { why, after: None } } else { SinkError::Unanswered { why } }
}

async fn refused(what: &str, status: StatusCode, response: Response) -> SinkError {
    let after = retry_after(&response);
    let why = format!("{what} answered {status}: {}", beginning(response).await);
    match status.as_u16() {
        // The message itself is at fault, or the receiver is not what the policy says.
        400 | 405 | 406 | 411 | 413 | 415 | 422 => SinkError::Final { why },
        408 | 429 | 500..=599 => SinkError::Passing { why, after },
        // A token, a path, a channel: a person mends it while we go on trying.
        _ => SinkError::Passing { why, after: Some(after.unwrap_or(MENDED)) },
    }
}

/// In seconds; the form with a date is not used by the sinks that we know.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend(chunk.iter().take(SHOWN_BYTES - bytes.len()));
        if bytes.len() >= SHOWN_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error with all its causes: reqwest's own text alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_this_machine_can_reach_are_refused() {
        let outbound = Outbound::default();
        for bad in ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "not a url"] {
            assert!(matches!(url(bad, &outbound), Err(SinkError::Final { .. })), "{bad} was taken");
        }
        assert!(url("http://127.0.0.1:9093", &outbound).is_ok());
    }

    #[test]
    fn a_place_shows_neither_user_nor_password_nor_path() {
        let url = url("https://me:secret@alerts.example:8443/hook/?token=abc", &Outbound::default()).unwrap();
        assert_eq!(url.place(), "https://alerts.example:8443");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
