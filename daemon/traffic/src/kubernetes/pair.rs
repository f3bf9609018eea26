//! Two integer weights in a list of backends, the way Gateway API and Istio write them. Pure.

use json_patch::PatchOperation;
use json_patch::jsonptr::PointerBuf;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_rollout::Weight;

use super::object::Place;
use super::patch::{add, path, remove, test};
use crate::TargetError;
use crate::share;

/// The pair within one rule or route.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// For people: `rules[0]`.
    pub title: String,
    /// Path of the list of backends.
    pub list: Vec<String>,
    pub stable: Backend,
    pub canary: Backend,
    /// Weight of all the other backends together.
    pub others: u64,
    /// What a missing weight counts as.
    pub absent: u64,
    /// The pair's total for a weight, when nobody else has a share.
    pub total: fn(Weight) -> u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Backend {
    pub index: usize,
    /// As written.
    pub weight: Option<u64>,
    /// What makes it this backend, below its entry: `name`, `namespace`, `port`, or `destination/host`.
    pub identity: Vec<(Vec<&'static str>, Value)>,
}

/// Both numbers, canary first.
type Parts = (u64, u64);

/// As kept in our annotation. It is put back only in the same place, and only if it says the same share.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Remembered {
    place: String,
    stable: Option<u64>,
    canary: Option<u64>,
}

impl Pair {
    pub fn parts(&self) -> Parts {
        (self.canary.weight.unwrap_or(self.absent), self.stable.weight.unwrap_or(self.absent))
    }

    fn present_total(&self) -> u64 {
        let (canary, stable) = self.parts();
        canary + stable
    }

    /// The numbers for a weight. With somebody else above 0 in the rule the pair keeps its total, so that their share stays.
    /// Rounded down: the canary never gets more than asked for.
    fn parts_for(&self, weight: Weight) -> Parts {
        let total = if self.others > 0 { self.present_total() } else { (self.total)(weight) };
        let canary = total * u64::from(weight.hundredths()) / 10_000;
        (canary, total - canary)
    }

    fn check(&self, place: &Place, weight: Weight) -> Result<(), TargetError> {
        let (canary, stable) = self.parts_for(weight);
        // Nothing may stand in the way of taking the traffic away.
        if weight.is_zero() {
            return Ok(());
        }
        if canary + stable == 0 {
            let why =
                format!("its pair has weight 0 beside others with {}; give stable a weight", self.others);
            return Err(place.unfit(&self.title, why));
        }
        if share::fits(canary, stable, weight) {
            return Ok(());
        }
        let total = self.present_total();
        let finest = format!(
            "{:.2} % in {} of {}, where the pair shares {total} beside other backends with {}; raise all weights of the rule alike for a finer one",
            100.0 / total as f64,
            self.title,
            place.title(),
            self.others
        );
        Err(TargetError::TooFine { asked: weight, finest })
    }

    fn at(&self, backend: &Backend, field: &[&str]) -> PointerBuf {
        let index = backend.index.to_string();
        path(self.list.iter().map(String::as_str).chain([index.as_str()]).chain(field.iter().copied()))
    }

    fn identity_tests(&self) -> impl Iterator<Item = PatchOperation> + '_ {
        [&self.stable, &self.canary].into_iter().flat_map(move |backend| {
            backend.identity.iter().map(move |(field, value)| test(self.at(backend, field), value.clone()))
        })
    }

    fn set(&self, backend: &Backend, weight: Option<u64>) -> Option<PatchOperation> {
        match (backend.weight, weight) {
            (present, wanted) if present == wanted => None,
            (_, Some(wanted)) => Some(add(self.at(backend, &["weight"]), wanted)),
            (Some(_), None) => Some(remove(self.at(backend, &["weight"]))),
            (None, None) => None,
        }
    }

    fn remembered(&self) -> Remembered {
        Remembered { place: self.title.clone(), stable: self.stable.weight, canary: self.canary.weight }
    }

    /// Tests, then both numbers. They are written even where they stand: what is there may be older than what was read.
    fn write(&self, weight: Weight) -> Vec<PatchOperation> {
        let (canary, stable) = self.parts_for(weight);
        let numbers = [(&self.canary, canary), (&self.stable, stable)];
        let numbers = numbers.map(|(backend, number)| add(self.at(backend, &["weight"]), number));
        self.identity_tests().chain(numbers).collect()
    }

    fn put_back(&self, remembered: &Remembered) -> Vec<PatchOperation> {
        let former = (remembered.canary.unwrap_or(self.absent), remembered.stable.unwrap_or(self.absent));
        let numbers = [self.set(&self.canary, remembered.canary), self.set(&self.stable, remembered.stable)];
        let numbers: Vec<PatchOperation> = numbers.into_iter().flatten().collect();
        if numbers.is_empty() || !same_share(former, self.parts()) {
            return Vec::new();
        }
        self.identity_tests().chain(numbers).collect()
    }
}

pub(crate) fn check(place: &Place, pairs: &[Pair], weight: Weight) -> Result<(), TargetError> {
    pairs.iter().try_for_each(|pair| pair.check(place, weight))
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

pub(crate) fn write(
    place: &Place,
    pairs: &[Pair],
    weight: Weight,
) -> Result<Vec<PatchOperation>, TargetError> {
    check(place, pairs, weight)?;
    Ok(pairs.iter().flat_map(|pair| pair.write(weight)).collect())
}

pub(crate) fn original(pairs: &[Pair]) -> Option<Value> {
    let remembered: Vec<Remembered> = pairs.iter().map(Pair::remembered).collect();
    serde_json::to_value(remembered).ok()
}

pub(crate) fn put_back(pairs: &[Pair], original: &Value) -> Vec<PatchOperation> {
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
