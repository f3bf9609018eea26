//! A request's body, read whole before anything is made of it. One that is too large is read to its end and thrown away:
//! a connection closed in the middle would take our answer with it, and nobody would learn what was wrong.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures::StreamExt;
use sluice_wire::cloudevent::MOST_BYTES;

use super::Fault;

/// Whoever sends more than this is cut off unanswered.
const MOST_DISCARDED_BYTES: usize = 64 << 20;

pub(super) async fn whole(body: Body) -> Result<Bytes, Fault> {
    let (mut kept, mut discarded) = (Vec::new(), 0);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|error| Fault::bad(format!("the body broke off: {error}"), "send the whole body"))?;
        if discarded == 0 && kept.len() + part.len() <= MOST_BYTES {
            kept.extend_from_slice(&part);
            continue;
        }
        discarded += part.len();
        if discarded > MOST_DISCARDED_BYTES {
            break;
        }
    }
    if discarded > 0 { Err(too_large(kept.len() + discarded)) } else { Ok(kept.into()) }
}

fn too_large(bytes: usize) -> Fault {
    let error = format!("{bytes} bytes are more than a message may have ({MOST_BYTES})");
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error, "a message may have 512 kB, a policy in it 256 kB")
}
