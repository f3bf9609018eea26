//! A YAML document as it was written: every field with its place, duplicate keys kept. What people are told of faults comes
//! from here; what Sluice works with is parsed into types and never read from here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Error, Spanned};

/// Line and column, from 1.
pub type Place = (usize, usize);

/// One value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<(Place, Node)>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    /// Of the key.
    pub place: Place,
    pub value: Node,
}

/// Where each field stands: `spec.steps[2].weight`. Empty if the document is no YAML.
#[derive(Debug, Clone, Default)]
pub struct Places {
    fields: Vec<(String, Place)>,
}

impl Places {
    pub fn of(bytes: &[u8]) -> Places {
        let fits = bytes.len() <= super::MOST_POLICY_BYTES;
        let text = std::str::from_utf8(bytes).ok().filter(|_| fits);
        text.and_then(|text| read(text).ok()).map(|root| Places::within(&root)).unwrap_or_default()
    }

    pub(super) fn within(root: &Node) -> Places {
        let mut places = Places::default();
        places.walk("", root);
        places
    }

    /// The field itself, or the nearest one above it that is there.
    pub fn of_field(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some((_, place)) = self.fields.iter().find(|(known, _)| known == path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    fn walk(&mut self, path: &str, node: &Node) {
        match node {
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
            Node::Map(entries) => {
                for entry in entries {
                    let path = below(path, &entry.key);
                    self.fields.push((path.clone(), entry.place));
                    self.walk(&path, &entry.value);
                }
            }
            Node::List(items) => {
                for (index, (place, value)) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.fields.push((path.clone(), *place));
                    self.walk(&path, value);
                }
            }
        }
    }
}

/// `spec` and `steps` are `spec.steps`.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The document's root, duplicate keys and all.
pub(super) fn read(text: &str) -> Result<Node, Error> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
    serde_saphyr::from_str_with_options(text, options)
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => None,
        }
    }

    /// As a text where it is a single value.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Node::Text(text) => Some(text.clone()),
            Node::Number(number) => Some(number.to_string()),
            Node::Bool(yes) => Some(yes.to_string()),
            Node::Null | Node::List(_) | Node::Map(_) => None,
        }
    }

    /// Without places; of a duplicate key the first value.
    pub(super) fn json(&self) -> Value {
        match self {
            Node::Null => Value::Null,
            Node::Bool(yes) => Value::Bool(*yes),
            Node::Number(number) => Value::Number(number.clone()),
            Node::Text(text) => Value::String(text.clone()),
            Node::List(items) => items.iter().map(|(_, item)| item.json()).collect(),
            Node::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    map.entry(entry.key.clone()).or_insert_with(|| entry.value.json());
                }
                Value::Object(map)
            }
        }
    }
}

/// As people call it: `5`, `"checkout"`, `a list`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Null => f.write_str("nothing"),
            Node::Bool(yes) => write!(f, "{yes}"),
            Node::Number(number) => write!(f, "{number}"),
            Node::Text(text) => {
                let shown: String = text.chars().take(60).collect();
                write!(f, "{shown:?}")
            }
            Node::List(_) => f.write_str("a list"),
            Node::Map(_) => f.write_str("a mapping"),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

fn place<T>(spanned: &Spanned<T>) -> Place {
    (spanned.referenced.line() as usize, spanned.referenced.column() as usize)
}

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let place = place(&key);
            entries.push(Entry { key: key.value, place, value: map.next_value()? });
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            items.push((place(&item), item.value));
        }
        Ok(Node::List(items))
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Node, E> {
        Ok(Node::Bool(yes))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Number::from_f64(number).map_or_else(|| Node::Text(number.to_string()), Node::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: x\nspec:\n  steps:\n  - {weight: 5}\n  - weight: 3\n";

    #[test]
    fn every_field_has_its_place() {
        let places = Places::of(TEXT.as_bytes());
        for (field, place) in [
            ("kind", (1, 1)),
            ("spec.steps", (3, 3)),
            ("spec.steps[0]", (4, 5)),
            ("spec.steps[0].weight", (4, 6)),
            ("spec.steps[1]", (5, 5)),
            ("spec.steps[1].weight", (5, 5)),
        ] {
            assert_eq!(places.of_field(field), Some(place), "{field}");
        }
        assert_eq!(places.of_field("spec.steps[0].gates[1].name"), Some((4, 5)), "the nearest one above");
    }

    #[test]
    fn a_duplicate_key_is_kept() {
        let Ok(Node::Map(entries)) = read("a: 1\nb: 2\na: 3\n") else { panic!("no mapping") };
        let keys: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.place.0)).collect();
        assert_eq!(keys, [("a", 1), ("b", 2), ("a", 3)]);
    }

    #[test]
    fn what_is_no_yaml_has_no_places() {
        assert_eq!(Places::of(b"a: [").of_field("a"), None);
        assert_eq!(Places::of(&[0xff, 0xfe]).of_field("a"), None);
    }
}
