//! Everything about a document's form that is not a policy's: unknown, missing, repeated and misspelt fields, and values of
//! the wrong kind.
//!
//! serde stops at its first fault, so this is asked once serde has refused a document: it walks the document along the JSON
//! Schema that is made from the same types. It accepts nothing by itself; a test holds it against serde, value by value.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::Policy;
use super::document::{Entry, Node, Place, below};
use super::scalars;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Policy).to_value());

/// A fault's place, field, and what to do.
pub(super) struct Misfit {
    pub place: Place,
    pub field: String,
    pub why: String,
}

/// All faults of form, in no order.
pub(super) fn misfits(root: &Node) -> Vec<Misfit> {
    let mut walk = Walk { misfits: Vec::new() };
    walk.visit(&SCHEMA, root, "", (1, 1));
    walk.misfits
}

struct Walk {
    misfits: Vec<Misfit>,
}

impl Walk {
    fn misfit(&mut self, place: Place, field: &str, why: impl Into<String>) {
        self.misfits.push(Misfit { place, field: field.to_owned(), why: why.into() });
    }

    fn visit(&mut self, schema: &Value, node: &Node, path: &str, place: Place) {
        let (name, schema) = resolved(schema);
        if let Some(check) = name.and_then(scalars::check) {
            if let Err(why) = check(node) {
                self.misfit(place, path, why);
            }
            return;
        }
        let kinds = Kinds::of(schema);
        if *node == Node::Null && kinds.nullable {
            return;
        }
        match kinds.kind {
            Kind::Other(schema) => self.visit(schema, node, path, place),
            Kind::Variants(variants) => self.variant(&variants, node, path, place),
            Kind::Object(object) => self.object(object, node, path, place),
            Kind::List(items) => self.list(items, node, path, place),
            Kind::Single(single) => {
                if let Some(why) = single.refusal(schema, node) {
                    self.misfit(place, path, why);
                }
            }
        }
    }

    fn list(&mut self, items: &Value, node: &Node, path: &str, place: Place) {
        let Node::List(list) = node else {
            self.misfit(place, path, format!("{node} stands where a list is expected: write it in [ ]"));
            return;
        };
        for (index, (place, item)) in list.iter().enumerate() {
            self.visit(items, item, &format!("{path}[{index}]"), *place);
        }
    }

    fn object(&mut self, object: Object<'_>, node: &Node, path: &str, place: Place) {
        let Node::Map(entries) = node else {
            let form = object.form();
            self.misfit(place, path, format!("{node} stands where a mapping is expected: write {form}"));
            return;
        };
        self.repeated(entries, path);
        // A misspelt field is not missing too.
        let mut meant = Vec::new();
        for entry in entries {
            let field = below(path, &entry.key);
            match object.property(&entry.key) {
                Some(schema) => self.visit(schema, &entry.value, &field, entry.place),
                None if object.closed => {
                    let names = object.names();
                    meant.extend(nearest(&entry.key, &names));
                    self.misfit(entry.place, &field, format!("unknown field; {}", known(&entry.key, &names)));
                }
                None => {}
            }
        }
        for missing in object.missing(entries).into_iter().filter(|missing| !meant.contains(missing)) {
            let field = below(path, missing);
            self.misfit(place, &field, format!("is missing{}", object.about(missing)));
        }
        if !object.variants.0.is_empty() {
            self.one_of(&object.variants, entries, path, place);
        }
    }

    /// Exactly one of several kinds, beside other fields or alone.
    fn one_of(&mut self, variants: &Variants<'_>, entries: &[Entry], path: &str, place: Place) {
        let names = variants.names();
        let chosen: Vec<&str> =
            entries.iter().map(|entry| entry.key.as_str()).filter(|key| names.contains(key)).collect();
        let all = names.join(", ");
        match chosen.as_slice() {
            [_] => {}
            [] => self.misfit(place, path, format!("says nothing of its kind: write one of {all}")),
            several => {
                let why = format!("{} exclude each other: keep one of them", several.join(" and "));
                self.misfit(place, path, why);
            }
        }
    }

    fn variant(&mut self, variants: &Variants<'_>, node: &Node, path: &str, place: Place) {
        let names = variants.names();
        match node {
            Node::Map(entries) => {
                self.repeated(entries, path);
                for entry in entries {
                    let field = below(path, &entry.key);
                    match variants.value(&entry.key) {
                        Some(schema) => self.visit(schema, &entry.value, &field, entry.place),
                        None if names.contains(&entry.key.as_str()) => {
                            self.misfit(entry.place, &field, format!("takes no fields: write {}", entry.key));
                        }
                        None => self.misfit(
                            entry.place,
                            &field,
                            format!("is none; {}", known(&entry.key, &names)),
                        ),
                    }
                }
                if entries.len() != 1 && entries.iter().all(|entry| names.contains(&entry.key.as_str())) {
                    self.one_of(variants, entries, path, place);
                }
            }
            node => {
                let text = node.text().unwrap_or_default();
                if variants.value(&text).is_some() {
                    self.misfit(place, path, format!("{text} needs its fields: write {text}: {{…}}"));
                } else if !names.contains(&text.as_str()) {
                    self.misfit(place, path, format!("{node} is none; {}", known(&text, &names)));
                }
            }
        }
    }

    fn repeated(&mut self, entries: &[Entry], path: &str) {
        for (index, entry) in entries.iter().enumerate() {
            if let Some(first) = entries[..index].iter().find(|first| first.key == entry.key) {
                let why = format!("stands there twice (first in line {}): keep one of them", first.place.0);
                self.misfit(entry.place, &below(path, &entry.key), why);
            }
        }
    }
}

/// The schema behind `$ref`, with the name that it has in `$defs`.
fn resolved(schema: &Value) -> (Option<&str>, &Value) {
    let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    match name.and_then(|name| SCHEMA["$defs"].get(name)) {
        Some(definition) => (name, definition),
        None => (None, schema),
    }
}

/// What may stand at a place.
struct Kinds<'s> {
    nullable: bool,
    kind: Kind<'s>,
}

enum Kind<'s> {
    Object(Object<'s>),
    List(&'s Value),
    Variants(Variants<'s>),
    Single(Single),
    /// What another schema says.
    Other(&'s Value),
}

#[derive(Clone, Copy)]
enum Single {
    Text,
    Number,
    Whole,
    Bool,
    /// Whatever is written.
    Any,
}

impl<'s> Kinds<'s> {
    fn of(schema: &'s Value) -> Kinds<'s> {
        let options = ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array());
        let is_null = |option: &Value| option["type"] == "null";
        if let Some(options) = options.filter(|_| schema["properties"].is_null()) {
            let nullable = options.iter().any(is_null);
            let rest: Vec<&Value> = options.iter().filter(|option| !is_null(option)).collect();
            return match rest.as_slice() {
                [only] => Kinds { nullable, kind: Kind::Other(only) },
                several => Kinds { nullable, kind: Kind::Variants(Variants(several.to_vec())) },
            };
        }
        if let Some(words) = schema["enum"].as_array() {
            let nullable = words.contains(&Value::Null);
            return Kinds { nullable, kind: Kind::Variants(Variants(vec![schema])) };
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let kind = match types.iter().find(|kind| **kind != "null") {
            Some(&"object") => Kind::Object(Object::of(schema)),
            Some(&"array") => Kind::List(&schema["items"]),
            Some(&"string") => Kind::Single(Single::Text),
            Some(&"number") => Kind::Single(Single::Number),
            Some(&"integer") => Kind::Single(Single::Whole),
            Some(&"boolean") => Kind::Single(Single::Bool),
            Some(_) | None => Kind::Single(Single::Any),
        };
        Kinds { nullable: types.contains(&"null"), kind }
    }
}

impl Single {
    fn refusal(self, schema: &Value, node: &Node) -> Option<String> {
        let wanted = match self {
            Single::Any => return None,
            Single::Text if node.text().is_some() => return None,
            Single::Text => "a text",
            Single::Bool if matches!(node, Node::Bool(_)) => return None,
            Single::Bool => "true or false",
            Single::Number if number(node).is_some() => return out_of_range(schema, node),
            Single::Number => "a number",
            Single::Whole if number(node).is_some_and(|number| number.fract() == 0.0) => {
                return out_of_range(schema, node);
            }
            Single::Whole => "a whole number",
        };
        Some(format!("{node} stands where {wanted} is expected"))
    }
}

fn number(node: &Node) -> Option<f64> {
    match node {
        Node::Number(number) => number.as_f64(),
        Node::Null | Node::Bool(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => None,
    }
}

fn out_of_range(schema: &Value, node: &Node) -> Option<String> {
    let number = number(node)?;
    let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    let most = most.or_else(|| (schema["format"] == "uint32").then_some(f64::from(u32::MAX)));
    let fits = least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
    let range = match (least, most) {
        (Some(least), Some(most)) => format!("give {least} to {most}"),
        (Some(least), None) => format!("give {least} or more"),
        (None, Some(most)) => format!("give at most {most}"),
        (None, None) => String::new(),
    };
    (!fits).then(|| format!("{node} is out of range: {range}"))
}

/// Names and the schema of what they hold, if they hold anything.
struct Variants<'s>(Vec<&'s Value>);

impl<'s> Variants<'s> {
    fn names(&self) -> Vec<&'s str> {
        let mut names = Vec::new();
        for option in &self.0 {
            names.extend(option["const"].as_str());
            names.extend(option["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
            names
                .extend(option["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str));
        }
        names
    }

    fn value(&self, name: &str) -> Option<&'s Value> {
        self.0.iter().find_map(|option| option["properties"].as_object()?.get(name))
    }
}

/// A mapping with fields, or with keys of one's own choice.
struct Object<'s> {
    schema: &'s Value,
    closed: bool,
    /// Of a field that is one of several (a gate's kind).
    variants: Variants<'s>,
}

impl<'s> Object<'s> {
    fn of(schema: &'s Value) -> Object<'s> {
        let flattened = schema["oneOf"].as_array().map(|options| options.iter().collect());
        let closed = schema["additionalProperties"] == false || schema["unevaluatedProperties"] == false;
        Object { schema, closed, variants: Variants(flattened.unwrap_or_default()) }
    }

    fn property(&self, name: &str) -> Option<&'s Value> {
        let own = self.schema["properties"].as_object().and_then(|properties| properties.get(name));
        let any = || self.schema.get("additionalProperties").filter(|any| any.is_object());
        own.or_else(|| self.variants.value(name)).or_else(any)
    }

    fn names(&self) -> Vec<&'s str> {
        let own = self.schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
        own.chain(self.variants.names()).collect()
    }

    fn required(&self) -> Vec<&'s str> {
        self.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn missing(&self, entries: &[Entry]) -> Vec<&'s str> {
        let there = |name: &str| entries.iter().any(|entry| entry.key == name);
        self.required().into_iter().filter(|name| !there(name)).collect()
    }

    /// What a field is for, in the schema's own words.
    fn about(&self, name: &str) -> String {
        let schema = self.property(name).unwrap_or(&Value::Null);
        let words = schema["description"].as_str().or_else(|| resolved(schema).1["description"].as_str());
        let first = words.and_then(|words| words.split(". ").next()).map(|words| words.replace('\n', " "));
        first.map(|words| format!(": {}", words.trim_end_matches('.'))).unwrap_or_default()
    }

    /// `{weight: …}`
    fn form(&self) -> String {
        let mut names = self.required();
        if names.is_empty() {
            names = self.names();
        }
        let shown: Vec<String> = names.iter().take(3).map(|name| format!("{name}: …")).collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// `did you mean weight?`, or all names that there are.
fn known(given: &str, names: &[&str]) -> String {
    match nearest(given, names) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("there are: {}", names.join(", ")),
    }
}

/// A name that differs in few letters.
fn nearest<'n>(given: &str, names: &[&'n str]) -> Option<&'n str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&given.to_lowercase(), &name.to_lowercase());
    let (distance, name) = names.iter().map(|name| (distance(name), *name)).min()?;
    (distance <= (name.len() / 3).max(1)).then_some(name)
}

#[cfg(test)]
mod tests;
