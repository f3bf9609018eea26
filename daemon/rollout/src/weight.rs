//! A share of traffic, in hundredths of a percent, that cannot be out of range.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};

/// The share of traffic that goes to the canary: 0 to 10,000 hundredths of a percent (0 % to 100 %).
/// Written as a number of percent in JSON and YAML (`5`, `0.1`, `12.34`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(into = "f64")]
pub struct Weight(u16);

/// A number of percent; people also write `5%`.
impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
        deserializer.deserialize_any(Percent)
    }
}

struct Percent;

impl Visitor<'_> for Percent {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a weight in percent, such as 5 or 0.1")
    }

    fn visit_f64<E: de::Error>(self, percent: f64) -> Result<Weight, E> {
        Weight::from_percent(percent).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, percent: u64) -> Result<Weight, E> {
        self.visit_f64(percent as f64)
    }

    fn visit_i64<E: de::Error>(self, percent: i64) -> Result<Weight, E> {
        self.visit_f64(percent as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Weight, E> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        match number.parse() {
            Ok(percent) => self.visit_f64(percent),
            Err(_) => {
                Err(E::custom(format!("{text:?} is no weight: write a number of percent, such as 5 or 0.1")))
            }
        }
    }
}

/// Why a number is no weight.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum WeightError {
    #[error("a weight of {0} % is out of range: give a number from 0 to 100")]
    OutOfRange(f64),
    #[error("a weight of {0} % is finer than a hundredth of a percent: round it to two decimals")]
    TooFine(f64),
}

impl Weight {
    pub const ZERO: Weight = Weight(0);
    pub const FULL: Weight = Weight(10_000);

    /// From hundredths of a percent; more than 10,000 is an error.
    pub fn from_hundredths(hundredths: u32) -> Result<Weight, WeightError> {
        match u16::try_from(hundredths) {
            Ok(value) if value <= Self::FULL.0 => Ok(Weight(value)),
            Ok(_) | Err(_) => Err(WeightError::OutOfRange(f64::from(hundredths) / 100.0)),
        }
    }

    /// From a number of percent.
    pub fn from_percent(percent: f64) -> Result<Weight, WeightError> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(WeightError::OutOfRange(percent));
        }
        let hundredths = (percent * 100.0).round();
        if (hundredths - percent * 100.0).abs() > 1e-6 {
            return Err(WeightError::TooFine(percent));
        }
        Ok(Weight(hundredths as u16))
    }

    /// Of two integer weights as routers keep them; `None` if both are 0. Rounded to the nearest hundredth of a
    /// percent, but never to 0 or 100 % unless it is exactly that: a trickle of traffic must not look like none.
    pub fn of_parts(canary: u64, stable: u64) -> Option<Weight> {
        let total = canary.checked_add(stable).filter(|total| *total > 0)?;
        let rounded = (u128::from(canary) * 10_000 + u128::from(total) / 2) / u128::from(total);
        Some(match (canary, stable) {
            (0, _) => Weight::ZERO,
            (_, 0) => Weight::FULL,
            _ => Weight((rounded as u16).clamp(1, 9_999)),
        })
    }

    pub fn hundredths(self) -> u32 {
        u32::from(self.0)
    }

    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// As a fraction from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// What is left of the traffic for the other version.
    pub fn rest(self) -> Weight {
        Weight(Self::FULL.0 - self.0)
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> f64 {
        weight.percent()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_exact_to_a_hundredth_and_refused_beyond() {
        assert_eq!(Weight::from_percent(0.1).unwrap().hundredths(), 10);
        assert_eq!(Weight::from_percent(12.34).unwrap().to_string(), "12.34 %");
        assert_eq!(Weight::from_percent(101.0), Err(WeightError::OutOfRange(101.0)));
        assert_eq!(Weight::from_percent(0.001), Err(WeightError::TooFine(0.001)));
        assert!(Weight::from_percent(f64::NAN).is_err());
        assert!(Weight::from_hundredths(10_001).is_err());
    }

    #[test]
    fn a_weight_reads_as_people_write_it() {
        for text in ["5", "5.0", "\"5%\"", "\"5 %\""] {
            assert_eq!(serde_json::from_str::<Weight>(text).unwrap().percent(), 5.0, "{text}");
        }
        let wrong = serde_json::from_str::<Weight>("\"five\"").unwrap_err().to_string();
        assert!(wrong.contains("such as 5 or 0.1"), "{wrong}");
    }

    #[test]
    fn a_trickle_never_reads_as_none_nor_as_all() {
        assert_eq!(Weight::of_parts(0, 7), Some(Weight::ZERO));
        assert_eq!(Weight::of_parts(7, 0), Some(Weight::FULL));
        assert_eq!(Weight::of_parts(0, 0), None);
        assert_eq!(Weight::of_parts(1, 1_000_000).unwrap().hundredths(), 1);
        assert_eq!(Weight::of_parts(1_000_000, 1).unwrap().hundredths(), 9_999);
        assert_eq!(Weight::of_parts(1, 3).unwrap().percent(), 25.0);
    }
}
