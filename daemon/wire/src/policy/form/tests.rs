use serde_json::json;

use super::*;
use crate::policy::document;

/// Something of everything that a policy can say.
fn full() -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy",
        "metadata": {"name": "checkout", "namespace": "shop", "labels": {"team": "payments"}},
        "spec": {
            "target": {"httpRoute": {"name": "a", "stable": "b", "canary": "c", "port": 80, "rules": ["r"]}},
            "workloads": {"stable": {"deployment": "b"}, "canary": "external", "promote": "swap", "scaleDownDelay": "30s"},
            "metrics": {"prometheus": {"url": "http://p", "preset": "istio", "labels": {"by": "app"}, "timeout": "5s"}},
            "analysis": {
                "falseAbort": "1%", "worseBy": "1.25x + 0.1%", "pods": "ignore", "requestsPerSecond": 20.5,
                "risk": {"badRequests": 10, "share": "1%"}, "errors": {"enabled": true, "ratios": [2, 4]},
                "latency": {"p99": "500ms", "slowerBy": "1.5x"}, "slo": {"slow": {"share": "1%", "over": "1s"}},
                "thresholds": [{"name": "errors", "max": 0.5, "failures": 2}],
                "gauges": [{"name": "cpu", "direction": "increase", "effectSize": {"measure": "cles"}}],
            },
            "steps": [{"weight": 5, "min": "1m", "gates": [{"name": "f", "freeze": {"days": ["sat"], "zone": "UTC"}}]}, {"weight": "50%", "pause": true}],
            "limits": {"step": {"min": "60s"}, "onDeadline": "hold", "onNoData": "pause"},
            "bake": {"for": "10m", "holdback": "5%"},
            "gates": [{"name": "g", "approval": {}, "patience": "1h"}, {"name": "h", "webhook": {"url": "http://g"}, "failurePolicy": "retry"},
                {"name": "j", "job": {"image": "i", "command": ["a"], "env": {"b": "c"}, "timeout": "1m"}}],
            "alerts": [{"alertmanager": {"urls": ["http://a"], "labels": {"a": "b"}}}, {"slack": {"urlFile": "/x"}}],
            "access": [{"users": ["ann"], "actions": ["abort"]}], "onNewRelease": "queue", "onDrift": "report",
        },
    })
}

/// Every path of a document.
fn paths(value: &Value, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            paths(value, &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| paths(value, &format!("{path}/{index}"), all));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn refused_by_serde(text: &str) -> Option<String> {
    serde_saphyr::from_str::<Policy>(text).err().map(|error| error.to_string())
}

fn refused_here(text: &str) -> Vec<String> {
    let root = document::read(text).unwrap();
    misfits(&root).into_iter().map(|misfit| format!("{}: {}", misfit.field, misfit.why)).collect()
}

#[test]
fn what_serde_refuses_is_found_and_nothing_else() {
    let full = full();
    let mut all = Vec::new();
    paths(&full, "", &mut all);
    let values = [
        json!(null),
        json!(true),
        json!(7),
        json!(-1),
        json!(0.5),
        json!("word"),
        json!(""),
        json!([]),
        json!({}),
        json!([5]),
        json!({"word": 5}),
    ];
    let mut disagreements = Vec::new();
    let mut hold = |what: String, document: &Value| {
        let text = document.to_string();
        let (serde, ours) = (refused_by_serde(&text), refused_here(&text));
        // serde buffers what belongs to a gate's kind, and is stricter with texts and laxer with lists there.
        let is_buffered = ["/freeze", "/webhook", "/approval", "/job"].iter().any(|kind| what.contains(kind));
        if serde.is_some() == ours.is_empty() && !(is_buffered && what.contains("/gates/")) {
            disagreements.push(format!("{what}: serde {serde:?}, here {ours:?}"));
        }
    };
    hold("as it is".into(), &full);
    for path in &all {
        for value in &values {
            let mut changed = full.clone();
            *changed.pointer_mut(path).unwrap() = value.clone();
            hold(format!("{path} = {value}"), &changed);
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", ""));
        let mut changed = full.clone();
        if let Some(map) = changed.pointer_mut(above).and_then(Value::as_object_mut) {
            map.remove(name);
            hold(format!("without {path}"), &changed);
        }
        let mut changed = full.clone();
        if let Some(map) = changed.pointer_mut(path).and_then(Value::as_object_mut) {
            map.insert("Zzz".to_owned(), json!("1s"));
            hold(format!("{path} with more"), &changed);
        }
    }
    assert!(disagreements.is_empty(), "{} disagreements\n{}", disagreements.len(), disagreements.join("\n"));
}

#[test]
fn each_fault_says_what_would_be_right() {
    for (from, to, told) in [
        ("\"httpRoute\"", "\"httproute\"", "spec.target.httproute: is none; did you mean httpRoute?"),
        (
            "\"steps\":[",
            "\"steps\":[5,",
            "spec.steps[0]: 5 stands where a mapping is expected: write {weight: …}",
        ),
        (
            "\"swap\"",
            "\"copytemplate\"",
            "spec.workloads.promote: \"copytemplate\" is none; did you mean copyTemplate?",
        ),
        (
            "\"pause\":true",
            "\"pause\":\"yes\"",
            "spec.steps[1].pause: \"yes\" stands where true or false is expected",
        ),
        ("\"holdback\":", "\"holdbak\":", "spec.bake.holdbak: unknown field; did you mean holdback?"),
        (
            "\"urlFile\":",
            "\"webhook\":",
            "spec.alerts[1].slack.urlFile: is missing: File that holds the webhook's URL: it is a secret",
        ),
        (
            "\"10m\"",
            "\"10 minutes\"",
            "spec.bake.for: \"10 minutes\" is no span of time: write for example 250ms, 30s, 10m",
        ),
        ("\"approval\":{}", "\"aproval\":{}", "spec.gates[0].aproval: unknown field; did you mean approval?"),
        (
            "\"kind\":",
            "\"kind\":\"RolloutPolicy\",\"kind\":",
            "kind: stands there twice (first in line 1): keep one of them",
        ),
        (
            "\"slack\":",
            "\"webhook\":{\"url\":\"http://x\"},\"slack\":",
            "spec.alerts[1]: slack and webhook exclude each other",
        ),
        (
            "\"canary\":\"external\"",
            "\"canary\":\"deployment\"",
            "spec.workloads.canary: deployment needs its fields",
        ),
    ] {
        let text = full().to_string();
        assert!(text.contains(from), "{from} is not in {text}");
        let said = refused_here(&text.replacen(from, to, 1));
        assert!(
            said.iter().any(|line| line.replace("webhook and slack", "slack and webhook").starts_with(told)),
            "{to}: {said:?}"
        );
    }
}
