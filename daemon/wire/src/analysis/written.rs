//! Margins as people write them: `1.25x`, `1.25x + 0.1%`.

use std::fmt;

use sluice_analyzers::plan::Margin;

use crate::units::{Percent, written_as_text};

/// A factor: `1.25x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

/// `1.25x`, `1.25x + 0.1%`: at most so many times stable's rate, and so much more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorseBy {
    pub ratio: Ratio,
    pub plus: Percent,
}

impl Ratio {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no factor: write for example 1.25x, or 1x for none");
        let number: f64 =
            text.trim().strip_suffix('x').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
        if !(number.is_finite() && number >= 1.0) {
            return Err(format!("{text:?} is below 1x, which asks for better than stable: give 1x or more"));
        }
        Ok(Self(number))
    }
}

impl WorseBy {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (ratio, plus) = match text.split_once('+') {
            Some((ratio, plus)) => (ratio, Percent::parse(plus)?),
            None => (text, Percent(0.0)),
        };
        Ok(Self { ratio: Ratio::parse(ratio)?, plus })
    }
}

impl Default for WorseBy {
    fn default() -> Self {
        let margin = Margin::default();
        Self { ratio: Ratio(margin.ratio), plus: Percent(margin.plus) }
    }
}

impl From<WorseBy> for Margin {
    fn from(written: WorseBy) -> Self {
        Self { ratio: written.ratio.0, plus: written.plus.0 }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x", self.0)
    }
}

impl fmt::Display for WorseBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ratio)?;
        if self.plus.0 > 0.0 { write!(f, " + {}", self.plus) } else { Ok(()) }
    }
}

written_as_text!(Ratio, r"^[0-9.]+ ?x$", "A factor: 1.25x");
written_as_text!(WorseBy, r"^[0-9.]+ ?x( ?\+ ?[0-9.]+ ?%)?$", "A margin: 1.25x, 1.25x + 0.1%");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_read_as_people_write_them() {
        for (text, ratio, plus) in [("1.25x", 1.25, 0.0), ("1.25x + 0.1%", 1.25, 0.001), ("1x+1%", 1.0, 0.01)]
        {
            let margin = WorseBy::parse(text).unwrap();
            assert_eq!((margin.ratio.0, margin.plus.0), (ratio, plus), "{text}");
            assert_eq!(WorseBy::parse(&margin.to_string()), Ok(margin));
        }
        for bad in ["", "1.25", "x", "0.9x", "1.25x +", "1.25x + 0.1", "-1x", "NaNx", "infx", "1% + 1.25x"] {
            assert!(WorseBy::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
