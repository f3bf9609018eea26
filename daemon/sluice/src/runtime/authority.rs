//! Who may command: signatures, and each of them once. Checked before anything is done; the policy's own rules
//! (`spec.access`) are asked where the rollout is known.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_rollout::Timestamp;
use sluice_wire::message::{Answer, Command};
use sluice_wire::signature::Claim;

use super::{clock::now, command::refused, ledger::Ledger};
use crate::signing;

/// Signed commands of one policy that are remembered; a flood of them is refused rather than forgotten.
const MOST_NONCES: usize = 1_000;
/// An abort waits for the store no longer than this.
const ABORT_WAITS: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Authority {
    /// Lines `user KEY`, read again for every command; nothing: commands need no signature.
    signers: Option<PathBuf>,
}

/// A signed command's id, and until when it could be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce {
    id: String,
    until: Timestamp,
}

/// What the signed commands of one policy came to, by user and id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Nonces {
    taken: BTreeMap<String, Taken>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Taken {
    until: Timestamp,
    /// The attempt that it was for.
    attempt: String,
    /// Nothing while it is carried out.
    answer: Option<Answer>,
}

/// Whether a signed command is new.
#[derive(Debug, PartialEq)]
pub enum Turn {
    First,
    /// It is carried out already, or the daemon died over it: the rollout itself recognises the repeat.
    Again,
    Answered(Box<Answer>),
    Refused(String),
}

impl Authority {
    pub fn new(signers: Option<PathBuf>) -> Authority {
        Authority { signers }
    }

    /// Nothing where commands need no signature. `sent`: when the bus took it, where that is known.
    pub async fn check(
        &self,
        claim: Claim<'_>,
        command: &Command,
        sent: Option<Timestamp>,
    ) -> Result<Option<Nonce>, String> {
        let Some(file) = &self.signers else { return Ok(None) };
        let keys = signing::read_keys(file).await.inspect_err(|why| {
            tracing::error!(why, "no command can be taken: signatures cannot be checked");
        })?;
        signing::verify(&keys, claim, sent.unwrap_or_else(now), command)?;
        let id = format!("{} {}", claim.user, command.id.as_deref().unwrap_or_default());
        // Twice the window covers a signature from the future, too.
        Ok(Some(Nonce { id, until: now().plus(signing::WINDOW * 3) }))
    }
}

impl Nonces {
    /// Whether this one is new for `attempt`; it is remembered from now on.
    pub fn take(&mut self, nonce: &Nonce, attempt: &str, now: Timestamp) -> Turn {
        match self.taken.get(&nonce.id) {
            Some(Taken { answer: Some(answer), .. }) => return Turn::Answered(Box::new(answer.clone())),
            Some(taken) if taken.attempt == attempt => return Turn::Again,
            Some(_) => {
                return Turn::Refused(
                    "this signed command was for an earlier attempt: sign it anew".to_owned(),
                );
            }
            None => {}
        }
        self.taken.retain(|_, taken| taken.until > now);
        if self.taken.len() >= MOST_NONCES {
            return Turn::Refused("too many signed commands within a few minutes: wait".to_owned());
        }
        let (until, attempt) = (nonce.until, attempt.to_owned());
        self.taken.insert(nonce.id.clone(), Taken { until, attempt, answer: None });
        Turn::First
    }

    pub fn answer(&mut self, nonce: &Nonce, answer: &Answer) {
        if let Some(taken) = self.taken.get_mut(&nonce.id) {
            taken.answer = Some(answer.clone());
        }
    }
}

/// Notes a signed command before it has any effect. An abort does not wait for a store that is away: it is safe to repeat.
async fn take(ledger: &Ledger, place: (&str, &str), nonce: &Nonce, attempt: &str, action: &str) -> Turn {
    let noting = ledger.change_nonces(place, |nonces| nonces.take(nonce, attempt, now()));
    if action != "abort" {
        return noting.await.unwrap_or_else(|error| {
            Turn::Refused(format!("not carried out: the store cannot note this signed command ({error})"))
        });
    }
    match tokio::time::timeout(ABORT_WAITS, noting).await {
        Ok(Ok(turn)) => turn,
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("a signed abort could not be noted in time; it goes on, since it only closes");
            Turn::First
        }
    }
}

/// The answer that a repeat gets. Without it a repeat is refused or recognised by the rollout, so nothing is lost.
async fn note_answer(ledger: &Ledger, place: (&str, &str), nonce: &Nonce, answer: &Answer) {
    if let Err(error) = ledger.change_nonces(place, |nonces| nonces.answer(nonce, answer)).await {
        tracing::debug!(%error, "the answer to a signed command could not be noted");
    }
}

/// A signed command has its effect once, whatever has become of the rollout since; a repeat gets the first answer. One that
/// is not signed is obeyed as it is.
pub async fn once(
    ledger: &Ledger,
    place: (&str, &str),
    nonce: Option<&Nonce>,
    (attempt, action): (&str, &str),
    obeying: impl Future<Output = Answer>,
) -> Answer {
    let Some(nonce) = nonce else { return obeying.await };
    match take(ledger, place, nonce, attempt, action).await {
        Turn::First | Turn::Again => {}
        Turn::Answered(answer) => return *answer,
        Turn::Refused(why) => return refused(why),
    }
    let answer = obeying.await;
    note_answer(ledger, place, nonce, &answer).await;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn nonce(id: &str) -> Nonce {
        Nonce { id: format!("ann {id}"), until: at(360) }
    }

    #[test]
    fn a_signed_command_is_taken_once() {
        let mut nonces = Nonces::default();
        assert_eq!(nonces.take(&nonce("x1"), "v2", at(0)), Turn::First);
        assert_eq!(nonces.take(&nonce("x1"), "v2", at(1)), Turn::Again, "the daemon died before it answered");
        let first = Answer::refused("not now");
        nonces.answer(&nonce("x1"), &first);
        assert_eq!(nonces.take(&nonce("x1"), "v2", at(2)), Turn::Answered(Box::new(first.clone())));
        assert_eq!(
            nonces.take(&nonce("x1"), "v3", at(3)),
            Turn::Answered(Box::new(first)),
            "no effect on a later attempt"
        );
        assert_eq!(nonces.take(&nonce("x2"), "v2", at(4)), Turn::First);
        assert!(matches!(nonces.take(&nonce("x2"), "v3", at(5)), Turn::Refused(_)));
    }

    #[test]
    fn what_can_no_longer_be_sent_is_forgotten_and_a_flood_is_refused() {
        let mut nonces = Nonces::default();
        for number in 0..MOST_NONCES {
            assert_eq!(nonces.take(&nonce(&number.to_string()), "v2", at(0)), Turn::First);
        }
        assert!(matches!(nonces.take(&nonce("more"), "v2", at(1)), Turn::Refused(_)));
        let later = Nonce { until: at(0).plus(Duration::from_secs(900)), ..nonce("later") };
        assert_eq!(nonces.take(&later, "v2", at(361)), Turn::First);
        assert_eq!(nonces.taken.len(), 1);
    }
}
