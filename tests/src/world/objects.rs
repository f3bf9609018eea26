//! What belongs to an object's owner, so that a story can say "nothing else changed".

use std::collections::BTreeMap;

use serde_json::Value;

/// An object without Sluice's annotations and without what the API server keeps account of.
pub fn owners_part(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| !name.starts_with("sluice.dev/"));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

/// Sluice's annotations on an object.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    let all = object["metadata"]["annotations"].as_object().into_iter().flatten();
    let ours = all.filter(|(name, _)| name.starts_with("sluice.dev/"));
    ours.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}
