//! From a pod's exposition to its counters: which series are requests, which of them errors.

use std::collections::BTreeMap;

use sluice_analyzers::Arm;
use sluice_wire::policy::Preset;

use super::exposition::{Exposition, Sample, Unusable, Wanted};
use crate::{
    PodSample,
    reading::{Fault, Stratum, count, histogram},
    strata,
};

/// Names of the metrics that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    requests: &'static str,
    buckets: &'static str,
    /// The histogram's own count: it tells whether the buckets are all there.
    total: &'static str,
    /// Labels by which counts are told apart; see [`crate::strata`].
    strata: Vec<String>,
}

/// Labels that hold an HTTP status; the first one that a series has counts.
const CODES: [&str; 4] = ["code", "http_response_status_code", "status_code", "status"];
const STARTED: &str = "process_start_time_seconds";

/// A series' labels without its boundary.
type SeriesLabels<'a> = Vec<(&'a str, &'a str)>;

/// One of a series' samples, and its boundaries and counts as read.
type RawBuckets<'a> = (&'a Sample, Vec<(f64, f64)>);

/// Why a pod cannot be counted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum PodFault {
    #[error(transparent)]
    Text(#[from] Unusable),
    #[error(transparent)]
    Number(#[from] Fault),
    #[error("{name} has none of the labels {}: errors cannot be told from the rest", CODES.join(", "))]
    NoCode { name: &'static str },
    #[error("{name} ends after {last} of {total} requests: the text was cut")]
    HalfHistogram { name: &'static str, last: f64, total: f64 },
}

/// A pod's counters, and what was wrong with its histogram alone.
#[derive(Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) sample: PodSample,
    pub(super) complaint: Option<String>,
    /// Metric families, and series of ours.
    pub(super) size: (usize, usize),
}

impl Shape {
    /// Presets whose metrics the pods themselves show.
    pub(super) fn of(preset: Preset, strata: Vec<String>) -> Option<Shape> {
        match preset {
            Preset::Http => Some(Shape {
                requests: "http_requests_total",
                buckets: "http_request_duration_seconds_bucket",
                total: "http_request_duration_seconds_count",
                strata,
            }),
            Preset::OpenTelemetry => Some(Shape {
                requests: "http_server_request_duration_seconds_count",
                buckets: "http_server_request_duration_seconds_bucket",
                total: "http_server_request_duration_seconds_count",
                strata,
            }),
            Preset::Istio | Preset::Traefik | Preset::Haproxy => None,
        }
    }

    pub(super) fn read(
        &self,
        arm: Arm,
        pod: &str,
        at_ms: i64,
        kind: &str,
        bytes: &[u8],
    ) -> Result<Counted, PodFault> {
        let names = [self.requests, self.buckets, self.total, STARTED];
        let exposition = Exposition::read(Wanted { names: &names }, kind, bytes)?;
        let mut strata = self.counts(&exposition)?;
        self.check_whole(&exposition)?;
        let mut complaint = self.add_buckets(&exposition, &mut strata);
        let mut whole = Stratum { buckets: Some(Vec::new()), ..Stratum::default() };
        strata.values().for_each(|stratum| whole.add(stratum));
        if exposition.of(self.requests).next().is_none() {
            let unread = exposition.unread;
            complaint = Some(format!(
                "it shows no {} yet ({unread} lines in a form that is not read)",
                self.requests
            ));
        }
        let started =
            exposition.of(STARTED).next().map(|sample| sample.value * 1000.0).filter(|ms| ms.abs() < 1e15);
        let sample = PodSample {
            arm,
            pod: pod.to_owned(),
            at_ms,
            requests: whole.requests,
            errors: whole.errors,
            buckets: whole.buckets,
            started_ms: started.map(|ms| ms.round() as i64),
            ready_ms: None,
            strata: strata::told_apart(strata),
        };
        Ok(Counted { sample, complaint, size: (exposition.families, exposition.samples.len()) })
    }

    /// Requests and errors, by stratum.
    fn counts(&self, exposition: &Exposition) -> Result<BTreeMap<String, Stratum>, PodFault> {
        let (mut strata, mut requests, mut coded) = (BTreeMap::new(), 0, false);
        for sample in exposition.of(self.requests) {
            let number = count("requests", sample.value)?;
            let code = code(sample);
            coded |= code.is_some();
            requests += number;
            let failed = code.is_some_and(|code| code.len() == 3 && code.starts_with('5'));
            let stratum: &mut Stratum = self.stratum(&mut strata, sample);
            stratum.requests += number;
            stratum.errors += if failed { number } else { 0 };
        }
        if requests > 0 && !coded { Err(PodFault::NoCode { name: self.requests }) } else { Ok(strata) }
    }

    fn stratum<'a>(&self, strata: &'a mut BTreeMap<String, Stratum>, sample: &Sample) -> &'a mut Stratum {
        let values = self.strata.iter().filter_map(|label| sample.labels.get(label));
        let empty = || Stratum { buckets: Some(Vec::new()), ..Stratum::default() };
        strata.entry(strata::name(values.map(String::as_str))).or_insert_with(empty)
    }

    /// Buckets and count of a series are written together: they agree, or the text is not whole.
    fn check_whole(&self, exposition: &Exposition) -> Result<(), PodFault> {
        let ends =
            |sample: &&Sample| sample.labels.get("le").is_some_and(|le| le.parse() == Ok(f64::INFINITY));
        let last: f64 = exposition.of(self.buckets).filter(ends).map(|sample| sample.value).sum();
        let total: f64 = exposition.of(self.total).map(|sample| sample.value).sum();
        if exposition.of(self.buckets).next().is_none() || last == total {
            return Ok(());
        }
        Err(PodFault::HalfHistogram { name: self.buckets, last, total })
    }

    /// Summed over a stratum's series, which must have the same boundaries. What is wrong costs the stratum's latencies.
    fn add_buckets(&self, exposition: &Exposition, strata: &mut BTreeMap<String, Stratum>) -> Option<String> {
        let mut series: BTreeMap<SeriesLabels<'_>, RawBuckets<'_>> = BTreeMap::new();
        for sample in exposition.of(self.buckets) {
            let le = sample.labels.get("le").and_then(|le| le.parse().ok()).unwrap_or(f64::NAN);
            let rest = sample.labels.iter().filter(|(name, _)| *name != "le");
            let key = rest.map(|(name, value)| (name.as_str(), value.as_str())).collect();
            series.entry(key).or_insert((sample, Vec::new())).1.push((le, sample.value));
        }
        let mut why = None;
        for (sample, raw) in series.into_values() {
            let stratum = self.stratum(strata, sample);
            match histogram(raw) {
                Ok(buckets) => {
                    let known = stratum.buckets.is_some();
                    stratum.add(&Stratum { buckets: Some(buckets), ..Stratum::default() });
                    if known && stratum.buckets.is_none() {
                        why = Some(format!("{}: its series differ in boundaries", self.buckets));
                    }
                }
                Err(fault) => {
                    stratum.buckets = None;
                    why = Some(format!("{}: {fault}; its latencies are left out", self.buckets));
                }
            }
        }
        why
    }
}

fn code(sample: &Sample) -> Option<&str> {
    CODES.iter().find_map(|label| sample.labels.get(*label)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# TYPE http_requests_total counter
http_requests_total{code="200",path="/a}b"} 90
http_requests_total{code="503",path="/"} 7
http_requests_total{code="404",path="/"} 3
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{path="/",le="0.1"} 50
http_request_duration_seconds_bucket{path="/",le="+Inf"} 60
http_request_duration_seconds_sum{path="/"} 6
http_request_duration_seconds_count{path="/"} 60
http_request_duration_seconds_bucket{path="/a}b",le="0.1"} 40
http_request_duration_seconds_bucket{path="/a}b",le="+Inf"} 40
http_request_duration_seconds_sum{path="/a}b"} 1
http_request_duration_seconds_count{path="/a}b"} 40
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.79e+09
"#;

    fn read(text: &str) -> Result<Counted, PodFault> {
        Shape::of(Preset::Http, Vec::new()).unwrap().read(
            Arm::Canary,
            "a:80",
            5,
            "text/plain",
            text.as_bytes(),
        )
    }

    fn changed(from: &str, to: &str) -> Result<Counted, PodFault> {
        assert!(TEXT.contains(from), "{from}");
        read(&TEXT.replacen(from, to, 1))
    }

    #[test]
    fn a_pods_series_are_summed_and_its_errors_found() {
        let counted = read(TEXT).unwrap();
        let sample = counted.sample;
        assert_eq!((sample.requests, sample.errors, sample.at_ms), (100, 7, 5));
        assert_eq!(sample.started_ms, Some(1_790_000_000_000));
        let buckets: Vec<(f64, u64)> = sample.buckets.unwrap().iter().map(|b| (b.le, b.count)).collect();
        assert_eq!(buckets, [(0.1, 90), (f64::INFINITY, 100)]);
        assert_eq!((counted.complaint, counted.size), (None, (3, 10)));
    }

    #[test]
    fn strata_are_told_apart_and_add_up() {
        let shape = Shape::of(Preset::Http, vec!["path".to_owned()]).unwrap();
        let sample = shape.read(Arm::Canary, "a:80", 5, "text/plain", TEXT.as_bytes()).unwrap().sample;
        let told: Vec<_> = sample.strata.iter().map(|s| (s.name.as_str(), s.requests, s.errors)).collect();
        assert_eq!(told, [("/", 10, 7), ("/a}b", 90, 0)]);
        assert_eq!((sample.requests, sample.errors), (100, 7));
        let slow = |stratum: &Stratum| stratum.buckets.as_ref().map(|buckets| buckets[0].count);
        assert_eq!(sample.strata.iter().map(slow).collect::<Vec<_>>(), [Some(50), Some(40)]);
    }

    #[test]
    fn open_telemetry_counts_by_its_histogram() {
        let text = "http_server_request_duration_seconds_bucket{http_response_status_code=\"500\",le=\"+Inf\"} 4\n\
                    http_server_request_duration_seconds_count{http_response_status_code=\"500\"} 4\n";
        let shape = Shape::of(Preset::OpenTelemetry, Vec::new()).unwrap();
        let sample = shape.read(Arm::Stable, "a", 0, "text/plain", text.as_bytes()).unwrap().sample;
        assert_eq!((sample.requests, sample.errors), (4, 4));
    }

    #[test]
    fn a_text_cut_at_any_byte_is_never_read_as_less() {
        for end in 0..TEXT.len() {
            let Ok(counted) = read(&TEXT[..end]) else { continue };
            // A cut between two lines shows in the number of series, which is compared with the read before.
            assert!(counted.size.1 < 10, "cut at {end}: {:?}", counted.sample);
        }
    }

    #[test]
    fn half_a_histogram_makes_the_pod_unusable_and_a_wrong_one_costs_its_latencies_only() {
        let half = changed("http_request_duration_seconds_bucket{path=\"/\",le=\"+Inf\"} 60\n", "");
        assert!(matches!(half, Err(PodFault::HalfHistogram { .. })), "{half:?}");
        let down = changed("le=\"0.1\"} 50", "le=\"0.1\"} 70").unwrap();
        assert!(down.sample.buckets.is_none() && down.complaint.unwrap().contains("fewer than"));
        let uneven = changed("{path=\"/\",le=\"0.1\"}", "{path=\"/\",le=\"0.2\"}").unwrap();
        assert!(uneven.sample.buckets.is_none() && uneven.complaint.unwrap().contains("boundaries"));
    }

    #[test]
    fn numbers_that_are_no_counters_make_the_pod_unusable() {
        for bad in ["-90", "90.5", "NaN", "+Inf", "ninety"] {
            let fault = changed("path=\"/a}b\"} 90", &format!("path=\"/a}}b\"}} {bad}"));
            assert!(fault.is_err(), "{bad} was taken");
        }
        let uncoded = read("http_requests_total{path=\"/\"} 4\n").unwrap_err();
        assert!(uncoded.to_string().contains("errors cannot be told"), "{uncoded}");
    }

    #[test]
    fn a_pod_without_requests_counts_zero_and_says_so() {
        let counted = read("process_start_time_seconds 1.79e+09\n").unwrap();
        assert_eq!((counted.sample.requests, counted.sample.buckets), (0, Some(vec![])));
        assert!(counted.complaint.unwrap().contains("no http_requests_total"));
    }
}
