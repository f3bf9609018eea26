//! A server that answers whatever a test tells it, and policies that point to servers.
#![allow(dead_code, reason = "each test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use sluice_metrics_adapters::Ask;
use sluice_rollout::RolloutId;
use sluice_wire::policy::Policy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the stub does with a request: raw bytes of an answer, or silence for ever.
pub enum Answer {
    Bytes(Vec<u8>),
    Silence,
}

/// A well-formed HTTP answer.
pub fn http(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    Answer::Bytes([head.as_bytes(), body].concat())
}

pub fn json(status: u16, body: &str) -> Answer {
    http(status, "application/json", body)
}

/// An HTTP server of a few lines; keeps the requests that it got.
pub struct Stub {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// `answer` gets each request as text, head and body.
    pub async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), log.clone()));
            }
        });
        Stub { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(&str) -> Answer + Send + Sync + 'static>,
    log: Arc<Mutex<Vec<String>>>,
) {
    let request = read_request(&mut stream).await;
    log.lock().unwrap().push(request.clone());
    match answer(&request) {
        // The client may have gone; that is its right.
        Answer::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Answer::Silence => std::future::pending().await,
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return text,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A policy without Kubernetes, with this `metrics:` block.
pub fn policy(name: &str, metrics: &str) -> Policy {
    policy_with(name, metrics, "{}")
}

pub fn policy_with(name: &str, metrics: &str, analysis: &str) -> Policy {
    let text = format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  target: {{webhook: {{url: 'http://127.0.0.1:1'}}}}\n  metrics: {metrics}\n  analysis: {analysis}\n  steps: [{{weight: 10}}]\n"
    );
    Policy::parse("policy.yaml", text.as_bytes()).unwrap()
}

pub fn ask(policy: &Policy) -> Ask {
    Ask::of(policy, RolloutId::new("shop", &policy.metadata.name, "1").unwrap()).unwrap()
}
