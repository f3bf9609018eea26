//! The token file: who a bearer token belongs to. Tokens are compared by their digests, in constant time, and are never
//! kept or shown.

use std::path::Path;

use sha2::{Digest, Sha256};
use sluice_wire::subject::DAEMON;
use subtle::{Choice, ConstantTimeEq};

use crate::small_file;

const MOST_BYTES: u64 = 256 * 1024;
const LEAST_LENGTH: usize = 16;

/// What is wrong with the file now, if anything is.
pub async fn check_tokens(file: &Path) -> Result<(), String> {
    owner(file, "").await.map(drop)
}

/// Whose token this is; nothing if nobody's. Errors name the line, never its content.
pub(super) async fn owner(file: &Path, token: &str) -> Result<Option<String>, String> {
    let named = |why: String| format!("{}: {why}", file.display());
    small_file::check(file, MOST_BYTES, "a token file").await.map_err(named)?;
    let text = tokio::fs::read_to_string(file).await.map_err(|error| named(error.to_string()))?;
    search(&text, token).map_err(named)
}

/// Looks at every line, whichever one it is.
fn search(text: &str, token: &str) -> Result<Option<String>, String> {
    let given = Sha256::digest(token.as_bytes());
    let mut owner = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, known) = entry(line).ok_or_else(|| {
            format!(
                "line {}: write `user token`, the token at least {LEAST_LENGTH} characters long, the user not {DAEMON}",
                number + 1
            )
        })?;
        let same: Choice = Sha256::digest(known.as_bytes()).as_slice().ct_eq(given.as_slice());
        if bool::from(same) {
            owner = Some(user.to_owned());
        }
    }
    Ok(owner)
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (user, token) = line.split_once(char::is_whitespace)?;
    let token = token.trim();
    let fine = token.len() >= LEAST_LENGTH && !token.contains(char::is_whitespace);
    (fine && user != DAEMON).then_some((user, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# people\nann  0123456789abcdef\n\nci\tfedcba9876543210\n";

    #[test]
    fn a_token_says_whose_it_is() {
        assert_eq!(search(FILE, "0123456789abcdef"), Ok(Some("ann".into())));
        assert_eq!(search(FILE, "fedcba9876543210"), Ok(Some("ci".into())));
        for none in ["", "0123456789abcde", "0123456789abcdef ", "ann"] {
            assert_eq!(search(FILE, none), Ok(None), "{none:?}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_without_its_secret() {
        for bad in ["ann", "ann short", "ann 0123456789abcdef extra", "_daemon 0123456789abcdef"] {
            let error = search(&format!("ci fedcba9876543210\n{bad}"), "x").unwrap_err();
            assert!(error.starts_with("line 2") && !error.contains("0123456789abcdef"), "{error}");
        }
    }
}
