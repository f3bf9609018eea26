//! CloudEvents 1.0 in JSON: structured and binary mode are both read, structured is written.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>, its JSON format, NATS and HTTP bindings.

use std::collections::BTreeMap;

use jiff::Timestamp as CivilTimestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_rollout::Timestamp;

/// A message larger than this is refused unread.
pub const MOST_BYTES: usize = 512 * 1024;

/// One event. (source, id) identify it: a repeat has both alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudEvent {
    pub specversion: String,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// Extension attributes.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Value>,
}

/// Why bytes are no event. Each says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("{bytes} bytes are more than a message may have ({MOST_BYTES})")]
    TooLarge { bytes: usize },
    #[error(
        "not JSON: {0}; send a CloudEvent in JSON (Content-Type application/cloudevents+json), or ce- headers with a JSON body"
    )]
    NoJson(String),
    #[error(
        "no CloudEvent: neither a ce-specversion header nor a `specversion` in the body; add specversion, id, source and type"
    )]
    NoEvent,
    #[error("attribute {0} is missing or empty; CloudEvents 1.0 needs specversion, id, source and type")]
    Missing(&'static str),
    #[error("attribute {0} is given twice; give it once")]
    Repeated(String),
    #[error("specversion {0:?} is not supported; write 1.0")]
    Version(String),
    #[error("attribute {name} is {given}; it must be {wanted}")]
    Form { name: String, given: String, wanted: &'static str },
}

impl CloudEvent {
    /// One of our own, structured.
    pub fn new(
        id: String,
        source: &str,
        kind: &str,
        subject: &str,
        at: Timestamp,
        data: Value,
    ) -> CloudEvent {
        CloudEvent {
            specversion: "1.0".into(),
            id,
            source: source.into(),
            kind: kind.into(),
            subject: Some(subject.into()),
            time: CivilTimestamp::from_millisecond(at.millis()).ok().map(|time| time.to_string()),
            datacontenttype: Some("application/json".into()),
            data,
            extensions: BTreeMap::new(),
        }
    }

    /// Reads either mode. `headers` as they came, in any case; a structured body may come without any.
    pub fn read(headers: &[(String, String)], body: &[u8]) -> Result<CloudEvent, EnvelopeError> {
        if body.len() > MOST_BYTES {
            return Err(EnvelopeError::TooLarge { bytes: body.len() });
        }
        let attributes = binary_attributes(headers)?;
        let structured = header(headers, "content-type")
            .is_some_and(|kind| kind.trim().to_ascii_lowercase().starts_with("application/cloudevents"));
        let event = if !structured && attributes.contains_key("specversion") {
            binary(attributes, headers, body)?
        } else {
            structured_event(body)?
        };
        event.checked()
    }

    /// `source` and `id` in one text, by which repeats are recognised.
    pub fn key(&self) -> String {
        format!("{} {}", self.source, self.id)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn checked(self) -> Result<CloudEvent, EnvelopeError> {
        if self.specversion != "1.0" {
            return Err(EnvelopeError::Version(self.specversion.chars().take(40).collect()));
        }
        for (name, value) in [("id", &self.id), ("source", &self.source), ("type", &self.kind)] {
            if value.is_empty() {
                return Err(EnvelopeError::Missing(name));
            }
            if value.len() > 1024 || value.chars().any(char::is_control) {
                return Err(EnvelopeError::Form {
                    name: name.into(),
                    given: "longer than 1,024 bytes or with control characters".into(),
                    wanted: "plain text of at most 1,024 bytes",
                });
            }
        }
        if let Some(time) = &self.time
            && time.parse::<CivilTimestamp>().is_err()
        {
            let given = time.chars().take(60).collect();
            return Err(EnvelopeError::Form {
                name: "time".into(),
                given,
                wanted: "RFC 3339, like 2026-11-21T10:00:00Z",
            });
        }
        Ok(self)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// `ce-…` headers, names in lower case, values percent-decoded; one given twice is an error.
fn binary_attributes(headers: &[(String, String)]) -> Result<BTreeMap<String, String>, EnvelopeError> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if let Some(attribute) = name.strip_prefix("ce-")
            && attributes.insert(attribute.to_owned(), percent_decoded(value)).is_some()
        {
            return Err(EnvelopeError::Repeated(name));
        }
    }
    Ok(attributes)
}

fn percent_decoded(value: &str) -> String {
    crate::subject::unescape(value).unwrap_or_else(|_| value.to_owned())
}

fn binary(
    mut attributes: BTreeMap<String, String>,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<CloudEvent, EnvelopeError> {
    // Written again, they would stand beside what they are named like.
    if let Some(name) =
        ["data", "data_base64", "datacontenttype"].into_iter().find(|name| attributes.contains_key(*name))
    {
        return Err(EnvelopeError::Form {
            name: format!("ce-{name}"),
            given: "a header".into(),
            wanted: "left out: with ce- headers the body is the data, and its type stands in Content-Type",
        });
    }
    let mut take = |name: &str| attributes.remove(name);
    let event = CloudEvent {
        specversion: take("specversion").unwrap_or_default(),
        id: take("id").ok_or(EnvelopeError::Missing("id"))?,
        source: take("source").ok_or(EnvelopeError::Missing("source"))?,
        kind: take("type").ok_or(EnvelopeError::Missing("type"))?,
        subject: take("subject"),
        time: take("time"),
        datacontenttype: header(headers, "content-type").map(str::to_owned),
        data: if body.is_empty() { Value::Null } else { json(body)? },
        extensions: BTreeMap::new(),
    };
    Ok(CloudEvent {
        extensions: attributes.into_iter().map(|(k, v)| (k, Value::String(v))).collect(),
        ..event
    })
}

fn structured_event(body: &[u8]) -> Result<CloudEvent, EnvelopeError> {
    let Value::Object(map) = json(body)? else { return Err(EnvelopeError::NoEvent) };
    if !map.contains_key("specversion") {
        return Err(EnvelopeError::NoEvent);
    }
    if let Some(other) = map.get("data_base64") {
        return Err(EnvelopeError::Form {
            name: "data_base64".into(),
            given: other.to_string().chars().take(60).collect(),
            wanted: "left out: put the data, which is JSON, into `data`",
        });
    }
    for name in ["id", "source", "type"] {
        match map.get(name) {
            None | Some(Value::Null) => return Err(EnvelopeError::Missing(name)),
            Some(Value::String(_)) => {}
            Some(other) => return Err(not_text(name, other)),
        }
    }
    for name in ["specversion", "subject", "time", "datacontenttype"] {
        if let Some(other) = map.get(name).filter(|value| !value.is_string() && !value.is_null()) {
            return Err(not_text(name, other));
        }
    }
    serde_json::from_value(Value::Object(map)).map_err(|error| EnvelopeError::NoJson(error.to_string()))
}

fn not_text(name: &str, given: &Value) -> EnvelopeError {
    EnvelopeError::Form {
        name: name.into(),
        given: given.to_string().chars().take(60).collect(),
        wanted: "a string",
    }
}

/// JSON in which an object names no key twice: with two, nobody knows which one was meant.
fn json(body: &[u8]) -> Result<Value, EnvelopeError> {
    let mut repeated = None;
    let value = strict::value(body, &mut repeated);
    match (value, repeated) {
        (_, Some(name)) => Err(EnvelopeError::Repeated(name)),
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(EnvelopeError::NoJson(error.to_string())),
    }
}

mod strict {
    use std::fmt;

    use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

    use super::{Map, Value};

    pub fn value(body: &[u8], repeated: &mut Option<String>) -> Result<Value, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let value = Strict(repeated).deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    struct Strict<'a>(&'a mut Option<String>);

    impl<'de> DeserializeSeed<'de> for Strict<'_> {
        type Value = Value;
        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
            deserializer.deserialize_any(self)
        }
    }

    impl<'de> Visitor<'de> for Strict<'_> {
        type Value = Value;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
            Ok(value.into())
        }
        fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
            Ok(value.into())
        }
        fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
            Ok(value.into())
        }
        fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
            Ok(value.into())
        }
        fn visit_str<E>(self, value: &str) -> Result<Value, E> {
            Ok(value.into())
        }
        fn visit_unit<E>(self) -> Result<Value, E> {
            Ok(Value::Null)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element_seed(Strict(self.0))? {
                items.push(item);
            }
            Ok(Value::Array(items))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
            let mut map = Map::new();
            while let Some(key) = access.next_key::<String>()? {
                let value = access.next_value_seed(Strict(self.0))?;
                if map.insert(key.clone(), value).is_some() {
                    *self.0 = Some(key);
                    return Err(A::Error::custom("a key is given twice"));
                }
            }
            Ok(Value::Object(map))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"specversion":"1.0","id":"1","source":"ci","type":"t","data":{"version":"v2"}}"#;

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn structured_with_and_without_content_type() {
        let bare = CloudEvent::read(&[], PLAIN.as_bytes()).unwrap();
        let typed = CloudEvent::read(
            &headers(&[("Content-Type", "application/cloudevents+json; charset=utf-8")]),
            PLAIN.as_bytes(),
        );
        assert_eq!(typed.unwrap(), bare);
        assert_eq!(bare.key(), "ci 1");
        assert_eq!(CloudEvent::read(&[], &bare.to_bytes()).unwrap(), bare);
    }

    #[test]
    fn binary_in_any_case_percent_decoded() {
        let given = headers(&[
            ("CE-SpecVersion", "1.0"),
            ("ce-id", "1"),
            ("Ce-Source", "a%20b"),
            ("ce-type", "t"),
            ("ce-team", "x"),
        ]);
        let event = CloudEvent::read(&given, br#"{"version":"v2"}"#).unwrap();
        assert_eq!(event.source, "a b");
        assert_eq!(event.extensions["team"], "x");
        assert_eq!(event.data["version"], "v2");
    }

    #[test]
    fn faults_name_the_attribute() {
        let read = |body: &str| CloudEvent::read(&[], body.as_bytes()).unwrap_err();
        assert_eq!(read(r#"{"specversion":"1.0","id":"1","type":"t"}"#), EnvelopeError::Missing("source"));
        assert_eq!(read(&PLAIN.replace("\"1.0\"", "\"0.3\"")), EnvelopeError::Version("0.3".into()));
        assert_eq!(read(&PLAIN.replace("\"data\"", "\"id\"")), EnvelopeError::Repeated("id".into()));
        assert!(matches!(read("\u{0}\u{1}"), EnvelopeError::NoJson(_)));
        assert_eq!(read("{}"), EnvelopeError::NoEvent);
        assert_eq!(read("[1]"), EnvelopeError::NoEvent);
        assert!(matches!(read(&PLAIN.replace("\"1\"", "1")), EnvelopeError::Form { .. }));
        let encoded = read(&PLAIN.replace("\"data\"", "\"data_base64\""));
        assert!(encoded.to_string().contains("into `data`"), "data that nobody reads: {encoded}");
        let twice = headers(&[("ce-id", "1"), ("CE-ID", "2"), ("ce-specversion", "1.0")]);
        assert_eq!(CloudEvent::read(&twice, b"").unwrap_err(), EnvelopeError::Repeated("ce-id".into()));
        assert!(matches!(
            CloudEvent::read(&[], &vec![b' '; MOST_BYTES + 1]),
            Err(EnvelopeError::TooLarge { .. })
        ));
    }
}
