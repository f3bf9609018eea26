//! The rules of an object, and the pair of versions in each; or what is missing, in words. Pure.

use kube::api::DynamicObject;
use serde_json::Value;

use super::arm::Arm;
use super::document::Document;
use super::object::Place;
use super::pair::{Backend, Number, Pair, Stable};
use super::weighted::{Choice, Pattern, StableArm, Weighted, is_called};
use crate::TargetError;

/// A document with the rules found in it.
pub(super) struct Rules<'a> {
    pub weighted: &'a Weighted,
    pub place: &'a Place,
    pub document: Document,
    pub paths: Vec<Vec<String>>,
    /// Entries of ours that stand before them in their list.
    pub before: usize,
}

impl Rules<'_> {
    pub fn pairs(&self, object: &DynamicObject) -> Result<Vec<Pair>, TargetError> {
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
        let title = self.document.title(&self.as_owned(rule));
        Ok(Some(Pair { title, stable, canary, others, total: weighted.total }))
    }

    /// As its owner would number it.
    fn as_owned(&self, rule: &[String]) -> Vec<String> {
        let mut rule = rule.to_vec();
        if let Some(last) = rule.last_mut()
            && let Some(number) =
                last.parse::<usize>().ok().and_then(|number| number.checked_sub(self.before))
        {
            *last = number.to_string();
        }
        rule
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
pub(super) fn expand(value: &Value, pattern: Pattern) -> Vec<Vec<String>> {
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
