//! Subjects and patterns as NATS has them, checked before they reach a server: a subject with a space would break its
//! protocol, one with a wildcard would mean more than was said.

use sluice_wire::subject::REPLY;

use crate::BusError;
use crate::plan::{Stream, Way};

const MOST_BYTES: usize = 1024;

/// A subject to publish to: tokens without wildcards.
pub(crate) fn literal(subject: &str) -> Result<(), BusError> {
    plain(subject)?;
    if subject.split('.').any(|token| token.contains(['*', '>'])) {
        return Err(refused(subject, "wildcards (* and >) must be escaped as %2A and %3E"));
    }
    Ok(())
}

/// A pattern to follow: `*` stands for one token, `>` at the end for one or more.
pub(crate) fn pattern(subject: &str) -> Result<(), BusError> {
    plain(subject)?;
    let tokens: Vec<&str> = subject.split('.').collect();
    let whole = |token: &&str| *token == "*" || *token == ">" || !token.contains(['*', '>']);
    let tail = tokens.iter().position(|token| *token == ">").is_none_or(|at| at + 1 == tokens.len());
    if tokens.iter().all(whole) && tail {
        return Ok(());
    }
    Err(refused(subject, "* and > must be whole tokens, and > the last one"))
}

/// Whether a pattern matches a subject.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut given = subject.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(token), Some(other)) if token == other => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

/// The user of a person's subject: its third token, as it stands there.
pub(crate) fn user(subject: &str) -> Option<&str> {
    subject.split('.').nth(2).filter(|user| !user.is_empty())
}

/// Whether an answer to `subject` may go to `reply`: only below `sluice.reply.<user>.`, so that nobody makes the daemon
/// write where he may not.
pub(crate) fn reply_allowed(subject: &str, reply: &str) -> Result<(), BusError> {
    let own = user(subject).map(|user| format!("{REPLY}.{user}.")).unwrap_or_default();
    if literal(reply).is_ok() && !own.is_empty() && reply.starts_with(&own) {
        return Ok(());
    }
    let reply: String = reply.chars().take(200).collect();
    Err(BusError::Denied(format!("an answer to {reply:?}: header Sluice-Reply-To must lie below {own:?}")))
}

/// The stream of a message from outside: an event, or a stored override.
pub(crate) fn incoming(subject: &str) -> Result<Stream, BusError> {
    literal(subject)?;
    match Way::of(subject)? {
        Way::Kept(stream @ (Stream::Events | Stream::Overrides)) => Ok(stream),
        Way::Kept(Stream::Out | Stream::Dead | Stream::Log | Stream::Records) | Way::Reply | Way::Request => {
            Err(refused(subject, "only sluice.event.… and sluice.override.… take messages from outside"))
        }
    }
}

/// A subject of the request door.
pub(crate) fn request(subject: &str) -> Result<(), BusError> {
    literal(subject)?;
    match Way::of(subject)? {
        Way::Request => Ok(()),
        Way::Kept(_) | Way::Reply => Err(refused(subject, "only sluice.request.… is answered at once")),
    }
}

/// What a pattern follows.
pub(crate) fn followed(given: &str) -> Result<Way, BusError> {
    pattern(given)?;
    match Way::of(given)? {
        way @ (Way::Reply | Way::Kept(Stream::Events | Stream::Overrides | Stream::Out | Stream::Dead)) => {
            Ok(way)
        }
        Way::Kept(Stream::Log | Stream::Records) | Way::Request => Err(refused(
            given,
            "follow sluice.out.>, sluice.event.>, sluice.override.>, sluice.reply.<user>.> or sluice.dead",
        )),
    }
}

fn plain(subject: &str) -> Result<(), BusError> {
    if subject.len() > MOST_BYTES {
        return Err(refused(subject, "it is longer than 1,024 bytes"));
    }
    if subject.split('.').any(str::is_empty) {
        return Err(refused(subject, "it has an empty token"));
    }
    if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(refused(subject, "spaces and control characters must be escaped as %XX"));
    }
    Ok(())
}

fn refused(subject: &str, why: &str) -> BusError {
    BusError::Subject { subject: subject.chars().take(200).collect(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_whole_tokens() {
        for (pattern, subject, matched) in [
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(pattern, subject), matched, "{pattern} on {subject}");
        }
    }

    #[test]
    fn what_would_break_the_protocol_or_mean_more_is_refused() {
        for bad in ["", "a..b", ".a", "a.", "a b", "a\r\nPUB x", "a.*", "a.>", "a.b*", &"x".repeat(2000)] {
            assert!(literal(bad).is_err(), "{bad:?} was taken");
        }
        for bad in ["a.>.b", "a.b*", "a b.>", ""] {
            assert!(pattern(bad).is_err(), "{bad:?} was taken");
        }
        assert!(pattern("sluice.*.>").is_ok());
    }

    #[test]
    fn an_answer_goes_only_below_its_own_user() {
        let asked = "sluice.override.ann.shop.checkout.abort";
        assert!(reply_allowed(asked, "sluice.reply.ann.1").is_ok());
        for bad in [
            "sluice.reply.bob.1",
            "sluice.reply.ann",
            "sluice.reply.ann.",
            "sluice.reply.ann.>",
            "sluice.override.x",
            "",
        ] {
            assert!(reply_allowed(asked, bad).is_err(), "{bad:?} was taken");
        }
        assert!(reply_allowed("sluice.override", "sluice.reply..1").is_err());
    }
}
