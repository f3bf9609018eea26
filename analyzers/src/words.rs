//! The report in plain language: "canary fails 2.3 times as often (1.6 to 3.4), 99 % sure; needed 1,240 requests".

use crate::judge::Verdict;
use crate::kayenta::Class;
use crate::report::{Finding, Report};
use std::fmt::Write;

/// A ratio below this would be written as 0.0.
const LEAST_SAID: f64 = 0.05;

impl Report {
    /// One line for the verdict, one for each metric that has something to say.
    pub fn words(&self) -> String {
        let mut text = match self.verdict {
            Verdict::Pass => "pass: proven good enough for this step".to_owned(),
            Verdict::Fail => format!("fail: {}", self.culprits.join(" and ")),
            Verdict::Undecided => "undecided".to_owned(),
            Verdict::NoData => "no data".to_owned(),
            Verdict::SourceDown => "source down".to_owned(),
        };
        if !self.history {
            text.push_str(" (no history: false aborts may be more frequent than stated)");
        }
        let untold = |finding: &&Finding| finding.metric != "restarts" || finding.missing.is_none();
        for finding in self.findings.iter().filter(untold) {
            let _ = write!(text, "\n{}", finding.words());
        }
        for alarm in &self.alarms {
            let _ = write!(text, "\n{alarm}");
        }
        text
    }
}

impl Finding {
    /// One line, without the metric's numbers that are not known.
    pub fn words(&self) -> String {
        let mut text = format!("{}: ", self.metric);
        match (&self.missing, self.classification) {
            (Some(missing), _) => text.push_str(missing),
            (None, Some(class)) => return self.gauge_words(text, class),
            (None, None) => self.write_ratio(&mut text),
        }
        self.write_needed(&mut text);
        text
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
        text
    }

    fn write_ratio(&self, text: &mut String) {
        let does = match self.metric.as_str() {
            "errors" => "fails",
            "restarts" => "restarts",
            _ => "is over the limit",
        };
        let does = if self.place.is_some() && self.metric.starts_with("latency") { "is slow" } else { does };
        let at = self.place.as_deref().map(|place| format!(" ({place})")).unwrap_or_default();
        let sure = libm::floor(1000.0 * (1.0 - libm::exp(-self.abort_bar)) + 1e-9) / 10.0;
        // An interval that begins at nothing and has no end says nothing: the counts do.
        let low = self.ratio_low.filter(|low| *low >= LEAST_SAID || self.ratio_high.is_some());
        let ratio = self.ratio.filter(|_| low.is_some() || self.ratio_low.is_none());
        match (ratio, low, self.ratio_high) {
            (Some(ratio), Some(low), Some(high)) if low < LEAST_SAID => {
                let _ = write!(
                    text,
                    "canary {does} {ratio:.1} times as often{at} (at most {high:.1}), {sure} % sure"
                );
            }
            (Some(ratio), Some(low), Some(high)) => {
                let _ = write!(
                    text,
                    "canary {does} {ratio:.1} times as often{at} ({low:.1} to {high:.1}), {sure} % sure"
                );
            }
            (Some(ratio), Some(low), None) => {
                let _ = write!(
                    text,
                    "canary {does} {ratio:.1} times as often{at} ({low:.1} or more), {sure} % sure"
                );
            }
            (None, Some(low), None) if low > 0.0 => {
                let _ = write!(text, "canary {does} at least {low:.1} times as often{at}, {sure} % sure");
                if self.stable.x == 0 {
                    text.push_str("; stable not once");
                }
            }
            (Some(ratio), _, _) => {
                let against = if self.metric.starts_with("slo") { "of the limit" } else { "as often" };
                let _ = write!(text, "canary {does} {ratio:.1} times {against}{at}");
            }
            (None, _, _) => {
                let (canary, stable) = (self.canary, self.stable);
                let _ = write!(
                    text,
                    "{} of {} canary requests and {} of {} stable requests{at}",
                    canary.x,
                    grouped(canary.n),
                    stable.x,
                    grouped(stable.n)
                );
            }
        }
    }

    fn write_needed(&self, text: &mut String) {
        if self.log_abort >= self.abort_bar {
            let _ = write!(text, "; needed {} requests", grouped(self.canary.n));
            return;
        }
        if self.gates && self.log_advance >= self.advance_bar {
            text.push_str("; good enough for this step");
            return;
        }
        if self.needs_more_pods {
            text.push_str("; that is what pods may differ by: needs more canary pods to be sure");
            return;
        }
        if !self.gates && self.needed_to_abort.is_none() {
            return;
        }
        match (self.needed, self.minutes) {
            (Some(needed), Some(minutes)) => {
                let what = if self.needed == self.needed_to_abort { "to abort" } else { "to advance" };
                let _ = write!(
                    text,
                    "; needs about {} more requests {what} ({})",
                    grouped(needed),
                    span(minutes)
                );
            }
            (Some(needed), None) => {
                let _ = write!(text, "; needs about {} more requests", grouped(needed));
            }
            (None, _) if self.canary.n == 0 => {}
            (None, _) => text.push_str("; cannot be decided at this rate"),
        }
    }
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
