//! `testers:` who sees the canary before everybody else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What testers' requests carry. Which targets can tell them stands in docs/targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Testers {
    /// A header with exactly this value: `{name: x-canary, value: always}`.
    Header(NameValue),
    /// A cookie with exactly this value.
    Cookie(NameValue),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameValue {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// Letters, digits, `-`, `_` and `.`.
    pub value: String,
}

impl Testers {
    /// `header x-canary: always`, for people.
    pub fn told(&self) -> String {
        match self {
            Testers::Header(NameValue { name, value }) => format!("header {name}: {value}"),
            Testers::Cookie(NameValue { name, value }) => format!("cookie {name}={value}"),
        }
    }

    /// The field (below `spec.testers`) that is wrong, and the remedy. They stand in regular expressions and in annotations, so
    /// nothing in them may have a meaning there.
    pub fn wrong(&self) -> Vec<(String, String)> {
        let (kind, NameValue { name, value }) = match self {
            Testers::Header(pair) => ("header", pair),
            Testers::Cookie(pair) => ("cookie", pair),
        };
        let plain = |text: &str, more: &str| {
            let fits = |letter: char| letter.is_ascii_alphanumeric() || more.contains(letter);
            (1..=64).contains(&text.len()) && text.chars().all(fits)
        };
        let mut wrong = Vec::new();
        if !plain(name, "-_") {
            let why = format!(
                "{name:?} is no plain name: write up to 64 letters, digits, - and _, such as x-canary"
            );
            wrong.push((format!("{kind}.name"), why));
        }
        if !plain(value, "-_.") {
            let why = format!(
                "{value:?} is no plain value: write up to 64 letters, digits, -, _ and ., such as always"
            );
            wrong.push((format!("{kind}.value"), why));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_else_in_an_expression_is_wrong() {
        let testers = |text: &str| serde_saphyr::from_str::<Testers>(text).unwrap();
        assert_eq!(testers("header: {name: x-canary, value: always}").wrong(), vec![]);
        let wrong = testers("cookie: {name: 'a;b', value: '.*'}").wrong();
        let fields: Vec<&str> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["cookie.name", "cookie.value"]);
        assert!(
            serde_saphyr::from_str::<Testers>("{header: {name: a, value: b}, cookie: {name: a, value: b}}")
                .is_err()
        );
    }
}
