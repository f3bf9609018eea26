//! Names of keys and logs as NATS can keep them.
//!
//! A name is any text; `/` separates its parts. A bucket's keys know only letters, digits, `-`, `_`, `/`, `=` and `.`,
//! and `.` separates subject tokens there, so each part becomes one token: every other byte is written `=XX`, an empty
//! part is `=`. That is reversible, so no two names meet, and a prefix that ends with `/` is a subject filter.

use std::fmt::Write as _;

use crate::StoreError;

const MOST_BYTES: usize = 512;
const MOST_ID_CHARS: usize = 128;

/// The name as tokens.
pub(crate) fn encode(name: &str) -> Result<String, StoreError> {
    checked(name)?;
    Ok(name.split('/').map(token).collect::<Vec<_>>().join("."))
}

/// The reverse of [`encode`]; nothing for what we did not write.
pub(crate) fn decode(tokens: &str) -> Option<String> {
    let parts: Option<Vec<String>> = tokens.split('.').map(untoken).collect();
    Some(parts?.join("/"))
}

/// One token for one text, whatever is in it.
pub(crate) fn token(part: &str) -> String {
    if part.is_empty() {
        return "=".to_owned();
    }
    let mut token = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

/// What recognises a message whose sender gave it no id: no person's id, which may be a number, too.
pub(crate) fn without_id(sequence: u64) -> String {
    format!("without id {sequence}")
}

/// Where the answer to a stored override is kept: `<user>.<message id>`, the user as it stands in the subject.
pub(crate) fn answer(user: &str, message_id: &str) -> String {
    let id: String = message_id.chars().take(MOST_ID_CHARS).collect();
    format!("{}.{}", token(user), token(&id))
}

/// A filter that matches at least every key with this prefix: the whole parts of it, and all below.
pub(crate) fn filter(prefix: &str) -> String {
    match prefix.rsplit_once('/') {
        Some((parts, _)) => parts.split('/').map(token).collect::<Vec<_>>().join(".") + ".>",
        None => ">".to_owned(),
    }
}

pub(crate) fn checked(name: &str) -> Result<(), StoreError> {
    let refused = |why| StoreError::Key { key: name.chars().take(80).collect(), why };
    if name.is_empty() {
        return Err(refused("it is empty"));
    }
    if name.len() > MOST_BYTES {
        return Err(refused("it is longer than 512 bytes"));
    }
    Ok(())
}

fn untoken(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_comes_back_and_no_two_meet() {
        let names = [
            "a",
            "a/b",
            "a.b",
            "a/",
            "/a",
            "a//b",
            "a b",
            "*",
            ">",
            "a=b",
            "a=2Fb",
            "ä",
            "shop/checkout@v2.1/state",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let tokens = encode(name).unwrap();
            assert!(tokens.chars().all(|c| c.is_ascii_alphanumeric() || "-_=.".contains(c)), "{tokens}");
            assert!(tokens.split('.').all(|token| !token.is_empty()), "{tokens}");
            assert_eq!(decode(&tokens).as_deref(), Some(name));
            assert!(seen.insert(tokens), "{name:?} meets another name");
        }
    }

    #[test]
    fn a_filter_covers_its_prefix() {
        assert_eq!(filter("rollouts/shop/che"), "rollouts.shop.>");
        assert_eq!(filter("rollouts/a.b/"), "rollouts.a=2Eb.>");
        assert_eq!(filter("roll"), ">");
    }

    #[test]
    fn empty_and_endless_names_are_refused() {
        assert!(encode("").is_err());
        assert!(encode(&"x".repeat(513)).is_err());
    }
}
