//! Releases, announced as CloudEvents: structured, binary, or several in a batch.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sluice_wire::cloudevent::{CloudEvent, EnvelopeError};
use sluice_wire::message::Answer;

use super::commanding::{answered, body_fault};
use super::reading::{Named, checked, rollout};
use super::{Fault, House};

/// Events in one batch.
const MOST_EVENTS: usize = 100;
/// A policy inside an event, as JSON.
const MOST_POLICY_BYTES: usize = 256 * 1024;

/// Announces a release of the policy that the path names.
#[utoipa::path(post, path = "/events/{namespace}/{name}", tag = "events",
    params(("namespace" = String, Path), ("name" = String, Path)),
    request_body(content = ref("#/components/schemas/CloudEvent"), content_type = "application/cloudevents+json",
        description = "structured, binary (ce- headers, the data as body), or a batch (application/cloudevents-batch+json)"),
    responses(
    (status = 202, description = "taken; a batch gets an array", body = ref("#/components/schemas/Answer")),
    (status = 409, description = "refused: why", body = ref("#/components/schemas/Answer")),
    (status = 400, description = "no CloudEvent, with place and remedy", body = ref("#/components/schemas/FaultBody")),
    (status = 401, description = "a token is needed", body = ref("#/components/schemas/FaultBody")),
    (status = 403, description = "not from here", body = ref("#/components/schemas/FaultBody")),
    (status = 413, description = "too large", body = ref("#/components/schemas/FaultBody")),
    (status = 429, description = "too many; see Retry-After", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn addressed(
    State(house): State<House>,
    path: Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let (namespace, name) = rollout(path)?;
    let body = body.map_err(|error| body_fault(&error))?;
    let announce = |event: CloudEvent| Ok((namespace.clone(), name.clone(), event));
    announced(&house, &headers, &body, announce).await
}

/// Announces releases of the policies that the events' own attribute `subject` names.
#[utoipa::path(post, path = "/events", tag = "events",
    request_body(content = ref("#/components/schemas/CloudEvent"), content_type = "application/cloudevents+json",
        description = "with `subject` as namespace/name; structured, binary, or a batch"),
    responses(
    (status = 202, description = "taken; a batch gets an array", body = ref("#/components/schemas/Answer")),
    (status = 409, description = "refused: why", body = ref("#/components/schemas/Answer")),
    (status = 400, description = "no CloudEvent, with place and remedy", body = ref("#/components/schemas/FaultBody")),
    (status = 401, description = "a token is needed", body = ref("#/components/schemas/FaultBody")),
    (status = 403, description = "not from here", body = ref("#/components/schemas/FaultBody")),
    (status = 413, description = "too large", body = ref("#/components/schemas/FaultBody")),
    (status = 429, description = "too many; see Retry-After", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn anywhere(
    State(house): State<House>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let body = body.map_err(|error| body_fault(&error))?;
    announced(&house, &headers, &body, by_subject).await
}

type Addressed = (String, String, CloudEvent);

/// All events of a request are read before the first one has an effect.
async fn announced(
    house: &House,
    headers: &HeaderMap,
    body: &[u8],
    address: impl Fn(CloudEvent) -> Result<Addressed, Fault>,
) -> Result<Response, Fault> {
    let batch = is_batch(headers);
    let events = if batch { batched(body)? } else { vec![single(headers, body)?] };
    let events: Vec<Addressed> =
        events.into_iter().map(|event| address(sized(event)?)).collect::<Result<_, Fault>>()?;
    let mut answers = Vec::with_capacity(events.len());
    for (namespace, name, event) in events {
        answers.push(house.control.announce(&namespace, &name, event).await);
    }
    match answers.pop() {
        Some(answer) if !batch => Ok(answered(answer, StatusCode::ACCEPTED)),
        last => {
            answers.extend(last);
            Ok(together(answers))
        }
    }
}

fn together(answers: Vec<Answer>) -> Response {
    let all = answers.iter().all(|answer| answer.accepted);
    let status = if all { StatusCode::ACCEPTED } else { StatusCode::CONFLICT };
    (status, Json(answers)).into_response()
}

fn is_batch(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim().to_ascii_lowercase().starts_with("application/cloudevents-batch")
}

fn single(headers: &HeaderMap, body: &[u8]) -> Result<CloudEvent, Fault> {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    CloudEvent::read(&pairs, body).map_err(|error| unreadable(&error))
}

fn batched(body: &[u8]) -> Result<Vec<CloudEvent>, Fault> {
    let remedy = "a batch is a JSON array of structured CloudEvents";
    let parts: Vec<&serde_json::value::RawValue> =
        serde_json::from_slice(body).map_err(|error| Fault::bad(format!("no batch: {error}"), remedy))?;
    if parts.len() > MOST_EVENTS {
        return Err(Fault::bad(
            format!("{} events are more than a batch may have ({MOST_EVENTS})", parts.len()),
            "send several",
        ));
    }
    let read = |(number, part): (usize, &&serde_json::value::RawValue)| {
        CloudEvent::read(&[], part.get().as_bytes()).map_err(|error| {
            let fault = unreadable(&error);
            Fault::new(fault.status, format!("event {} of the batch: {error}", number + 1), remedy)
        })
    };
    parts.iter().enumerate().map(read).collect()
}

fn unreadable(error: &EnvelopeError) -> Fault {
    let status = match error {
        EnvelopeError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Fault::told(status, &error.to_string())
}

fn sized(event: CloudEvent) -> Result<CloudEvent, Fault> {
    let policy = event.data.get("policy").map(Value::to_string).unwrap_or_default();
    if policy.len() <= MOST_POLICY_BYTES {
        return Ok(event);
    }
    let error =
        format!("data.policy has {} bytes, more than a policy may have ({MOST_POLICY_BYTES})", policy.len());
    Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error, "is this the right file?"))
}

/// `namespace/name` from the attribute `subject`.
fn by_subject(event: CloudEvent) -> Result<Addressed, Fault> {
    let remedy = "write subject as namespace/name, or POST to /events/NAMESPACE/NAME";
    let Some((namespace, name)) = event.subject.as_deref().and_then(|subject| subject.split_once('/')) else {
        return Err(Fault::bad("the event does not say which policy it is for", remedy));
    };
    checked(namespace, name)?;
    Ok((namespace.to_owned(), name.to_owned(), event))
}
