//! Who may do what, from where, and how often.
//!
//! | | without a token file | with one |
//! | --- | --- | --- |
//! | probes, metrics, openapi.json | anybody | anybody |
//! | reading | anybody who reaches the port | a token |
//! | writing | this host; the user is what the client says | a token, which says the user |
//!
//! A browser that was sent here by another site is refused whatever it carries: its Origin is not ours, and a name that
//! was bent to loopback (DNS rebinding) is not in the Host header that we expect.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use percent_encoding::percent_decode_str;

use super::options::Rate;
use super::{Fault, House, HttpLimits, body, tokens};

/// Users beyond this many are forgotten once they have been quiet.
const MOST_USERS: usize = 1000;
const MOST_USER_BYTES: usize = 128;
/// Said by a client about itself; believed from this host only.
const USER: &str = "sluice-user";

/// The other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who asks, once the guard let them pass.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) user: String,
}

pub(super) struct Guard {
    tokens: Option<PathBuf>,
    events: DefaultDirectRateLimiter,
    /// A flood of announcements never delays a command, nor one user another.
    commands: DefaultKeyedRateLimiter<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Read,
    Announce,
    Command,
}

/// Stands before every route: asks the guard, and ends what takes too long.
pub(super) async fn guarded(State(house): State<House>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match house.guard.admit(&parts).await {
        Ok(caller) => parts.extensions.insert(caller),
        Err(fault) => return fault.into_response(),
    };
    match tokio::time::timeout(house.limits.request, answered(parts, body, next)).await {
        Ok(response) => response,
        Err(_) => too_late().into_response(),
    }
}

async fn answered(parts: Parts, body: Body, next: Next) -> Response {
    match body::whole(body).await {
        Ok(bytes) => next.run(Request::from_parts(parts, bytes.into())).await,
        Err(fault) => fault.into_response(),
    }
}

fn too_late() -> Fault {
    Fault::new(
        StatusCode::GATEWAY_TIMEOUT,
        "no answer in time; whether it took effect is not known",
        "look with GET /api/v1/rollouts, or repeat it with the same id, which never has a second effect",
    )
}

impl Guard {
    pub(super) fn new(tokens: Option<PathBuf>, limits: &HttpLimits) -> Guard {
        let (events, commands) =
            (RateLimiter::direct(quota(limits.events)), RateLimiter::keyed(quota(limits.commands)));
        Guard { tokens, events, commands }
    }

    async fn admit(&self, request: &Parts) -> Result<Caller, Fault> {
        let kind = Kind::of(&request.method, request.uri.path());
        let (headers, peer) = (&request.headers, request.extensions.get::<Peer>().map(|peer| peer.0.ip()));
        if kind.is_write() {
            same_site(headers)?;
        }
        let caller = match (&self.tokens, kind) {
            (_, Kind::Open) => Caller { user: String::new() },
            (Some(_), Kind::Read | Kind::Announce | Kind::Command) => self.bearer(headers).await?,
            (None, Kind::Read) => said(headers),
            (None, Kind::Announce | Kind::Command) => {
                this_host(headers, peer)?;
                said(headers)
            }
        };
        self.rate(kind, &caller)?;
        Ok(caller)
    }

    async fn bearer(&self, headers: &HeaderMap) -> Result<Caller, Fault> {
        let remedy = "send `Authorization: Bearer TOKEN` (`--token-file FILE`); tokens stand in the daemon's token file";
        let refused = |error: &str| Fault::new(StatusCode::UNAUTHORIZED, error, remedy);
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value
            .and_then(|value| value.split_once(' '))
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let (Some((_, token)), Some(file)) = (token, &self.tokens) else {
            return Err(refused("a token is needed"));
        };
        let owner = tokens::owner(file, token.trim()).await.map_err(|why| {
            tracing::error!(%why, "the token file cannot be used; nobody can be let in");
            let remedy = "the daemon's log says which file and line";
            Fault::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon's token file cannot be used", remedy)
        })?;
        owner.map(|user| Caller { user }).ok_or_else(|| refused("this token is unknown"))
    }

    fn rate(&self, kind: Kind, caller: &Caller) -> Result<(), Fault> {
        let clock = DefaultClock::default();
        let wait = match kind {
            Kind::Open | Kind::Read => None,
            Kind::Announce => self.events.check().err().map(|until| until.wait_time_from(clock.now())),
            Kind::Command => {
                if self.commands.len() > MOST_USERS {
                    self.commands.retain_recent();
                }
                // Names that nobody vouches for share one account: else a new name would be a new allowance.
                let account = if self.tokens.is_some() { caller.user.clone() } else { String::new() };
                self.commands.check_key(&account).err().map(|until| until.wait_time_from(clock.now()))
            }
        };
        wait.map_or(Ok(()), |wait| Err(Fault::too_many(wait.as_secs() + 1)))
    }
}

impl Kind {
    fn of(method: &Method, path: &str) -> Kind {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let announces = path == "/events" || path.starts_with("/events/");
        match (reads, announces, path.starts_with("/api/")) {
            (true, false, false) => Kind::Open,
            (true, _, _) => Kind::Read,
            (false, true, _) => Kind::Announce,
            (false, false, _) => Kind::Command,
        }
    }

    fn is_write(self) -> bool {
        match self {
            Kind::Announce | Kind::Command => true,
            Kind::Open | Kind::Read => false,
        }
    }
}

fn quota(rate: Rate) -> Quota {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    // No period is longer than none at all.
    let paced = Quota::with_period(rate.one_per.max(Duration::from_nanos(1)));
    paced.unwrap_or(Quota::per_second(burst)).allow_burst(burst)
}

/// Programs send neither header; a browser sends them and cannot be made to lie.
fn same_site(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let fetched = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let authority =
        |origin: &str| origin.split_once("://").map(|(_, authority)| authority.to_ascii_lowercase());
    let host = text("host").map(str::to_ascii_lowercase);
    let own = text("origin").is_none_or(|origin| authority(origin).is_some() && authority(origin) == host);
    if fetched && own {
        return Ok(());
    }
    let remedy = "use the command line, or a page that this daemon serves itself";
    Err(Fault::new(StatusCode::FORBIDDEN, "a browser on another site asks for a change", remedy))
}

/// Without tokens: the connection comes from this host, under one of its own names, and not through a proxy.
fn this_host(headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Fault> {
    let remedy = "run the daemon with --http-tokens FILE and send a token, or ask from the daemon's own host";
    let refused = |error: &str| Err(Fault::new(StatusCode::FORBIDDEN, error, remedy));
    if !peer.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return refused("without a token file only this host may change anything");
    }
    if ["forwarded", "x-forwarded-for", "via"].iter().any(|name| headers.contains_key(*name)) {
        return refused("without a token file nothing that comes through a proxy may change anything");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_none_or(names_loopback) {
        return refused("without a token file the Host header must name loopback");
    }
    Ok(())
}

fn names_loopback(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let name = bracketed.unwrap_or_else(|| host.rsplit_once(':').map_or(host, |(name, _)| name));
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The user as the client names it: `unknown` if it names none that could be shown.
fn said(headers: &HeaderMap) -> Caller {
    let value = headers.get(USER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user = percent_decode_str(value).decode_utf8_lossy().into_owned();
    let fine = !user.is_empty() && user.len() <= MOST_USER_BYTES && !user.chars().any(char::is_control);
    Caller { user: if fine { user } else { "unknown".to_owned() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_are_ours() {
        for ours in
            ["localhost", "LOCALHOST:7878", "127.0.0.1:80", "127.9.9.9", "[::1]:7878", "[::ffff:127.0.0.1]"]
        {
            assert!(names_loopback(ours), "{ours} was refused");
        }
        for other in
            ["evil.example", "evil.example:7878", "10.0.0.1", "localhost.evil.example", "", "[fe80::1]"]
        {
            assert!(!names_loopback(other), "{other} was taken");
        }
    }

    #[test]
    fn every_change_is_a_write() {
        let command = "/api/v1/rollouts/shop/checkout/abort";
        assert_eq!(Kind::of(&Method::POST, command), Kind::Command);
        assert_eq!(Kind::of(&Method::DELETE, "/metrics"), Kind::Command);
        assert_eq!(Kind::of(&Method::POST, "/events"), Kind::Announce);
        assert_eq!(Kind::of(&Method::GET, "/events"), Kind::Read);
        assert_eq!(Kind::of(&Method::GET, "/metrics"), Kind::Open);
    }
}
