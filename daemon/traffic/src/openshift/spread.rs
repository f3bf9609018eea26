//! The share that a Route's weights come to. Pure.
//!
//! OpenShift's router divides a backend's weight among its endpoints, scales all so that the largest is HAProxy's 256, cuts off
//! what is behind the point, and gives every endpoint of a backend that is not at 0 at least 1
//! (<https://docs.redhat.com/en/documentation/openshift_container_platform/4.18/html/networking/configuring-routes>). So many
//! endpoints skew a small weight. Where only one backend is above 0 its endpoints are all alike.

use crate::kubernetes::routers::openshift::MOST;

/// Weight and number of endpoints of each backend to its share of the traffic, 0 to 1; all 0 where nobody can answer.
pub fn shares(backends: &[(u32, u32)]) -> Vec<f64> {
    let parts: Vec<u64> = in_haproxy(backends).collect();
    let total: u64 = parts.iter().sum();
    parts.iter().map(|part| if total == 0 { 0.0 } else { *part as f64 / total as f64 }).collect()
}

/// The sum of what a backend's endpoints get in HAProxy.
fn in_haproxy(backends: &[(u32, u32)]) -> impl Iterator<Item = u64> {
    let each = |(weight, endpoints): &(u32, u32)| {
        if *endpoints == 0 { 0.0 } else { f64::from(*weight) / f64::from(*endpoints) }
    };
    let largest = backends.iter().map(each).fold(0.0, f64::max);
    backends.iter().map(move |backend| {
        let scaled = if largest > 0.0 { (each(backend) * MOST as f64 / largest) as u64 } else { 0 };
        let least = u64::from(backend.0 > 0);
        u64::from(backend.1) * scaled.max(least)
    })
}

/// A backend whose endpoints make another share of its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skew {
    /// What the weights say, 0 to 1.
    pub written: f64,
    /// What the endpoints make of it.
    pub in_effect: f64,
    /// The number of endpoints of this backend that comes nearest to what is written, with all else as it is.
    pub nearest_endpoints: u32,
    pub nearest: f64,
}

/// `None` where the share is what was written, to a tenth of it, or where nobody is there to have one.
pub fn skew(backends: &[(u32, u32)], at: usize) -> Option<Skew> {
    let total: u32 = backends.iter().map(|(weight, _)| weight).sum();
    let (weight, endpoints) = *backends.get(at)?;
    if weight == 0 || backends.iter().any(|(weight, endpoints)| *weight > 0 && *endpoints == 0) {
        return None;
    }
    let written = f64::from(weight) / f64::from(total);
    let share_with = |endpoints: u32| {
        let mut changed = backends.to_vec();
        changed[at].1 = endpoints;
        shares(&changed)[at]
    };
    let in_effect = share_with(endpoints);
    if (in_effect - written).abs() <= written / 10.0 {
        return None;
    }
    // In millionths: nearer than that nobody can tell, and then the smaller change is taken.
    let miss = |other: &u32| (((share_with(*other) - written).abs() * 1e6) as u64, other.abs_diff(endpoints));
    let nearest_endpoints = (1..=endpoints.saturating_mul(2)).min_by_key(miss)?;
    Some(Skew { written, in_effect, nearest_endpoints, nearest: share_with(nearest_endpoints) })
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let (written, in_effect) = (percent(self.written), percent(self.in_effect));
        write!(f, "its weight says {written}, its endpoints make {in_effect} of it; ")?;
        write!(f, "with {} it would be {}", self.nearest_endpoints, percent(self.nearest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_the_endpoints_come_to() {
        let table: [(&[(u32, u32)], f64); 7] = [
            (&[(95, 2), (5, 1)], 0.0483),
            (&[(99, 1), (1, 10)], 0.0376),
            (&[(50, 3), (50, 3)], 0.5),
            (&[(100, 3), (0, 3)], 0.0),
            (&[(100, 0), (1, 2)], 1.0),
            (&[(0, 3), (1, 2)], 1.0),
            (&[(0, 3), (0, 3)], 0.0),
        ];
        for (backends, expected) in table {
            let found = shares(backends)[1];
            assert!((found - expected).abs() < 1e-4, "{backends:?}: {found}");
        }
    }

    #[test]
    fn a_skewed_share_is_told_with_the_number_of_endpoints_that_would_fit() {
        let told = |backends: &[(u32, u32)]| skew(backends, 1).map(|skew| skew.to_string());
        assert_eq!(told(&[(95, 2), (5, 1)]), None, "4.83 % is near enough");
        assert_eq!(told(&[(99, 2), (1, 0)]), None, "nobody is there yet");
        assert_eq!(told(&[(100, 2), (0, 3)]), None);
        assert_eq!(
            told(&[(99, 1), (1, 10)]).unwrap(),
            "its weight says 1.00 %, its endpoints make 3.76 % of it; with 3 it would be 1.16 %"
        );
        let table = [((98, 3), (2, 4), 3), ((99, 3), (1, 3), 1)];
        for (stable, canary, expected) in table {
            let found = skew(&[stable, canary], 1).unwrap();
            assert_eq!(found.nearest_endpoints, expected, "{found}");
            assert!(
                (found.nearest - found.written).abs() < (found.in_effect - found.written).abs(),
                "{found}"
            );
        }
    }
}
