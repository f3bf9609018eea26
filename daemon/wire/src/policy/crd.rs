//! The policy as a kind of the Kubernetes API: its CustomResourceDefinition, made from the same types as everything else.
//!
//! The API server takes a structural schema, which is less than JSON Schema: no references, one type a field, and no
//! alternatives of different types. What cannot be said in it is let through (`x-kubernetes-preserve-unknown-fields`) and
//! judged by the daemon, which says so in the object's status. So the API server never refuses what a daemon would take.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Map, Value, json};

use super::{Policy, PolicyStatus};

/// `apiVersion` is `GROUP/VERSION`.
pub const GROUP: &str = "sluice.dev";
pub const VERSION: &str = "v1alpha1";
/// As in the API's paths.
pub const PLURAL: &str = "rolloutpolicies";

const PRESERVED: &str = "x-kubernetes-preserve-unknown-fields";
const RULES: &str = "x-kubernetes-validations";

/// More policies, alerts or gates in one list than anybody has; the API server needs a bound to price the rules below.
const MOST_ITEMS: usize = 100;

/// The whole object, for `kubectl apply`.
pub fn custom_resource_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{PLURAL}.{GROUP}"),
            "labels": {"app.kubernetes.io/name": "sluice"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "RolloutPolicy",
                "listKind": "RolloutPolicyList",
                "plural": PLURAL,
                "singular": "rolloutpolicy",
                "shortNames": ["rop"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": schema()},
            }],
        },
    })
}

/// What `kubectl get rolloutpolicies` shows; those of priority 1 only with `-o wide`.
fn columns() -> Value {
    let accepted = r#".status.conditions[?(@.type=="Accepted")].status"#;
    let why = r#".status.conditions[?(@.type=="Accepted")].message"#;
    let column = |name: &str, path: &str, kind: &str, priority: u8| json!({"name": name, "jsonPath": path, "type": kind, "priority": priority});
    json!([
        column("Accepted", accepted, "string", 0),
        column("Release", ".status.rollout.release", "string", 0),
        column("Phase", ".status.rollout.phase", "string", 0),
        column("Step", ".status.rollout.step", "string", 0),
        column("Weight", ".status.rollout.weight", "string", 0),
        column("Verdict", ".status.rollout.verdict", "string", 0),
        column("Age", ".metadata.creationTimestamp", "date", 0),
        column("Reason", ".status.rollout.reason", "string", 1),
        column("Policy", why, "string", 1),
        column("Cluster", ".status.rollout.cluster", "string", 1),
    ])
}

fn schema() -> Value {
    let policy = schemars::schema_for!(Policy).to_value();
    let status = schemars::schema_for!(PolicyStatus).to_value();
    let mut spec = Structural { definitions: &policy["$defs"] }.of(&policy["properties"]["spec"]);
    add_rule(&mut spec, STEPS_RULE, "steps: write at least one, for example [{weight: 5}, {weight: 50}]");
    json!({
        "description": "How one service's new versions are opened to traffic, judged, and put back.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": Structural { definitions: &status["$defs"] }.of(&status),
        },
    })
}

/// A flip has no steps, nor has what is replaced in place; a strategy brings its own.
const STEPS_RULE: &str = "has(self.target.service) || has(self.target.inPlace) || has(self.strategy) || (has(self.steps) && size(self.steps) > 0)";

/// Writes JSON Schema as a structural one.
struct Structural<'s> {
    definitions: &'s Value,
}

impl<'s> Structural<'s> {
    fn of(&self, schema: &'s Value) -> Value {
        let (named, inner) = self.resolved(schema);
        let mut made = match named {
            // `0` needs no unit, and pods have none.
            Some("Span" | "PodCount") => {
                json!({"x-kubernetes-int-or-string": true, "pattern": inner["pattern"]})
            }
            // A number or a text, which no single type is.
            Some("Weight") => json!({PRESERVED: true}),
            Some(_) | None => self.by_form(inner),
        };
        let words = schema["description"].as_str().or_else(|| inner["description"].as_str());
        if let (Some(words), Some(made)) = (words, made.as_object_mut()) {
            made.insert("description".to_owned(), words.into());
        }
        made
    }

    /// The schema behind a reference, and its name.
    fn resolved(&self, schema: &'s Value) -> (Option<&'s str>, &'s Value) {
        let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
        match name.and_then(|name| self.definitions.get(name)) {
            Some(inner) => (name, inner),
            None => (None, schema),
        }
    }

    fn by_form(&self, schema: &'s Value) -> Value {
        if let Some(options) = ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array()) {
            return self.alternatives(schema, options);
        }
        match single_type(schema) {
            Some("object") => self.object(schema, &[]),
            Some("array") => {
                json!({"type": "array", "maxItems": MOST_ITEMS, "items": self.of(&schema["items"])})
            }
            Some(kind) => with_limits(kind, schema),
            None => json!({PRESERVED: true}),
        }
    }

    fn alternatives(&self, schema: &'s Value, options: &'s [Value]) -> Value {
        let options: Vec<&Value> = options.iter().filter(|option| option["type"] != "null").collect();
        if let [only] = options.as_slice() {
            return self.of(only);
        }
        let words: Option<Vec<&Value>> =
            options.iter().map(|option| words_of(option)).collect::<Option<Vec<_>>>().map(|all| all.concat());
        if let Some(words) = words {
            return json!({"type": "string", "enum": words});
        }
        if options.iter().all(|option| option["properties"].is_object()) {
            return self.object(schema, &options);
        }
        json!({PRESERVED: true})
    }

    /// `kinds`: exactly one of them stands beside the object's own fields.
    fn object(&self, schema: &'s Value, kinds: &[&'s Value]) -> Value {
        let fields = |schema: &'s Value| schema["properties"].as_object().into_iter().flatten();
        let all = fields(schema).chain(kinds.iter().flat_map(|kind| fields(kind)));
        let properties: Map<String, Value> =
            all.map(|(name, schema)| (name.clone(), self.of(schema))).collect();
        let mut made = json!({"type": "object"});
        let any = &schema["additionalProperties"];
        if any.is_object() {
            made["additionalProperties"] = self.of(any);
        } else if !properties.is_empty() {
            made["properties"] = properties.into();
        }
        if schema["required"].is_array() {
            made["required"] = schema["required"].clone();
        }
        let names: Vec<&str> =
            kinds.iter().flat_map(|kind| fields(kind)).map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            let has: Vec<String> = names.iter().map(|name| format!("has(self.{name})")).collect();
            let rule = format!("[{}].exists_one(has, has)", has.join(", "));
            add_rule(&mut made, &rule, &format!("write exactly one of {}", names.join(", ")));
        }
        made
    }
}

fn add_rule(schema: &mut Value, rule: &str, message: &str) {
    let rule = json!({"rule": rule, "message": message});
    match schema[RULES].as_array_mut() {
        Some(rules) => rules.push(rule),
        None => schema[RULES] = json!([rule]),
    }
}

/// The one type beside null.
fn single_type(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(one) => Some(one),
        Value::Array(several) => {
            let mut others = several.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
            others.next().filter(|_| others.next().is_none())
        }
        _ => None,
    }
}

/// Texts that an alternative allows, if it is one of texts.
fn words_of(option: &Value) -> Option<Vec<&Value>> {
    match (&option["const"], option["enum"].as_array()) {
        (Value::Null, None) => None,
        (Value::Null, Some(several)) => Some(several.iter().collect()),
        (one, _) => Some(vec![one]),
    }
}

/// Bounds and words hold for the API server too; formats of Rust's integers do not.
fn with_limits(kind: &str, schema: &Value) -> Value {
    let mut made = json!({"type": kind});
    for name in ["minimum", "maximum", "pattern"] {
        if !schema[name].is_null() {
            made[name] = schema[name].clone();
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        made["enum"] = words.iter().filter(|word| !word.is_null()).cloned().collect();
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of the schema that the API server would look at.
    fn nodes<'v>(schema: &'v Value, all: &mut Vec<&'v Value>) {
        all.push(schema);
        let below = schema["properties"].as_object().into_iter().flat_map(Map::values);
        below
            .chain(schema.get("items"))
            .chain(schema.get("additionalProperties"))
            .for_each(|node| nodes(node, all));
    }

    #[test]
    fn every_field_has_one_type_or_lets_through_what_the_daemon_judges() {
        let schema = schema();
        let mut all = Vec::new();
        nodes(&schema, &mut all);
        assert!(all.len() > 200, "{} fields", all.len());
        for node in all {
            let typed = node["type"].is_string();
            assert!(
                typed || node[PRESERVED] == true || node["x-kubernetes-int-or-string"] == true,
                "{node:#}"
            );
            for not_structural in
                ["$ref", "oneOf", "anyOf", "const", "default", "format", "unevaluatedProperties"]
            {
                assert!(node.get(not_structural).is_none(), "{not_structural}: {node:#}");
            }
        }
    }

    /// `sluice schema --crd > deploy/kubernetes/rolloutpolicies.json` brings it up to date.
    #[test]
    fn the_kind_that_is_deployed_is_this_one() {
        let deployed = include_str!("../../../../deploy/kubernetes/rolloutpolicies.json");
        let deployed: Value = serde_json::from_str(deployed).unwrap();
        assert!(
            deployed == custom_resource_definition(),
            "run: sluice schema --crd > deploy/kubernetes/rolloutpolicies.json"
        );
    }

    #[test]
    fn kinds_exclude_each_other_and_words_are_listed() {
        let schema = schema();
        let spec = &schema["properties"]["spec"]["properties"];
        assert!(
            spec["target"]["properties"]["httpRoute"]["required"]
                .as_array()
                .is_some_and(|all| all.len() == 3)
        );
        let rule = &spec["target"][RULES][0];
        assert!(
            rule["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("write exactly one of httpRoute, grpcRoute"))
        );
        assert_eq!(spec["onNewRelease"]["enum"], json!(["queue", "refuse", "supersede"]));
        assert_eq!(spec["gates"]["items"]["required"], json!(["name"]));
        assert_eq!(spec["bake"]["properties"]["for"]["x-kubernetes-int-or-string"], true);
        assert_eq!(spec["workloads"]["properties"]["canary"][PRESERVED], true, "a word or a mapping");
    }
}
