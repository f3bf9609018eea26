//! Over the daemon's HTTP API.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::decisions::RecordPage;
use sluice_wire::message::{Answer, Command};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;
use url::Url;

use super::sse::Events;
use super::{ClientError, Views, Way};
use crate::cli::{Aim, Global};

/// The server writes at least every 15 s; so long a silence means that it is gone.
const MOST_SILENCE: Duration = Duration::from_secs(45);
/// An answer larger than this is not read to its end.
const MOST_BYTES: usize = 64 * 1024 * 1024;

pub(super) struct OverHttp {
    http: reqwest::Client,
    base: Url,
    /// As errors name it.
    at: String,
    token: Option<String>,
    user: String,
    limit: Duration,
}

/// What the API says of a fault.
#[derive(Deserialize)]
struct Fault {
    error: String,
    #[serde(default)]
    remedy: String,
}

impl OverHttp {
    pub(super) fn new(global: &Global, limit: Duration) -> Result<Self, ClientError> {
        let server = &global.server;
        let base = base_url(server)?;
        let token = global.token_file.as_deref().map(read_token).transpose()?;
        let mut builder =
            reqwest::Client::builder().connect_timeout(limit).redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if let Some(file) = &global.ca {
            builder = builder.tls_certs_only(read_certificates(file)?);
        }
        let http = builder
            .build()
            .map_err(|error| ClientError::Unreachable { at: server.clone(), why: chain(&error) })?;
        let (at, user) = (base.as_str().trim_end_matches('/').to_owned(), global.user());
        Ok(OverHttp { http, at, base, token, user, limit })
    }

    /// Segments are escaped, so that no name can lead elsewhere.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn rollout(&self, aim: &Aim, more: &[&str]) -> Url {
        let mut url = self.url(&[&["api", "v1", "rollouts", &aim.namespace, &aim.name], more].concat());
        if let Some(attempt) = &aim.attempt {
            url.query_pairs_mut().append_pair("attempt", attempt);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url).header("Sluice-User", escaped(&self.user));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|error| self.failed(&error))
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, url).timeout(self.limit)).await?;
        let (status, body) = self.read(response).await?;
        if status.is_success() { self.understood(&body) } else { Err(self.fault(status, &body)) }
    }

    /// An answer, given with 200 or 202, or refused with 409.
    async fn answer(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let response = self.send(request.timeout(self.limit)).await?;
        let (status, body) = self.read(response).await?;
        if status.is_success() || status == StatusCode::CONFLICT {
            return self.understood(&body);
        }
        Err(self.fault(status, &body))
    }

    async fn read(&self, response: Response) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let status = response.status();
        let mut body = Vec::new();
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|error| self.failed(&error))?);
            if body.len() > MOST_BYTES {
                return Err(self.strange(format!("more than {MOST_BYTES} bytes")));
            }
        }
        Ok((status, body))
    }

    fn understood<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.strange(error.to_string()))
    }

    fn strange(&self, why: String) -> ClientError {
        ClientError::Strange { at: self.at.clone(), why }
    }

    fn failed(&self, error: &reqwest::Error) -> ClientError {
        let at = self.at.clone();
        if error.is_timeout() && !error.is_connect() {
            return ClientError::Silent { at, limit: self.limit };
        }
        let why = chain(error);
        match why.as_str() {
            untrusted if untrusted.contains("certificate") => ClientError::Untrusted { at, why },
            plain if plain.contains("InvalidContentType") => {
                let why = "it does not speak TLS; without --tls-cert a daemon is at http://".to_owned();
                ClientError::Strange { at, why }
            }
            _ => ClientError::Unreachable { at, why },
        }
    }

    fn fault(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let at = self.at.clone();
        let fault = serde_json::from_slice::<Fault>(body);
        let Ok(Fault { error, remedy }) = fault else {
            let why = format!("status {status} and {} bytes that are no answer of ours", body.len());
            return ClientError::Strange { at, why };
        };
        match status.as_u16() {
            404 => ClientError::Unknown { error, remedy },
            401 | 403 => ClientError::Denied { error, remedy },
            status if (500..600).contains(&status) => ClientError::Server { at, status, error },
            _ => ClientError::BadInput { error, remedy },
        }
    }
}

#[async_trait]
impl Way for OverHttp {
    async fn list(&self) -> Result<Vec<RolloutView>, ClientError> {
        self.get(self.url(&["api", "v1", "rollouts"])).await
    }

    async fn status(&self, aim: &Aim) -> Result<RolloutView, ClientError> {
        self.get(self.rollout(aim, &[])).await
    }

    async fn history(&self, aim: &Aim) -> Result<Vec<HistoryLine>, ClientError> {
        self.get(self.rollout(aim, &["history"])).await
    }

    async fn record(&self, aim: &Aim, after: u64) -> Result<RecordPage, ClientError> {
        let mut url = self.rollout(aim, &["record"]);
        url.query_pairs_mut().append_pair("after", &after.to_string());
        self.get(url).await
    }

    async fn command(&self, aim: &Aim, action: &str, command: &Command) -> Result<Answer, ClientError> {
        let url = self.rollout(&Aim { attempt: None, ..aim.clone() }, &[action]);
        self.answer(self.request(Method::POST, url).json(command)).await
    }

    async fn announce(&self, aim: &Aim, event: &CloudEvent) -> Result<Answer, ClientError> {
        let url = self.url(&["events", &aim.namespace, &aim.name]);
        let request = self.request(Method::POST, url);
        self.answer(request.header("Content-Type", "application/cloudevents+json").body(event.to_bytes()))
            .await
    }

    async fn changes(&self, aim: Option<&Aim>) -> Result<Views, ClientError> {
        let mut url = self.url(&["api", "v1", "watch"]);
        if let Some(aim) = aim {
            url.query_pairs_mut().append_pair("namespace", &aim.namespace).append_pair("name", &aim.name);
        }
        let sent = tokio::time::timeout(self.limit, self.send(self.request(Method::GET, url))).await;
        let response =
            sent.unwrap_or_else(|_| Err(ClientError::Silent { at: self.at.clone(), limit: self.limit }))?;
        if !response.status().is_success() {
            let (status, body) = self.read(response).await?;
            return Err(self.fault(status, &body));
        }
        Ok(views(response, self.at.clone()))
    }
}

/// The views of a stream of server-sent events.
fn views(response: Response, at: String) -> Views {
    let bytes = response.bytes_stream().boxed();
    let state = (bytes, Events::default(), at);
    let parts = stream::try_unfold(state, |(mut bytes, mut events, at)| async move {
        let gone = |why: String| ClientError::Unreachable { at: at.clone(), why };
        let next = tokio::time::timeout(MOST_SILENCE, bytes.next()).await;
        let part = match next.map_err(|_| gone(format!("silent for {MOST_SILENCE:?}")))? {
            Some(part) => part.map_err(|error| gone(chain(&error)))?,
            None => return Ok(None),
        };
        let strange = |why: String| ClientError::Strange { at: at.clone(), why };
        let whole = events.push(&part).map_err(|error| strange(error.to_string()))?;
        let parsed: Result<Vec<RolloutView>, _> =
            whole.iter().map(|data| serde_json::from_slice(data)).collect();
        let views = parsed.map_err(|error| strange(error.to_string()))?;
        Ok(Some((stream::iter(views.into_iter().map(Ok)), (bytes, events, at))))
    });
    parts.try_flatten().boxed()
}

/// `host:port` alone is meant as HTTP.
fn base_url(server: &str) -> Result<Url, ClientError> {
    let wrong = |why: String| ClientError::BadInput {
        error: format!("--server {server:?} is no address: {why}"),
        remedy: "write for example http://127.0.0.1:7878".into(),
    };
    let given = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let url = Url::parse(&given).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("it must begin with http:// or https://".into()));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn read_token(path: &Path) -> Result<String, ClientError> {
    let wrong = |error: String| ClientError::BadInput {
        error,
        remedy: "--token-file names a file whose first line is the token".into(),
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    let token = text.lines().next().unwrap_or_default().trim().to_owned();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong(format!("{}: the first line is no token", path.display())));
    }
    Ok(token)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let wrong = |why: String| ClientError::BadInput {
        error: format!("{}: {why}", path.display()),
        remedy: "--ca names a file with the certificates (PEM) that sign the daemon's".into(),
    };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(chain(&error)))?;
    if certificates.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(certificates) }
}

/// A header's value may hold visible ASCII only.
fn escaped(user: &str) -> String {
    percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// An error with its causes, without the URL that is named anyway.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let mut words: Vec<String> = causes.map(ToString::to_string).collect();
    words.dedup();
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}
