//! Where each field of a YAML document stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Line and column, from 1.
type Place = (usize, usize);

/// Paths such as `spec.steps[2].weight`, in the document's order. Empty if the document is no YAML.
#[derive(Debug, Default)]
pub(super) struct Places {
    fields: Vec<(String, Place)>,
}

impl Places {
    pub(super) fn of(bytes: &[u8]) -> Places {
        let fits = bytes.len() <= sluice_wire::cloudevent::MOST_BYTES;
        let text = std::str::from_utf8(bytes).ok().filter(|_| fits);
        let root = text.and_then(|text| serde_saphyr::from_str::<Node>(text).ok());
        let mut places = Places::default();
        if let Some(root) = root {
            places.walk("", &root);
        }
        places
    }

    /// The field itself, or the nearest one above it that is there.
    pub(super) fn of_field(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some((_, place)) = self.fields.iter().find(|(known, _)| known == path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The last field that begins at or before this place.
    pub(super) fn field_at(&self, line: usize, column: usize) -> Option<String> {
        let before = self.fields.iter().filter(|(_, place)| *place <= (line, column));
        before.max_by_key(|(_, place)| *place).map(|(path, _)| path.clone())
    }

    fn walk(&mut self, path: &str, node: &Node) {
        match node {
            Node::Leaf => {}
            Node::Map(entries) => {
                for (key, place, value) in entries {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.fields.push((path.clone(), *place));
                    self.walk(&path, value);
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

/// A document of which only the places matter.
enum Node {
    Leaf,
    Map(Vec<(String, Place, Node)>),
    List(Vec<(Place, Node)>),
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
            let at = place(&key);
            entries.push((key.value, at, map.next_value()?));
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

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
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
            ("spec.steps[0].weight", (4, 6)),
            ("spec.steps[1].weight", (5, 5)),
        ] {
            assert_eq!(places.of_field(field), Some(place), "{field}");
        }
        assert_eq!(places.of_field("spec.steps[0].gates[1].name"), Some((4, 5)), "the nearest one above");
        assert_eq!(places.field_at(5, 13), Some("spec.steps[1].weight".into()));
    }

    #[test]
    fn what_is_no_yaml_has_no_places() {
        assert_eq!(Places::of(b"a: [").of_field("a"), None);
        assert_eq!(Places::of(&[0xff, 0xfe]).of_field("a"), None);
    }
}
