//! HTTP as every source uses it: no redirects, a time limit on everything, bodies read only up to a bound.

use std::time::{Duration, UNIX_EPOCH};

use futures::StreamExt;
use reqwest::RequestBuilder;
use sluice_outbound::{Client, Forbidden, Outbound};
use url::Url;

use crate::SourceError;

/// How sources reach their servers.
#[derive(Debug, Clone)]
pub struct Http {
    pub user_agent: String,
    pub connect_timeout: Duration,
    /// Queries (or scrapes) of one source at once.
    pub concurrency: usize,
    /// A larger answer of Prometheus is an error; it is not read to its end.
    pub most_bytes: usize,
    /// What a policy's address may be.
    pub outbound: Outbound,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            user_agent: concat!("sluice/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(3),
            concurrency: 8,
            most_bytes: 32 << 20,
            outbound: Outbound::default(),
        }
    }
}

impl Http {
    /// A client with this whole-request time limit.
    pub(crate) fn client(&self, server: &str, timeout: Duration) -> Result<Client, SourceError> {
        // The program installs a provider first thing; this is for those who forgot. An error: somebody was quicker.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let (agent, connect) = (self.user_agent.clone(), self.connect_timeout.min(timeout));
        let make = move || {
            reqwest::Client::builder().user_agent(&agent).connect_timeout(connect).timeout(timeout).gzip(true)
        };
        self.outbound.client(make).map_err(|error| SourceError::Config {
            server: server.to_owned(),
            what: "the HTTP client".to_owned(),
            why: chain(&error),
        })
    }
}

/// An address as policies write it.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) if !text.contains("://") => {
            Err(format!("{text:?} has no scheme: write http://{text} (or https://)"))
        }
        Ok(_) => Err(format!("{text:?} has to begin with http:// or https://")),
        Err(error) => Err(format!("{text:?}: {error}; write for example http://127.0.0.1:9090")),
    }
}

/// Refused before anything is sent.
pub(crate) fn forbidden(server: &str, why: &Forbidden) -> SourceError {
    SourceError::Config { server: server.to_owned(), what: "its address".to_owned(), why: why.to_string() }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// The server's clock, in milliseconds, if it said.
    pub(crate) date_ms: Option<i64>,
    pub(crate) bytes: Vec<u8>,
}

/// Sends and reads to the end, at most `most_bytes` (after decompression).
pub(crate) async fn fetch(
    server: &str,
    request: RequestBuilder,
    limit: Duration,
    most_bytes: usize,
) -> Result<Body, SourceError> {
    let wrong = |error: reqwest::Error| unreachable(server, &error, limit);
    let response = request.send().await.map_err(wrong)?;
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let date = response.headers().get("date").and_then(|value| value.to_str().ok());
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    let date_ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    let mut chunks = response.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(wrong)?;
        if bytes.len() + chunk.len() > most_bytes {
            return Err(SourceError::TooLarge { server: server.to_owned(), most_bytes });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { status, content_type, date_ms, bytes })
}

/// The first words of a body, for errors: one line, no control characters.
pub(crate) fn head(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect::<String>().trim().to_owned()
}

/// The same of what may be no address at all.
pub(crate) fn shown_text(text: &str) -> String {
    text.parse().map_or_else(|_| "the source".to_owned(), |url| shown(&url))
}

/// An address without user and password.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Errors mean that the address cannot have them, which is as good.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn unreachable(server: &str, error: &reqwest::Error, limit: Duration) -> SourceError {
    let server = server.to_owned();
    if error.is_timeout() {
        SourceError::Timeout { server, limit }
    } else {
        SourceError::Unreachable { server, why: chain(error) }
    }
}

/// An error with its causes; reqwest's own words alone do not say why. Its address may hold a password.
fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") }
}
