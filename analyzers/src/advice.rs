//! What stands outside falseAbort: alarms that never decide, rules that somebody insisted on, and the watch over stable.

use crate::collateral::CollateralEvidence;
use crate::gauge::WatchEvidence;
use crate::plan::Plan;
use crate::split::{FALSE_ALARM, SplitEvidence};
use crate::threshold::ThresholdEvidence;
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    pub(crate) split: SplitEvidence,
    pub(crate) collateral: Option<CollateralEvidence>,
    pub(crate) thresholds: Vec<ThresholdEvidence>,
    pub(crate) watched: Vec<WatchEvidence>,
}

impl Advice {
    pub fn new(plan: &Plan) -> Self {
        Self {
            split: SplitEvidence::default(),
            collateral: plan.collateral.map(CollateralEvidence::new),
            thresholds: vec![ThresholdEvidence::default(); plan.thresholds.len()],
            watched: vec![WatchEvidence::default(); plan.watched.len()],
        }
    }

    pub fn start(&mut self, share: f64) {
        self.collateral.iter_mut().for_each(|collateral| collateral.start(share));
    }

    pub fn enter_step(&mut self) {
        self.split.enter_step();
    }

    pub fn add(&mut self, plan: &Plan, window: &Window) {
        self.split.add(window.requests(Arm::Canary), window.requests(Arm::Stable));
        self.collateral.iter_mut().for_each(|collateral| collateral.add(plan, window));
        let thresholds = self.thresholds.iter_mut().zip(&plan.thresholds);
        thresholds.for_each(|(evidence, plan)| evidence.add(plan, window));
        let watched = self.watched.iter_mut().zip(&plan.watched);
        watched.for_each(|(evidence, plan)| evidence.add(plan, window));
    }

    /// The rules that somebody insisted on and that say stop.
    pub fn broken<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = String> {
        let thresholds = self.thresholds.iter().zip(&plan.thresholds);
        thresholds.filter(|(evidence, plan)| evidence.failed(plan)).map(|(_, plan)| plan.label())
    }

    /// Whether stable suffers since the canary runs: nothing is opened further.
    pub fn withholds(&self) -> bool {
        self.collateral.as_ref().is_some_and(CollateralEvidence::alarms)
    }

    /// In plain language, what somebody should look at.
    pub fn alarms(&self, plan: &Plan, weight: f64) -> Vec<String> {
        let mut alarms = Vec::new();
        if let Some(seen) = self.split.seen()
            && self.split.log_e(weight) >= -libm::log(FALSE_ALARM)
        {
            let (seen, weight) = (100.0 * seen, 100.0 * weight);
            alarms.push(format!(
                "split: the canary gets {seen:.1} % of the requests, the weight says {weight:.1} %"
            ));
        }
        if self.withholds() {
            alarms.push("collateral: stable fails more often since the canary runs beside it".to_owned());
        }
        for (evidence, watch) in self.watched.iter().zip(&plan.watched) {
            if let Some(found) =
                evidence.interval(plan.false_abort).filter(|found| found.alarms(watch.tolerance))
            {
                let (by, low, high) = (found.difference, found.low, found.high);
                alarms
                    .push(format!("{}: the canary's differs by {by:.4} ({low:.4} to {high:.4})", watch.name));
            }
        }
        alarms
    }
}
