//! What people type who know kubectl, Argo Rollouts, Flagger, NATS or systemd, and what it is called here.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Their word, and ours: commands, or an option in place of one.
const HABITS: [(&[&str], &[&str]); 12] = [
    (&["get", "list", "ls", "ps", "top"], &["status"]),
    (&["describe", "show", "why", "inspect"], &["explain", "status"]),
    (&["log", "logs", "events"], &["history", "watch"]),
    (&["rollback", "cancel", "terminate", "revert"], &["abort"]),
    (&["apply", "create", "lint", "check", "test"], &["validate"]),
    (&["deploy", "release", "announce", "publish", "rollout", "trigger"], &["start"]),
    (&["approve", "continue", "next", "advance"], &["promote"]),
    (&["unpause"], &["resume"]),
    (&["restart"], &["retry"]),
    (&["suspend", "hold", "freeze"], &["pause"]),
    (&["serve", "server", "daemon"], &["run"]),
    (&["version"], &["--version"]),
];

/// With our word for a command that others have, in place of one that only looks alike.
pub fn advised(mut error: Error) -> Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let typed = typed.to_ascii_lowercase();
    if let Some((_, ours)) = HABITS.iter().find(|(theirs, _)| theirs.contains(&typed.as_str())) {
        let ours = ours.iter().map(|word| (*word).to_owned()).collect();
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(ours));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    fn told(typed: &[&str]) -> String {
        let line = ["sluice"].iter().chain(typed);
        advised(command().try_get_matches_from(line).unwrap_err()).to_string()
    }

    #[test]
    fn a_word_from_elsewhere_leads_to_ours() {
        for (typed, ours) in [("rollback", "'abort'"), ("logs", "'history'"), ("Get", "'status'")] {
            assert!(told(&[typed, "x"]).contains(ours), "{}", told(&[typed, "x"]));
        }
        assert!(told(&["statsu"]).contains("'status'"));
        assert!(!told(&["frobnicate"]).contains("tip"));
    }

    #[test]
    fn every_word_of_ours_is_a_command_and_none_of_theirs_is() {
        let command = command();
        for (theirs, ours) in HABITS {
            let is_ours = |word: &&str| command.find_subcommand(word).is_some();
            assert!(ours.iter().all(|word| word.starts_with("--") || is_ours(word)), "{ours:?}");
            assert_eq!(theirs.iter().find(|word| is_ours(word)), None);
        }
    }
}
