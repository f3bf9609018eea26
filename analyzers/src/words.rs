//! The report in plain language: "canary fails 2.3 times as often (1.6 to 3.4), 99 % sure; needed 1,240 requests".

use crate::judge::Verdict;
use crate::kayenta::Class;
use crate::rate_ratio::Count;
use crate::report::{Finding, Report};
use crate::score::ScoreClass;
use std::fmt::Write;

/// A ratio below this would be written as 0.0.
const LEAST_SAID: f64 = 0.05;
const RESTARTS: &str = "restarts";
const HOUR_MS: f64 = 3_600_000.0;

impl Report {
    /// One line for the verdict, one for each metric that has something to say.
    pub fn words(&self) -> String {
        let mut text = match self.verdict {
            Verdict::Pass => "pass: proven good enough for this step".to_owned(),
            Verdict::Fail => format!("fail: {}", self.culprits.join(" and ")),
            Verdict::Undecided => self.undecided(),
            Verdict::NoData => "no data".to_owned(),
            Verdict::SourceDown => "source down".to_owned(),
        };
        if let (Some(score), false) = (self.score, self.verdict == Verdict::Undecided) {
            let _ = write!(text, " (score of the gauges: {score:.0} of 100)");
        }
        if !self.history {
            text.push_str(" (no history: false aborts may be more frequent than stated)");
        }
        if self.retries > 0 {
            let _ = write!(text, " (retry {}: all retries share one chance of a false abort)", self.retries);
        }
        let untold = |finding: &&Finding| finding.metric != RESTARTS || finding.missing.is_none();
        for finding in self.findings.iter().filter(untold) {
            let _ = write!(text, "\n{}", finding.words());
        }
        for alarm in &self.alarms {
            let _ = write!(text, "\n{alarm}");
        }
        text
    }
}

impl Report {
    /// The gauges of a step that has not ended have a score already; the step's end decides by it.
    fn undecided(&self) -> String {
        match (self.score, self.score_class) {
            (Some(score), Some(class)) => {
                let says = match class {
                    ScoreClass::Pass => "advance",
                    ScoreClass::Marginal => "hold",
                    ScoreClass::Fail => "abort",
                };
                format!(
                    "undecided; the gauges' score, {score:.0} of 100 so far, says {says} at the step's end"
                )
            }
            (Some(_) | None, _) => "undecided".to_owned(),
        }
    }
}

impl Finding {
    /// One line, without the metric's numbers that are not known.
    pub fn words(&self) -> String {
        let mut text = format!("{}: ", self.metric);
        if let Some(rule) = &self.rule {
            return text + rule;
        }
        match (&self.missing, self.classification) {
            (Some(missing), _) => text.push_str(missing),
            (None, Some(class)) => return self.gauge_words(text, class),
            (None, None) if self.metric == RESTARTS => text.push_str(&self.restart_words()),
            (None, None) => text.push_str(&self.ratio_words()),
        }
        self.write_needed(&mut text);
        text
    }

    /// Whether a step waits for this metric's decision.
    pub fn is_open(&self) -> bool {
        let judged = self.missing.is_none() && self.classification.is_none() && !self.culprit;
        judged && self.gates && self.log_advance < self.advance_bar
    }

    /// Whether a step waits for it, and its decision, at today's traffic, is further away than so many minutes.
    pub fn is_late(&self, minutes_left: f64) -> bool {
        let in_time = |minutes: f64| minutes <= minutes_left;
        self.is_open() && self.needed != Some(0) && !self.minutes.is_some_and(in_time)
    }

    /// What the decision would take that is not the nearer one; `words` tells of that: "to abort: never, if this goes on".
    /// None where only one decision is open, or none.
    pub fn other_way(&self) -> Option<String> {
        if !self.is_open() || matches!(self.needed, None | Some(0)) {
            return None;
        }
        let (what, other) = if self.needed == self.needed_to_abort {
            ("to advance", self.needed_to_advance)
        } else {
            ("to abort", self.needed_to_abort)
        };
        let Some(other) = other else { return Some(format!("{what}: never, if this goes on")) };
        let minutes =
            self.needed.zip(self.minutes).map(|(needed, minutes)| minutes / needed as f64 * other as f64);
        let time = minutes.map(|minutes| format!(" ({})", span(minutes))).unwrap_or_default();
        Some(format!("{what}: about {}{time}", more(other)))
    }

    fn gauge_words(&self, mut text: String, class: Class) -> String {
        text.push_str(match class {
            Class::Pass => "no difference that counts",
            Class::High => "the canary's is higher",
            Class::Low => "the canary's is lower",
            Class::Nodata => "no readings",
        });
        if let Some(ratio) = self.ratio {
            let _ = write!(text, " ({ratio:.2} times stable's)");
        }
        text + ", outside falseAbort"
    }

    fn restart_words(&self) -> String {
        let arm = |count: Count| {
            let hours = count.n as f64 / HOUR_MS;
            format!("{} times in {hours:.1} hours of pods' time", grouped(count.x))
        };
        format!("the canary's pods restarted {}, stable's {}", arm(self.canary), arm(self.stable))
    }

    /// "fails 2.3 times as often (1.6 to 3.4), 99 % sure"; where that would say nothing yet, what was counted.
    fn ratio_words(&self) -> String {
        let does = self.does();
        if self.metric.starts_with("slo") {
            return match self.ratio {
                Some(ratio) => format!("canary {does}, {ratio:.1} times the limit"),
                None => self.counted(),
            };
        }
        let sure = libm::floor(1000.0 * self.confidence + 1e-9) / 10.0;
        let low = self.ratio_low.unwrap_or_default();
        match (self.ratio, self.ratio_high) {
            (Some(ratio), Some(high)) if low < LEAST_SAID => {
                format!("canary {does} {ratio:.1} times as often (at most {high:.1}), {sure} % sure")
            }
            (Some(ratio), Some(high)) => {
                format!("canary {does} {ratio:.1} times as often ({low:.1} to {high:.1}), {sure} % sure")
            }
            (Some(ratio), None) if low >= 1.0 => {
                format!("canary {does} {ratio:.1} times as often (at least {low:.1}), {sure} % sure")
            }
            (None, _) if low >= 1.0 => {
                format!("canary {does} at least {low:.1} times as often, {sure} % sure: {}", self.counted())
            }
            (Some(_) | None, _) if self.gates && self.log_advance >= self.advance_bar => self.counted(),
            (Some(_) | None, _) => format!("{}, too few to compare yet", self.counted()),
        }
    }

    /// What the bad ones do.
    fn does(&self) -> String {
        match &self.place {
            Some(place) => format!("is {place}"),
            None if self.metric.starts_with("latency") => "is slow".to_owned(),
            None => "fails".to_owned(),
        }
    }

    fn counted(&self) -> String {
        let did = self.place.as_deref().map_or_else(|| "failed".to_owned(), |place| format!("were {place}"));
        let of = |count: Count| match count.x {
            0 => format!("none of {}", grouped(count.n)),
            x => format!("{} of {}", grouped(x), grouped(count.n)),
        };
        let canary = of(self.canary);
        if self.metric.starts_with("slo") {
            return format!("{canary} canary requests {did}");
        }
        format!("{canary} canary requests {did}, {} of stable's", of(self.stable))
    }

    fn write_needed(&self, text: &mut String) {
        if self.culprit {
            if self.metric != RESTARTS {
                let _ = write!(text, "; needed {}", requests(self.canary.n));
            }
            return;
        }
        if self.gates && self.log_advance >= self.advance_bar {
            text.push_str("; good enough for this step");
            return;
        }
        if self.needed == Some(0) || self.missing.is_some() {
            return;
        }
        if self.needs_more_pods {
            text.push_str("; that is what pods may differ by: needs more canary pods to be sure");
            return;
        }
        self.write_forecast(text);
    }

    fn write_forecast(&self, text: &mut String) {
        if !self.gates && self.needed_to_abort.is_none() {
            return;
        }
        let what = if self.needed == self.needed_to_abort { "to abort" } else { "to advance" };
        match (self.needed, self.minutes) {
            (Some(needed), Some(minutes)) if self.metric != RESTARTS => {
                let _ = write!(text, "; needs about {} {what} ({})", more(needed), span(minutes));
            }
            (Some(needed), None) if self.metric != RESTARTS => {
                let _ = write!(text, "; needs about {} {what}", more(needed));
            }
            (Some(_), _) => {}
            (None, _) if self.canary.n == 0 => {}
            (None, _) => text.push_str("; cannot be decided at this rate"),
        }
    }
}

fn requests(number: u64) -> String {
    if number == 1 { "1 request".to_owned() } else { format!("{} requests", grouped(number)) }
}

fn more(number: u64) -> String {
    if number == 1 { "1 more request".to_owned() } else { format!("{} more requests", grouped(number)) }
}

/// Seconds below a minute, hours from two on.
fn span(minutes: f64) -> String {
    match minutes {
        short if short < 1.0 => format!("{:.0} s", (short * 60.0).max(1.0)),
        long if long >= 120.0 => format!("{:.1} h", long / 60.0),
        usual => format!("{usual:.0} min"),
    }
}

/// 1240 as 1,240.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_unit_that_people_would_say() {
        assert_eq!([0.001, 0.5, 1.2, 90.0, 150.0].map(span), ["1 s", "30 s", "1 min", "90 min", "2.5 h"]);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1240, 1_000_000].map(grouped),
            ["0".to_owned(), "999".into(), "1,240".into(), "1,000,000".into()]
        );
    }
}
