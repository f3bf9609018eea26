//! What bodies would be read as, without a server: the same readers as the sources', for bodies that no server would send.

use sluice_analyzers::Arm;
use sluice_wire::policy::Preset;

use crate::{Ask, Gauges, PodSample, Reading, SourceError, body::Body, prometheus, scrape};

/// A pod's `/metrics`, read at `at_ms`. Errors: in words, why the pod is left out. `None`: the preset has no pages.
pub fn page(
    preset: Preset,
    (arm, pod): (Arm, &str),
    at_ms: i64,
    content_type: &str,
    bytes: &[u8],
) -> Option<Result<PodSample, String>> {
    scrape::read_page(preset, (arm, pod), at_ms, content_type, bytes)
}

/// Prometheus' answers (HTTP 200) to one ask's queries. Whose a row is, is remembered: make it anew now and then.
#[derive(Debug)]
pub struct Answers<'a> {
    ask: &'a Ask,
    queries: prometheus::Queries<'a>,
}

impl<'a> Answers<'a> {
    /// Errors: the ask is for pages.
    pub fn to(ask: &'a Ask) -> Result<Answers<'a>, SourceError> {
        Ok(Answers { ask, queries: prometheus::Queries::of(ask)? })
    }

    /// To an instant query at `at_ms`: one reading.
    pub fn instant(&mut self, at_ms: i64, bytes: &[u8]) -> Result<Vec<Reading>, SourceError> {
        self.queries.instant(at_ms, &answered(bytes))
    }

    /// To a range query for stable's history, every `step_ms`: one reading for each instant, oldest first.
    pub fn range(&mut self, step_ms: i64, bytes: &[u8]) -> Result<Vec<Reading>, SourceError> {
        self.queries.range(step_ms, &answered(bytes))
    }

    /// To the query for the ask's gauges.
    pub fn gauges(&self, bytes: &[u8]) -> Result<Gauges, SourceError> {
        prometheus::read_gauges(self.ask, &answered(bytes))
    }
}

fn answered(bytes: &[u8]) -> Body {
    Body { status: 200, content_type: "application/json".to_owned(), date_ms: None, bytes: bytes.to_vec() }
}
