//! The answers of Prometheus' HTTP API, v1. Values are strings (`NaN`, `+Inf`); an empty vector is no zero.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::native::Native;
use crate::{
    SourceError,
    body::{Body, head},
};

/// A series' labels, in the answer's order. Few, so a list is quicker than a map.
#[derive(Debug, Default)]
pub(super) struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Labels<'_> {
    /// A missing label is empty.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }
}

#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) labels: Labels<'a>,
    /// Milliseconds and value; one of an instant query, many of a range query.
    pub(super) points: Vec<(i64, Point<'a>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Point<'a> {
    Number(f64),
    Native(Native<'a>),
}

#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) warnings: Vec<String>,
}

/// Series beyond this many are refused.
pub(super) const MOST_SERIES: usize = 50_000;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default, borrow)]
    data: Option<Data<'a>>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data<'a> {
    #[serde(borrow)]
    Vector(Vec<Sample<'a>>),
    #[serde(borrow)]
    Matrix(Vec<Sample<'a>>),
    Scalar(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Sample<'a> {
    #[serde(borrow)]
    metric: Labels<'a>,
    #[serde(default, borrow)]
    value: Option<(f64, Cow<'a, str>)>,
    #[serde(default, borrow)]
    values: Vec<(f64, Cow<'a, str>)>,
    #[serde(default, borrow)]
    histogram: Option<(f64, Native<'a>)>,
    #[serde(default, borrow)]
    histograms: Vec<(f64, Native<'a>)>,
}

/// What was asked, for the errors.
pub(super) struct Asked<'a> {
    pub(super) server: &'a str,
    pub(super) query: &'a str,
    /// A range query, whose answer is a matrix.
    pub(super) range: bool,
}

/// Reads a body. Errors: [`SourceError::Query`] if the question is wrong, [`SourceError::Status`] if the server fails,
/// [`SourceError::Answer`] if this is not what Prometheus says.
pub(super) fn read<'a>(asked: &Asked<'_>, body: &'a Body) -> Result<Rows<'a>, SourceError> {
    let envelope: Result<Envelope<'a>, _> = serde_json::from_slice(&body.bytes);
    match envelope {
        Ok(envelope) if body.status == 200 && envelope.status == "success" => rows(asked, envelope),
        Ok(envelope) if envelope.status == "error" => Err(refusal(asked, body, &envelope)),
        _ if body.status != 200 => Err(status(asked, body, head(&body.bytes))),
        Ok(envelope) => Err(garbage(asked, format!("its status is {:?}", envelope.status))),
        Err(error) => {
            let why = format!("{error}; {} begins with: {}", body.content_type, head(&body.bytes));
            Err(garbage(asked, why))
        }
    }
}

fn rows<'a>(asked: &Asked<'_>, envelope: Envelope<'a>) -> Result<Rows<'a>, SourceError> {
    let samples = match (envelope.data, asked.range) {
        (Some(Data::Vector(samples)), false) | (Some(Data::Matrix(samples)), true) => samples,
        (Some(Data::Vector(_)), true) => {
            return Err(garbage(asked, "a vector, where a matrix was asked for".into()));
        }
        (Some(Data::Matrix(_)), false) => {
            return Err(garbage(asked, "a matrix, where a vector was asked for".into()));
        }
        (Some(Data::Scalar(_)), _) => {
            return Err(garbage(asked, "a scalar, which says nothing of pods".into()));
        }
        (Some(Data::String(_)), _) => {
            return Err(garbage(asked, "a string, which says nothing of pods".into()));
        }
        (None, _) => return Err(garbage(asked, "success without data".into())),
    };
    if samples.len() > MOST_SERIES {
        return Err(too_many(asked, &samples));
    }
    Ok(Rows { rows: samples.into_iter().map(row).collect(), warnings: envelope.warnings })
}

fn row(sample: Sample<'_>) -> Row<'_> {
    let numbers = sample.value.into_iter().chain(sample.values).map(point);
    let natives = sample.histogram.into_iter().chain(sample.histograms);
    let natives = natives.map(|(seconds, native)| (milliseconds(seconds), Point::Native(native)));
    Row { labels: sample.metric, points: numbers.chain(natives).collect() }
}

/// A value that is no number is NaN, which nothing counts.
fn point<'a>((seconds, value): (f64, Cow<'_, str>)) -> (i64, Point<'a>) {
    (milliseconds(seconds), Point::Number(value.parse().unwrap_or(f64::NAN)))
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn refusal(asked: &Asked<'_>, body: &Body, envelope: &Envelope<'_>) -> SourceError {
    let why = format!("{}: {}", envelope.error_type, envelope.error.chars().take(500).collect::<String>());
    match envelope.error_type.as_str() {
        "bad_data" | "execution" => {
            let query = asked.query.chars().take(2_000).collect();
            SourceError::Query { server: asked.server.to_owned(), why, query }
        }
        _ => status(asked, body, why),
    }
}

fn status(asked: &Asked<'_>, body: &Body, text: String) -> SourceError {
    SourceError::Status { server: asked.server.to_owned(), status: body.status, body: text }
}

fn garbage(asked: &Asked<'_>, why: String) -> SourceError {
    SourceError::Answer { server: asked.server.to_owned(), why }
}

/// Names the label whose values are the most.
fn too_many(asked: &Asked<'_>, samples: &[Sample<'_>]) -> SourceError {
    let mut values: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for (label, value) in samples.iter().flat_map(|sample| &sample.metric.0) {
        values.entry(label).or_default().insert(value);
    }
    let (label, values) =
        values.iter().map(|(label, set)| (*label, set.len())).max_by_key(|(_, n)| *n).unwrap_or(("", 0));
    SourceError::TooManySeries {
        server: asked.server.to_owned(),
        series: samples.len(),
        most: MOST_SERIES,
        label: label.to_owned(),
        values,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
                let mut labels = Vec::new();
                while let Some((Text(label), Text(value))) = map.next_entry()? {
                    labels.push((label, value));
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Borrowed where the JSON has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, text: &str) -> Result<usize, SourceError> {
        let asked = Asked { server: "prometheus http://p", query: "hits{}", range: false };
        let body = Body {
            status,
            content_type: "application/json".to_owned(),
            date_ms: None,
            bytes: text.as_bytes().to_vec(),
        };
        read(&asked, &body).map(|rows| rows.rows.len())
    }

    fn vector(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    }

    #[test]
    fn a_vector_is_read_with_its_labels_and_numbers() {
        let text = vector(
            r#"{"metric":{"pod":"a\"b"},"value":[1790000000.123,"+Inf"]},{"metric":{},"value":[1,"NaN"]},{"metric":{"x":"y"},"histogram":[1,{"count":"3","sum":"1","buckets":[[0,"0.5","1","3"]]}]}"#,
        );
        let asked = Asked { server: "", query: "", range: false };
        let body = Body { status: 200, content_type: String::new(), date_ms: None, bytes: text.into_bytes() };
        let rows = read(&asked, &body).unwrap();
        assert_eq!(rows.rows[0].labels.get("pod"), "a\"b");
        assert_eq!(rows.rows[0].points, [(1_790_000_000_123, Point::Number(f64::INFINITY))]);
        assert!(matches!(rows.rows[1].points[0].1, Point::Number(value) if value.is_nan()));
        assert!(matches!(&rows.rows[2].points[0].1, Point::Native(native) if native.total() == Ok(3)));
        assert_eq!(check(200, &vector("")), Ok(0), "empty is empty");
    }

    #[test]
    fn answers_that_are_no_vector_name_what_they_are() {
        let typed = |kind: &str, result: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
        };
        for (text, word) in [
            (typed("matrix", r#"[{"metric":{},"values":[[1,"2"]]}]"#), "matrix"),
            (typed("scalar", r#"[1,"2"]"#), "scalar"),
            (typed("string", r#"[1,"x"]"#), "string"),
            (typed("cube", "[]"), "cube"),
            (r#"{"status":"success"}"#.to_owned(), "without data"),
            (r#"{"status":"perhaps"}"#.to_owned(), "perhaps"),
            ("<html><body>please log in".to_owned(), "<html>"),
            (vector("{\"metric\":{\"pod\":\"a\"},\"val"), "column"),
            (vector(r#"{"metric":{"pod":7},"value":[1,"2"]}"#), "invalid type"),
            (vector(r#"{"metric":{},"value":["1","2"]}"#), "invalid type"),
            (String::new(), "EOF"),
            ("\u{0}\u{1}".to_owned(), "line 1"),
            ("[1,2]".to_owned(), "invalid"),
        ] {
            let Err(SourceError::Answer { why, .. }) = check(200, &text) else { panic!("{text} was taken") };
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn a_wrong_question_is_told_from_a_server_that_fails() {
        let error = |kind: &str| {
            format!(r#"{{"status":"error","errorType":"{kind}","error":"1:23: parse error: unexpected"}}"#)
        };
        let query = check(400, &error("bad_data")).unwrap_err();
        assert!(matches!(query, SourceError::Query { .. }) && !query.is_down());
        assert!(query.to_string().contains("1:23") && query.to_string().contains("hits{}"), "{query}");
        assert!(matches!(check(422, &error("execution")), Err(SourceError::Query { .. })));
        assert!(matches!(check(503, &error("timeout")), Err(SourceError::Status { status: 503, .. })));
        assert!(matches!(check(502, "<html>Bad Gateway"), Err(SourceError::Status { status: 502, .. })));
        assert!(matches!(check(302, ""), Err(SourceError::Status { status: 302, .. })));
        assert!(matches!(check(500, &vector("")), Err(SourceError::Status { status: 500, .. })));
    }

    #[test]
    fn too_many_series_name_the_label_that_makes_them() {
        let series: Vec<String> = (0..=MOST_SERIES)
            .map(|n| format!(r#"{{"metric":{{"pod":"a","path":"/{n}"}},"value":[1,"2"]}}"#))
            .collect();
        let error = check(200, &vector(&series.join(","))).unwrap_err();
        assert!(error.to_string().contains(r#""path" alone has 50001"#), "{error}");
    }
}
