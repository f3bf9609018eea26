//! Rollouts as they stand, and what happened to them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use sluice_rollout::RolloutId;
use sluice_wire::decisions::RecordPage;
use sluice_wire::record::HistoryLine;
use sluice_wire::subject::ALL;
use sluice_wire::view::RolloutView;

use super::{Fault, House};
use crate::control::ControlError;

/// Rollouts in one answer, unless `limit` says otherwise.
const USUAL_LIMIT: usize = 1000;
const MOST_LIMIT: usize = 20_000;

pub(super) type Named = Result<Path<(String, String)>, PathRejection>;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    /// Only of this namespace.
    namespace: Option<String>,
    /// With the analyzers' reports; they are long.
    #[serde(default)]
    evidence: bool,
    /// At most so many, 1,000 if left out.
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The attempt; the latest one if left out.
    attempt: Option<String>,
}

/// The latest rollout of every policy, newest first.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts", params(Listing), responses(
    (status = 200, description = "an array of RolloutView", body = ref("#/components/schemas/RolloutViews")),
    (status = 400, description = "a wrong parameter", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn list(
    State(house): State<House>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Vec<RolloutView>>, Fault> {
    let Query(listing) = listing.map_err(|error| query_fault(&error))?;
    let wanted =
        |view: &RolloutView| listing.namespace.as_deref().is_none_or(|name| view.rollout.namespace() == name);
    let most = listing.limit.unwrap_or(USUAL_LIMIT).min(MOST_LIMIT);
    let mut views: Vec<RolloutView> =
        house.control.rollouts().await.into_iter().filter(wanted).take(most).collect();
    if !listing.evidence {
        views.iter_mut().for_each(|view| view.evidence = Arc::default());
    }
    Ok(Json(views))
}

/// One rollout with its evidence.
#[utoipa::path(get, path = "/api/v1/rollouts/{namespace}/{name}", tag = "rollouts",
    params(("namespace" = String, Path), ("name" = String, Path), Which), responses(
    (status = 200, description = "as it stands", body = ref("#/components/schemas/RolloutView")),
    (status = 400, description = "a wrong name", body = ref("#/components/schemas/FaultBody")),
    (status = 404, description = "no such rollout", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn one(
    State(house): State<House>,
    path: Named,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<RolloutView>, Fault> {
    let (namespace, name) = rollout(path)?;
    let attempt = attempt(which)?;
    house
        .control
        .rollout(&namespace, &name, attempt.as_deref())
        .await
        .map(Json)
        .map_err(|error| unanswered(&error))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    /// The attempt; the latest one if left out.
    attempt: Option<String>,
    /// The `next` of the part before; from the oldest batch that is kept if left out.
    after: Option<u64>,
}

/// The decision record, part by part, for `sluice replay`.
#[utoipa::path(get, path = "/api/v1/rollouts/{namespace}/{name}/record", tag = "rollouts",
    params(("namespace" = String, Path), ("name" = String, Path), From), responses(
    (status = 200, description = "the charter, some batches, and where the next ones begin", body = Object),
    (status = 400, description = "a wrong name or parameter", body = ref("#/components/schemas/FaultBody")),
    (status = 404, description = "no such rollout", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn record(
    State(house): State<House>,
    path: Named,
    from: Result<Query<From>, QueryRejection>,
) -> Result<Json<RecordPage>, Fault> {
    let (namespace, name) = rollout(path)?;
    let Query(From { attempt, after }) = from.map_err(|error| query_fault(&error))?;
    house
        .control
        .record(&namespace, &name, attempt.as_deref(), after.unwrap_or(0))
        .await
        .map(Json)
        .map_err(|error| unanswered(&error))
}

/// What happened, oldest first.
#[utoipa::path(get, path = "/api/v1/rollouts/{namespace}/{name}/history", tag = "rollouts",
    params(("namespace" = String, Path), ("name" = String, Path), Which), responses(
    (status = 200, description = "an array of HistoryLine", body = ref("#/components/schemas/HistoryLines")),
    (status = 400, description = "a wrong name", body = ref("#/components/schemas/FaultBody")),
    (status = 404, description = "no such rollout", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn history(
    State(house): State<House>,
    path: Named,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<HistoryLine>>, Fault> {
    let (namespace, name) = rollout(path)?;
    let attempt = attempt(which)?;
    house
        .control
        .history(&namespace, &name, attempt.as_deref())
        .await
        .map(Json)
        .map_err(|error| unanswered(&error))
}

/// Namespace and name of one rollout, checked.
pub(super) fn rollout(path: Named) -> Result<(String, String), Fault> {
    let Path((namespace, name)) = path.map_err(|error| path_fault(&error))?;
    checked(&namespace, &name)?;
    Ok((namespace, name))
}

/// Names as Kubernetes has them.
pub(super) fn checked(namespace: &str, name: &str) -> Result<(), Fault> {
    let id = RolloutId::new(namespace, name, "any");
    id.map(drop).map_err(|error| Fault::told(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// Both may also be `_all`: all rollouts, or all of one namespace.
pub(super) fn checked_or_all(namespace: &str, name: &str) -> Result<(), Fault> {
    let plain = |text: &str| if text == ALL { "all".to_owned() } else { text.to_owned() };
    if namespace == ALL && name != ALL {
        return Err(Fault::bad(
            "_all as namespace goes only with _all as rollout",
            "name the namespace, or write _all/_all",
        ));
    }
    checked(&plain(namespace), &plain(name))
}

pub(super) fn path_fault(error: &PathRejection) -> Fault {
    Fault::bad(error.body_text(), "write names in UTF-8, percent-encoded where need be")
}

pub(super) fn query_fault(error: &QueryRejection) -> Fault {
    Fault::bad(error.body_text(), "GET /openapi.json lists the parameters")
}

pub(super) fn unanswered(error: &ControlError) -> Fault {
    let status = match error {
        ControlError::Unknown(_) => StatusCode::NOT_FOUND,
        ControlError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Fault::told(status, &error.to_string())
}

fn attempt(which: Result<Query<Which>, QueryRejection>) -> Result<Option<String>, Fault> {
    let Query(which) = which.map_err(|error| query_fault(&error))?;
    if let Some(attempt) = &which.attempt {
        let id = RolloutId::new("any", "any", attempt);
        id.map_err(|error| {
            Fault::told(StatusCode::BAD_REQUEST, &error.to_string().replacen("rollout", "attempt", 1))
        })?;
    }
    Ok(which.attempt)
}
