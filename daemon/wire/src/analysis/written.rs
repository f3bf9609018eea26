//! Margins as people write them: `1.25x`, `1.25x + 0.1%`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sluice_analyzers::plan::Margin;

use crate::units::Percent;

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

macro_rules! written_as_text {
    ($type:ident, $pattern:literal, $description:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                $type::parse(&text).map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "description": $description})
            }
        }
    };
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
