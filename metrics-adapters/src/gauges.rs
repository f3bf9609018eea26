//! Gauges beside the counters: CPU, memory, queue lengths, whatever an expression says of each version.
//!
//! Promises: a gauge that cannot be read is a complaint and changes no count. Readings belong to a version, not to a pod:
//! an expression may have a row a pod, or one for all.

use std::collections::BTreeMap;

use sluice_analyzers::{Arm, Window};

use crate::reading::{Complaints, arm_name};

/// What one look at the gauges told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gauges {
    pub readings: Vec<Reading>,
    /// What could not be read, in words.
    pub complaints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub arm: Arm,
    pub name: String,
    /// Finite, or NaN where the source had none.
    pub value: f64,
}

impl Gauges {
    /// Puts the readings into the window, one a pod. There are no pods without counters: where a version has more readings
    /// than pods, the rest is left out, and a complaint says so.
    pub fn fill(self, window: &mut Window) -> Vec<String> {
        let mut complaints = Complaints::default();
        self.complaints.into_iter().for_each(|complaint| complaints.add(complaint));
        // A pod with several strata has a row for each; its readings stand in the first.
        let mut heads: Vec<(Arm, usize)> = Vec::new();
        for (at, pod) in window.pods.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| window.pods.get(before));
            if before.is_none_or(|before| before.arm != pod.arm || before.pod != pod.pod) {
                heads.push((pod.arm, at));
            }
        }
        let mut places: BTreeMap<(Arm, String), usize> = BTreeMap::new();
        for Reading { arm, name, value } in self.readings {
            let place = places.entry((arm, name.clone())).or_default();
            let head = heads.iter().filter(|(of, _)| *of == arm).nth(*place);
            match head.and_then(|(_, at)| window.pods.get_mut(*at)) {
                Some(pod) => pod.values.push((name, value)),
                None => complaints.add(format!(
                    "gauge {name}: {} has more rows than pods; sum or average them in the query",
                    arm_name(arm)
                )),
            }
            *place += 1;
        }
        complaints.into_words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_analyzers::PodWindow;

    #[test]
    fn readings_go_to_the_pods_of_their_version_one_each() {
        let pods = [(Arm::Stable, "s1"), (Arm::Stable, "s2"), (Arm::Canary, "c1")];
        let mut pods = pods.map(|(arm, name)| PodWindow::new(arm, name, 10, 0)).to_vec();
        pods.insert(1, PodWindow { stratum: "/b".to_owned(), ..PodWindow::new(Arm::Stable, "s1", 5, 0) });
        let mut window = Window { step: 1, start_ms: 0, end_ms: 1, pods };
        let reading = |arm, value| Reading { arm, name: "cpu".to_owned(), value };
        let readings = vec![
            reading(Arm::Stable, 1.0),
            reading(Arm::Stable, 2.0),
            reading(Arm::Canary, 3.0),
            reading(Arm::Canary, 4.0),
        ];
        let complaints = Gauges { readings, complaints: vec!["a query failed".to_owned()] }.fill(&mut window);
        let values: Vec<f64> =
            window.pods.iter().flat_map(|pod| &pod.values).map(|(_, value)| *value).collect();
        assert_eq!(values, [1.0, 2.0, 3.0]);
        assert!(
            complaints[0] == "a query failed" && complaints[1].contains("canary has more rows than pods")
        );
        assert_eq!(window.check(), Ok(()));
    }
}
