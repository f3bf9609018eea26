//! A person's command: promote, pause, abort, ….

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sluice_wire::message::{Answer, Command};
use sluice_wire::subject::ALL;
use tokio::sync::OwnedSemaphorePermit;

use super::guard::Caller;
use super::reading::{checked_or_all, path_fault};
use super::{Fault, House};
use crate::control::ControlError;

/// Commands are short; policies do not come this way.
const MOST_BYTES: usize = 64 * 1024;
const MOST_KEY_BYTES: usize = 256;

/// Takes a command for one rollout, or with `_all` for all of them, narrowed by `selector`.
#[utoipa::path(post, path = "/api/v1/rollouts/{namespace}/{name}/{action}", tag = "rollouts",
    params(("namespace" = String, Path, description = "or _all"), ("name" = String, Path, description = "or _all"),
        ("action" = String, Path, description = "promote, promote-full, pause, resume, abort, retry, skip, set-weight, extend, backends, undo, triggers-on or triggers-off")),
    request_body = ref("#/components/schemas/Command"), responses(
    (status = 200, description = "accepted: what happens now", body = ref("#/components/schemas/Answer")),
    (status = 409, description = "refused: why", body = ref("#/components/schemas/Answer")),
    (status = 400, description = "bad input, with place and remedy", body = ref("#/components/schemas/FaultBody")),
    (status = 401, description = "a token is needed", body = ref("#/components/schemas/FaultBody")),
    (status = 403, description = "not from here", body = ref("#/components/schemas/FaultBody")),
    (status = 404, description = "no such rollout", body = ref("#/components/schemas/FaultBody")),
    (status = 413, description = "too large", body = ref("#/components/schemas/FaultBody")),
    (status = 503, description = "too many commands wait for their answer", body = ref("#/components/schemas/FaultBody")),
    (status = 504, description = "no answer in time; it may take effect still", body = ref("#/components/schemas/FaultBody")),
    (status = 429, description = "too many; see Retry-After", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn command(
    State(house): State<House>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let Path((namespace, name, action)) = path.map_err(|error| path_fault(&error))?;
    checked_or_all(&namespace, &name)?;
    let command = read(&body.map_err(|error| body_fault(&error))?)?;
    command.asked(&action).map_err(|error| Fault::told(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let key = key(&command, &headers)?;
    let attempt = command.attempt.clone();
    let answer = obeyed(&house, caller.user, (&namespace, &name), &action, key, command).await?;
    // A Route's backends belong to a policy, which may never have had a rollout.
    if !answer.accepted && answer.rollout.is_none() && name != ALL && action != "backends" {
        known(&house, &namespace, &name, attempt.as_deref()).await?;
    }
    Ok(answered(answer, StatusCode::OK))
}

/// Ends in time, and so does whoever waits; the command itself is carried to its end, also when nobody waits any more.
async fn obeyed(
    house: &House,
    user: String,
    (namespace, name): (&str, &str),
    action: &str,
    key: String,
    command: Command,
) -> Result<Answer, Fault> {
    let room = room(house, action)?;
    let (control, id) = (house.control.clone(), key.clone());
    let (namespace, name, action) = (namespace.to_owned(), name.to_owned(), action.to_owned());
    let obeying = tokio::spawn(async move {
        let answer = control.command(&user, &namespace, &name, &action, key, command).await;
        drop(room);
        answer
    });
    match tokio::time::timeout(house.limits.command, obeying).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Fault::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("no answer within {:?}; whether it took effect is not known", house.limits.command),
            format!(
                "look with GET /api/v1/rollouts, or send it again with id {id:?}, which never has a second effect"
            ),
        )),
    }
}

/// A place among the commands under way. While the store is away they outlast their requests, and pile up. An abort is let in
/// always: it waits for no store.
fn room(house: &House, action: &str) -> Result<Option<OwnedSemaphorePermit>, Fault> {
    if action == "abort" {
        return Ok(None);
    }
    house.commands.clone().try_acquire_owned().map(Some).map_err(|_| {
        Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{} commands wait for their answer already", house.limits.waiting_commands),
            "look with GET /readyz what is away, and send it again later",
        )
    })
}

/// A refusal is an answer too.
pub(super) fn answered(answer: Answer, well: StatusCode) -> Response {
    let status = if answer.accepted { well } else { StatusCode::CONFLICT };
    (status, Json(answer)).into_response()
}

pub(super) fn body_fault(error: &BytesRejection) -> Fault {
    let remedy = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => "a message may have 512 kB, a policy in it 256 kB",
        _ => "send the whole body",
    };
    Fault::new(error.status(), error.body_text(), remedy)
}

/// An empty body is a command without details.
fn read(body: &[u8]) -> Result<Command, Fault> {
    if body.len() > MOST_BYTES {
        let error = format!("{} bytes are more than a command may have ({MOST_BYTES})", body.len());
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error, "a reason of 500 characters is enough"));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Command::default());
    }
    let fault = |why: String| {
        let remedy =
            r#"send JSON such as {"reason": "looks bad", "revision": 7}; /openapi.json has all fields"#;
        Fault::bad(format!("the body is no command: {why}"), remedy)
    };
    // Serde would take an array for the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(fault("it is an array, not an object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| fault(error.to_string()))
}

/// By which a repeat is recognised: the body's id, the header `Idempotency-Key`, or one made for this request.
fn key(command: &Command, headers: &HeaderMap) -> Result<String, Fault> {
    let header = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let Some(key) = command.id.as_deref().or(header) else { return Ok(crate::client::fresh_id()) };
    if key.is_empty() || key.len() > MOST_KEY_BYTES || key.chars().any(char::is_control) {
        return Err(Fault::bad(
            "the id is empty, has control characters, or is too long",
            "give 1 to 256 plain characters",
        ));
    }
    Ok(key.to_owned())
}

/// Whether what was refused exists at all. Asked afterwards: an abort waits for no such question.
async fn known(house: &House, namespace: &str, name: &str, attempt: Option<&str>) -> Result<(), Fault> {
    match house.control.rollout(namespace, name, attempt).await {
        Err(error @ ControlError::Unknown(_)) => Err(super::reading::unanswered(&error)),
        Ok(_) | Err(ControlError::Store(_)) => Ok(()),
    }
}
