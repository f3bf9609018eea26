//! Whatever has no file here: `PUT` of the wanted weights to a URL, `GET` of those in effect, in one form.
//!
//! ```json
//! {"canary": 5, "stable": 95, "rollout": "shop/checkout@v2", "fence": "3.17", "abort": "error rate 4 % over 1 %"}
//! ```
//!
//! Numbers are percent. Header `Sluice-Fence` repeats the fence: the receiver has to refuse one that is lower than the highest it
//! has seen (409 or 412, with that one in its answer's `fence` or header), since we cannot test it from outside. After the end a
//! PUT without `rollout` and `abort` says that nobody is at work any more. Redirects are not followed, link-local addresses not
//! connected to, and a bearer token is read from its file at each use, never kept or shown.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_outbound::Client;
use sluice_rollout::{Fence, Weight};
use sluice_wire::policy;
use url::Url;

use crate::error::chain;
use crate::poll::poll;
use crate::{AbortMark, Clients, Observed, Target, TargetError, Unfit, Wanted};

pub(crate) const FENCE_HEADER: &str = "Sluice-Fence";

/// How often the watch reads.
const POLL: Duration = Duration::from_secs(2);

/// An answer longer than this is none of ours.
const MOST_ANSWER_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    url: Url,
    token_file: Option<String>,
    timeout: Duration,
    http: Client,
}

/// What goes both ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Form {
    canary: f64,
    stable: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    abort: Option<String>,
}

pub(crate) fn connect(config: &policy::Webhook, clients: &Clients) -> Result<Webhook, TargetError> {
    let (url, http) = (checked(&config.url)?, clients.http().clone());
    // Said when the policy is taken, and not by the first request.
    http.check(&url).map_err(|why| Unfit::new("webhook.url", why.to_string()))?;
    if let Some(file) = &config.token_file {
        http.check_secret(file).map_err(|why| Unfit::new("webhook.tokenFile", why.to_string()))?;
    }
    Ok(Webhook { url, token_file: config.token_file.clone(), timeout: config.timeout.0, http })
}

pub(crate) fn check(config: &policy::Webhook) -> Result<(), Unfit> {
    checked(&config.url).map(drop)
}

fn checked(text: &str) -> Result<Url, Unfit> {
    let unfit = |why: &str| Unfit::new("webhook.url", why);
    let url = Url::parse(text)
        .map_err(|error| unfit(&format!("{error}; write http://host:port/path or https://…")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unfit("only http and https are spoken"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unfit("it holds a user or password; put a token into a file and name it in tokenFile"));
    }
    Ok(url)
}

impl Webhook {
    /// Without query: it may hold a secret.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    async fn request(&self, method: Method) -> Result<RequestBuilder, TargetError> {
        let request = self.http.request(method, self.url.clone());
        let request =
            request.map_err(|why| Unfit::new("webhook.url", why.to_string()))?.timeout(self.timeout);
        Ok(match &self.token_file {
            Some(file) => request.bearer_auth(self.token(file).await?.expose_secret()),
            None => request,
        })
    }

    async fn token(&self, file: &str) -> Result<SecretString, TargetError> {
        let token = self.http.secret(file).await;
        token.map_err(|error| TargetError::NotAsNeeded(format!("target.webhook.tokenFile: {error}")))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, TargetError> {
        request.send().await.map_err(|error| self.no_answer(error))
    }

    fn no_answer(&self, error: reqwest::Error) -> TargetError {
        if error.is_timeout() {
            return TargetError::Timeout(self.timeout);
        }
        TargetError::Unreachable(format!("webhook {}: {}", self.shown(), chain(&error.without_url())))
    }

    async fn read(&self) -> Result<Form, TargetError> {
        let response = self.send(self.request(Method::GET).await?).await?;
        let status = response.status();
        let body = self.body(response).await?;
        if !status.is_success() {
            return Err(self.refusal("GET", status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| {
            let form = r#"{"canary": 5, "stable": 95, "fence": "1.7"}"#;
            TargetError::NotAsNeeded(format!(
                "webhook {}: the answer to GET is not of the form {form}: {error}",
                self.shown()
            ))
        })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, TargetError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_ANSWER_BYTES {
                return Err(TargetError::NotAsNeeded(format!(
                    "webhook {}: the answer is longer than {MOST_ANSWER_BYTES} bytes",
                    self.shown()
                )));
            }
        }
        Ok(body)
    }

    async fn put(&self, form: &Form, fence: Fence) -> Result<Observed, TargetError> {
        let request = self.request(Method::PUT).await?.header(FENCE_HEADER, fence.to_string()).json(form);
        let response = self.send(request).await?;
        let status = response.status();
        let header = response.headers().get(FENCE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.body(response).await?;
        match status {
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                let found = header.or_else(|| fence_of(&serde_json::from_slice(&body).ok()?));
                Err(TargetError::Fenced { found: self.found(found).await.unwrap_or(fence), ours: fence })
            }
            status if status.is_success() => self.observe().await,
            status => Err(self.refusal("PUT", status, &body)),
        }
    }

    /// The fence that refused us, as the answer says or else as GET does.
    async fn found(&self, told: Option<Fence>) -> Option<Fence> {
        match told {
            Some(found) => Some(found),
            None => fence_of(&self.read().await.ok()?),
        }
    }

    fn refusal(&self, verb: &str, status: StatusCode, body: &[u8]) -> TargetError {
        let words: String = String::from_utf8_lossy(body).chars().take(300).collect();
        let text = format!("webhook {}: {verb} was answered {status} {words}", self.shown());
        if status.is_redirection() {
            TargetError::NotAsNeeded(format!(
                "{text}; redirects are not followed, write the address it leads to"
            ))
        } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            TargetError::Unreachable(text)
        } else {
            TargetError::Refused(text)
        }
    }

    fn observed(&self, form: &Form) -> Result<Observed, TargetError> {
        let unfit = || {
            TargetError::NotAsNeeded(format!(
                "webhook {}: weights {}/{} are no shares",
                self.shown(),
                form.canary,
                form.stable
            ))
        };
        let canary = share(form.canary, form.stable).ok_or_else(unfit)?;
        let abort = form
            .abort
            .clone()
            .map(|reason| AbortMark { rollout: form.rollout.clone().unwrap_or_default(), reason });
        Ok(Observed {
            canary,
            written: format!("{}/{}", form.canary, form.stable),
            fence: fence_of(form),
            abort,
        })
    }

    /// A lower fence, or a rise of what was aborted, is not even sent.
    async fn admit(&self, wanted: &Wanted) -> Result<(), TargetError> {
        let form = self.read().await?;
        if let Some(found) = fence_of(&form).filter(|found| *found > wanted.fence) {
            return Err(TargetError::Fenced { found, ours: wanted.fence });
        }
        match &form.abort {
            Some(reason) if form.rollout == Some(wanted.rollout.to_string()) => {
                Err(TargetError::Refused(format!(
                    "webhook {}: {} was aborted ({reason}), so its weight does not rise again",
                    self.shown(),
                    wanted.rollout
                )))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Rounded to hundredths of a percent, but never to none or all unless it is exactly that.
fn share(canary: f64, stable: f64) -> Option<Weight> {
    let total = canary + stable;
    if !(canary >= 0.0 && stable >= 0.0 && total > 0.0 && total.is_finite()) {
        return None;
    }
    if canary == 0.0 || stable == 0.0 {
        return Some(if canary == 0.0 { Weight::ZERO } else { Weight::FULL });
    }
    let hundredths = (canary / total * 10_000.0).round().clamp(1.0, 9_999.0);
    Weight::from_hundredths(hundredths as u32).ok()
}

fn fence_of(form: &Form) -> Option<Fence> {
    form.fence.as_ref()?.parse().ok()
}

#[async_trait]
impl Target for Webhook {
    fn name(&self) -> String {
        format!("webhook {}", self.shown())
    }

    /// The query tells receivers apart too, but stays hidden.
    fn key(&self) -> String {
        let hash: String =
            Sha256::digest(self.url.as_str()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("webhook/{}#{hash}", self.shown())
    }

    /// Any weight can be said; whether the receiver can do it, its answer to PUT tells.
    async fn check(&self, _: &[Weight]) -> Result<(), TargetError> {
        self.observe().await.map(drop)
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        self.observed(&self.read().await?)
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Observed, TargetError> {
        if wanted.rising {
            self.admit(wanted).await?;
        }
        let form = Form {
            canary: wanted.weight.percent(),
            stable: wanted.weight.rest().percent(),
            rollout: Some(wanted.rollout.to_string()),
            fence: Some(wanted.fence.to_string()),
            abort: wanted.abort.clone(),
        };
        self.put(&form, wanted.fence).await
    }

    async fn release(&self, fence: Fence) -> Result<Observed, TargetError> {
        let present = self.read().await?;
        let form = Form { fence: Some(fence.to_string()), rollout: None, abort: None, ..present };
        self.put(&form, fence).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Observed, TargetError>> {
        poll(self.clone(), POLL)
    }
}

#[cfg(test)]
mod tests;
