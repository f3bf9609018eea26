//! What people do to weights by hand, with the arithmetic of `oc set route-backends`
//! (<https://docs.redhat.com/en/documentation/openshift_container_platform/4.18/html/cli_tools/openshift-cli-oc#oc-set-route-backends>):
//! a percentage is divided between the backend and the primary (or, for the primary itself, the first alternate), whose sum
//! becomes 100; other backends keep their proportion to that sum. Pure.

use std::str::FromStr;

use super::Backend;
use crate::kubernetes::routers::openshift::MOST;

/// All weights equal, as `oc` writes it.
const EQUAL: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// One backend, relative to another.
    Adjust(Adjustment),
    /// All 100.
    Equal,
    /// All 0: no traffic at all.
    Zero,
}

/// `checkout=10`, `checkout=5%`, `checkout=+15%`, `checkout=-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    pub name: String,
    value: i32,
    percent: bool,
    /// Added to what stands there.
    relative: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdjustmentError {
    #[error("{0:?} is no adjustment: write NAME=WEIGHT, NAME=5%, NAME=+15% or NAME=-3")]
    Form(String),
    #[error("{name} is none of the backends; they are {known}")]
    Unknown { name: String, known: String },
    #[error("{0} is the only backend, so there is nothing to adjust it against; write a weight of 0 to 256")]
    Alone(String),
    #[error("{name} would get weight {weight}; a Route's weights are 0 to {MOST}")]
    Range { name: String, weight: i64 },
}

impl FromStr for Adjustment {
    type Err = AdjustmentError;

    fn from_str(text: &str) -> Result<Adjustment, AdjustmentError> {
        let fault = || AdjustmentError::Form(text.to_owned());
        let (name, number) = text.split_once('=').ok_or_else(fault)?;
        let (number, percent) = number.strip_suffix('%').map_or((number, false), |number| (number, true));
        let value: i32 = number.parse().map_err(|_| fault())?;
        if name.is_empty() || name.contains('/') {
            return Err(fault());
        }
        Ok(Adjustment { name: name.to_owned(), value, percent, relative: number.starts_with(['+', '-']) })
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Equal => f.write_str("equal"),
            Change::Zero => f.write_str("zero"),
            Change::Adjust(Adjustment { name, value, percent, relative }) => {
                let sign = if *relative && *value >= 0 { "+" } else { "" };
                write!(f, "{name}={sign}{value}{}", if *percent { "%" } else { "" })
            }
        }
    }
}

impl FromStr for Change {
    type Err = AdjustmentError;

    /// `equal`, `zero`, or an adjustment of one.
    fn from_str(text: &str) -> Result<Change, AdjustmentError> {
        match text {
            "equal" => Ok(Change::Equal),
            "zero" => Ok(Change::Zero),
            adjustment => adjustment.parse().map(Change::Adjust),
        }
    }
}

impl Change {
    /// The weights as they are to stand, in the same order.
    ///
    /// # Errors
    /// An unknown backend, one that has nothing beside it, or a weight that no Route may have.
    pub fn of(&self, backends: &[Backend]) -> Result<Vec<Backend>, AdjustmentError> {
        let all = |weight: u32| backends.iter().map(|one| Backend { weight, ..one.clone() }).collect();
        match self {
            Change::Zero => Ok(all(0)),
            Change::Equal => Ok(all(EQUAL)),
            Change::Adjust(adjustment) => adjustment.of(backends),
        }
    }
}

impl Adjustment {
    fn of(&self, backends: &[Backend]) -> Result<Vec<Backend>, AdjustmentError> {
        let known = || backends.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let at = backends.iter().position(|one| one.name == self.name);
        let at = at.ok_or_else(|| AdjustmentError::Unknown { name: self.name.clone(), known: known() })?;
        let mut weights: Vec<i64> = backends.iter().map(|one| one.weight.into()).collect();
        match (backends.len(), self.percent, self.relative) {
            (1, _, true) => return Err(AdjustmentError::Alone(self.name.clone())),
            (1, _, false) | (_, false, false) => weights[at] = self.value.into(),
            (_, false, true) => weights[at] = (weights[at] + i64::from(self.value)).max(0),
            (_, true, _) => self.divide(&mut weights, at, usize::from(at == 0)),
        }
        let named = backends.iter().zip(weights);
        named.map(|(one, weight)| in_range(&one.name, weight)).collect()
    }

    /// A percentage of what `at` and `beside` have together; both then sum to 100. Single precision, as `oc` counts.
    fn divide(&self, weights: &mut [i64], at: usize, beside: usize) {
        let sum = weights[at] + weights[beside];
        for (other, weight) in weights.iter_mut().enumerate() {
            if sum > 0 && other != at && other != beside {
                *weight = *weight * 100 / sum;
            }
        }
        let asked = self.value as f32 / 100.0;
        let present = if self.relative && sum > 0 { weights[at] as f32 / sum as f32 } else { 0.0 };
        let share = (present + asked).clamp(0.0, 1.0);
        weights[at] = (share * 100.0) as i64;
        weights[beside] = ((1.0 - share) * 100.0) as i64;
        shrink(weights);
    }
}

/// Others that have grown too large: the largest becomes 200, and none that had a share loses all of it.
fn shrink(weights: &mut [i64]) {
    let largest = weights.iter().copied().max().unwrap_or(0);
    if largest <= MOST as i64 {
        return;
    }
    for weight in weights.iter_mut().filter(|weight| **weight > 0) {
        *weight = (200 * *weight / largest).max(1);
    }
}

fn in_range(name: &str, weight: i64) -> Result<Backend, AdjustmentError> {
    let fits = u32::try_from(weight).ok().filter(|weight| u64::from(*weight) <= MOST);
    let weight = fits.ok_or_else(|| AdjustmentError::Range { name: name.to_owned(), weight })?;
    Ok(Backend { name: name.to_owned(), weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(weights: &[u32]) -> Vec<Backend> {
        let named = ["a", "b", "c", "d"].iter().zip(weights);
        named.map(|(name, weight)| Backend { name: (*name).to_owned(), weight: *weight }).collect()
    }

    fn adjusted(weights: &[u32], text: &str) -> Result<Vec<u32>, AdjustmentError> {
        let change = Change::Adjust(text.parse()?);
        Ok(change.of(&backends(weights))?.into_iter().map(|one| one.weight).collect())
    }

    #[test]
    fn weights_are_adjusted_as_oc_does_it() {
        let table: [(&[u32], &str, &[u32]); 15] = [
            (&[100, 0], "b=10", &[100, 10]),
            (&[100, 20], "b=+15", &[100, 35]),
            (&[100, 20], "b=-30", &[100, 0]),
            (&[100, 0], "b=5%", &[95, 5]),
            (&[95, 5], "b=+15%", &[80, 20]),
            (&[90, 10], "b=+10%", &[80, 20]),
            (&[80, 20], "b=-5%", &[85, 15]),
            (&[50, 50], "b=+80%", &[0, 100]),
            (&[50, 50], "b=-80%", &[100, 0]),
            // As `oc` counts: in single precision 1 - 0.6 falls short of 0.4.
            (&[90, 10], "a=60%", &[60, 39]),
            (&[90, 10], "a=+5%", &[95, 5]),
            (&[0, 0], "b=+10%", &[90, 10]),
            (&[100, 100, 50], "b=25%", &[75, 25, 25]),
            // Beside a small pair the third grows to 2,560, and all shrink.
            (&[5, 5, 256], "b=10%", &[7, 1, 200]),
            (&[40], "a=7", &[7]),
        ];
        for (weights, text, expected) in table {
            assert_eq!(adjusted(weights, text).unwrap(), expected, "{text} on {weights:?}");
        }
    }

    #[test]
    fn equal_and_zero_are_all_alike() {
        let all =
            |change: Change| change.of(&backends(&[7, 0, 9])).unwrap().into_iter().map(|one| one.weight);
        assert!(all(Change::Equal).eq([100, 100, 100]));
        assert!(all(Change::Zero).eq([0, 0, 0]));
    }

    #[test]
    fn a_change_reads_as_it_is_written() {
        for text in ["b=7", "b=5%", "b=+15%", "b=-3", "b=+0", "equal", "zero"] {
            assert_eq!(text.parse::<Change>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_adjusted_is_refused() {
        for text in ["b", "=5", "b=", "b=x", "b=5%%", "route/b=5", "b=1.5%"] {
            assert_eq!(text.parse::<Adjustment>(), Err(AdjustmentError::Form(text.into())), "{text}");
        }
        assert!(adjusted(&[1, 2], "z=5").unwrap_err().to_string().contains("they are a, b"));
        assert!(matches!(adjusted(&[1], "a=+5%"), Err(AdjustmentError::Alone(_))));
        assert!(matches!(adjusted(&[1, 2], "b=257"), Err(AdjustmentError::Range { weight: 257, .. })));
    }
}
