//! One PromQL expression for many rollouts, and whose a row of its answer is.
//!
//! Selectors that differ in values only are merged: `app="a"` and `app="b"` become `app=~"a|b"`, the answer is grouped by
//! `app`, and each row goes to whoever's own matchers accept its labels. Requests, errors, buckets and the time of the
//! sample are parts of one expression, joined by `or` and told apart by a label of our own, so that they come from one
//! consistent read. Sums are per pod and container, never across pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
};

use sluice_analyzers::Arm;

use super::{
    Families,
    answer::Labels,
    selector::{Matcher, NAME, Op, Selector, literal},
};

/// The label that says which part of the expression a row is of, as `group:part`.
const PART: &str = "sluice_part";
/// Stands for the pod where no label names one.
pub(super) const INSTANCE: &str = "instance";

/// One version of one rollout: the place of its ask in the batch, and what is read of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) ask: usize,
    pub(super) arm: Arm,
    pub(super) families: &'a Families,
}

/// What a row's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Requests,
    Errors,
    Buckets,
    /// Whole histograms. Their rows are the only ones that may come without the label of ours: see [`Batch`].
    Native,
    /// Times of the oldest and the newest sample among the pod's series.
    First,
    Last,
    Up,
    Started,
}

impl Part {
    /// Whether its rows are counters, told apart by stratum.
    fn is_counted(self) -> bool {
        match self {
            Part::Requests | Part::Errors | Part::Buckets | Part::Native => true,
            Part::First | Part::Last | Part::Up | Part::Started => false,
        }
    }
}

/// `label_replace` turned native histograms into the number 0 until Prometheus 2.5x (seen in 2.42): the first branch of
/// them goes without, and is known by being histograms.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) slots: Vec<Slot<'a>>,
    pub(super) query: String,
    parts: Vec<Branch<'a>>,
    /// The branch whose rows have no label of ours.
    bare: Option<usize>,
}

/// One operand of the `or`s.
#[derive(Debug)]
struct Branch<'a> {
    part: Part,
    /// Labels by which its rows are told apart.
    differing: Vec<&'a str>,
    /// Whose it may be, with the matchers of the differing labels.
    owners: Vec<(usize, Vec<&'a Matcher>)>,
    known: HashMap<Vec<String>, Vec<usize>>,
}

impl<'a> Batch<'a> {
    pub(super) fn of(slots: Vec<Slot<'a>>) -> Batch<'a> {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, slot) in slots.iter().enumerate() {
            groups.entry(slot.families.template_key()).or_default().push(place);
        }
        let mut batch = Batch { slots, query: String::new(), parts: Vec::new(), bare: None };
        for group in groups.values() {
            batch.add_group(group);
        }
        batch
    }

    /// Whose row this is, and what it says. Rows of nobody (a merged query may reach further) are nobody's.
    pub(super) fn owners(&mut self, labels: &Labels<'_>) -> Option<(Part, &[usize])> {
        let branch = match labels.get(PART) {
            "" => self.bare?,
            number => number.parse::<usize>().ok()?,
        };
        let branch = self.parts.get_mut(branch)?;
        let values: Vec<String> = branch.differing.iter().map(|label| labels.get(label).to_owned()).collect();
        let Branch { part, owners, known, .. } = branch;
        let found = known.entry(values).or_insert_with_key(|values| {
            let accepts =
                |matchers: &[&Matcher]| matchers.iter().zip(values).all(|(m, value)| m.matches(value));
            owners.iter().filter(|(_, matchers)| accepts(matchers)).map(|(slot, _)| *slot).collect()
        });
        Some((*part, found))
    }

    fn add_group(&mut self, group: &[usize]) {
        let Some(first) = group.first().map(|place| self.slots[*place].families) else { return };
        self.add(group, Part::Requests, "sum", "", |f| Some(&f.requests));
        self.add(group, Part::Errors, "sum", "", |f| Some(&f.errors));
        self.add(group, Part::Buckets, "sum", "", |f| f.buckets.as_ref());

        self.add_times(group, |f| Some(&f.requests), "");
        if !first.errors.narrows(&first.requests) {
            self.add_times(group, |f| Some(&f.errors), "");
        }
        // All buckets of a pod are written together, so that one of them tells the time of all.
        self.add_times(group, |f| f.buckets.as_ref(), "le=\"+Inf\"");
        self.add(group, Part::Up, "max", "timestamp", |f| f.up.as_ref());
        self.add(group, Part::Started, "max", "", |f| f.started.as_ref());
        self.add(group, Part::Native, "sum", "", |f| f.native.as_ref());
        self.add_times(group, |f| f.native.as_ref(), "");
    }

    fn add_times(&mut self, group: &[usize], of: fn(&Families) -> Option<&Selector>, more: &str) {
        let more = Selector::parse_matchers(more).unwrap_or_default();
        for (part, aggregate) in [(Part::First, "min"), (Part::Last, "max")] {
            self.add_with(group, part, aggregate, "timestamp", of, &more);
        }
    }

    fn add(
        &mut self,
        group: &[usize],
        part: Part,
        aggregate: &str,
        function: &str,
        of: fn(&Families) -> Option<&Selector>,
    ) {
        self.add_with(group, part, aggregate, function, of, &[]);
    }

    fn add_with(
        &mut self,
        group: &[usize],
        part: Part,
        aggregate: &str,
        function: &str,
        of: fn(&Families) -> Option<&Selector>,
        more: &[Matcher],
    ) {
        let owned: Option<Vec<(usize, &'a Selector)>> =
            group.iter().map(|place| Some((*place, of(self.slots[*place].families)?))).collect();
        let Some(owned) = owned.filter(|owned| !owned.is_empty()) else { return };
        let (merged, differing) = merge(&owned);
        let merged = merged.with(more);
        let by = self.grouping(group, part, &differing);
        let inner = inner(part, function, &merged);
        let number = self.parts.len();
        let or = if number == 0 { "" } else { "\nor " };
        // Writing to a String does not fail.
        let _ = if part == Part::Native && self.bare.is_none() {
            self.bare = Some(number);
            write!(self.query, "{or}{aggregate} by ({by}) ({inner})")
        } else {
            write!(
                self.query,
                "{or}label_replace({aggregate} by ({by}) ({inner}),\"{PART}\",\"{number}\",\"\",\"\")"
            )
        };
        let owners =
            owned.iter().map(|(place, selector)| (*place, matchers_of(selector, &differing))).collect();
        self.parts.push(Branch { part, differing, owners, known: HashMap::new() });
    }

    fn grouping(&self, group: &[usize], part: Part, differing: &[&str]) -> String {
        let pod_labels = group.first().map_or(&[][..], |place| &self.slots[*place].families.pod_labels);
        let mut by: BTreeSet<&str> = differing.iter().copied().collect();
        by.extend(pod_labels.iter().map(String::as_str));
        by.insert(INSTANCE);
        if part.is_counted() {
            let strata = group.first().map_or(&[][..], |place| &self.slots[*place].families.strata);
            by.extend(strata.iter().map(String::as_str));
        }
        if part == Part::Buckets {
            by.insert("le");
        }
        if part == Part::Native {
            let errors = group.first().map_or(&[][..], |place| &self.slots[*place].families.native_errors);
            by.extend(errors.iter().map(|matcher| matcher.label.as_str()));
        }
        by.into_iter().collect::<Vec<_>>().join(",")
    }
}

/// A target that could not be scraped has `up` 0: it does not stand.
fn inner(part: Part, function: &str, selector: &Selector) -> String {
    match (part, function) {
        (Part::Up, _) if selector.metric() == Some("up") => {
            format!("timestamp({selector}) and {selector} == 1")
        }
        (_, "") => selector.to_string(),
        (_, function) => format!("{function}({selector})"),
    }
}

fn matchers_of<'a>(selector: &'a Selector, differing: &[&str]) -> Vec<&'a Matcher> {
    let of = |label: &&str| selector.matchers.iter().find(|matcher| matcher.label == **label);
    differing.iter().filter_map(of).collect()
}

/// One selector that covers them all, and the labels in which they differ. They have one template, so their matchers
/// stand in the same places.
fn merge<'a>(owned: &[(usize, &'a Selector)]) -> (Selector, Vec<&'a str>) {
    let Some((_, first)) = owned.first() else { return (Selector { matchers: Vec::new() }, Vec::new()) };
    let (mut matchers, mut differing) = (Vec::new(), Vec::new());
    for (place, matcher) in first.matchers.iter().enumerate() {
        let values: BTreeSet<(Op, &str)> = owned
            .iter()
            .filter_map(|(_, s)| s.matchers.get(place))
            .map(|m| (m.op, m.value.as_str()))
            .collect();
        if values.len() == 1 || matcher.label == NAME {
            matchers.push(matcher.clone());
            continue;
        }
        differing.push(matcher.label.as_str());
        let pattern: Vec<String> = values.iter().map(|(op, value)| alternative(*op, value)).collect();
        matchers.push(Matcher::to_be_asked(&matcher.label, pattern.join("|")));
    }
    (Selector { matchers }, differing)
}

fn alternative(op: Op, value: &str) -> String {
    if op == Op::Is { literal(value) } else { format!("(?:{value})") }
}
