//! When a change may have begun: how the evidence of a release is divided over the moments from which it counts.
//!
//! ```text
//! one release:  first attempt 95 %, the j-th retry 5 % / (j (j + 1))           of falseAbort
//! one attempt:  first step 65 %, later steps and the bake 30 % evenly,          of the mixture of restarts
//!               a reserve of 5 %: its j-th draw 5 % / (j (j + 1))
//! ```
//! The reserve is drawn by steps without a share of their own, and by every hour that a step lasts: a change that begins
//! late in a long step is not buried under its healthy hours. However many draws and retries there are, each sum stays
//! below 1, so they cost no more of falseAbort (R <- L (R + v), see [`crate::mixture`]). Draws depend on the windows'
//! instants alone, never on counts.
//!
//! Where one step is judged and pods are ignored nothing is divided: the evidence is formula 1's mixture and nothing else.

use crate::plan::{Plan, Pods};
use serde::{Deserialize, Serialize};

const FIRST: f64 = 0.65;
const LATER: f64 = 0.3;
const RESERVE: f64 = 0.05;
/// Of falseAbort, over all retries of a release.
const RETRIES: f64 = 0.05;
/// Steps with a share of their own: each costs a state of its own where pods have natures.
const MOST_SHARES: usize = 4;
const HOUR_MS: i64 = 3_600_000;

/// A moment from which evidence counts, with its share of the mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Onset {
    /// A step begins.
    Step(f64),
    /// From the reserve; the one drawn before is given up where states are few.
    Drawn(f64),
}

impl Onset {
    pub fn share(self) -> f64 {
        match self {
            Onset::Step(share) | Onset::Drawn(share) => share,
        }
    }
}

/// The onsets of one attempt that are still to come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Onsets {
    /// By step; the bake is the last.
    shares: Vec<f64>,
    reserve: f64,
    drawn: u32,
    /// When the current step began, on the windows' clock.
    entered_ms: i64,
    /// Full hours of the current step that were looked at.
    hours: i64,
}

impl Onsets {
    pub fn new(plan: &Plan) -> Self {
        if plan.is_plain() {
            return Self { shares: vec![1.0], ..Self::default() };
        }
        Self { shares: shares(plan.steps.len()), reserve: RESERVE, ..Self::default() }
    }

    /// What begins with a window at `start_ms` that is the first of `step`, `highest` being the highest one before.
    pub(crate) fn enter(&mut self, step: u32, highest: u32, start_ms: i64) -> Option<Onset> {
        (self.entered_ms, self.hours) = (start_ms, 0);
        if step <= highest {
            return None;
        }
        let upto = |step: u32| (step as usize).min(self.shares.len());
        let share: f64 = self.shares[upto(highest)..upto(step)].iter().sum();
        if share > 0.0 { Some(Onset::Step(share)) } else { self.draw() }
    }

    /// What begins with a later window of the same step.
    pub(crate) fn go_on(&mut self, start_ms: i64) -> Option<Onset> {
        let hours = start_ms.saturating_sub(self.entered_ms) / HOUR_MS;
        if hours <= self.hours {
            return None;
        }
        self.hours = hours;
        self.draw()
    }

    fn draw(&mut self) -> Option<Onset> {
        self.drawn = self.drawn.saturating_add(1);
        let share = self.reserve * part(self.drawn);
        (share > 0.0).then_some(Onset::Drawn(share))
    }

    /// What a step alone would begin with, nothing else having begun.
    pub(crate) fn of_step(plan: &Plan, step: u32) -> Onset {
        Self::new(plan).enter(step, step.saturating_sub(1), 0).unwrap_or(Onset::Step(1.0))
    }
}

/// Sums to 1 over j = 1, 2, ….
fn part(j: u32) -> f64 {
    let j = f64::from(j);
    1.0 / (j * (j + 1.0))
}

/// Of the steps and the bake. Where there are more than may have a share, those before the bake draw from the reserve.
fn shares(steps: usize) -> Vec<f64> {
    if steps <= 1 {
        return vec![FIRST + LATER];
    }
    let later = steps.min(MOST_SHARES - 1);
    let mut shares = vec![0.0; steps + 1];
    shares[0] = FIRST;
    shares[1..later].fill(LATER / later as f64);
    shares[steps] = LATER / later as f64;
    shares
}

impl Plan {
    /// The evidence at which an attempt is aborted: ln(1 / its share of falseAbort).
    pub fn abort_bar(&self) -> f64 {
        let share = match self.retries {
            0 if self.is_plain() => 1.0,
            0 => 1.0 - RETRIES,
            j => RETRIES * part(j),
        };
        -libm::log(self.false_abort * share)
    }

    /// The evidence at which a step is left. A release that is retried until it passes does so by chance at most twice as
    /// often as one that is tried once: the j-th retry has 2 / ((j + 1) (j + 2)) of falsePass.
    pub fn advance_bar(&self) -> f64 {
        -libm::log(self.false_pass * 2.0 * part(self.retries.saturating_add(1)))
    }

    fn is_plain(&self) -> bool {
        let pods = self.errors.as_ref().and_then(|errors| errors.pods).unwrap_or(self.pods);
        self.steps.len() == 1 && pods == Pods::Ignore
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: usize) -> Plan {
        Plan::new((1..=steps).map(|step| step as f64 / 100.0).collect())
    }

    /// All that ever begins in an attempt whose every step lasts for so many hours.
    fn begun(plan: &Plan, hours: i64) -> f64 {
        let (mut onsets, mut sum, mut now) = (Onsets::new(plan), 0.0, 0);
        for step in 1..=plan.bake_step() {
            sum += onsets.enter(step, step - 1, now).map_or(0.0, Onset::share);
            for _ in 0..hours {
                now += HOUR_MS;
                sum += onsets.go_on(now).map_or(0.0, Onset::share);
            }
        }
        sum
    }

    #[test]
    fn whatever_begins_sums_to_less_than_one() {
        for steps in 1..9 {
            for hours in [0, 1, 1_000] {
                let sum = begun(&plan(steps), hours);
                assert!(sum <= 1.0 + 1e-12, "{steps} {hours}: {sum}");
            }
            assert!(begun(&plan(steps), 1_000) > 0.999);
        }
    }

    #[test]
    fn all_attempts_together_have_one_false_abort_and_two_false_passes() {
        let attempts = (0..10_000).map(|retries| Plan { retries, ..plan(2) });
        let (mut abort, mut pass) = (0.0, 0.0);
        for attempt in attempts {
            abort += libm::exp(-attempt.abort_bar());
            pass += libm::exp(-attempt.advance_bar());
        }
        assert!(abort < 0.01 && abort > 0.0099, "{abort}");
        assert!(pass < 0.1 && pass > 0.0999, "{pass}");
    }

    #[test]
    fn one_step_without_pods_is_the_plain_mixture() {
        let plain = Plan { pods: Pods::Ignore, ..plan(1) };
        assert_eq!(begun(&plain, 100), 1.0);
        assert_eq!(plain.abort_bar(), 100f64.ln());
    }

    #[test]
    fn an_hour_draws_once_however_the_windows_lie() {
        let mut onsets = Onsets::new(&plan(2));
        assert_eq!(onsets.enter(1, 0, 500), Some(Onset::Step(FIRST)));
        assert_eq!(onsets.go_on(500 + HOUR_MS - 1), None);
        assert_eq!(onsets.go_on(500 + HOUR_MS), Some(Onset::Drawn(RESERVE / 2.0)));
        assert_eq!(onsets.go_on(600 + HOUR_MS), None);
        assert_eq!(onsets.go_on(500 + 9 * HOUR_MS), Some(Onset::Drawn(RESERVE / 6.0)), "a gap is one onset");
    }
}
