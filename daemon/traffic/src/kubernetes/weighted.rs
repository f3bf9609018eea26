//! Routers whose weights are integers beside the names of backends: most of them. Such a target is a description, and this file
//! reads, checks and writes any of them alike.
//!
//! ```text
//!   Weighted   where the rules stand, where the backends in them, which of those are the two versions
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
use super::object::{KindName, Place};
use super::pair::{self, Backend, Number, Pair, Stable};
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

    fn names(&self) -> &[String] {
        match self {
            Choice::All | Choice::Only { .. } => &[],
            Choice::Named(names) => names,
        }
    }

    fn includes(&self, index: usize, rule: &Value) -> bool {
        self.names().is_empty() || self.names().iter().any(|name| is_called(name, index, rule))
    }
}

/// By name, or by number from 0.
fn is_called(name: &str, index: usize, rule: &Value) -> bool {
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

/// A document with the rules found in it.
struct Rules<'a> {
    weighted: &'a Weighted,
    place: &'a Place,
    document: Document,
    paths: Vec<Vec<String>>,
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

    fn find(&self, place: &Place, object: &DynamicObject) -> Result<(Document, Vec<Pair>), TargetError> {
        let document = Document::read(&self.source, place, object)?;
        let paths = self.rules.iter().flat_map(|rule| expand(&document.json, rule)).collect();
        let rules = Rules { weighted: self, place, document, paths };
        let pairs = rules.pairs(object)?;
        Ok((rules.document, pairs))
    }
}

impl Rules<'_> {
    fn pairs(&self, object: &DynamicObject) -> Result<Vec<Pair>, TargetError> {
        let choice = &self.weighted.choice;
        let mut pairs = Vec::new();
        for (index, path) in self.paths.iter().enumerate() {
            if choice.includes(index, self.document.at(path)) {
                pairs.extend(self.pair(object, path)?);
            }
        }
        self.check_names()?;
        match (choice, pairs.len()) {
            (_, 0) => Err(self.place.unfit(&self.title(), self.what_is_missing())),
            (Choice::Only { field }, count @ 2..) => {
                let why = format!(
                    "{count} entries hold both versions; name those to write in target.{}.{field}",
                    self.weighted.word
                );
                Err(self.place.unfit(&self.title(), why))
            }
            (Choice::All | Choice::Only { .. } | Choice::Named(_), _) => Ok(pairs),
        }
    }

    /// The pair of a rule; none if a rule that was not named lacks one of the two.
    fn pair(&self, object: &DynamicObject, rule: &[String]) -> Result<Option<Pair>, TargetError> {
        let weighted = self.weighted;
        let entries = self.entries(rule);
        let canary = self.backend(rule, &entries, &weighted.canary)?;
        let stable = match &weighted.stable {
            StableArm::Backend(arm) => self.backend(rule, &entries, arm)?.map(Stable::Backend),
            StableArm::Rest(total) => Some(Stable::Rest { total: total(object) }),
        };
        let (stable, canary) = match (stable, canary) {
            (Some(stable), Some(canary)) => (stable, canary),
            (stable, _) if !weighted.choice.names().is_empty() => {
                let missing =
                    if stable.is_none() { self.stable_called() } else { weighted.canary.called.clone() };
                return Err(self.place.unfit(
                    &self.document.title(rule),
                    format!("there is no {missing}; add it, the canary with weight 0"),
                ));
            }
            _ => return Ok(None),
        };
        let others = self.others(&entries, &stable, &canary);
        let title = self.document.title(rule);
        Ok(Some(Pair { title, stable, canary, others, total: weighted.total }))
    }

    /// Where the backends of a rule stand.
    fn entries(&self, rule: &[String]) -> Vec<Vec<String>> {
        let patterns = self.weighted.backends.iter();
        let below = patterns.flat_map(|pattern| expand(self.document.at(rule), pattern));
        below.map(|path| [rule, &path].concat()).filter(|path| self.is_there(path)).collect()
    }

    /// The document itself may be absent (an annotation); an entry of it is there or is none.
    fn is_there(&self, entry: &[String]) -> bool {
        let is_mirror =
            self.weighted.not_a_backend.is_some_and(|field| *self.document.at(&below(entry, field)) == true);
        entry.is_empty() || !(self.document.at(entry).is_null() || is_mirror)
    }

    fn backend(
        &self,
        rule: &[String],
        entries: &[Vec<String>],
        arm: &Arm,
    ) -> Result<Option<Backend>, TargetError> {
        let fits = |entry: &&Vec<String>| {
            arm.is(entry.last().map_or("", String::as_str), self.document.at(entry), &self.place.namespace)
        };
        let mut found = entries.iter().filter(fits);
        let first = found.next();
        if first.is_some() && found.next().is_some() {
            let why = format!("there are several: {}; {}", arm.called, self.weighted.tell_apart);
            return Err(self.place.unfit(&self.document.title(rule), why));
        }
        Ok(first.map(|entry| self.as_backend(entry)))
    }

    fn as_backend(&self, entry: &[String]) -> Backend {
        let weighted = self.weighted;
        let at = self.weight_of(entry);
        let identity = weighted.identity.iter().map(|field| below(entry, field));
        let identity = identity.map(|at| (at.clone(), self.document.at(&at).clone()));
        Backend {
            number: number(self.document.at(&at), weighted.absent),
            at,
            absent: weighted.absent.unwrap_or(0),
            identity: identity.filter(|(_, value)| !value.is_null()).collect(),
        }
    }

    fn weight_of(&self, entry: &[String]) -> Vec<String> {
        let fields = self.weighted.weight.iter().map(|field| below(entry, field));
        let mut fields = fields.collect::<Vec<_>>().into_iter();
        let first = fields.next().unwrap_or_else(|| entry.to_vec());
        if self.document.at(&first).is_null() {
            return fields.find(|at| !self.document.at(at).is_null()).unwrap_or(first);
        }
        first
    }

    fn others(&self, entries: &[Vec<String>], stable: &Stable, canary: &Backend) -> u64 {
        let ours = |at: &Vec<String>| {
            *at == canary.at || matches!(stable, Stable::Backend(stable) if stable.at == *at)
        };
        let backends = entries.iter().map(|entry| self.as_backend(entry));
        backends.filter(|backend| !ours(&backend.at)).map(|backend| backend.counts()).sum()
    }

    fn check_names(&self) -> Result<(), TargetError> {
        let is_there = |name: &&String| {
            let mut rules = self.paths.iter().enumerate();
            rules.any(|(index, path)| is_called(name, index, self.document.at(path)))
        };
        let Some(name) = self.weighted.choice.names().iter().find(|name| !is_there(name)) else {
            return Ok(());
        };
        let names = self.paths.iter().filter_map(|path| self.document.at(path)["name"].as_str());
        let names: Vec<&str> = names.collect();
        let known = match names.as_slice() {
            [] => format!("{} without names; number them from 0", self.paths.len()),
            names => names.join(", "),
        };
        Err(self.place.unfit(&self.title(), format!("nothing there is called {name}; there are: {known}")))
    }

    /// Where rules stand: `spec.rules`.
    fn title(&self) -> String {
        let first = self.weighted.rules.first().copied().unwrap_or_default();
        let path: Vec<String> =
            first.iter().filter(|token| **token != "*").map(|t| (*t).to_owned()).collect();
        self.document.title(&path)
    }

    fn stable_called(&self) -> String {
        match &self.weighted.stable {
            StableArm::Backend(arm) => arm.called.clone(),
            StableArm::Rest(_) => "stable".to_owned(),
        }
    }

    fn what_is_missing(&self) -> String {
        let entries: Vec<Vec<String>> = self.paths.iter().flat_map(|rule| self.entries(rule)).collect();
        let holds = |arm: &Arm| {
            entries.iter().any(|entry| {
                arm.is(
                    entry.last().map_or("", String::as_str),
                    self.document.at(entry),
                    &self.place.namespace,
                )
            })
        };
        let canary = &self.weighted.canary;
        let (missing, other) = match &self.weighted.stable {
            StableArm::Backend(stable) if !holds(stable) => (stable, canary.called.clone()),
            StableArm::Backend(_) | StableArm::Rest(_) => (canary, self.stable_called()),
        };
        let near = entries.iter().find_map(|entry| missing.nearly(self.document.at(entry)));
        let hint = near.map(|name| format!(" (there is {name:?}: write the name in the same form)"));
        let list = self.weighted.backends.last().and_then(|list| list.iter().rfind(|token| **token != "*"));
        format!(
            "no {} beside {other}{}; add it{}, the canary with weight 0",
            missing.called,
            hint.unwrap_or_default(),
            list.map(|list| format!(" to {list}")).unwrap_or_default()
        )
    }
}

fn number(value: &Value, absent: Option<u64>) -> Number {
    match (value.as_u64(), absent) {
        (Some(number), _) => Number::Written(number),
        (None, Some(_)) if value.is_null() => Number::Absent,
        (None, None) if value.is_null() => {
            Number::Odd("no weight is written; write one, the canary 0".into())
        }
        (None, _) => Number::Odd(format!("{value} is no whole number from 0")),
    }
}

fn below(entry: &[String], field: Pattern) -> Vec<String> {
    entry.iter().cloned().chain(field.iter().map(|token| (*token).to_owned())).collect()
}

/// Every path that fits a pattern, in the document's order. A path without `*` fits whether it is there or not.
fn expand(value: &Value, pattern: Pattern) -> Vec<Vec<String>> {
    let Some((token, rest)) = pattern.split_first() else { return vec![Vec::new()] };
    let children: Vec<(String, &Value)> = match (*token, value) {
        ("*", Value::Array(list)) => {
            list.iter().enumerate().map(|(at, entry)| (at.to_string(), entry)).collect()
        }
        ("*", Value::Object(map)) => map.iter().map(|(key, entry)| (key.clone(), entry)).collect(),
        ("*", _) => Vec::new(),
        (field, value) => vec![(field.to_owned(), value.get(field).unwrap_or(&Value::Null))],
    };
    let paths = children.into_iter().flat_map(|(token, child)| {
        expand(child, rest).into_iter().map(move |path| [vec![token.clone()], path].concat())
    });
    paths.collect()
}

impl Kind for Weighted {
    fn check(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Result<(), TargetError> {
        let (_, pairs) = self.find(place, object)?;
        if !weight.is_zero() {
            (self.requires)(place, object)?;
        }
        pair::check(place, &pairs, weight)
    }

    fn read(
        &self,
        place: &Place,
        object: &DynamicObject,
        meant: Option<Weight>,
    ) -> Result<(Weight, String), TargetError> {
        pair::read(place, &self.find(place, object)?.1, meant)
    }

    fn write(
        &self,
        place: &Place,
        object: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError> {
        self.check(place, object, weight)?;
        let (document, pairs) = self.find(place, object)?;
        Ok(document.operations(pairs.iter().flat_map(Pair::identity), pair::write(&pairs, weight)))
    }

    fn original(&self, place: &Place, object: &DynamicObject) -> Option<Value> {
        pair::original(&self.find(place, object).ok()?.1)
    }

    fn put_back(&self, place: &Place, object: &DynamicObject, original: &Value) -> Vec<PatchOperation> {
        let Ok((document, pairs)) = self.find(place, object) else { return Vec::new() };
        let edits = pair::put_back(&pairs, original);
        if edits.is_empty() {
            return Vec::new();
        }
        document.operations(pairs.iter().flat_map(Pair::identity), edits)
    }
}
