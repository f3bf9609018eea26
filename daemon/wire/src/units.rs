//! Numbers with their units as people write them: `45m`, `1%`. Parsed once, then typed.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A span of time: `250ms`, `30s`, `10m`, `1h30m`, `2d`; `0` needs no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// A share: `1%`, `0.1%`. Kept as a fraction from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(pub f64);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Span {
    pub const fn from_secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    /// Errors say what would be right.
    pub fn parse(text: &str) -> Result<Span, String> {
        let wrong = || format!("{text:?} is no span of time: write for example 250ms, 30s, 10m, 1h30m or 2d");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Span::default());
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut millis = 0f64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            let after = &rest[digits..];
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (_, scale) = UNITS.iter().find(|(name, _)| *name == &after[..end]).ok_or_else(wrong)?;
            millis += number * *scale as f64;
            rest = &after[end..];
        }
        if !(0.0..=3.2e12).contains(&millis) {
            return Err(format!("{text:?} is longer than a hundred years"));
        }
        Ok(Span(Duration::from_millis(millis.round() as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return write!(f, "0s");
        }
        for (name, scale) in UNITS.iter().rev() {
            if rest >= *scale {
                write!(f, "{}{name}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl Percent {
    pub fn parse(text: &str) -> Result<Percent, String> {
        let wrong = || format!("{text:?} is no share: write for example 1% or 0.1%");
        let number: f64 =
            text.trim().strip_suffix('%').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=100.0).contains(&number) {
            return Err(format!("{text:?} is out of range: give 0% to 100%"));
        }
        Ok(Percent(number / 100.0))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.0 * 100.0 * 1e9).round() / 1e9;
        write!(f, "{percent}%")
    }
}

/// Text in, typed out, with the same words in the JSON Schema. For types with `parse` and `Display`.
macro_rules! written_as_text {
    ($type:ident, $pattern:literal, $description:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                $type::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern, "description": $description})
            }
        }
    };
}
pub(crate) use written_as_text;

written_as_text!(Span, r"^(0|([0-9.]+(ms|s|m|h|d))+)$", "A span of time: 250ms, 30s, 10m, 1h30m, 2d");
written_as_text!(Percent, r"^[0-9.]+ ?%$", "A share: 1%, 0.1%");

/// How a step's weight is written, for the JSON Schema: `5`, `0.1`, `"5%"`.
pub(crate) struct StepWeight;

impl JsonSchema for StepWeight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"], "minimum": 0.01, "maximum": 99.99, "pattern": "^[0-9.]+ ?%?$",
            "description": "A number of percent: 5, 0.1, 5%",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("0", 0), ("1.5s", 1_500)]
        {
            assert_eq!(Span::parse(text).unwrap().0.as_millis(), millis, "{text}");
        }
        for bad in ["", "10", "s", "5 minutes", "-3s", "1e9s", "99999999999d"] {
            assert!(Span::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(Span::parse("90m").unwrap().to_string(), "1h30m");
    }

    #[test]
    fn shares_need_their_sign() {
        assert_eq!(Percent::parse("0.1%").unwrap().0, 0.001);
        assert_eq!(Percent::parse("12.5 %").unwrap().to_string(), "12.5%");
        for bad in ["1", "101%", "-1%", "x%", "NaN%"] {
            assert!(Percent::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
