//! Subjects on the bus, and their tokens. Tokens are escaped, so that no name can widen a subject.

use std::fmt::Write as _;

/// Roots of the subjects, and the one for what could not be read.
pub const EVENT: &str = "sluice.event";
pub const OUT: &str = "sluice.out";
pub const OVERRIDE: &str = "sluice.override";
pub const REQUEST: &str = "sluice.request";
pub const REPLY: &str = "sluice.reply";
pub const DEAD: &str = "sluice.dead";

/// In place of a namespace or rollout: all of them.
pub const ALL: &str = "_all";

/// In place of a person's name: a daemon, which passes a person's command on or tells the others something.
pub const DAEMON: &str = "_daemon";

/// What a subject says before its body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `sluice.event.<namespace>.<rollout>.<type>`
    Event { namespace: String, rollout: String, kind: String },
    /// `sluice.override.<user>.<namespace>.<rollout>.<action>` (stored) or `sluice.request.…` (answered at once).
    Override { stored: bool, user: String, namespace: String, rollout: String, action: String },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error(
        "subject {0:?} is none of ours: write sluice.event.<namespace>.<rollout>.<type> or sluice.override.<user>.<namespace>.<rollout>.<action>"
    )]
    Unknown(String),
    #[error("subject token {0:?} has a broken escape: write %XX with two hexadecimal digits")]
    Escape(String),
}

impl Subject {
    pub fn parse(text: &str) -> Result<Subject, SubjectError> {
        let unknown = || SubjectError::Unknown(text.chars().take(200).collect());
        let tokens: Vec<String> = text.split('.').map(unescape).collect::<Result<_, _>>()?;
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        if tokens.iter().any(|token| token.is_empty()) {
            return Err(unknown());
        }
        match tokens.as_slice() {
            ["sluice", "event", namespace, rollout, kind @ ..] if !kind.is_empty() => Ok(Subject::Event {
                namespace: (*namespace).to_owned(),
                rollout: (*rollout).to_owned(),
                kind: kind.join("."),
            }),
            ["sluice", door @ ("override" | "request"), user, namespace, rollout, action] => {
                Ok(Subject::Override {
                    stored: *door == "override",
                    user: (*user).to_owned(),
                    namespace: (*namespace).to_owned(),
                    rollout: (*rollout).to_owned(),
                    action: (*action).to_owned(),
                })
            }
            _ => Err(unknown()),
        }
    }
}

/// `sluice.out.<namespace>.<rollout>.<kind>`
pub fn out(namespace: &str, rollout: &str, kind: &str) -> String {
    format!("{OUT}.{}.{}.{}", escape(namespace), escape(rollout), escape(kind))
}

/// `sluice.event.<namespace>.<rollout>.<kind>`
pub fn event(namespace: &str, rollout: &str, kind: &str) -> String {
    format!("{EVENT}.{}.{}.{}", escape(namespace), escape(rollout), escape(kind))
}

/// `<root>.<user>.<namespace>.<rollout>.<action>`, `root` being [`OVERRIDE`] or [`REQUEST`].
pub fn person(root: &str, user: &str, namespace: &str, rollout: &str, action: &str) -> String {
    format!("{root}.{}.{}.{}.{}", escape(user), escape(namespace), escape(rollout), escape(action))
}

/// One token: letters, digits, `-` and `_` stay; every other byte becomes `%XX`.
pub fn escape(token: &str) -> String {
    let mut escaped = String::with_capacity(token.len());
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The reverse of [`escape`].
pub fn unescape(token: &str) -> Result<String, SubjectError> {
    let broken = || SubjectError::Escape(token.chars().take(200).collect());
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next().ok_or_else(broken)?, rest.next().ok_or_else(broken)?];
        let digits = std::str::from_utf8(&pair).map_err(|_| broken())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_widen_a_subject() {
        let subject = out("shop", "a.b *>", "started");
        assert_eq!(subject, "sluice.out.shop.a%2Eb%20%2A%3E.started");
        assert_eq!(unescape("a%2Eb%20%2A%3E").unwrap(), "a.b *>");
    }

    #[test]
    fn both_doors_read_alike() {
        let stored = Subject::parse(&person(OVERRIDE, "ann", "shop", "checkout", "pause")).unwrap();
        let asked = Subject::parse(&person(REQUEST, "ann", "shop", "checkout", "pause")).unwrap();
        assert!(matches!(stored, Subject::Override { stored: true, .. }));
        assert!(matches!(asked, Subject::Override { stored: false, ref action, .. } if action == "pause"));
    }

    #[test]
    fn what_is_none_of_ours_says_what_to_write() {
        for bad in [
            "",
            "sluice",
            "sluice.event.shop.checkout",
            "sluice.override.ann.shop.checkout",
            "sluice.event..x.y",
            "a.%zz",
        ] {
            assert!(Subject::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
