//! The description and the routes are one. Everything else about the API is told from outside, in `tests/doors`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{openapi_document, routes};

#[test]
fn every_route_stands_in_the_description_and_nothing_else() {
    let document = openapi_document();
    let described: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let served: BTreeSet<&str> = routes().into_iter().map(|(path, _)| path).collect();
    assert_eq!(described, served);
}

#[test]
fn both_methods_of_events_are_described() {
    let document = openapi_document();
    let methods: Vec<&String> = document["paths"]["/events"].as_object().unwrap().keys().collect();
    assert_eq!(methods, ["get", "post"]);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = openapi_document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.contains("#/components/schemas/RolloutView"), "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
