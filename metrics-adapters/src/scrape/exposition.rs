//! The text that a pod shows at `/metrics`, read whole or not at all.
//!
//! `prometheus-parse` 0.2.5 reads a line by a regular expression: a `}` in a label's value loses the line, `,` and `=` cut
//! the value, escapes stay (seen). So it never gets to see labels here: they are read by the reader of PromQL matchers,
//! whose quoting is the same, and the crate reads what is left, `name value timestamp` and `# TYPE`.
//!
//! Promises: a line of a wanted metric that cannot be read, and signs that the text was cut (no last newline, OpenMetrics
//! without `# EOF`, a histogram without its end) make the whole text unusable. Lines of others are passed over; what among
//! them has a form that is not read is counted.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_parse::{LineInfo, SampleType};

use crate::prometheus::read_labels;

/// A text's samples of the wanted metrics.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Exposition {
    pub(super) samples: Vec<Sample>,
    /// Metric families, wanted or not: fewer than before is a sign of a cut.
    pub(super) families: usize,
    /// Lines in a form that is not read, such as names in quotes.
    pub(super) unread: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Why a text is not used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0:?} is no exposition: expected text/plain or application/openmetrics-text")]
    ContentType(String),
    #[error("byte {0} is no UTF-8")]
    NoText(usize),
    #[error("it is empty")]
    Empty,
    #[error("it was cut: its last line has no end")]
    Cut,
    #[error("it was cut: OpenMetrics ends with # EOF")]
    NoEof,
    #[error("line {line} cannot be read: {why}: {text}")]
    Line { line: usize, why: String, text: String },
    #[error("{name} says that it is a {kind}, not a {wanted}")]
    Kind { name: String, kind: String, wanted: &'static str },
    #[error("{name} appears twice with the same labels, at line {line}")]
    Twice { name: String, line: usize },
}

/// The metrics that are wanted, by exact names of their samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) names: &'a [&'a str],
}

impl Exposition {
    pub(super) fn read(wanted: Wanted<'_>, content_type: &str, bytes: &[u8]) -> Result<Exposition, Unusable> {
        let text = whole(content_type, bytes)?;
        let mut exposition = Exposition::default();
        let mut seen = BTreeSet::new();
        for (place, line) in text.lines().enumerate() {
            let number = place + 1;
            if line.starts_with('#') {
                exposition.families += usize::from(line.starts_with("# TYPE "));
                check_kind(wanted, line)?;
                continue;
            }
            let name = &line[..line.find([' ', '\t', '{']).unwrap_or(line.len())];
            if !wanted.names.contains(&name) {
                exposition.unread += usize::from(!line.trim().is_empty() && !readable(name));
                continue;
            }
            let sample =
                sample(line).map_err(|why| Unusable::Line { line: number, why, text: shortened(line) })?;
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(Unusable::Twice { name: sample.name, line: number });
            }
            exposition.samples.push(sample);
        }
        Ok(exposition)
    }

    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

/// The text, if it came to its end.
fn whole<'a>(content_type: &str, bytes: &'a [u8]) -> Result<&'a str, Unusable> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let open_metrics = kind == "application/openmetrics-text";
    if !(open_metrics || kind == "text/plain" || kind.is_empty()) {
        return Err(Unusable::ContentType(content_type.chars().take(80).collect()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Unusable::NoText(error.valid_up_to()))?;
    match (open_metrics, text.lines().last()) {
        (_, None) => Err(Unusable::Empty),
        (true, Some(last)) if last.trim_end() != "# EOF" => Err(Unusable::NoEof),
        (false, Some(_)) if !text.ends_with('\n') => Err(Unusable::Cut),
        _ => Ok(text),
    }
}

/// A counter that calls itself a gauge is another metric with the same name.
fn check_kind(wanted: Wanted<'_>, line: &str) -> Result<(), Unusable> {
    let LineInfo::Type { metric_name, metric_alias, sample_type } = LineInfo::parse(line) else {
        return Ok(());
    };
    let family = metric_alias.unwrap_or(metric_name);
    let is = |suffix: &str| wanted.names.contains(&format!("{family}{suffix}").as_str());
    let kind = match sample_type {
        SampleType::Gauge if is("_bucket") => Some(("gauge", "histogram")),
        SampleType::Summary if is("_bucket") => Some(("summary", "histogram")),
        SampleType::Gauge if is("") && family.ends_with("_total") => Some(("gauge", "counter")),
        SampleType::Histogram if is("") => Some(("histogram", "counter")),
        _ => None,
    };
    match kind {
        Some((kind, wanted)) => Err(Unusable::Kind { name: family, kind: kind.to_owned(), wanted }),
        None => Ok(()),
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let (bare, labels) = match line.split_once('{') {
        None => (line.to_owned(), BTreeMap::new()),
        Some((name, rest)) => {
            let (labels, rest) = read_labels(rest)?;
            (format!("{name} {rest}"), labels)
        }
    };
    // An OpenMetrics exemplar stands behind the value.
    let bare = bare.split(" # ").next().unwrap_or_default();
    match LineInfo::parse(bare) {
        LineInfo::Sample { metric_name, labels: None, value, timestamp } => {
            let value = value.parse().map_err(|_| format!("{value:?} is no number"))?;
            if timestamp.is_some_and(|stamp| stamp.parse::<f64>().is_err()) {
                return Err("its timestamp is no number".to_owned());
            }
            Ok(Sample { name: metric_name.to_owned(), labels, value })
        }
        _ => Err("expected name, labels, value".to_owned()),
    }
}

fn readable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(plain)
}

fn shortened(line: &str) -> String {
    line.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> = Wanted { names: &["hits_total", "took_bucket"] };

    fn read(text: &str) -> Result<Exposition, Unusable> {
        Exposition::read(WANTED, "text/plain; version=0.0.4", text.as_bytes())
    }

    fn one(line: &str) -> Sample {
        read(&format!("{line}\n")).unwrap().samples.remove(0)
    }

    #[test]
    fn label_values_that_the_library_would_cut_are_read_as_they_are() {
        for (written, value) in [
            (r#"a}b"#, "a}b"),
            (r#"a,b=c"#, "a,b=c"),
            (r#"\"q\" \\ \n"#, "\"q\" \\ \n"),
            (r#"{id}"#, "{id}"),
            (r#" # "#, " # "),
            ("", ""),
        ] {
            let sample = one(&format!(r#"hits_total{{code="200",path="{written}"}} 7"#));
            assert_eq!((sample.labels["path"].as_str(), sample.labels["code"].as_str()), (value, "200"));
            assert_eq!(sample.value, 7.0);
        }
    }

    #[test]
    fn every_way_to_write_a_sample_is_read() {
        for (line, value) in [
            ("hits_total 7", 7.0),
            ("hits_total{} 7 1790000000000", 7.0),
            ("hits_total{ code = \"200\" , } 7e3", 7_000.0),
            ("hits_total{code=\"200\"} 7.0 1790000000.5 # {trace=\"a # b\"} 0.5", 7.0),
            ("took_bucket{le=\"+Inf\"}\t+Inf", f64::INFINITY),
        ] {
            assert_eq!(one(line).value, value, "{line}");
        }
        assert!(one("hits_total NaN").value.is_nan());
    }

    #[test]
    fn one_wanted_line_that_cannot_be_read_makes_the_whole_text_unusable() {
        for line in [
            "hits_total",
            "hits_total{code=\"5",
            "hits_total{code=\"5\"}",
            "hits_total x",
            "hits_total{code=5} 1",
            "hits_total 1 x",
        ] {
            let error = read(&format!("took_bucket 1\n{line}\n")).unwrap_err();
            assert!(matches!(error, Unusable::Line { line: 2, .. }), "{line}: {error}");
        }
        let twice = read("hits_total{a=\"b\"} 1\nhits_total{a=\"b\"} 2\n");
        assert_eq!(twice, Err(Unusable::Twice { name: "hits_total".to_owned(), line: 2 }));
    }

    #[test]
    fn lines_of_others_are_passed_over_and_strange_ones_counted() {
        let text =
            "other{x=\"}\"} 1\n{\"http.requests\",a=\"b\"} 3\njob:hits:sum 1\n\nhits_total 1\n<html>\n";
        let exposition = read(text).unwrap();
        assert_eq!((exposition.samples.len(), exposition.unread), (1, 2));
    }

    #[test]
    fn a_text_that_was_cut_is_not_used() {
        assert_eq!(read("hits_total 12\nhits_total{a=\"b\"} 3"), Err(Unusable::Cut));
        assert_eq!(read(""), Err(Unusable::Empty));
        let open = |text: &str| {
            Exposition::read(WANTED, "application/openmetrics-text; version=1.0.0", text.as_bytes())
        };
        assert_eq!(open("hits_total 12\n"), Err(Unusable::NoEof));
        assert!(open("hits_total 12\n# EOF\n").is_ok());
        assert!(open("hits_total 12\n# EOF").is_ok());
    }

    #[test]
    fn what_is_no_exposition_is_told_by_its_kind() {
        let html = Exposition::read(WANTED, "text/html", b"<html>\n").unwrap_err();
        assert!(html.to_string().contains("text/html"), "{html}");
        assert_eq!(Exposition::read(WANTED, "", b"hits_total \xff\n"), Err(Unusable::NoText(11)));
        assert!(matches!(read("# TYPE hits_total gauge\nhits_total 1\n"), Err(Unusable::Kind { .. })));
        assert!(matches!(read("# TYPE took summary\ntook 1\n"), Err(Unusable::Kind { .. })));
        assert!(read("# TYPE took histogram\n# TYPE hits_total counter\nhits_total 1\n").is_ok());
    }
}
