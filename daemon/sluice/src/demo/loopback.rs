//! HTTP within this machine, for the demo's own processes: every socket here is bound to 127.0.0.1 or leads there.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, body::Body, http::Uri};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{net::TcpListener, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

/// How long requests may take to finish when a door closes.
const CLOSING: Duration = Duration::from_secs(2);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);

/// A port that is listened on until closed or dropped.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Door {
    /// Listens on a free port. Must be called within a tokio runtime.
    pub async fn open(routes: Router) -> io::Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let closing = CancellationToken::new();
        let closed = closing.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(closed).await {
                tracing::warn!(%address, %error, "a door of the demo has closed");
            }
        });
        Ok(Door { address, closing, task })
    }

    /// `http://127.0.0.1:<port><path>`
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Takes nothing new, lets what runs finish for a moment, and is gone.
    pub async fn close(mut self) {
        self.closing.cancel();
        // A request that takes longer is cut off by the drop.
        let _ = time::timeout(CLOSING, &mut self.task).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closing.cancel();
        self.task.abort();
    }
}

/// Keeps its connections open between requests.
pub type HttpClient = Client<HttpConnector, Body>;

/// For URLs that [`is_loopback`] accepts.
pub fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_nodelay(true);
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).build(connector)
}

/// Whether a URL leads to this machine by a literal address and plain HTTP.
pub fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    url.scheme_str() == Some("http")
        && host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_literal_loopback_address_is_this_machine() {
        for (url, answer) in [
            ("http://127.0.0.1:80/", true),
            ("http://[::1]:80/", true),
            ("https://127.0.0.1/", false),
            ("http://localhost/", false),
            ("http://10.0.0.1/", false),
            ("/path", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), answer, "{url}");
        }
    }
}
