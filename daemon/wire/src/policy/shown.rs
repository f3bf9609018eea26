//! A policy as it may leave the daemon: what opens a door elsewhere is taken out of it.

use serde_json::{Map, Value};

/// Stands where a secret stood.
pub const HIDDEN: &str = "hidden";
/// In these an address' path is the secret, as in a chat's incoming webhook.
const SECRET_PATHS: [&str; 3] = ["alerts", "gates", "webhook"];

/// The policy's JSON without the values of headers, without user, password and query of addresses, and without the paths
/// of alerts' and gates' addresses. Shown again it stays the same, and what is no JSON is shown as nothing.
pub fn shown(policy: &str) -> String {
    match serde_json::from_str(policy) {
        Ok(mut value) => {
            hide(&mut value, false);
            value.to_string()
        }
        Err(_) => String::new(),
    }
}

fn hide(value: &mut Value, secret_path: bool) {
    match value {
        Value::Object(fields) => hide_fields(fields, secret_path),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, secret_path)),
        Value::String(text) => {
            if let Some(address) = address(text, secret_path) {
                *text = address;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn hide_fields(fields: &mut Map<String, Value>, secret_path: bool) {
    for (name, value) in fields {
        match value {
            Value::Object(headers) if name == "headers" => {
                headers.values_mut().for_each(|value| *value = Value::String(HIDDEN.to_owned()));
            }
            value => hide(value, secret_path || SECRET_PATHS.contains(&name.as_str())),
        }
    }
}

/// RFC 3986: `scheme://user:password@host:port/path?query`; nothing for a text that is no such address.
fn address(text: &str, secret_path: bool) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = if secret_path && path.len() > 1 { "/hidden" } else { path };
    Some(format!("{scheme}://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_opens_a_door_is_shown() {
        let policy = serde_json::json!({"spec": {
            "metrics": {"prometheus": {"url": "https://me:s3cret@prom:9090/tenant?key=s3cret",
                "headers": {"X-Scope-OrgID": "s3cret"}, "queries": {"errors": "a{b=\"http://x\"}"}}},
            "alerts": [{"slack": {"url": "https://hooks.slack.com/services/T/B/s3cret"}}],
            "gates": [{"webhook": {"url": "http://gate/ask?token=s3cret"}}],
            "steps": [{"weight": 5}],
        }});
        let once = shown(&policy.to_string());
        assert!(!once.contains("s3cret"), "{once}");
        assert!(once.contains("https://prom:9090/tenant") && once.contains("https://hooks.slack.com/hidden"));
        assert!(once.contains(r#"a{b=\"http://x\"}"#), "a query is no address: {once}");
        assert_eq!(shown(&once), once);
    }
}
