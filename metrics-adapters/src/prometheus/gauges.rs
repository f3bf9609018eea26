//! Gauges: the policy's own expressions, filled in for each version, all of a rollout's in one query.
//!
//! Unlike counters, gauges may be any expression: what they decide stands outside falseAbort.

use std::fmt::Write;

use sluice_analyzers::Arm;
use sluice_wire::{analysis::Analysis, policy};

use super::{
    answer::{Point, Rows},
    template,
};
use crate::{
    Gauges,
    ask::{AskError, GaugeAsk, Names},
    gauges::Reading,
};

/// The label that says which gauge and version a row is of.
const PART: &str = "sluice_gauge";
/// Rows beyond this many are left out, and it is said.
const MOST_ROWS: usize = 10_000;

/// The expressions of all gauges that the analysis names.
pub(crate) fn gauges(
    analysis: &Analysis,
    block: &policy::Prometheus,
    names: &Names,
) -> Result<Vec<GaugeAsk>, AskError> {
    let filled = |one: &sluice_wire::analysis::GaugeQuery<'_>| {
        let (field, at) = one.place;
        let field = format!("{field}[{at}].query");
        let query = one.query.filter(|query| !query.trim().is_empty()).ok_or_else(|| {
            let why = "say what is to be read, for example avg(container_memory_working_set_bytes{pod=~\"{{ workload }}-.*\"}); only `sluice judge` needs no query";
            AskError::new(&field, format!("{}: {why}", one.name))
        })?;
        let fill = |arm| template::expression(&field, query, block, names, arm);
        let expressions = [(Arm::Stable, fill(Arm::Stable)?), (Arm::Canary, fill(Arm::Canary)?)];
        if expressions[0].1 == expressions[1].1 {
            let why = format!(
                "both versions' are {}: tell them apart, with {{{{ workload }}}} or {{{{ arm }}}}",
                expressions[0].1
            );
            return Err(AskError::new(&field, why));
        }
        Ok(GaugeAsk { name: one.name.to_owned(), expressions })
    };
    analysis.gauge_queries().iter().map(filled).collect()
}

/// One expression for all of them; rows are told apart by a label of our own.
pub(super) fn query(gauges: &[GaugeAsk]) -> String {
    let mut query = String::new();
    let parts = gauges.iter().flat_map(|gauge| &gauge.expressions);
    for (number, (_, expression)) in parts.enumerate() {
        let or = if number == 0 { "" } else { "\nor " };
        // Writing to a String does not fail. A line of its own: an expression may end in a comment.
        let _ = write!(query, "{or}label_replace((\n{expression}\n),\"{PART}\",\"{number}\",\"\",\"\")");
    }
    query
}

/// Infinite values are left out, and it is said; NaN stays: the policy says what it counts as.
pub(super) fn readings(gauges: &[GaugeAsk], rows: &Rows<'_>) -> Gauges {
    let parts: Vec<(&str, Arm)> = gauges
        .iter()
        .flat_map(|gauge| gauge.expressions.iter().map(|(arm, _)| (gauge.name.as_str(), *arm)))
        .collect();
    let mut told = Gauges::default();
    for row in rows.rows.iter().take(MOST_ROWS) {
        let part = row.labels.get(PART).parse::<usize>().ok().and_then(|number| parts.get(number));
        let (Some((name, arm)), Some((_, point))) = (part, row.points.first()) else { continue };
        let Point::Number(value) = point else {
            told.complaints.push(format!(
                "gauge {name} is a native histogram: take histogram_quantile(…) or histogram_avg(…) of it"
            ));
            continue;
        };
        if value.is_infinite() {
            told.complaints.push(format!("gauge {name} is {value}: left out"));
        } else {
            told.readings.push(Reading { arm: *arm, name: (*name).to_owned(), value: *value });
        }
    }
    if rows.rows.len() > MOST_ROWS {
        told.complaints
            .push(format!("gauges have more than {MOST_ROWS} rows: sum or average them in the query"));
    }
    told.complaints.truncate(crate::reading::MOST_COMPLAINTS);
    told
}
