//! HTTP as all sinks use it: a policy is written by many hands, so a URL in one must not reach what only this machine can.
//!
//! - No redirects: an answer cannot send us elsewhere.
//! - No link-local addresses and no clouds' metadata services, as a literal or by name; the name is resolved once and
//!   connected to what was checked.
//!   (Through a proxy the proxy resolves names: it has to keep to this itself.)
//! - Every request has a time limit; of an answer's body only the beginning is read.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use reqwest::{
    Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::RETRY_AFTER,
    redirect::Policy,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::SinkError;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How much of an answer's body is shown to people.
const SHOWN_BYTES: usize = 200;
/// Nobody asks for longer in earnest.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// What a person has to mend (a token, a channel) is tried again this often.
const MENDED: Duration = Duration::from_secs(60);

/// Metadata services outside the link-local range: Alibaba Cloud's and Amazon's over IPv6.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// A URL in which a user, a password or a token may stand.
pub(crate) struct HiddenUrl(Url);

/// `base` with this module's promises.
pub(crate) fn client(base: ClientBuilder) -> Result<Client, SinkError> {
    base.redirect(Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .timeout(ANSWER_LIMIT)
        .dns_resolver(GuardedNames)
        .build()
        .map_err(|error| SinkError::Final { why: format!("no HTTP client can be made: {}", chain(&error)) })
}

/// An address of the policy, checked as far as that goes without asking DNS.
pub(crate) fn url(text: &str) -> Result<HiddenUrl, SinkError> {
    let wrong = |why: String| SinkError::Final { why };
    let url = Url::parse(text).map_err(|error| wrong(format!("{text:?} is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("{text:?}: write an http or https URL")));
    }
    match literal(&url) {
        Some(address) if forbidden(address) => Err(wrong(refusal(address))),
        Some(_) | None => Ok(HiddenUrl(url)),
    }
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

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn forbidden(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    special || address.is_multicast() || METADATA.contains(&address)
}

fn refusal(address: IpAddr) -> String {
    format!(
        "{address} is a link-local or metadata address: no alert goes there; name the receiver's own address"
    )
}

/// The system's resolver, less the addresses that are not to be reached.
struct GuardedNames;

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match found.iter().find(|address| forbidden(address.ip())) {
                Some(address) => Err(refusal(address.ip()).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_this_machine_can_reach_are_refused() {
        for bad in [
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://0.0.0.0/",
            "http://2852039166/",
            "http://224.0.0.1/",
            "file:///etc/passwd",
            "not a url",
        ] {
            assert!(matches!(url(bad), Err(SinkError::Final { .. })), "{bad} was taken");
        }
        for good in [
            "http://127.0.0.1:9093",
            "http://10.0.0.7/hook",
            "https://hooks.example.com/x",
            "http://[::1]:80/",
        ] {
            assert!(url(good).is_ok(), "{good} was refused");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_such_an_address_is_refused_too() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert!(GuardedNames.resolve(name("0.0.0.0")).await.is_err());
        assert!(GuardedNames.resolve(name("localhost")).await.is_ok());
    }

    #[test]
    fn a_place_shows_neither_user_nor_password_nor_path() {
        let url = url("https://me:secret@alerts.example:8443/hook/?token=abc").unwrap();
        assert_eq!(url.place(), "https://alerts.example:8443");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
