//! Routers whose weights are integers beside the names of backends: most of them. Such a target is a description, and this file
//! reads, checks and writes any of them alike.
//!
//! ```text
//!   Weighted   where the rules stand, where the backends in them, which of those are the two versions
//!      │
//!   Rules      what is found of that in an object, or what is missing there
//!      │
//!   Pair       both numbers of a rule, and what the others there have
//!      │
//!   Document   the object's own fields, or JSON in an annotation
//! ```

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::Weight;

use super::document::{Document, Source};
use super::object::{Change, KindName, Place};
use super::pair::{self, Pair};
use super::rules::{Rules, expand};
use super::testers::{self, Door};
use super::{Kind, arm::Arm};
use crate::TargetError;
use crate::share;

/// Fields from the outside in; `*` is every entry of a list (or of a map).
pub(crate) type Pattern = &'static [&'static str];

/// What one kind of router looks like, and what a policy says of one.
#[derive(Debug, Clone)]
pub(crate) struct Weighted {
    pub kind: KindName,
    /// The target's word in a policy, for errors: `httpRoute`.
    pub word: &'static str,
    pub source: Source,
    pub rules: &'static [Pattern],
    /// Below a rule.
    pub backends: &'static [Pattern],
    /// An entry in which this field is true is none (a mirror).
    pub not_a_backend: Option<Pattern>,
    /// Below a backend: the first that is there, or the first.
    pub weight: &'static [Pattern],
    /// What a weight that is not written counts as; `None` where that is not to be relied on.
    pub absent: Option<u64>,
    /// The total to write for a weight, when nobody else has a share.
    pub total: fn(Weight) -> u64,
    /// Fields below a backend that every patch tests.
    pub identity: &'static [Pattern],
    pub stable: StableArm,
    pub canary: Arm,
    pub choice: Choice,
    /// What helps where several backends fit one version.
    pub tell_apart: &'static str,
    /// What must hold before the weight may rise.
    pub requires: fn(&Place, &DynamicObject) -> Result<(), TargetError>,
    /// Where the policy names testers.
    pub door: Option<Door>,
}

/// What there is in an object.
struct Found {
    document: Document,
    pairs: Vec<Pair>,
    /// Entries that send testers alone, to the canary alone: ours, or their owner's.
    for_testers: Vec<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) enum StableArm {
    Backend(Arm),
    /// Only the canary's weight is written: stable has what is left of this total.
    Rest(fn(&DynamicObject) -> u64),
}

/// Which rules are written.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// All that hold both versions.
    All,
    /// The only one that does; names are needed (in this field of the target) if there are more.
    Only { field: &'static str },
    /// By name, or by number from 0.
    Named(Vec<String>),
}

impl Choice {
    pub fn all_or(names: &[String]) -> Choice {
        if names.is_empty() { Choice::All } else { Choice::Named(names.to_vec()) }
    }

    pub fn only_or(names: &[String], field: &'static str) -> Choice {
        if names.is_empty() { Choice::Only { field } } else { Choice::Named(names.to_vec()) }
    }

    pub(super) fn names(&self) -> &[String] {
        match self {
            Choice::All | Choice::Only { .. } => &[],
            Choice::Named(names) => names,
        }
    }

    pub(super) fn includes(&self, index: usize, rule: &Value) -> bool {
        self.names().is_empty() || self.names().iter().any(|name| is_called(name, index, rule))
    }
}

/// By name, or by number from 0.
pub(super) fn is_called(name: &str, index: usize, rule: &Value) -> bool {
    rule["name"] == name || name.parse() == Ok(index)
}

/// Nothing.
pub(crate) fn requires_nothing(_: &Place, _: &DynamicObject) -> Result<(), TargetError> {
    Ok(())
}

/// 100 for whole percents, hundredths of a percent otherwise: the numbers can be read, and every weight is exact.
pub(crate) fn percent_or_finer(weight: Weight) -> u64 {
    if weight.hundredths().is_multiple_of(100) { 100 } else { 10_000 }
}

/// The smallest total, from `least` up, of which a weight is said to a hundredth of a percent (finer there is none) by two numbers
/// up to `most`; else the one that comes nearest from below.
pub(crate) fn smallest_total(weight: Weight, least: u64, most: u64) -> u64 {
    let share = u64::from(weight.hundredths());
    if share == 0 || weight == Weight::FULL {
        return least;
    }
    let parts = |total: u64| (total * share / 10_000, total - total * share / 10_000);
    let can_be_written = |total: &u64| {
        let (canary, stable) = parts(*total);
        (1..=most).contains(&canary) && (1..=most).contains(&stable)
    };
    // The miss, times total and 10,000.
    let miss = |total: u64| total * share - parts(total).0 * 10_000;
    let mut totals = (least.max(2)..=2 * most).filter(can_be_written).peekable();
    let first = totals.peek().copied().unwrap_or(least);
    let nearer = |best: u64, next: u64| if miss(next) * best < miss(best) * next { next } else { best };
    let mut best = first;
    for total in totals {
        best = nearer(best, total);
        if miss(best) < best {
            break;
        }
    }
    best
}

impl Weighted {
    /// Whether the finest numbers that such an object takes say this weight. What stands in it may allow less.
    pub fn can_ever_express(&self, weight: Weight) -> bool {
        match &self.stable {
            StableArm::Rest(_) => true,
            StableArm::Backend(_) => {
                let total = (self.total)(weight);
                let canary = total * u64::from(weight.hundredths()) / 10_000;
                share::fits(canary, total - canary, weight)
            }
        }
    }

    fn find(&self, place: &Place, object: &DynamicObject) -> Result<Found, TargetError> {
        let document = Document::read(&self.source, place, object)?;
        let mut paths: Vec<Vec<String>> =
            self.rules.iter().flat_map(|rule| expand(&document.json, rule)).collect();
        let door = self.door.as_ref();
        let is_canary = |backend: &Value| self.canary.is("", backend, &place.namespace);
        let is_for_testers = |path: &Vec<String>| {
            door.and_then(|door| door.only_backend(document.at(path))).is_some_and(is_canary)
        };
        let for_testers: Vec<Vec<String>> =
            paths.iter().filter(|path| is_for_testers(path)).cloned().collect();
        let mut before = 0;
        if testers::are_open(object) {
            paths.retain(|path| !is_for_testers(path));
            before = door.map_or(0, |door| door.before_others(for_testers.len()));
        }
        let rules = Rules { weighted: self, place, document, paths, before };
        let pairs = rules.pairs(object)?;
        Ok(Found { document: rules.document, pairs, for_testers })
    }
}

impl Kind for Weighted {
    fn check(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Result<(), TargetError> {
        let pairs = self.find(place, object)?.pairs;
        if !weight.is_zero() {
            (self.requires)(place, object)?;
        }
        pair::check(place, &pairs, weight)
    }

    fn nearest(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Vec<Weight> {
        let Ok(Found { pairs, .. }) = self.find(place, object) else { return Vec::new() };
        share::nearest(weight, |weight| pair::numbers(place, &pairs, weight))
    }

    fn read(
        &self,
        place: &Place,
        object: &DynamicObject,
        meant: Option<Weight>,
    ) -> Result<(Weight, String), TargetError> {
        pair::read(place, &self.find(place, object)?.pairs, meant)
    }

    fn write(
        &self,
        place: &Place,
        object: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError> {
        self.check(place, object, weight)?;
        let Found { document, pairs, .. } = self.find(place, object)?;
        Ok(document.operations(pairs.iter().flat_map(Pair::identity), pair::write(&pairs, weight)))
    }

    fn original(&self, place: &Place, object: &DynamicObject) -> Option<Value> {
        pair::original(&self.find(place, object).ok()?.pairs)
    }

    fn put_back(&self, place: &Place, object: &DynamicObject, original: &Value) -> Vec<PatchOperation> {
        let Ok(Found { document, pairs, .. }) = self.find(place, object) else { return Vec::new() };
        let edits = pair::put_back(&pairs, original);
        if edits.is_empty() {
            return Vec::new();
        }
        document.operations(pairs.iter().flat_map(Pair::identity), edits)
    }

    fn testers(&self, place: &Place, object: &DynamicObject, open: bool) -> Result<Change, TargetError> {
        let Some(door) = &self.door else { return Ok(Change::default()) };
        let found = self.find(place, object)?;
        if !open {
            return Ok(door.close(object, &found.document.json, &found.for_testers));
        }
        let canaries: Vec<&[String]> = found.pairs.iter().map(|pair| pair.canary.at.as_slice()).collect();
        door.open(place, object, &found.document.json, &canaries, !found.for_testers.is_empty())
    }
}
