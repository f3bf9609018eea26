//! What a signed command is signed over. Nothing is signed or verified here.
//!
//! The text is a JSON array without spaces: `["sluice-override-v1", user, namespace, name, action, at, command]`, where
//! `command` is the body without `signature`, its keys sorted. So a signature holds for one user, one rollout (or `_all`), one
//! action with all of its details, and one time; the command's `id`, which it needs, is its nonce.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::message::Command;

const VERSION: &str = "sluice-override-v1";

/// An ed25519 signature, with keys as NATS writes them (nkeys).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    /// The signer's public key, `U…`.
    pub key: String,
    /// When it was signed, in milliseconds since 1970.
    pub at: i64,
    /// 64 bytes in base64, URL-safe, without padding.
    pub value: String,
}

/// Who asks what of whom, as the door that took it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'c> {
    pub user: &'c str,
    pub namespace: &'c str,
    pub name: &'c str,
    pub action: &'c str,
}

/// The bytes that are signed.
pub fn signed_text(claim: Claim<'_>, at: i64, command: &Command) -> Vec<u8> {
    let Claim { user, namespace, name, action } = claim;
    let unsigned = Command { signature: None, ..command.clone() };
    let body = sorted(serde_json::to_value(unsigned).unwrap_or_default());
    json!([VERSION, user, namespace, name, action, at, body]).to_string().into_bytes()
}

/// Whatever order a map has been kept in.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: std::collections::BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            ordered.into_iter().collect()
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_command_is_signed() {
        let claim = Claim { user: "ann", namespace: "shop", name: "checkout", action: "abort" };
        let command = Command { id: Some("x1".into()), reason: "bad".into(), ..Command::default() };
        let text = signed_text(claim, 1_790_000_000_000, &command);
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            r#"["sluice-override-v1","ann","shop","checkout","abort",1790000000000,{"id":"x1","reason":"bad"}]"#
        );
        let others = [
            signed_text(Claim { user: "bob", ..claim }, 1_790_000_000_000, &command),
            signed_text(Claim { name: "cart", ..claim }, 1_790_000_000_000, &command),
            signed_text(Claim { action: "promote", ..claim }, 1_790_000_000_000, &command),
            signed_text(claim, 1_790_000_000_001, &command),
            signed_text(claim, 1_790_000_000_000, &Command { revision: Some(7), ..command.clone() }),
            signed_text(claim, 1_790_000_000_000, &Command { id: Some("x2".into()), ..command.clone() }),
        ];
        assert!(others.iter().all(|other| *other != text));
        let signature = Signature { key: "U".into(), at: 1, value: "v".into() };
        let signed = Command { signature: Some(signature), ..command };
        assert_eq!(signed_text(claim, 1_790_000_000_000, &signed), text, "the signature itself is not");
    }
}
