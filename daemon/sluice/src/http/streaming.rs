//! Server-sent events: rollouts as they change, and the events that the daemon tells.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use sluice_bus::{BusError, Followed};
use sluice_wire::subject::{OUT, escape};
use sluice_wire::view::RolloutView;

use super::reading::{checked, query_fault};
use super::{Fault, House};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Watched {
    /// Only of this namespace.
    namespace: Option<String>,
    /// Only this rollout; needs the namespace.
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// Only of this namespace.
    namespace: Option<String>,
    /// Only of this rollout; needs the namespace.
    name: Option<String>,
    /// Those after this id, 0 for all that is kept; from now on if left out. The header Last-Event-ID does the same.
    after: Option<u64>,
}

/// All rollouts as they stand, then every change. A slow reader loses the oldest changes, never the last one.
#[utoipa::path(get, path = "/api/v1/watch", tag = "rollouts", params(Watched), responses(
    (status = 200, description = "server-sent events, each a RolloutView", body = ref("#/components/schemas/RolloutView"), content_type = "text/event-stream"),
    (status = 503, description = "too many streams are open", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn watch(
    State(house): State<House>,
    watched: Result<Query<Watched>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(watched) = watched.map_err(|error| query_fault(&error))?;
    addressable(watched.namespace.as_deref(), watched.name.as_deref())?;
    // Changes first: what happens in between is told twice rather than never.
    let changes = house.control.changes();
    let standing = standing(&house, &watched).await;
    let wanted = move |view: &RolloutView| {
        watched.namespace.as_deref().is_none_or(|namespace| view.rollout.namespace() == namespace)
            && watched.name.as_deref().is_none_or(|name| view.rollout.name() == name)
    };
    let views = stream::iter(standing).chain(changes).filter(move |view| std::future::ready(wanted(view)));
    streamed(&house, views.map(|view| Event::default().json_data(&view).unwrap_or_default()))
}

async fn standing(house: &House, watched: &Watched) -> Vec<RolloutView> {
    match (&watched.namespace, &watched.name) {
        (Some(namespace), Some(name)) => {
            house.control.rollout(namespace, name, None).await.into_iter().collect()
        }
        (_, _) => house.control.rollouts().await,
    }
}

/// What the daemon tells: started, step-reached, …, finished; each event with its id.
#[utoipa::path(get, path = "/events", tag = "events", params(Told), responses(
    (status = 200, description = "server-sent events, each a CloudEvent whose data is Told", body = ref("#/components/schemas/CloudEvent"), content_type = "text/event-stream"),
    (status = 501, description = "this daemon's bus cannot be followed here", body = ref("#/components/schemas/FaultBody")),
    (status = 503, description = "the bus is away, or too many streams are open", body = ref("#/components/schemas/FaultBody"))))]
pub(super) async fn events(
    State(house): State<House>,
    headers: HeaderMap,
    told: Result<Query<Told>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(told) = told.map_err(|error| query_fault(&error))?;
    addressable(told.namespace.as_deref(), told.name.as_deref())?;
    let after = last_seen(&headers)?.or(told.after);
    let doors = house.doors.as_ref().ok_or_else(|| {
        let remedy = "follow sluice.out.> on the bus itself";
        Fault::new(StatusCode::NOT_IMPLEMENTED, "this daemon does not pass its events on here", remedy)
    })?;
    let followed: BoxStream<'static, Followed> =
        doors.follow(&pattern(&told), after).await.map_err(|error| away(&error))?;
    streamed(&house, followed.map(event))
}

fn event(followed: Followed) -> Event {
    // A body of ours is one line of JSON; anything else would break the framing.
    let text = String::from_utf8_lossy(&followed.body).replace(['\r', '\n'], " ");
    Event::default().id(followed.sequence.to_string()).data(text)
}

/// Ends with the daemon, and counts among the open streams as long as it lasts.
fn streamed(house: &House, events: impl Stream<Item = Event> + Send + 'static) -> Result<Response, Fault> {
    let permit = house.streams.clone().try_acquire_owned().map_err(|_| {
        let remedy = "close one, or watch several rollouts in one stream";
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams are open", remedy)
    })?;
    let ended = house.shutdown.clone().cancelled_owned();
    let events = events.take_until(ended).map(move |event| {
        let _held = &permit;
        Ok::<_, Infallible>(event)
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn addressable(namespace: Option<&str>, name: Option<&str>) -> Result<(), Fault> {
    if namespace.is_none() && name.is_some() {
        return Err(Fault::bad("name without namespace", "add namespace=…"));
    }
    checked(namespace.unwrap_or("any"), name.unwrap_or("any"))
}

fn pattern(told: &Told) -> String {
    match (&told.namespace, &told.name) {
        (Some(namespace), Some(name)) => format!("{OUT}.{}.{}.>", escape(namespace), escape(name)),
        (Some(namespace), None) => format!("{OUT}.{}.>", escape(namespace)),
        (None, _) => format!("{OUT}.>"),
    }
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Fault::bad("Last-Event-ID is no number", "send the id of the last event that you saw"))
}

fn away(error: &BusError) -> Fault {
    Fault::new(
        StatusCode::SERVICE_UNAVAILABLE,
        error.to_string(),
        "try again; GET /readyz says what is missing",
    )
}
