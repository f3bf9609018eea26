//! Signed commands: made with a person's key, and checked against the keys that the daemon's own file gives that person.
//! Keys are ed25519 in NATS' form (nkeys): a seed `SU…` that stays with the person, a public key `U…` for everybody.

use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use sluice_rollout::Timestamp;
use sluice_wire::message::Command;
use sluice_wire::signature::{Claim, Signature, signed_text};

use crate::small_file;

/// A signature counts for so long before and after the time that it names: clocks differ, and messages take their time.
pub const WINDOW: Duration = Duration::from_secs(120);
const MOST_BYTES: u64 = 256 * 1024;

/// Signs with the seed in a file. Errors never show what stands in it.
pub fn sign(file: &Path, claim: Claim<'_>, at: Timestamp, command: &Command) -> Result<Signature, String> {
    let named = |why: &str| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(&error.to_string()))?;
    let seed = seed(&text).ok_or_else(|| named("holds no nkey seed (SU…) on a line of its own"))?;
    let pair = KeyPair::from_seed(seed).map_err(|_| named("its nkey seed is damaged"))?;
    let at = at.millis();
    let signed =
        pair.sign(&signed_text(claim, at, command)).map_err(|_| named("cannot sign: is it a seed?"))?;
    Ok(Signature { key: pair.public_key(), at, value: BASE64URL_NOPAD.encode(&signed) })
}

/// A seed alone, or the one in a credentials file.
fn seed(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| line.starts_with("SU") && line.len() > 50)
}

/// Whether a command is signed by its user, now. `keys`: the text of the signers' file; `when`: when the bus took the
/// command, or now.
pub fn verify(keys: &str, claim: Claim<'_>, when: Timestamp, command: &Command) -> Result<(), String> {
    let Some(signature) = &command.signature else {
        return Err("commands are signed here: add --sign-with KEYFILE".to_owned());
    };
    if command.id.as_deref().is_none_or(str::is_empty) {
        return Err("a signed command needs an id, which is its nonce".to_owned());
    }
    let apart = Duration::from_millis(when.millis().abs_diff(signature.at));
    if apart > WINDOW {
        return Err(format!(
            "it was signed {} s from now, which is more than {} s: sign it anew; are the clocks right?",
            apart.as_secs(),
            WINDOW.as_secs()
        ));
    }
    if !belongs(keys, claim.user, &signature.key)? {
        return Err(format!("this key is none of {}'s in the daemon's signers' file", claim.user));
    }
    let wrong = || {
        format!(
            "the signature does not fit this command of {} to {}/{}; with a token, --user is the token's name",
            claim.user, claim.namespace, claim.name
        )
    };
    let value = BASE64URL_NOPAD.decode(signature.value.as_bytes()).map_err(|_| wrong())?;
    let pair = KeyPair::from_public_key(&signature.key).map_err(|_| wrong())?;
    pair.verify(&signed_text(claim, signature.at, command), &value).map_err(|_| wrong())
}

/// Lines `user KEY`; several keys of one user stand on several lines. A wrong line lets nobody in.
fn belongs(keys: &str, user: &str, key: &str) -> Result<bool, String> {
    let mut found = false;
    for (number, line) in keys.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line.split_once(char::is_whitespace).map(|(user, key)| (user, key.trim()));
        let Some((owner, known)) = entry.filter(|(_, key)| KeyPair::from_public_key(key).is_ok()) else {
            return Err(format!(
                "line {} of the daemon's signers' file is not `user PUBLIC-KEY`",
                number + 1
            ));
        };
        found |= owner == user && known == key;
    }
    Ok(found)
}

/// The signers' file, as it is now.
pub async fn read_keys(file: &Path) -> Result<String, String> {
    let named = |why: String| format!("the signers' file {}: {why}", file.display());
    small_file::check(file, MOST_BYTES, "it").await.map_err(named)?;
    tokio::fs::read_to_string(file).await.map_err(|error| named(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    struct Desk {
        folder: tempfile::TempDir,
        keys: String,
    }

    impl Desk {
        fn new() -> Desk {
            let (ann, bob) = (KeyPair::new_user(), KeyPair::new_user());
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("ann"), ann.seed().unwrap()).unwrap();
            std::fs::write(folder.path().join("bob"), bob.seed().unwrap()).unwrap();
            let keys = format!("# people\nann {}\nbob\t{}\n", ann.public_key(), bob.public_key());
            Desk { folder, keys }
        }

        fn signed(&self, who: &str, command: Command) -> Command {
            let at = Timestamp::from_millis(NOW);
            let signature = sign(&self.folder.path().join(who), claim("ann"), at, &command).unwrap();
            Command { signature: Some(signature), ..command }
        }

        fn says(&self, claim: Claim<'_>, at: i64, command: &Command) -> Result<(), String> {
            verify(&self.keys, claim, Timestamp::from_millis(at), command)
        }
    }

    fn claim(user: &str) -> Claim<'_> {
        Claim { user, namespace: "shop", name: "checkout", action: "promote" }
    }

    fn command() -> Command {
        Command { id: Some("x1".into()), reason: "seen".into(), ..Command::default() }
    }

    #[test]
    fn only_the_users_own_key_counts_for_this_command_and_this_time() {
        let desk = Desk::new();
        let signed = desk.signed("ann", command());
        assert_eq!(desk.says(claim("ann"), NOW + 1000, &signed), Ok(()));
        let other = |told: Result<(), String>, why: &str| {
            let told = told.unwrap_err();
            assert!(told.contains(why), "{told}");
        };
        other(desk.says(claim("ann"), NOW, &command()), "--sign-with");
        other(desk.says(claim("bob"), NOW, &signed), "none of bob's");
        other(desk.says(claim("ann"), NOW, &desk.signed("bob", command())), "none of ann's");
        other(desk.says(claim("ann"), NOW + 121_000, &signed), "clocks");
        other(desk.says(claim("ann"), NOW - 121_000, &signed), "clocks");
        other(desk.says(Claim { action: "abort", ..claim("ann") }, NOW, &signed), "does not fit");
        other(desk.says(Claim { name: "cart", ..claim("ann") }, NOW, &signed), "does not fit");
        let changed = Command { reason: "other".into(), ..signed.clone() };
        other(desk.says(claim("ann"), NOW, &changed), "does not fit");
        let without = desk.signed("ann", Command { id: None, ..command() });
        other(desk.says(claim("ann"), NOW, &without), "nonce");
    }

    #[test]
    fn a_wrong_line_lets_nobody_in_and_a_seed_is_never_shown() {
        let desk = Desk::new();
        let signed = desk.signed("ann", command());
        let keys = format!("{}eve notakey\n", desk.keys);
        let told = verify(&keys, claim("ann"), Timestamp::from_millis(NOW), &signed).unwrap_err();
        assert!(told.contains("line 4"), "{told}");
        let file = desk.folder.path().join("damaged");
        std::fs::write(&file, format!("SU{}", "SECRET".repeat(10))).unwrap();
        let told = sign(&file, claim("ann"), Timestamp::from_millis(NOW), &command()).unwrap_err();
        assert!(told.contains("damaged") && !told.contains("SECRET"), "{told}");
    }
}
