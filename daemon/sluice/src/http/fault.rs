//! What is wrong, and what to do about it: every fault is `{"error": "...", "remedy": "..."}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// The body of every answer that is none of 200, 202 or a refusal.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FaultBody {
    pub error: String,
    /// What to do.
    pub remedy: String,
}

#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    body: FaultBody,
    retry_after_s: Option<u64>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { status, body: FaultBody { error: error.into(), remedy: remedy.into() }, retry_after_s: None }
    }

    pub(super) fn bad(error: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, error, remedy)
    }

    /// For errors whose text ends with the remedy.
    pub(super) fn told(status: StatusCode, text: &str) -> Fault {
        if let Some((error, example)) = text.split_once(", for example ") {
            return Fault::new(status, error, format!("write for example {example}"));
        }
        let (error, remedy) =
            text.split_once("; ").or_else(|| text.split_once(": ")).unwrap_or((text, "see /openapi.json"));
        Fault::new(status, error, remedy)
    }

    pub(super) fn too_many(after_s: u64) -> Fault {
        let fault = Fault::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests",
            "send fewer, or wait as Retry-After says",
        );
        Fault { retry_after_s: Some(after_s.max(1)), ..fault }
    }

    pub(super) fn no_such_path() -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "no such path", "GET /openapi.json lists those that there are")
    }

    pub(super) fn no_such_method() -> Fault {
        let error = "this path knows another method";
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, error, "see the Allow header, or GET /openapi.json")
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
