//! HTTP to the rig's own servers. Loopback only, no proxies, certificates are not checked (readiness and admin work).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Client;
use serde_json::Value;

/// A client for one server of the rig. Make it inside the runtime that uses it.
pub fn client() -> Result<Client> {
    install_crypto();
    Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(30))
        .build()
        .context("making an HTTP client")
}

/// Gives rustls its provider; without one every client with TLS panics. May be called as often as one likes.
pub fn install_crypto() {
    // An error means that somebody has installed one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// GET, and the body as JSON; an answer that is no success is an error with the body in it.
pub async fn get_json(client: &Client, url: &str) -> Result<Value> {
    let text = get_text(client, url).await?;
    serde_json::from_str(&text).with_context(|| format!("{url} answered no JSON: {text}"))
}

/// GET, and the body as text; an answer that is no success is an error with the body in it.
pub async fn get_text(client: &Client, url: &str) -> Result<String> {
    answer(url, client.get(url).send().await).await
}

/// The body of a response, or an error with the status and the body.
pub async fn answer(url: &str, response: reqwest::Result<reqwest::Response>) -> Result<String> {
    let response = response.with_context(|| format!("asking {url}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("reading the answer of {url}"))?;
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    Ok(text)
}
