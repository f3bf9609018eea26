//! A plain PromQL selector, `name{label="value",…}`: read, written, and asked whether labels match.
//!
//! Only selectors are accepted, since only they name raw counters; anything more (a range, a function, an operator) is
//! refused with its place. Source: Prometheus, "Querying basics", time series selectors; its regular expressions are
//! RE2's and anchored at both ends.

use std::{fmt, sync::Arc};

use regex::Regex;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
}

/// The name of a metric is a matcher of `__name__`.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    pub(crate) op: Op,
    pub(crate) value: String,
    /// Only for `=~` and `!~`.
    /// Shared by clones: a compiled expression is large, and each clone of a `Regex` grows a scratch space of its own.
    pattern: Option<Arc<Regex>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Is,
    Not,
    Like,
    Unlike,
}

/// Where a text stops being a selector, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {place}: {why}")]
pub(crate) struct SelectorError {
    pub(crate) place: usize,
    pub(crate) why: String,
}

pub(crate) const NAME: &str = "__name__";

impl Selector {
    pub(crate) fn of(metric: &str, matchers: Vec<Matcher>) -> Selector {
        let name = Matcher::is(NAME, metric);
        Selector { matchers: std::iter::once(name).chain(matchers).collect() }
    }

    pub(crate) fn parse(text: &str) -> Result<Selector, SelectorError> {
        Reader { text, at: 0 }.selector()
    }

    /// `label="value", …` without a name and braces.
    pub(crate) fn parse_matchers(text: &str) -> Result<Vec<Matcher>, SelectorError> {
        let mut reader = Reader { text, at: 0 };
        let matchers = reader.matchers()?;
        reader.end("expected another matcher like code=~\"5..\"")?;
        Ok(matchers)
    }

    /// Labels as an exposition writes them, up to the closing brace, and what stands behind it.
    pub(crate) fn parse_labels(text: &str) -> Result<(Vec<Matcher>, &str), SelectorError> {
        let mut reader = Reader { text, at: 0 };
        let labels = reader.matchers()?;
        reader.space();
        if !reader.take('}') {
            return Err(reader.wrong("expected , or } after a label"));
        }
        Ok((labels, &text[reader.at..]))
    }

    pub(crate) fn with(&self, more: &[Matcher]) -> Selector {
        let mut matchers = self.matchers.clone();
        matchers.extend(more.iter().cloned());
        Selector { matchers }
    }

    /// Whether every series of `self` is one of `wider`, too, seen from the matchers alone.
    pub(crate) fn narrows(&self, wider: &Selector) -> bool {
        wider.matchers.iter().all(|matcher| self.matchers.contains(matcher))
    }

    /// The metric's name, if it is one.
    pub(crate) fn metric(&self) -> Option<&str> {
        let name = self.matchers.iter().find(|matcher| matcher.label == NAME && matcher.op == Op::Is)?;
        Some(&name.value)
    }
}

impl Matcher {
    pub(crate) fn is(label: &str, value: &str) -> Matcher {
        Matcher { label: label.to_owned(), op: Op::Is, value: value.to_owned(), pattern: None }
    }

    /// `Err` with the reason if `value` is no regular expression.
    pub(crate) fn new(label: &str, op: Op, value: &str) -> Result<Matcher, String> {
        let pattern = match op {
            Op::Is | Op::Not => None,
            Op::Like | Op::Unlike => Some(Arc::new(anchored(value)?)),
        };
        Ok(Matcher { label: label.to_owned(), op, value: value.to_owned(), pattern })
    }

    /// The same of another label.
    pub(crate) fn of(self, label: &str) -> Matcher {
        Matcher { label: label.to_owned(), ..self }
    }

    /// An expression for a query's text alone, made of alternatives that were compiled each: here it matches nothing.
    pub(crate) fn to_be_asked(label: &str, value: String) -> Matcher {
        Matcher { label: label.to_owned(), op: Op::Like, value, pattern: None }
    }

    /// A missing label counts as empty, as it does in Prometheus.
    pub(crate) fn matches(&self, value: &str) -> bool {
        let like = || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(value));
        match self.op {
            Op::Is => self.value == value,
            Op::Not => self.value != value,
            Op::Like => like(),
            Op::Unlike => !like(),
        }
    }
}

fn anchored(value: &str) -> Result<Regex, String> {
    const MOST_BYTES: usize = 1 << 20;
    let pattern = format!("^(?s:{value})$");
    let built = regex::RegexBuilder::new(&pattern).size_limit(MOST_BYTES).build();
    built.map_err(|error| format!("{value:?} is no regular expression: {error}"))
}

/// `value` as a regular expression that matches it alone. RE2 takes these escapes; `-` needs none.
pub(crate) fn literal(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (&self.label, self.op, &self.value) == (&other.label, other.op, &other.value)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Is => "=",
            Op::Not => "!=",
            Op::Like => "=~",
            Op::Unlike => "!~",
        })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\"", self.label, self.op)?;
        for c in self.value.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = match self.metric() {
            Some(name) if is_name(name) => {
                f.write_str(name)?;
                self.matchers.iter().filter(|m| m.label != NAME || m.op != Op::Is).collect::<Vec<_>>()
            }
            _ => self.matchers.iter().collect(),
        };
        f.write_str("{")?;
        for (i, matcher) in rest.iter().enumerate() {
            write!(f, "{}{matcher}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("}")
    }
}

/// A label's name, or a metric's (which may have colons).
fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn selector(mut self) -> Result<Selector, SelectorError> {
        self.space();
        let metric = self.name();
        self.space();
        let braces = self.take('{');
        let matchers = if braces { self.matchers()? } else { Vec::new() };
        if braces && !self.take('}') {
            return Err(self.wrong("expected , or } after a matcher"));
        }
        self.end(
            "only a plain selector like name{label=\"value\"} is read here, no range, function or operator",
        )?;
        let selector = match metric {
            Some(metric) => Selector::of(&metric, matchers),
            None => Selector { matchers },
        };
        if selector.matchers.iter().any(|m| m.label == NAME) {
            Ok(selector)
        } else {
            Err(self.wrong("no metric is named"))
        }
    }

    fn matchers(&mut self) -> Result<Vec<Matcher>, SelectorError> {
        let mut matchers = Vec::new();
        loop {
            self.space();
            let Some(label) = self.name() else { return Ok(matchers) };
            let op = self.op()?;
            let place = self.wrong("").place;
            let value = self.string()?;
            let matcher = Matcher::new(&label, op, &value).map_err(|why| SelectorError { place, why })?;
            matchers.push(matcher);
            self.space();
            if !self.take(',') {
                return Ok(matchers);
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let name = &rest[..end];
        is_name(name).then(|| {
            self.at += end;
            name.to_owned()
        })
    }

    fn op(&mut self) -> Result<Op, SelectorError> {
        self.space();
        for (text, op) in [("=~", Op::Like), ("!~", Op::Unlike), ("!=", Op::Not), ("=", Op::Is)] {
            if self.text[self.at..].starts_with(text) {
                self.at += text.len();
                self.space();
                return Ok(op);
            }
        }
        Err(self.wrong("expected =, !=, =~ or !~ after a label"))
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        let rest = &self.text[self.at..];
        let quote = rest
            .chars()
            .next()
            .filter(|c| "\"'`".contains(*c))
            .ok_or_else(|| self.wrong("expected a quoted value"))?;
        let (mut value, mut escaped) = (String::new(), false);
        for (i, c) in rest.char_indices().skip(1) {
            match (escaped, c) {
                (true, c) => {
                    value.push(if c == 'n' { '\n' } else { c });
                    escaped = false;
                }
                (false, '\\') if quote != '`' => escaped = true,
                (false, c) if c == quote => {
                    self.at += i + c.len_utf8();
                    return Ok(value);
                }
                (false, c) => value.push(c),
            }
        }
        Err(self.wrong("this quoted value has no end"))
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.text[self.at..].starts_with(c);
        self.at += if there { c.len_utf8() } else { 0 };
        there
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    fn end(&mut self, why: &str) -> Result<(), SelectorError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong(why)) }
    }

    fn wrong(&self, why: &str) -> SelectorError {
        SelectorError { place: self.text[..self.at].chars().count() + 1, why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_reads_back_as_it_is_written() {
        for text in [
            r#"http_requests_total{app="checkout",code=~"5.."}"#,
            r#"up{}"#,
            r#"job:hits:total{path!="/a}b",q!~"x\\.y\"z"}"#,
            r#"{__name__=~"a|b",x="y"}"#,
        ] {
            assert_eq!(Selector::parse(text).unwrap().to_string(), text);
        }
        let loose = Selector::parse(" up { a = 'it''s' , }").unwrap_err();
        assert!(loose.to_string().contains(", or }"), "{loose}");
        assert_eq!(
            Selector::parse(" up { a = 'x' , b=`\\d` , } ").unwrap().to_string(),
            r#"up{a="x",b="\\d"}"#
        );
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_place() {
        for (text, place) in [
            ("rate(up[5m])", 5),
            ("up[5m]", 3),
            ("up + down", 4),
            ("{a=\"b\"}", 8),
            ("up{a}", 5),
            ("up{a=b}", 6),
            ("up{a=\"b}", 6),
            ("up{a=~\"(\"}", 7),
            ("", 1),
            ("<html>", 1),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().place, place, "{text}");
        }
    }

    #[test]
    fn matchers_are_anchored_and_a_missing_label_is_empty() {
        let like = Matcher::new("code", Op::Like, "5..|0").unwrap();
        assert!(like.matches("503") && like.matches("0") && !like.matches("1503") && !like.matches("05"));
        assert!(Matcher::new("code", Op::Unlike, "5..").unwrap().matches(""));
        assert!(Matcher::is("code", "").matches(""));
        assert!(Matcher::new("x", Op::Like, &literal("a.b-c|d")).unwrap().matches("a.b-c|d"));
    }

    #[test]
    fn errors_that_only_add_matchers_narrow_the_requests() {
        let requests = Selector::parse(r#"hits{app="a"}"#).unwrap();
        assert!(Selector::parse(r#"hits{app="a",code="5xx"}"#).unwrap().narrows(&requests));
        assert!(!Selector::parse(r#"faults{app="a"}"#).unwrap().narrows(&requests));
    }
}
