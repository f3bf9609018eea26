//! Strata: requests are compared with their like only, by labels that the policy names.
//!
//! A stratum's name is made of the labels' values. It has to be known before the answer is: a label that tells errors
//! from the rest would make every version look alike.

use std::collections::BTreeMap;

use sluice_wire::policy::Preset;

use crate::{AskError, reading::Stratum};

/// Labels that one stratum may be made of.
const MOST_LABELS: usize = 4;
/// Longer names are cut; what becomes the same by it is one stratum.
const MOST_CHARS: usize = 120;
/// Labels that hold the answer, or tell buckets and processes apart.
const AFTERWARDS: [&str; 10] = [
    "code",
    "status",
    "status_code",
    "http_response_status_code",
    "response_code",
    "response_flags",
    "grpc_response_status",
    "error_type",
    "le",
    "instance",
];

/// What the policy says, or what the preset's metrics are known to have: a label of few values.
pub(crate) fn labels(
    field: &str,
    written: Option<&Vec<String>>,
    preset: Preset,
) -> Result<Vec<String>, AskError> {
    let Some(written) = written else {
        let usual = match preset {
            Preset::Http | Preset::Traefik => Some("method"),
            Preset::OpenTelemetry => Some("http_request_method"),
            Preset::Istio | Preset::Haproxy => None,
        };
        return Ok(usual.into_iter().map(str::to_owned).collect());
    };
    let wrong = |at: usize, why: String| Err(AskError::new(format!("{field}[{at}]"), why));
    for (at, label) in written.iter().enumerate() {
        if at >= MOST_LABELS {
            return wrong(at, format!("at most {MOST_LABELS} labels make a stratum: leave some out"));
        }
        if !is_label(label) {
            return wrong(
                at,
                format!("{label:?} is no label's name: write for example handler or http_route"),
            );
        }
        if AFTERWARDS.contains(&label.as_str()) {
            let why = "is known only after the answer, or tells no requests apart: name what the request asked for, such as handler or method";
            return wrong(at, format!("{label} {why}"));
        }
        if written[..at].contains(label) {
            return wrong(at, format!("{label} stands there twice: leave one out"));
        }
    }
    Ok(written.clone())
}

/// A label's name as Prometheus has them.
fn is_label(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// The stratum's name, of the labels' values in their order.
pub(crate) fn name<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    let name = values.join(" ");
    name.char_indices().nth(MOST_CHARS).map_or(name.clone(), |(end, _)| name[..end].to_owned())
}

/// What was counted by name, as samples carry it: nothing where no series has any of the labels.
pub(crate) fn told_apart(strata: BTreeMap<String, Stratum>) -> Vec<Stratum> {
    if strata.keys().all(String::is_empty) {
        return Vec::new();
    }
    strata.into_iter().map(|(name, stratum)| Stratum { name, ..stratum }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &[&str]) -> Result<Vec<String>, String> {
        let written = written.iter().map(|label| (*label).to_owned()).collect();
        labels("spec.metrics.prometheus.strata", Some(&written), Preset::Http).map_err(|e| e.to_string())
    }

    #[test]
    fn labels_that_the_answer_decides_or_that_are_none_are_refused_with_a_remedy() {
        assert_eq!(read(&["handler", "method"]).unwrap(), ["handler", "method"]);
        assert_eq!(read(&[]).unwrap(), Vec::<String>::new());
        for (written, word) in [
            (&["method", "code"][..], "strata[1]: code is known only after the answer"),
            (&["le"][..], "tells no requests apart"),
            (&["http.route"][..], "is no label's name"),
            (&["a", "a"][..], "twice"),
            (&["a", "b", "c", "d", "e"][..], "strata[4]: at most 4"),
        ] {
            let error = read(written).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_name_is_made_of_the_values_and_bounded() {
        assert_eq!(name(["GET", "", "/a"].into_iter()), "GET /a");
        assert_eq!(name([""].into_iter()), "");
        assert_eq!(name(["ä".repeat(500).as_str()].into_iter()).chars().count(), MOST_CHARS);
    }
}
