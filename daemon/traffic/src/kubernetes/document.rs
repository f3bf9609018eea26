//! Where numbers are written: fields of the object itself, or JSON in the text of an annotation. Pure.
//!
//! Of a text only the digits change: whatever else its owner wrote (unknown keys, order, spaces) stays byte for byte, and the
//! whole former text is tested, because a JSON Patch cannot look into it.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;

use super::decide::as_json;
use super::marks::annotation;
use super::object::Place;
use super::patch::{add, path, remove, test};
use super::text;
use crate::TargetError;

/// Which part of an object holds the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Object,
    /// By the annotation's name.
    Annotation(String),
}

/// That part as it was read.
#[derive(Debug)]
pub(crate) struct Document {
    pub json: Value,
    written: Written,
}

#[derive(Debug)]
enum Written {
    Object,
    Annotation { name: String, text: Option<String> },
}

/// One number to set, or (`None`) to take away.
#[derive(Debug)]
pub(crate) struct Edit {
    pub at: Vec<String>,
    pub number: Option<u64>,
}

impl Document {
    /// An annotation that is not there is null.
    pub fn read(source: &Source, place: &Place, object: &DynamicObject) -> Result<Document, TargetError> {
        match source {
            Source::Object => Ok(Document { json: as_json(object), written: Written::Object }),
            Source::Annotation(name) => {
                let text = annotation(object, name).map(str::to_owned);
                let json = text.as_deref().map_or(Ok(Value::Null), text::parse);
                let json = json.map_err(|why| place.unfit(&annotation_title(name), why))?;
                Ok(Document { json, written: Written::Annotation { name: name.clone(), text } })
            }
        }
    }

    pub fn at(&self, path: &[String]) -> &Value {
        path.iter().fold(&self.json, |value, token| match value {
            Value::Array(list) => {
                token.parse::<usize>().ok().and_then(|at| list.get(at)).unwrap_or(&Value::Null)
            }
            other => other.get(token).unwrap_or(&Value::Null),
        })
    }

    /// `spec.rules[0]`, for people.
    pub fn title(&self, path: &[String]) -> String {
        let within = path.iter().fold(String::new(), |title, token| match token.parse::<usize>() {
            Ok(at) => format!("{title}[{at}]"),
            Err(_) if title.is_empty() => token.clone(),
            Err(_) => format!("{title}.{token}"),
        });
        match &self.written {
            Written::Object => within,
            Written::Annotation { name, .. } if within.is_empty() => annotation_title(name),
            Written::Annotation { name, .. } => format!("{}: {within}", annotation_title(name)),
        }
    }

    /// Tests on what is relied on, then the numbers. They are written even where they stand: what is there may be older than
    /// what was read.
    pub fn operations(
        &self,
        tests: impl Iterator<Item = (Vec<String>, Value)>,
        edits: Vec<Edit>,
    ) -> Vec<PatchOperation> {
        match &self.written {
            Written::Object => {
                let tests = tests.map(|(at, value)| test(path(at.iter().map(String::as_str)), value));
                tests.chain(edits.iter().filter_map(|edit| self.set(edit))).collect()
            }
            Written::Annotation { name, text } => rewrite(name, text.as_deref(), &edits),
        }
    }

    fn set(&self, edit: &Edit) -> Option<PatchOperation> {
        let at = path(edit.at.iter().map(String::as_str));
        match edit.number {
            Some(number) => Some(add(at, number)),
            None => (!self.at(&edit.at).is_null()).then(|| remove(at)),
        }
    }
}

fn rewrite(name: &str, former: Option<&str>, edits: &[Edit]) -> Vec<PatchOperation> {
    let at = || path(["metadata", "annotations", name]);
    let tested = test(at(), former.map_or(Value::Null, Value::from));
    match text::edit(former, edits) {
        Some(text) => vec![tested, add(at(), text)],
        None if former.is_some() => vec![tested, remove(at())],
        None => Vec::new(),
    }
}

pub(crate) fn annotation_title(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}
