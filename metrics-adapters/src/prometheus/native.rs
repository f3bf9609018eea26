//! Native histograms: sparse buckets whose boundaries are powers of `2^(2^-schema)`.
//!
//! ```text
//!  negative buckets │ zero bucket │ (left, right] (left, right] …      boundaries 2^(k · 2^-schema), only where something was counted
//!                   └─────────────┴──> cumulative counts at fixed boundaries 2^(k/2): those of a lower schema are among
//!                                      those of every higher one, so reading them there is the merge, exact and lossless
//! ```
//! Source: Prometheus' HTTP API, "Native histograms" (boundary rules 0 left-open, 1 right-open, 3 closed), and its
//! native histograms specification (standard schemas -4 to 8).
//!
//! Promises: never interpolates. A boundary that a coarse histogram does not have is left out; what was counted at NaN is
//! slower than every boundary. Custom boundaries (schema -53) are refused: their empty buckets are not told.

use std::borrow::Cow;

use serde::Deserialize;
use sluice_analyzers::Bucket;

use crate::reading::{Fault, count};

/// A bucket as the API writes it: the rule of its boundaries, both of them, its count.
type Written<'a> = (u8, Cow<'a, str>, Cow<'a, str>, Cow<'a, str>);

/// As the HTTP API writes it; only buckets that counted something.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Native<'a> {
    #[serde(borrow)]
    count: Cow<'a, str>,
    #[serde(default, borrow)]
    buckets: Vec<Written<'a>>,
}

/// Boundaries are read at `2^(k/2)`: schema 1.
const READ_SCHEMA: i32 = 1;
/// From 2^-10 (about a millisecond) to 2^5 (32 s).
const READ_FROM: i32 = -20;
const READ_TO: i32 = 10;
/// Milliseconds are read 2^10 higher.
const PER_THOUSAND: i32 = 20;
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// Boundaries go through text: they are equal to this relative error.
const ROUNDING: f64 = 1e-9;

/// One bucket, checked.
#[derive(Debug, Clone, Copy)]
struct Part {
    left: f64,
    right: f64,
    count: u64,
}

impl Native<'_> {
    /// Everything that was counted.
    pub(super) fn total(&self) -> Result<u64, Fault> {
        count("a native histogram's count", number(&self.count))
    }

    /// Cumulative, in seconds, ascending, the last one +Inf. `per_second` is 1000 where it counts milliseconds.
    pub(super) fn cumulative(&self, per_second: f64) -> Result<Vec<Bucket>, Fault> {
        let total = self.total()?;
        let parts = self.parts()?;
        let (near_zero, positive): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| part.left <= 0.0);
        let schema = schema(&positive)?;
        // What lies around zero is below a boundary only from the zero bucket's own end on.
        let zero_ends = near_zero.iter().map(|part| part.right).fold(0.0, f64::max);
        let below: u64 = near_zero.iter().map(|part| part.count).sum();
        let shift = if per_second > 1.0 { PER_THOUSAND } else { 0 };
        let at = |k: i32| {
            let le = boundary(k + shift);
            let upto = positive.iter().filter(|part| part.right <= le * (1.0 + ROUNDING));
            Bucket { le: le / per_second, count: below + upto.map(|part| part.count).sum::<u64>() }
        };
        let told = |k: &i32| has(schema, *k + shift) && boundary(*k + shift) * (1.0 + ROUNDING) >= zero_ends;
        let mut buckets: Vec<Bucket> = (READ_FROM..=READ_TO).filter(told).map(at).collect();
        match buckets.last() {
            Some(last) if last.count > total => {
                Err(Fault::BucketsGoDown { le: f64::INFINITY, count: total, before: last.count })
            }
            _ => {
                buckets.push(Bucket { le: f64::INFINITY, count: total });
                Ok(buckets)
            }
        }
    }

    fn parts(&self) -> Result<Vec<Part>, Fault> {
        let part = |(_, left, right, counted): &Written<'_>| {
            let (left, right) = (number(left), number(right));
            if left.is_nan() || right.is_nan() || left > right || left == f64::NEG_INFINITY {
                return Err(Fault::NotNative { left, right });
            }
            Ok(Part { left, right, count: count("a bucket", number(counted))? })
        };
        self.buckets.iter().map(part).collect()
    }
}

/// Adds a histogram to a sum, at the boundaries that both have.
pub(super) fn add(sum: &mut Vec<Bucket>, one: &[Bucket]) {
    if sum.is_empty() {
        sum.extend_from_slice(one);
        return;
    }
    sum.retain_mut(|bucket| {
        let same = one.iter().find(|other| other.le == bucket.le);
        same.is_some_and(|other| {
            bucket.count = bucket.count.saturating_add(other.count);
            true
        })
    });
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// `2^(k/2)`, the same bits on every machine.
fn boundary(k: i32) -> f64 {
    let exponent = u64::try_from(1023 + k.div_euclid(2)).unwrap_or_default();
    let whole = f64::from_bits(exponent << 52);
    if k.rem_euclid(2) == 0 { whole } else { whole * std::f64::consts::SQRT_2 }
}

/// Whether a histogram of this schema has the boundary `2^(k/2)`; one that counted nothing yet has all.
fn has(schema: Option<i32>, k: i32) -> bool {
    let Some(schema) = schema else { return true };
    // Its boundaries are every 2^(1 - schema)-th of ours.
    READ_SCHEMA
        .checked_sub(schema)
        .filter(|coarser| *coarser > 0)
        .is_none_or(|coarser| k % (1 << coarser) == 0)
}

/// The one schema that all of them have, told from their widths.
fn schema(positive: &[Part]) -> Result<Option<i32>, Fault> {
    let mut found = None;
    for part in positive {
        let wrong = Fault::NotNative { left: part.left, right: part.right };
        let doublings = (part.right / part.left).log2();
        let schema = (-doublings.log2()).round();
        let width = (-schema).exp2();
        let place = part.right.log2() / width;
        let standard = (doublings / width - 1.0).abs() < 1e-6 && (place - place.round()).abs() < 1e-4;
        if !standard
            || !SCHEMAS.contains(&(schema as i32))
            || found.is_some_and(|known| known != schema as i32)
        {
            return Err(wrong);
        }
        found = Some(schema as i32);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(f64, u64)>, Fault> {
        let native: Native<'_> = serde_json::from_str(text).unwrap();
        Ok(native.cumulative(1.0)?.iter().map(|bucket| (bucket.le, bucket.count)).collect())
    }

    /// A histogram of this schema; `(index, count)` of its buckets, as the API writes it.
    fn native(schema: i32, buckets: &[(i32, u64)]) -> String {
        let at = |index: i32| 2f64.powf(f64::from(index) * 2f64.powi(-schema));
        let one =
            |(index, count): &(i32, u64)| format!(r#"[0,"{}","{}","{count}"]"#, at(index - 1), at(*index));
        let buckets: Vec<String> = buckets.iter().map(one).collect();
        let total: u64 = 3;
        format!(r#"{{"count":"{total}","sum":"1","buckets":[{}]}}"#, buckets.join(","))
    }

    fn count_at(buckets: &[(f64, u64)], le: f64) -> Option<u64> {
        buckets.iter().find(|(at, _)| (at / le - 1.0).abs() < 1e-9).map(|(_, count)| *count)
    }

    #[test]
    fn a_finer_schema_is_merged_at_the_boundaries_of_the_coarser_one() {
        // Observations of 0.3, 0.4 and 0.9 s.
        for schema in [1, 2, 3, 5, 8] {
            let index = |seconds: f64| (seconds.log2() * 2f64.powi(schema)).ceil() as i32;
            let mut parts = vec![(index(0.3), 1), (index(0.4), 1), (index(0.9), 1)];
            parts.sort_unstable();
            let buckets = read(&native(schema, &parts)).unwrap();
            let counts =
                [0.25, 0.125f64.sqrt(), 0.5, 0.5f64.sqrt(), 1.0, 32.0].map(|le| count_at(&buckets, le));
            assert_eq!(counts, [Some(0), Some(1), Some(2), Some(2), Some(3), Some(3)], "schema {schema}");
            assert_eq!((buckets.len(), buckets.last().unwrap()), (32, &(f64::INFINITY, 3)));
        }
    }

    #[test]
    fn a_coarse_schema_has_fewer_boundaries_and_nothing_is_interpolated() {
        let buckets = read(&native(0, &[(-1, 2), (0, 1)])).unwrap();
        assert_eq!((count_at(&buckets, 0.5), count_at(&buckets, 1.0)), (Some(2), Some(3)));
        assert_eq!((count_at(&buckets, 0.5f64.sqrt()), buckets.len()), (None, 17));
        let coarsest = read(&native(-2, &[(0, 3)])).unwrap();
        let les: Vec<f64> = coarsest.iter().map(|(le, _)| *le).collect();
        assert_eq!(les, [2f64.powi(-8), 2f64.powi(-4), 1.0, 16.0, f64::INFINITY]);
    }

    #[test]
    fn what_lies_around_zero_is_below_every_boundary_beyond_the_zero_bucket() {
        let text =
            r#"{"count":"9","sum":"1","buckets":[[1,"-2","-1","1"],[3,"-0.1","0.1","4"],[0,"0.5","1","2"]]}"#;
        let buckets = read(text).unwrap();
        assert_eq!(buckets[0], (0.125, 5), "no boundary within the zero bucket");
        assert_eq!((count_at(&buckets, 0.5), count_at(&buckets, 1.0)), (Some(5), Some(7)));
        assert_eq!(
            buckets.last(),
            Some(&(f64::INFINITY, 9)),
            "two observations were NaN: slower than everything"
        );
        assert_eq!(read(r#"{"count":"0","sum":"0"}"#).unwrap().len(), 32, "nothing counted yet");
    }

    #[test]
    fn milliseconds_are_read_where_seconds_would_be() {
        let native: Native<'_> = serde_json::from_str(
            r#"{"count":"3","sum":"1","buckets":[[0,"256","512","2"],[0,"512","1024","1"]]}"#,
        )
        .unwrap();
        let buckets = native.cumulative(1000.0).unwrap();
        let at = |le: f64| buckets.iter().find(|bucket| bucket.le == le).map(|bucket| bucket.count);
        assert_eq!((at(0.512), at(1.024)), (Some(2), Some(3)));
    }

    #[test]
    fn custom_boundaries_and_numbers_that_are_no_counts_are_refused() {
        for text in [
            r#"{"count":"3","sum":"1","buckets":[[0,"-Inf","0.1","3"]]}"#,
            r#"{"count":"3","sum":"1","buckets":[[0,"0.1","0.25","3"]]}"#,
            r#"{"count":"3","sum":"1","buckets":[[0,"0.5","1","1"],[0,"1","4","2"]]}"#,
            r#"{"count":"3.5","sum":"1","buckets":[]}"#,
            r#"{"count":"NaN","sum":"1","buckets":[]}"#,
            r#"{"count":"3","sum":"1","buckets":[[0,"0.5","1","-1"]]}"#,
            r#"{"count":"1","sum":"1","buckets":[[0,"0.5","1","2"]]}"#,
        ] {
            assert!(read(text).is_err(), "{text} was taken");
        }
    }
}
