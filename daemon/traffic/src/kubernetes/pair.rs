//! Two integer weights among the backends of one rule. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_rollout::Weight;

use super::document::Edit;
use super::object::Place;
use crate::TargetError;
use crate::share;

/// The pair within one rule or route.
#[derive(Debug)]
pub(crate) struct Pair {
    /// For people: `spec.rules[0]`.
    pub title: String,
    pub stable: Stable,
    pub canary: Backend,
    /// Weight of all the other backends together.
    pub others: u64,
    /// The pair's total for a weight, when nobody else has a share.
    pub total: fn(Weight) -> u64,
}

#[derive(Debug)]
pub(crate) enum Stable {
    Backend(Backend),
    /// What the canary leaves of a total that the object names.
    Rest {
        total: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Backend {
    /// Where its number stands.
    pub at: Vec<String>,
    pub number: Number,
    /// What a missing number counts as.
    pub absent: u64,
    /// What makes it this backend: fields of its entry and their values.
    pub identity: Vec<(Vec<String>, Value)>,
}

/// A weight as it was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Number {
    Written(u64),
    Absent,
    /// Nothing that we could read, and why; it can still be written over.
    Odd(String),
}

impl Backend {
    pub fn counts(&self) -> u64 {
        match &self.number {
            Number::Written(number) => *number,
            Number::Absent => self.absent,
            Number::Odd(_) => 0,
        }
    }

    fn written(&self) -> Option<u64> {
        match &self.number {
            Number::Written(number) => Some(*number),
            Number::Absent | Number::Odd(_) => None,
        }
    }
}

/// Both numbers, canary first.
pub(crate) type Parts = (u64, u64);

/// As kept in our annotation. It is put back only in the same place, and only if it says the same share.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Remembered {
    place: String,
    stable: Option<u64>,
    canary: Option<u64>,
}

impl Pair {
    pub fn parts(&self) -> Parts {
        let canary = self.canary.counts();
        match &self.stable {
            Stable::Backend(stable) => (canary, stable.counts()),
            Stable::Rest { total } => (canary, total.saturating_sub(canary)),
        }
    }

    fn present_total(&self) -> u64 {
        let (canary, stable) = self.parts();
        canary + stable
    }

    /// The numbers for a weight. With somebody else above 0 in the rule the pair keeps its total, so that their share stays.
    /// Rounded down: the canary never gets more than asked for.
    fn parts_for(&self, weight: Weight) -> Parts {
        let total = match &self.stable {
            Stable::Rest { total } => *total,
            Stable::Backend(_) if self.others > 0 => self.present_total(),
            Stable::Backend(_) => (self.total)(weight),
        };
        let canary = total * u64::from(weight.hundredths()) / 10_000;
        (canary, total - canary)
    }

    fn check(&self, place: &Place, weight: Weight) -> Result<(), TargetError> {
        // Nothing may stand in the way of taking the traffic away.
        if weight.is_zero() {
            return Ok(());
        }
        self.check_numbers(place)?;
        let (canary, stable) = self.parts_for(weight);
        if canary + stable == 0 {
            let why =
                format!("its pair has weight 0 beside others with {}; give stable a weight", self.others);
            return Err(place.unfit(&self.title, why));
        }
        if share::fits(canary, stable, weight) {
            return Ok(());
        }
        Err(TargetError::TooFine { asked: weight, finest: self.finest(place, canary + stable) })
    }

    fn check_numbers(&self, place: &Place) -> Result<(), TargetError> {
        for backend in self.backends() {
            if let Number::Odd(why) = &backend.number {
                return Err(place.unfit(&self.title, format!("{}: {why}", backend.at.join("."))));
            }
        }
        Ok(())
    }

    fn finest(&self, place: &Place, total: u64) -> String {
        let finest = format!("{:.2} % in {} of {}", 100.0 / total as f64, self.title, place.title());
        match (&self.stable, self.others) {
            (Stable::Rest { .. }, _) => format!("{finest}, whose weights are parts of {total}"),
            (Stable::Backend(_), 0) => format!("{finest}, whose weights sum to {total} at most"),
            (Stable::Backend(_), others) => format!(
                "{finest}, where the pair shares {total} beside other backends with {others}; raise all weights of the rule alike for a finer one"
            ),
        }
    }

    fn backends(&self) -> impl Iterator<Item = &Backend> {
        let stable = match &self.stable {
            Stable::Backend(stable) => Some(stable),
            Stable::Rest { .. } => None,
        };
        stable.into_iter().chain([&self.canary])
    }

    pub fn identity(&self) -> impl Iterator<Item = (Vec<String>, Value)> {
        self.backends().flat_map(|backend| backend.identity.iter().cloned())
    }

    fn remembered(&self) -> Remembered {
        let stable = match &self.stable {
            Stable::Backend(stable) => stable.written(),
            Stable::Rest { .. } => None,
        };
        Remembered { place: self.title.clone(), stable, canary: self.canary.written() }
    }

    fn write(&self, weight: Weight) -> Vec<Edit> {
        let (canary, stable) = self.parts_for(weight);
        self.edits(Some(canary), Some(stable))
    }

    fn edits(&self, canary: Option<u64>, stable: Option<u64>) -> Vec<Edit> {
        let mut edits = vec![Edit { at: self.canary.at.clone(), number: canary }];
        if let Stable::Backend(backend) = &self.stable {
            edits.push(Edit { at: backend.at.clone(), number: stable });
        }
        edits
    }

    /// Nothing where the same numbers stand, or another share than the one that was remembered.
    fn put_back(&self, remembered: &Remembered) -> Vec<Edit> {
        let canary = remembered.canary.unwrap_or(self.canary.absent);
        let stable = match &self.stable {
            Stable::Backend(stable) => remembered.stable.unwrap_or(stable.absent),
            Stable::Rest { total } => total.saturating_sub(canary),
        };
        let former = (canary, stable);
        if *remembered == self.remembered() || !same_share(former, self.parts()) {
            return Vec::new();
        }
        self.edits(remembered.canary, remembered.stable)
    }
}

pub(crate) fn check(place: &Place, pairs: &[Pair], weight: Weight) -> Result<(), TargetError> {
    pairs.iter().try_for_each(|pair| pair.check(place, weight))
}

/// What would be written for a weight, if every pair can express it.
pub(crate) fn numbers(place: &Place, pairs: &[Pair], weight: Weight) -> Option<Vec<Parts>> {
    check(place, pairs, weight).ok()?;
    Some(pairs.iter().map(|pair| pair.parts_for(weight)).collect())
}

/// The canary's share over all pairs. Where they disagree, the highest counts, unless it is no more than `meant`: then
/// somebody has put a part of it back, and the lowest shows that.
pub(crate) fn read(
    place: &Place,
    pairs: &[Pair],
    meant: Option<Weight>,
) -> Result<(Weight, String), TargetError> {
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs {
        shares.push(read_one(place, pair, meant)?);
    }
    let highest = shares.iter().copied().max().unwrap_or_default();
    let lowest = shares.iter().copied().min().unwrap_or_default();
    let canary = if meant.is_some_and(|meant| highest <= meant) { lowest } else { highest };
    let mut written: Vec<String> =
        pairs.iter().map(|pair| pair.parts()).map(|(c, s)| format!("{c}/{s}")).collect();
    written.dedup();
    Ok((canary, written.join(", ")))
}

fn read_one(place: &Place, pair: &Pair, meant: Option<Weight>) -> Result<Weight, TargetError> {
    pair.check_numbers(place)?;
    let (canary, stable) = pair.parts();
    if (canary, stable) == (0, 0) && pair.others > 0 {
        return Ok(Weight::ZERO);
    }
    match meant.filter(|meant| same_share(pair.parts_for(*meant), (canary, stable))) {
        Some(meant) => Ok(meant),
        None => Weight::of_parts(canary, stable).ok_or_else(|| {
            place.unfit(&pair.title, "both backends have weight 0; give stable a weight above 0")
        }),
    }
}

pub(crate) fn write(pairs: &[Pair], weight: Weight) -> Vec<Edit> {
    pairs.iter().flat_map(|pair| pair.write(weight)).collect()
}

pub(crate) fn original(pairs: &[Pair]) -> Option<Value> {
    let remembered: Vec<Remembered> = pairs.iter().map(Pair::remembered).collect();
    serde_json::to_value(remembered).ok()
}

pub(crate) fn put_back(pairs: &[Pair], original: &Value) -> Vec<Edit> {
    let remembered: Vec<Remembered> = serde_json::from_value(original.clone()).unwrap_or_default();
    let former = |pair: &Pair| remembered.iter().find(|former| former.place == pair.title);
    pairs.iter().filter_map(|pair| Some(pair.put_back(former(pair)?))).flatten().collect()
}

fn same_share(one: Parts, other: Parts) -> bool {
    let whole = |(canary, stable): Parts| canary + stable > 0;
    whole(one)
        && whole(other)
        && u128::from(one.0) * u128::from(other.1) == u128::from(other.0) * u128::from(one.1)
}
