//! `plan`: how long each step of a policy will take on a given traffic, and what it can see by when. No server is asked.

use std::time::Duration;

use serde::Serialize;
use sluice_analyzers::Plan;
use sluice_analyzers::outlook::{
    LatencyShape, Questions, Seen, Sight, StepOutlook, Traffic, fitting_weight, outlook,
};
use sluice_wire::policy::Policy;
use sluice_wire::units::{Percent, Span};

use crate::cli::{Exit, PlanArgs};

use super::{Failure, Screen, judge};

/// Weights that are proposed in place of one that is too small.
const WEIGHTS: [f64; 12] = [0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.33, 0.5, 0.66, 0.75];
const REMEDY_TRAFFIC: &str =
    "say --requests-per-second 200, or write analysis: {requestsPerSecond: 200} into the policy";

pub fn perform(args: &PlanArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let policy = judge::policy(&args.policy)?;
    let file = args.policy.display().to_string();
    let plan = policy.plan().map_err(|error| {
        let remedy = format!("`sluice validate {file}` says it in full");
        Failure::input(format!("{file}: spec.analysis: {error}"), remedy)
    })?;
    let per_second = args.requests_per_second.or(policy.spec.analysis.requests_per_second);
    let per_second = per_second
        .ok_or_else(|| Failure::input("how much traffic there is, is not known", REMEDY_TRAFFIC))?;
    let traffic = Traffic {
        latency: args.latency.map(|(median, p99)| shape(median, p99)),
        dispersion: args.dispersion,
        stable_pods: args.stable_pods,
        canary_pods: args.canary_pods,
        ..usual_traffic(&policy, per_second, args.errors)
    };
    let times = |of: &[sluice_wire::analysis::Ratio]| of.iter().map(|ratio| ratio.0).collect();
    let questions = Questions { ratios: times(&args.worse), slower: times(&args.slower) };
    let answer = Answer::of(&policy, plan, traffic, &questions);
    if screen.json() {
        screen.value(&answer)?
    } else {
        answer.tell(screen)?
    }
    Ok(Exit::Well)
}

fn shape(median: Span, p99: Span) -> LatencyShape {
    LatencyShape { median_s: median.0.as_secs_f64(), p99_s: p99.0.as_secs_f64() }
}

/// Independent requests and three pods of each version, where nobody says more.
pub(super) fn usual_traffic(policy: &Policy, requests_per_second: f64, errors: Percent) -> Traffic {
    let least_s = policy.machine().steps.iter().map(|step| step.min.as_secs_f64()).collect();
    Traffic {
        requests_per_second,
        error_rate: errors.0,
        latency: None,
        dispersion: 1.0,
        canary_pods: 3,
        stable_pods: 3,
        least_s,
    }
}

/// A step (1-based) that will not be decided before its deadline, and what would fit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Doubt {
    pub(super) step: u32,
    pub(super) why: String,
}

pub(super) fn doubts(policy: &Policy, plan: &Plan, traffic: &Traffic, rows: &[StepOutlook]) -> Vec<Doubt> {
    let mut doubts = late(policy, plan, traffic, rows);
    doubts.extend(rows.iter().filter_map(|row| idle(plan, traffic, row)));
    doubts.extend(blind(policy, rows));
    doubts.sort_by_key(|doubt| doubt.step);
    doubts
}

/// With fewer canary requests a pass says nothing of the release.
const FEWEST_REQUESTS: f64 = 20.0;
/// A canary that may fail so many more of its requests is as good as not judged.
const MOST_TOLERANCE: f64 = 0.5;
/// Nobody would write a smaller `risk.badRequests`.
const LEAST_BUDGET: f64 = 0.01;

/// A step that a healthy canary leaves without having been seen.
fn idle(plan: &Plan, traffic: &Traffic, row: &StepOutlook) -> Option<Doubt> {
    let StepOutlook { step, tolerance, canary_requests_per_second: per_second, .. } = *row;
    let at = format!("at {} requests a second", traffic.requests_per_second);
    if tolerance >= MOST_TOLERANCE {
        let fails = if tolerance >= 1.0 {
            "every request".to_owned()
        } else {
            format!("{} % of its requests", percent(tolerance))
        };
        let next = plan.risk.bad_requests / plan.risk.within_s / tolerance;
        let most = next * plan.risk.within_s * 0.1;
        let remedy = if most < LEAST_BUDGET {
            "no budget fits so few requests: fewer and larger steps".to_owned()
        } else {
            format!("at most {} would leave 10 points", number(most))
        };
        let why = format!(
            "{at} a canary that fails {fails} passes: risk.badRequests ({} within {} s) is more than there is at stake; {remedy}",
            plan.risk.bad_requests, plan.risk.within_s,
        );
        return Some(Doubt { step, why });
    }
    let seen = row.pass_minutes? * 60.0 * per_second;
    (seen < FEWEST_REQUESTS).then(|| {
        let why = format!(
            "{at} it passes after about {} requests of the canary, which say almost nothing: a larger weight, a longer \
             limits.step.min or a smaller risk.badRequests would",
            number(seen)
        );
        Doubt { step, why }
    })
}

/// What is asked about and no step would abort before its deadline: said once, of the last step.
fn blind(policy: &Policy, rows: &[StepOutlook]) -> Option<Doubt> {
    let steps = policy.machine().steps;
    let within = |row: &StepOutlook, sight: &Sight| {
        let max = steps.get(row.step as usize - 1).map_or(0.0, |step| step.max.as_secs_f64() / 60.0);
        sight.minutes.is_some_and(|minutes| minutes <= max)
    };
    let errors = |row: &StepOutlook| -> Vec<Sight> {
        row.sees.iter().filter(|sight| matches!(sight.metric, Seen::Errors)).cloned().collect()
    };
    let last = rows.last()?;
    let worst = errors(last).into_iter().map(|sight| sight.ratio).reduce(f64::max)?;
    if rows.iter().any(|row| errors(row).iter().any(|sight| within(row, sight))) {
        return None;
    }
    let why = format!(
        "not even {worst} times the errors are aborted before the deadline, in this step or one before it: more traffic, a \
         longer limits.step.max, or an absolute limit (analysis.slo.errors)"
    );
    Some(Doubt { step: last.step, why })
}

fn late(policy: &Policy, plan: &Plan, traffic: &Traffic, rows: &[StepOutlook]) -> Vec<Doubt> {
    let steps = policy.machine().steps;
    let late = |row: &StepOutlook| {
        let max = steps.get(row.step as usize - 1)?.max;
        let most = max.as_secs_f64() / 60.0;
        if row.pass_minutes_95.is_some_and(|minutes| minutes <= most) {
            return None;
        }
        let takes = match (row.pass_minutes, row.pass_minutes_95) {
            (Some(usual), Some(late)) => {
                format!(
                    "typically passes after {}, one time in twenty after {} or more",
                    words(usual),
                    words(late)
                )
            }
            (Some(usual), None) => {
                format!("typically passes after {}, one time in twenty never", words(usual))
            }
            (None, _) => "never passes".to_owned(),
        };
        let why = format!(
            "at {} requests a second and {} % errors a healthy canary {takes}; its max is {}: {} would do",
            traffic.requests_per_second,
            percent(traffic.error_rate),
            words(most),
            fitting(plan, traffic, row, max)
        );
        Some(Doubt { step: row.step, why })
    };
    rows.iter().filter_map(late).collect()
}

fn fitting(plan: &Plan, traffic: &Traffic, row: &StepOutlook, max: Duration) -> String {
    let longer = row.pass_minutes_95.map(|minutes| format!("a max of {}m", minutes.ceil()));
    let weight = fitting_weight(plan, traffic, row.step, max.as_secs_f64() / 60.0, &WEIGHTS);
    let weight = weight.map(|weight| format!("a weight of {} %", percent(weight)));
    let ways: Vec<String> = longer.into_iter().chain(weight).collect();
    if ways.is_empty() { "more traffic, or a larger risk.badRequests".to_owned() } else { ways.join(", or ") }
}

/// The answer, as programs get it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    policy: String,
    traffic: Traffic,
    false_abort: f64,
    false_pass: f64,
    steps: Vec<Row>,
    /// Over all steps; none if one of them never passes.
    minutes: Option<f64>,
    minutes_95: Option<f64>,
    warnings: Vec<Doubt>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    outlook: StepOutlook,
    max_minutes: f64,
}

impl Answer {
    fn of(policy: &Policy, plan: Plan, traffic: Traffic, questions: &Questions) -> Answer {
        let rows = outlook(&plan, &traffic, questions);
        let warnings = doubts(policy, &plan, &traffic, &rows);
        let sum = |of: fn(&StepOutlook) -> Option<f64>| rows.iter().map(of).sum::<Option<f64>>();
        let (minutes, minutes_95) = (sum(|row| row.pass_minutes), sum(|row| row.pass_minutes_95));
        let mut notes = notes(&plan, &traffic, &rows);
        notes.extend(pods(policy));
        let steps = policy.machine().steps;
        let max = |row: &StepOutlook| {
            steps.get(row.step as usize - 1).map_or(0.0, |step| step.max.as_secs_f64() / 60.0)
        };
        let steps = rows.iter().map(|row| Row { max_minutes: max(row), outlook: row.clone() }).collect();
        Answer {
            policy: format!("{}/{}", policy.metadata.namespace, policy.metadata.name),
            traffic,
            false_abort: plan.false_abort,
            false_pass: plan.false_pass,
            steps,
            minutes,
            minutes_95,
            warnings,
            notes,
        }
    }

    fn tell(&self, screen: &mut Screen) -> std::io::Result<()> {
        screen.line(&self.head())?;
        if !self.steps.is_empty() {
            screen.line("minutes: typical (nineteen times of twenty); aborts are of a change that begins with that step")?;
            screen.line("")?;
            self.table().iter().try_for_each(|line| screen.line(line))?;
            screen.line("")?;
            screen.line(&self.all_steps())?;
        }
        self.notes.iter().try_for_each(|note| screen.line(note))?;
        self.warnings
            .iter()
            .try_for_each(|doubt| screen.line(&format!("warning: step {}: {}", doubt.step, doubt.why)))
    }

    fn all_steps(&self) -> String {
        let typical =
            self.minutes.map_or("never".to_owned(), |minutes| format!("{} minutes", number(minutes)));
        let late = self.minutes_95.filter(|_| self.minutes.is_some());
        let late = late.map(|minutes| format!(" ({} if every step were that late)", number(minutes)));
        format!("all steps of a healthy release: {typical}{}, and then the bake", late.unwrap_or_default())
    }

    fn head(&self) -> String {
        let Traffic { requests_per_second, error_rate, stable_pods, canary_pods, .. } = &self.traffic;
        format!(
            "{}: {requests_per_second} requests a second, {} % errors, {stable_pods} stable and {canary_pods} canary pods; \
             a healthy release is aborted with a chance of {} %, a canary at the tolerance passes a step with {} %",
            self.policy,
            percent(*error_rate),
            percent(self.false_abort),
            percent(self.false_pass)
        )
    }

    /// Columns as wide as their widest cell.
    fn table(&self) -> Vec<String> {
        let mut rows = vec![self.heads()];
        rows.extend(self.steps.iter().map(Row::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    }

    fn heads(&self) -> Vec<String> {
        let fixed =
            ["STEP", "WEIGHT", "CANARY/S", "MAY BE WORSE BY", "HEALTHY PASSES", "MAX"].map(str::to_owned);
        let sees = self.steps.first().map(|row| row.outlook.sees.as_slice()).unwrap_or_default();
        let seen = |sight: &Sight| match sight.metric {
            Seen::Errors => format!("{}x ERRORS ABORTED", sight.ratio),
            Seen::Latency => format!("{}x SLOWER ABORTED", sight.ratio),
        };
        fixed.into_iter().chain(sees.iter().map(seen)).collect()
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let of = &self.outlook;
        let fixed = [
            of.step.to_string(),
            format!("{} %", percent(of.weight)),
            number(of.canary_requests_per_second),
            format!("{} points", percent(of.tolerance.min(1.0))),
            cell(of.pass_minutes, of.pass_minutes_95),
            number(self.max_minutes),
        ];
        fixed.into_iter().chain(of.sees.iter().map(|sight| cell(sight.minutes, sight.minutes_95))).collect()
    }
}

/// Without a router: how many pods stable needs for the policy's weights.
pub(super) fn pods(policy: &Policy) -> Option<String> {
    let fewest = sluice_traffic::fewest_stable_pods(policy)?;
    Some(format!(
        "without a router a weight is a share of the pods: {fewest} is the least number of stable pods with which each weight of this \
         policy is one; beside S pods the finest is 1 in S + 1"
    ))
}

fn notes(plan: &Plan, traffic: &Traffic, rows: &[StepOutlook]) -> Vec<String> {
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push(
            "no step has stable beside the canary and errors to compare: there is nothing to foretell"
                .to_owned(),
        );
    }
    if plan.latency.is_some() && traffic.latency.is_none() {
        notes.push("latencies are left out; with a histogram they gate the steps too: add --latency 40ms,250ms (median and p99)".to_owned());
    }
    let others = others(plan);
    if !others.is_empty() {
        notes.push(format!("not foretold, though they may hold or abort before: {}", others.join(", ")));
    }
    if !rows.is_empty() {
        notes.push(
            "half an hour of history before the release is assumed; with less of it an abort and a pass may take several times as long"
                .to_owned(),
        );
    }
    if traffic.error_rate <= 0.0 && plan.errors.is_some() {
        notes.push(
            "no multiple of no errors is an error: ask with a small rate, such as --errors 0.01%".to_owned(),
        );
        return notes;
    }
    let unseen = |sight: &Sight| {
        sight.minutes.is_none()
            && sight.ratio > plan.errors.as_ref().map_or(1.0, |errors| errors.worse_by.ratio)
    };
    if rows.iter().flat_map(|row| &row.sees).any(unseen) {
        let (canary, stable) = (traffic.canary_pods, traffic.stable_pods);
        notes.push(format!(
            "never: with {canary} canary and {stable} stable pods so small a difference may be the pods' own; such a canary is held \
             at the step that it cannot pass, and with more canary pods it is aborted"
        ));
    }
    notes
}

/// What a plan decides by and this command says nothing of.
fn others(plan: &Plan) -> Vec<&'static str> {
    let objectives = plan.latency.as_ref().is_some_and(|latency| !latency.objectives.is_empty());
    let of = [
        (!plan.slo.is_empty(), "slo"),
        (objectives, "latency objectives"),
        (!plan.thresholds.is_empty(), "thresholds"),
        (!plan.gauges.is_empty(), "gauges"),
    ];
    of.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}

/// Typical, and nineteen times of twenty.
fn cell(typical: Option<f64>, late: Option<f64>) -> String {
    let text = |minutes: Option<f64>| minutes.map_or("never".to_owned(), number);
    match (typical, late) {
        (None, _) => "never".to_owned(),
        (Some(_), late) => format!("{} ({})", text(typical), text(late)),
    }
}

/// Three digits are enough.
fn number(value: f64) -> String {
    match value {
        small if small < 1.0 => format!("{small:.2}"),
        small if small < 10.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    }
}

fn words(minutes: f64) -> String {
    format!("{} min", number(minutes))
}

/// A fraction as a percentage of at most four digits.
fn percent(share: f64) -> f64 {
    let percent = share * 100.0;
    if percent <= 0.0 {
        return 0.0;
    }
    let scale = 10f64.powf(2.0 - percent.log10().floor());
    (percent * scale).round() / scale
}
