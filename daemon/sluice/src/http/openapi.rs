//! The API's description: paths from the handlers, schemas from the very types that are read and written.

use axum::Json;
use axum::response::IntoResponse;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::message::{Announcement, Answer, Command, Told};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;
use utoipa::OpenApi;

use super::fault::FaultBody;
use super::probing::Readiness;
use super::{announcing, commanding, probing, reading, streaming};

#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice", description = "Event-driven progressive delivery.", license(name = "Apache-2.0")),
    paths(
        probing::healthz,
        probing::readyz,
        probing::metrics,
        served,
        reading::list,
        reading::one,
        reading::history,
        reading::record,
        commanding::command,
        streaming::watch,
        streaming::events,
        announcing::anywhere,
        announcing::addressed,
    )
)]
struct Paths;

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "probes", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn served() -> impl IntoResponse {
    Json(document())
}

/// OpenAPI 3.1, whose schemas are JSON Schema as it is.
pub fn document() -> Value {
    let mut document = serde_json::to_value(Paths::openapi()).unwrap_or_default();
    document["components"] = json!({
        "schemas": schemas(),
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    });
    // A token where the daemon has a token file, none otherwise.
    document["security"] = json!([{}, {"token": []}]);
    document
}

fn schemas() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    name_all(&mut generator);
    let mut schemas = generator.take_definitions(true);
    for (plural, one) in [("RolloutViews", "RolloutView"), ("HistoryLines", "HistoryLine")] {
        let items = json!({"$ref": format!("#/components/schemas/{one}")});
        schemas.insert(plural.to_owned(), json!({"type": "array", "items": items}));
    }
    schemas
}

fn name_all(generator: &mut SchemaGenerator) {
    generator.subschema_for::<RolloutView>();
    generator.subschema_for::<HistoryLine>();
    generator.subschema_for::<Command>();
    generator.subschema_for::<Answer>();
    generator.subschema_for::<Announcement>();
    generator.subschema_for::<Told>();
    generator.subschema_for::<CloudEvent>();
    generator.subschema_for::<FaultBody>();
    generator.subschema_for::<Readiness>();
}
