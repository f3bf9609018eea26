//! Numbers inside a JSON text: found by path and replaced in place, so that every other byte stays as its owner wrote it. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::document::Edit;

/// As typed by an editor that means well; JSON knows only the straight one.
const CURLY: [char; 6] = ['“', '”', '„', '‟', '‘', '’'];

/// The text as JSON, or what is wrong with it and where.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| match curly(text) {
        Some((line, column, quote)) => format!(
            "line {line}, column {column}: {quote} is a curly quote, which JSON does not know; write \" instead"
        ),
        None => format!("it is no JSON: {error}"),
    })
}

/// The first curly quote outside of a well-formed text's strings is what broke it: line and column, from 1.
fn curly(text: &str) -> Option<(usize, usize, char)> {
    text.lines().enumerate().find_map(|(line, words)| {
        let (column, quote) = words.chars().enumerate().find(|(_, sign)| CURLY.contains(sign))?;
        Some((line + 1, column + 1, quote))
    })
}

/// The text with these numbers in it; `None` if nothing of it is left. What cannot be found is left out: paths come from the
/// same text.
pub(crate) fn edit(text: Option<&str>, edits: &[Edit]) -> Option<String> {
    let Some(text) = text else {
        let whole = edits.iter().find(|edit| edit.at.is_empty());
        return whole.and_then(|edit| edit.number).map(|number| number.to_string());
    };
    if edits.iter().any(|edit| edit.at.is_empty() && edit.number.is_none()) {
        return None;
    }
    let mut splices: Vec<Splice> = edits.iter().filter_map(|edit| splice(text, edit)).collect();
    splices.sort_by_key(|splice| std::cmp::Reverse(splice.from));
    let replaced = splices.into_iter().fold(text.to_owned(), |mut text, splice| {
        text.replace_range(splice.from..splice.to, &splice.with);
        text
    });
    Some(replaced)
}

/// Bytes `from..to` become `with`.
#[derive(Debug)]
struct Splice {
    from: usize,
    to: usize,
    with: String,
}

fn splice(text: &str, edit: &Edit) -> Option<Splice> {
    let root: &RawValue = serde_json::from_str(text).ok()?;
    let offset = |raw: &RawValue| raw.get().as_ptr().addr().checked_sub(text.as_ptr().addr());
    let found = edit.at.iter().try_fold(root, child);
    match (found, edit.number) {
        (Some(found), Some(number)) => {
            let from = offset(found)?;
            Some(Splice { from, to: from + found.get().len(), with: number.to_string() })
        }
        (None, Some(number)) => {
            let (key, entry) = parent(root, &edit.at)?;
            let end = offset(entry)? + entry.get().len() - 1;
            Some(Splice { from: end, to: end, with: appended(entry, key, number) })
        }
        (Some(found), None) => {
            let (key, entry) = parent(root, &edit.at)?;
            // Only in the form in which it was appended: nothing else is ours to take away.
            let ours = format!(",\"{key}\":{}}}", found.get());
            let end = offset(entry)? + entry.get().len();
            entry.get().ends_with(&ours).then(|| Splice {
                from: end - ours.len(),
                to: end - 1,
                with: String::new(),
            })
        }
        (None, None) => None,
    }
}

fn child<'a>(raw: &'a RawValue, token: &String) -> Option<&'a RawValue> {
    if raw.get().starts_with('[') {
        let list: Vec<&'a RawValue> = serde_json::from_str(raw.get()).ok()?;
        list.get(token.parse::<usize>().ok()?).copied()
    } else {
        let fields: BTreeMap<String, &'a RawValue> = serde_json::from_str(raw.get()).ok()?;
        fields.get(token).copied()
    }
}

/// The object that a missing field belongs into, and the field's name.
fn parent<'a, 'b>(root: &'a RawValue, at: &'b [String]) -> Option<(&'b str, &'a RawValue)> {
    let (key, above) = at.split_last()?;
    let entry = above.iter().try_fold(root, child)?;
    entry.get().starts_with('{').then_some((key.as_str(), entry))
}

fn appended(entry: &RawValue, key: &str, number: u64) -> String {
    let empty = entry.get()[1..entry.get().len() - 1].trim().is_empty();
    format!("{}\"{key}\":{number}", if empty { "" } else { "," })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(at: &[&str], number: Option<u64>) -> Edit {
        Edit { at: at.iter().map(|token| (*token).to_owned()).collect(), number }
    }

    #[test]
    fn only_the_digits_change() {
        let text =
            "{ \"z\" : [ {\"ratio\":10 , \"x\":1.50}, {\"ratio\" : 1,\"ré\\u0022\":null} ],\n \"a\":{} }";
        let edits = [set(&["z", "1", "ratio"], Some(90)), set(&["z", "0", "ratio"], Some(0))];
        assert_eq!(
            edit(Some(text), &edits).unwrap(),
            "{ \"z\" : [ {\"ratio\":0 , \"x\":1.50}, {\"ratio\" : 90,\"ré\\u0022\":null} ],\n \"a\":{} }"
        );
    }

    #[test]
    fn a_missing_number_is_appended_and_taken_away_again() {
        let text = "{\"m\":[{\"name\":\"a\"},{}]}";
        let there = [set(&["m", "0", "w"], Some(5)), set(&["m", "1", "w"], Some(6))];
        let with = edit(Some(text), &there).unwrap();
        assert_eq!(with, "{\"m\":[{\"name\":\"a\",\"w\":5},{\"w\":6}]}");
        assert_eq!(
            edit(Some(&with), &[set(&["m", "0", "w"], None)]).unwrap(),
            "{\"m\":[{\"name\":\"a\"},{\"w\":6}]}"
        );
    }

    #[test]
    fn a_text_may_be_one_number_or_not_be_there() {
        assert_eq!(edit(Some("5"), &[set(&[], Some(10))]).as_deref(), Some("10"));
        assert_eq!(edit(None, &[set(&[], Some(10))]).as_deref(), Some("10"));
        assert_eq!(edit(Some("5"), &[set(&[], None)]), None);
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        let curly = parse("{\n  “ratio”: 10}").unwrap_err();
        assert!(curly.contains("line 2, column 3") && curly.contains('“'), "{curly}");
        let comma = parse("{\"ratio\": 10,}").unwrap_err();
        assert!(comma.contains("line 1 column 14"), "{comma}");
    }
}
