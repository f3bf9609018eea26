//! Signed commands: a line with user, namespace, name, action and the time of arrival, the command's JSON, and behind the
//! parting byte a signers' file in place of the usual one.
//!
//! Ann's key signs any command that is written without a signature. What is accepted is word for word such a command, by ann,
//! within the window; and nothing is accepted under a file that does not give ann her key.

use std::sync::OnceLock;

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use sluice::signing;
use sluice_rollout::Timestamp;
use sluice_wire::message::Command;
use sluice_wire::signature::{Claim, Signature, signed_text};

use crate::parts;

/// The one command that ann has signed.
const SIGNED: Claim<'static> = Claim { user: "ann", namespace: "shop", name: "checkout", action: "promote" };
const SIGNED_AT: i64 = 1_790_000_000_000;

pub fn check(input: &[u8]) {
    let mut parts = parts(input);
    let (first, keys) = (parts.next().unwrap_or_default(), parts.next().map(String::from_utf8_lossy));
    let Some((claim, body)) = std::str::from_utf8(first).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let words: Vec<&str> = claim.split(' ').collect();
    let [user, namespace, name, action, when] = words[..] else { return };
    let (Ok(when), Ok(command)) = (when.parse::<i64>(), serde_json::from_str::<Command>(body)) else {
        return;
    };
    let claim = Claim { user, namespace, name, action };
    let keys = keys.unwrap_or_else(|| signers().into());
    let Err(why) = signing::verify(&keys, claim, Timestamp::from_millis(when), &command) else {
        return accepted(&keys, claim, when, &command);
    };
    assert!(!why.is_empty() && why.len() < 20_000 + user.len() + namespace.len() + name.len(), "{why}");
}

fn accepted(keys: &str, claim: Claim<'_>, when: i64, command: &Command) {
    let signature = command.signature.as_ref().expect("what is accepted is signed");
    assert_eq!((claim, signature.at), (SIGNED, SIGNED_AT), "another claim than the signed one was accepted");
    assert_eq!(signed_text(claim, signature.at, command), signed_text(SIGNED, SIGNED_AT, &command_of_ann()));
    assert!(when.abs_diff(SIGNED_AT) <= signing::WINDOW.as_millis() as u64, "accepted at {when}");
    let entry = |line: &str| line.split_whitespace().eq(["ann", &ann().public_key()]);
    assert!(keys.lines().any(entry), "accepted under {keys:?}");
}

fn command_of_ann() -> Command {
    Command { id: Some("x1".into()), reason: "seen".into(), revision: Some(7), ..Command::default() }
}

/// What she has sent, as an input of this target.
pub fn genuine() -> String {
    let value = ann().sign(&signed_text(SIGNED, SIGNED_AT, &command_of_ann())).expect("a seed signs");
    let signature =
        Signature { key: ann().public_key(), at: SIGNED_AT, value: BASE64URL_NOPAD.encode(&value) };
    let command = Command { signature: Some(signature), ..command_of_ann() };
    let Claim { user, namespace, name, action } = SIGNED;
    let body = serde_json::to_string(&command).expect("a command is JSON");
    format!("{user} {namespace} {name} {action} {}\n{body}", SIGNED_AT + 1_000)
}

fn ann() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::new_from_raw(KeyPairType::User, [7; 32]).expect("any bytes are a key"))
}

fn signers() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let bob = KeyPair::new_from_raw(KeyPairType::User, [8; 32]).expect("any bytes are a key");
        format!("# people\nann {}\nbob {}\n", ann().public_key(), bob.public_key())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ann_has_signed_is_accepted() {
        let text = genuine();
        let command: Command = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        let told = signing::verify(signers(), SIGNED, Timestamp::from_millis(SIGNED_AT), &command);
        assert_eq!(told, Ok(()));
        check(text.as_bytes());
    }
}
