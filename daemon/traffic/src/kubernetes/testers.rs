//! Testers' requests go to the canary at any weight, where the router can tell them by header or cookie. Pure.
//!
//! ```text
//!   a rule of both versions        our copy of it: also matches the header, sends all to the canary
//!        │                              │
//!   stays as its owner wrote it    added with a write, taken away with an abort and at the end
//! ```
//!
//! A list is never replaced: one entry is added to it, and removed again after a test that it is still the one. The annotation
//! [`TESTERS`] says that entries of this form are ours; without it they are their owner's, and stay. Numbers of rules count
//! without ours, so that names in a policy mean the same before, during and after.

use json_patch::PatchOperation;
use json_patch::jsonptr::PointerBuf;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_wire::policy::{NameValue, Testers};

use super::document::annotation_title;
use super::marks::{annotation, same_generation};
use super::object::{Change, Place};
use super::patch::{add, path, remove, test};
use crate::TargetError;

/// What testers' requests carry, where we have opened the canary to them.
pub(crate) const TESTERS: &str = "sluice.dev/testers";

/// How a kind of router is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// HTTPRoute, GRPCRoute: `matches[].headers`. The rule with more headers wins, wherever it stands
    /// (<https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule>).
    GatewayApi,
    /// VirtualService: `match[].headers`. The first rule that matches wins
    /// (<https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPMatchRequest>).
    Istio,
    /// HTTPProxy: `conditions[].header`. The rule with more conditions wins
    /// (<https://projectcontour.io/docs/1.33/config/request-routing/>).
    Contour,
    /// The canary's Ingress: annotations `canary-by-header` and `canary-by-cookie`, before its weight
    /// (<https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary>).
    Nginx,
}

const BY_HEADER: &str = "nginx.ingress.kubernetes.io/canary-by-header";
const BY_HEADER_VALUE: &str = "nginx.ingress.kubernetes.io/canary-by-header-value";
const BY_COOKIE: &str = "nginx.ingress.kubernetes.io/canary-by-cookie";

/// Whether testers have been let in by us.
pub(crate) fn are_open(object: &DynamicObject) -> bool {
    annotation(object, TESTERS).is_some()
}

/// What a policy asks of such a router.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub form: Form,
    pub testers: Testers,
}

impl Door {
    /// The one backend of an entry that has the form of ours: it matches testers alone.
    pub fn only_backend<'a>(&self, rule: &'a Value) -> Option<&'a Value> {
        let (matches, backends) = self.fields()?;
        let matches = rule[matches].as_array().map(Vec::as_slice).unwrap_or_default();
        let [backend] = rule[backends].as_array()?.as_slice() else { return None };
        let is_for_testers = match self.form {
            Form::GatewayApi => {
                let header = self.header();
                let has = |one: &Value| one["headers"].as_array().is_some_and(|list| list.contains(&header));
                !matches.is_empty() && matches.iter().all(has)
            }
            Form::Istio => {
                let (name, expected) = self.istio();
                !matches.is_empty() && matches.iter().all(|one| one["headers"][name.as_str()] == expected)
            }
            Form::Contour => matches.contains(&self.header()),
            Form::Nginx => false,
        };
        is_for_testers.then_some(backend)
    }

    /// How many of our entries, of `count`, stand before their owner's.
    pub fn before_others(&self, count: usize) -> usize {
        match self.form {
            Form::Istio => count,
            Form::GatewayApi | Form::Contour | Form::Nginx => 0,
        }
    }

    /// Adds a copy of each rule. `canaries`: where the canary's weights stand in them; `is_there`: an entry for testers stands
    /// there, with our mark ours, without it the owner's, who has let them in already.
    pub fn open(
        &self,
        place: &Place,
        object: &DynamicObject,
        json: &Value,
        canaries: &[&[String]],
        is_there: bool,
    ) -> Result<Change, TargetError> {
        if self.form == Form::Nginx {
            return self.open_by_annotation(place, object);
        }
        if is_there {
            return Ok(Change::default());
        }
        // What is copied must be what stands there.
        let mut operations: Vec<PatchOperation> = same_generation(object).into_iter().collect();
        for rule in canaries.iter().filter_map(|weight| Rule::of(weight)) {
            let copy = self.copy(at(json, rule.rule), at(json, rule.canary));
            let copy = copy.map_err(|why| place.unfit(&rule.rule.join("."), why))?;
            operations.push(add(self.place_of(rule.list), copy));
        }
        if !operations.iter().any(|operation| matches!(operation, PatchOperation::Add(_))) {
            let why = "none of its rules can tell requests by a header; leave spec.testers out";
            return Err(place.unfit("spec", why));
        }
        Ok(Change { operations, annotations: vec![(TESTERS, Some(self.testers.told()))] })
    }

    /// The owner's own are not written over.
    fn open_by_annotation(&self, place: &Place, object: &DynamicObject) -> Result<Change, TargetError> {
        let wanted = self.annotations();
        let theirs = [BY_HEADER, BY_HEADER_VALUE, BY_COOKIE]
            .into_iter()
            .find(|name| annotation(object, name).is_some());
        if let Some(name) = theirs.filter(|_| !are_open(object)) {
            let why =
                "the canary is open to testers by this already; take it away, or leave spec.testers out";
            return Err(place.unfit(&annotation_title(name), why));
        }
        let all = wanted.into_iter().map(|(name, value)| (name, Some(value)));
        Ok(Change {
            operations: Vec::new(),
            annotations: all.chain([(TESTERS, Some(self.testers.told()))]).collect(),
        })
    }

    fn annotations(&self) -> Vec<(&'static str, String)> {
        match &self.testers {
            Testers::Header(NameValue { name, value }) => {
                vec![(BY_HEADER, name.clone()), (BY_HEADER_VALUE, value.clone())]
            }
            Testers::Cookie(NameValue { name, .. }) => vec![(BY_COOKIE, name.clone())],
        }
    }

    /// Takes our entries away: the last one first, so that the numbers of the others hold.
    pub fn close(&self, object: &DynamicObject, json: &Value, for_testers: &[Vec<String>]) -> Change {
        if !are_open(object) {
            return Change::default();
        }
        let mut annotations = vec![(TESTERS, None)];
        if self.form == Form::Nginx {
            annotations.extend(self.annotations().into_iter().map(|(name, _)| (name, None)));
        }
        let operations = for_testers.iter().rev().flat_map(|entry| {
            let place = || path(entry.iter().map(String::as_str));
            [test(place(), at(json, entry).clone()), remove(place())]
        });
        Change { operations: operations.collect(), annotations }
    }

    /// Fields of a rule: its matches, its backends.
    fn fields(&self) -> Option<(&'static str, &'static str)> {
        match self.form {
            Form::GatewayApi => Some(("matches", "backendRefs")),
            Form::Istio => Some(("match", "route")),
            Form::Contour => Some(("conditions", "services")),
            Form::Nginx => None,
        }
    }

    /// Behind all others, or before them where the first match wins.
    fn place_of(&self, list: &[String]) -> PointerBuf {
        let token = if self.before_others(1) > 0 { "0" } else { "-" };
        path(list.iter().map(String::as_str).chain([token]))
    }

    fn copy(&self, rule: &Value, canary: &Value) -> Result<Value, String> {
        let (matches, backends) = self.fields().ok_or("its router is told by annotations")?;
        let mut copy = rule.clone();
        let fields = copy.as_object_mut().ok_or("it is no rule")?;
        // Names are given once.
        fields.remove("name");
        let mut backend = canary.clone();
        if let Some(backend) = backend.as_object_mut() {
            backend.insert("weight".to_owned(), self.whole().into());
        }
        fields.insert(backends.to_owned(), json!([backend]));
        let present = rule[matches].as_array().cloned().unwrap_or_default();
        fields.insert(matches.to_owned(), Value::Array(self.narrowed(present)?));
        Ok(copy)
    }

    /// A weight that is all of them.
    fn whole(&self) -> u64 {
        match self.form {
            Form::GatewayApi | Form::Contour | Form::Nginx => 1,
            Form::Istio => 100,
        }
    }

    /// The owner's matches, each with the testers' header as well.
    fn narrowed(&self, mut matches: Vec<Value>) -> Result<Vec<Value>, String> {
        match self.form {
            Form::Contour => matches.push(self.header()),
            Form::GatewayApi | Form::Istio | Form::Nginx => {
                if matches.is_empty() {
                    matches.push(json!({}));
                }
                for one in &mut matches {
                    self.narrow(one)?;
                }
            }
        }
        Ok(matches)
    }

    fn narrow(&self, one: &mut Value) -> Result<(), String> {
        let (name, expected) = self.istio();
        let used =
            || format!("it matches header {name} already, by which testers are to be told; choose another");
        let headers = match self.form {
            Form::Istio => one.as_object_mut().map(|one| one.entry("headers").or_insert_with(|| json!({}))),
            Form::GatewayApi | Form::Contour | Form::Nginx => {
                one.as_object_mut().map(|one| one.entry("headers").or_insert_with(|| json!([])))
            }
        };
        match headers {
            Some(Value::Object(headers)) if headers.contains_key(&name) => Err(used()),
            Some(Value::Object(headers)) => {
                headers.insert(name, expected);
                Ok(())
            }
            Some(Value::Array(headers)) => {
                let same =
                    |one: &Value| one["name"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(&name));
                if headers.iter().any(same) {
                    return Err(used());
                }
                headers.push(self.header());
                Ok(())
            }
            Some(_) | None => Err("its matches cannot be read".to_owned()),
        }
    }

    /// As Gateway API and Contour write it.
    fn header(&self) -> Value {
        match (&self.testers, self.form) {
            (Testers::Header(NameValue { name, value }), Form::Contour) => {
                json!({"header": {"name": name, "exact": value}})
            }
            (Testers::Header(NameValue { name, value }), Form::GatewayApi | Form::Istio | Form::Nginx) => {
                json!({"type": "Exact", "name": name, "value": value})
            }
            (Testers::Cookie(pair), Form::Contour) => {
                json!({"header": {"name": "Cookie", "regex": expression(pair)}})
            }
            (Testers::Cookie(pair), Form::GatewayApi | Form::Istio | Form::Nginx) => {
                json!({"type": "RegularExpression", "name": "Cookie", "value": expression(pair)})
            }
        }
    }

    /// Header and condition as Istio writes them; its header names are in lower case.
    fn istio(&self) -> (String, Value) {
        match &self.testers {
            Testers::Header(NameValue { name, value }) => {
                (name.to_ascii_lowercase(), json!({"exact": value}))
            }
            Testers::Cookie(pair) => ("cookie".to_owned(), json!({"regex": expression(pair)})),
        }
    }
}

/// Where the parts of a rule stand, told by the place of its canary's weight.
struct Rule<'a> {
    list: &'a [String],
    rule: &'a [String],
    canary: &'a [String],
}

impl Rule<'_> {
    /// `…list, number, backends, number, weight`; a part without a number (`tcpproxy`) is no rule of a list.
    fn of(weight: &[String]) -> Option<Rule<'_>> {
        let canary = weight.get(..weight.len().checked_sub(1)?)?;
        let rule = canary.get(..canary.len().checked_sub(2)?)?;
        let (number, list) = rule.split_last()?;
        number.parse::<usize>().ok().map(|_| Rule { list, rule, canary })
    }
}

/// A header `Cookie` with this one in it, from its beginning to its end. Names and values are plain (`Testers::wrong`), but for dots.
fn expression(NameValue { name, value }: &NameValue) -> String {
    format!("^(.*;\\s*)?{name}={}(;.*)?$", value.replace('.', "\\."))
}

fn at<'a>(json: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(json, |value, token| match value {
        Value::Array(list) => token.parse::<usize>().ok().and_then(|at| list.get(at)).unwrap_or(&Value::Null),
        other => other.get(token).unwrap_or(&Value::Null),
    })
}
