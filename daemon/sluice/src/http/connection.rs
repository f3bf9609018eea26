//! Accepting connections: so many at once, each with a limit for its handshake and its headers. `axum::serve` has neither.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HttpLimits;
use super::guard::Peer;
use super::tls::Tls;

/// What runs when the daemon stops may come to its end for so long.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left, say).
const BREATH: Duration = Duration::from_millis(50);
/// Requests have few headers; this holds the largest token and some more.
const MOST_HEADER_BYTES: usize = 32 * 1024;

/// What is said in clear to who speaks no TLS to a port that does.
const SPEAK_TLS: &str = r#"{"error":"this port speaks TLS","remedy":"ask https:// (for the command line --server https://... --ca FILE)"}"#;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    while let Some((stream, peer, permit)) = next(&listener, &permits, &shutdown).await {
        let connection = serve(stream, peer, tls.clone(), router.clone(), limits, shutdown.clone());
        tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
    Ok(())
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Nothing once the daemon stops. With all places taken, newcomers wait in the kernel's queue.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<Accepted> {
    let accepted = async {
        let permit = permits.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Some((stream, peer, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => None,
        accepted = accepted => accepted,
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return converse(stream, peer, router, limits, shutdown).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limits.headers, shake_hands(stream, &tls)) => shaken,
        () = shutdown.cancelled() => return,
    };
    match shaken {
        Ok(Ok(Some(stream))) => converse(stream, peer, router, limits, shutdown).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake was not done in time"),
    }
}

/// Nothing where the other side speaks no TLS; it is told so.
async fn shake_hands(mut stream: TcpStream, tls: &Tls) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        let head = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close",
            SPEAK_TLS.len()
        );
        stream.write_all(format!("HTTP/1.1 400 Bad Request\r\n{head}\r\n\r\n{SPEAK_TLS}").as_bytes()).await?;
        stream.shutdown().await?;
        // What it still says is read, or its kernel would throw our answer away.
        tokio::io::copy(&mut stream.take(MOST_HEADER_BYTES as u64), &mut tokio::io::sink()).await?;
        return Ok(None);
    }
    tls.acceptor().await.accept(stream).await.map(Some)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = inner.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}
