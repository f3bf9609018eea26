//! Policies with spans short enough for a test: the same schema as everywhere, small numbers.

use serde_json::{Value, json};

/// A policy's file.
#[derive(Debug, Clone)]
pub struct PolicyText {
    /// The file's name in the policies folder.
    pub file: String,
    pub yaml: String,
}

impl PolicyText {
    /// Any text.
    pub fn new(file: &str, yaml: &str) -> Self {
        PolicyText { file: file.to_owned(), yaml: yaml.to_owned() }
    }

    /// A policy's JSON, which is YAML.
    pub fn of(policy: &Value) -> Self {
        let name = |field: &str| policy["metadata"][field].as_str().unwrap_or("default").to_owned();
        PolicyText {
            file: format!("{}-{}.yaml", name("namespace"), name("name")),
            yaml: format!("{policy:#}"),
        }
    }
}

/// A whole policy with a test's usual spans: steps 10, 25 and 50 %, seconds instead of minutes, a harm budget that a
/// few hundred requests can settle. `spec` brings target, workloads and metrics, and replaces what it names.
pub fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    let mut policy = json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "RolloutPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "analysis": {
                "warmup": "0s",
                "risk": {"badRequests": 200, "within": "60s", "share": "2%"},
            },
            "steps": [{"weight": 10}, {"weight": 25}, {"weight": 50}],
            "bake": {"for": "3s", "holdback": "10%"},
            "limits": {
                "step": {"min": "2s", "max": "10m"},
                "troubleAfter": "3s",
                "drain": "5s",
                // What a release is given up for is long: a busy machine takes its time.
                "prepare": "5m",
                "shift": "5m",
                "promote": "5m",
            },
        },
    });
    merge(&mut policy["spec"], spec);
    policy
}

/// JSON merge patch (RFC 7396): objects are merged, `null` takes away, the rest is replaced.
pub fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    fields.remove(&name);
                } else {
                    merge(fields.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = without_nulls(patch),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}
