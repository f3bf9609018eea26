//! A webhook's receiver: keeps every request that comes in, and answers as it is told. For Alertmanager's
//! notifications, Slack and generic webhooks, gates.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::wait;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Letter {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As text; what is no UTF-8 is replaced.
    pub body: String,
    pub at: Instant,
}

impl Letter {
    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Desk {
    letters: Vec<Letter>,
    status: StatusCode,
    answer: String,
}

/// Listens on loopback until dropped.
#[derive(Debug)]
pub struct Inbox {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    task: JoinHandle<()>,
}

impl Inbox {
    /// Starts one that answers 200 with an empty body.
    pub async fn start() -> Result<Self> {
        let desk = Desk { letters: Vec::new(), status: StatusCode::OK, answer: String::new() };
        let desk = Arc::new(Mutex::new(desk));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening")?;
        let address = listener.local_addr()?;
        let app = axum::Router::new().fallback(take).with_state(desk.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, desk, task })
    }

    /// The URL of a path of it, such as `/hook`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers every request with this from now on.
    pub fn answer_with(&self, status: u16, body: &str) -> Result<()> {
        let mut desk = lock(&self.desk);
        desk.status = StatusCode::from_u16(status).with_context(|| format!("{status} is no HTTP status"))?;
        desk.answer = body.to_owned();
        Ok(())
    }

    /// All that has come so far, in order.
    pub fn letters(&self) -> Vec<Letter> {
        lock(&self.desk).letters.clone()
    }

    /// Waits until one has come that `wanted` accepts, and gives the first such.
    pub async fn wait_for(&self, limit: Duration, wanted: impl Fn(&Letter) -> bool) -> Result<Letter> {
        wait::until("a letter in the inbox", limit, || async {
            let letters = self.letters();
            match letters.iter().find(|letter| wanted(letter)) {
                Some(letter) => Ok(Some(letter.clone())),
                None => bail!("none of {} is the one: {letters:#?}", letters.len()),
            }
        })
        .await
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(desk: &Mutex<Desk>) -> std::sync::MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(
    State(desk): State<Arc<Mutex<Desk>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let letter = Letter {
        method: method.to_string(),
        path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        at: Instant::now(),
    };
    let mut desk = lock(&desk);
    desk.letters.push(letter);
    (desk.status, desk.answer.clone())
}
