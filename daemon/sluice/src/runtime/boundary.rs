//! The boundaries of the runtime's order at which a process may die, one list. Stories on real servers
//! (`tests/tests/kubernetes/boundaries.rs`, and on the embedded bus `tests/tests/haproxy/boundaries.rs`) have the daemon die once
//! at each of them, as by a power cut.
//!
//! In a build with debug assertions, and in no other, `$SLUICE_DIES` names a file: the daemon writes the list into it, and at
//! every boundary that does not stand there as met it notes that, and ends at once. Started again, it gets as far as the next.
//! `$SLUICE_DIES_AT` leaves out all that begin with none of its words, which commas part. A release build has neither variable in it, and no boundary does anything.
//! So what is tested is the program as developers build it, with nothing switched on: the order is the shipped one.

use sluice_rollout::Effect;

macro_rules! boundaries {
    ($($(#[$doc:meta])* $name:ident => $words:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Boundary { $($(#[$doc])* $name,)* }

        impl Boundary {
            #[cfg(all(debug_assertions, not(test)))]
            const ALL: &[Boundary] = &[$(Boundary::$name,)*];

            #[cfg(all(debug_assertions, not(test)))]
            const fn words(self) -> &'static str {
                match self { $(Boundary::$name => $words,)* }
            }
        }
    };
}

boundaries! {
    /// An announcement was read from the bus; nothing came of it yet.
    MessageRead => "message-read",
    TargetClaimed => "target-claimed",
    CharterSaved => "charter-saved",
    OpenNoted => "open-noted",
    StateCreated => "state-created",
    /// The rollout is the policy's latest; it has no owner yet.
    MadeCurrent => "made-current",
    MessageAnswered => "message-answered",
    MessageAcknowledged => "message-acknowledged",
    /// The machine has decided upon this event; nothing is saved.
    Stepped => "stepped",
    /// What came of this event is saved; nobody was answered, nothing is under way but an abort's weight 0.
    Saved => "saved",
    /// Whoever asked was answered; nothing is under way.
    Acknowledged => "acknowledged",
    /// The abort's weight 0 has left for its lane, before the save.
    Outrun => "outrun",
    /// This effect's turn has come in its lane.
    EffectBegins => "effect-begins",
    /// This effect came about outside; nobody here knows it yet.
    EffectPerformed => "effect-performed",
    HistoryAppended => "history-appended",
    /// All is told; the rollout's keys still stand.
    HistoryTold => "history-told",
    KeysDeleted => "keys-deleted",
    /// A start made the rollout its own in the record; nothing else is done.
    TakenUp => "taken-up",
}

#[cfg(any(test, not(debug_assertions)))]
mod living {
    use super::{Boundary, Effect};

    pub const fn met(_: Boundary, _: &str) {}
    pub const fn met_by(_: Boundary, _: &Effect) {}
}

#[cfg(any(test, not(debug_assertions)))]
pub use living::{met, met_by};

#[cfg(all(debug_assertions, not(test)))]
pub use dying::{met, met_by};

#[cfg(all(debug_assertions, not(test)))]
mod dying {
    use std::collections::BTreeSet;
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Write};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use sluice_rollout::{Notice, Replicas, Role};

    use super::{Boundary, Effect};

    struct Deaths {
        file: File,
        /// Boundaries that this file has seen, each with what stood there.
        met: BTreeSet<String>,
        only: Option<String>,
    }

    static DEATHS: LazyLock<Option<Mutex<Deaths>>> = LazyLock::new(|| match Deaths::asked() {
        Ok(asked) => asked.map(Mutex::new),
        Err(error) => {
            tracing::error!(%error, "$SLUICE_DIES cannot be used: no boundary is died at");
            None
        }
    });

    impl Deaths {
        fn asked() -> std::io::Result<Option<Deaths>> {
            let Some(path) = std::env::var_os("SLUICE_DIES") else { return Ok(None) };
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            if !text.lines().any(|line| line.starts_with("? ")) {
                let list: String = Boundary::ALL.iter().map(|one| format!("? {}\n", one.words())).collect();
                file.write_all(list.as_bytes())?;
            }
            let met = text.lines().filter_map(|line| line.strip_prefix("! ")).map(str::to_owned).collect();
            Ok(Some(Deaths { file, met, only: std::env::var("SLUICE_DIES_AT").ok() }))
        }
    }

    /// Ends the process here, if it was asked to and has not done so before: no destructor runs, nothing is flushed, sockets are
    /// closed by the kernel. (By SIGABRT, which nobody handles: the standard library cannot send SIGKILL.)
    pub fn met(boundary: Boundary, what: &str) {
        let Some(deaths) = DEATHS.as_ref() else { return };
        let mut deaths = deaths.lock().unwrap_or_else(PoisonError::into_inner);
        let place = format!("{} {what}", boundary.words()).trim_end().to_owned();
        let begins = |only: &String| only.split(',').any(|only| place.starts_with(only));
        let here = deaths.only.as_ref().is_none_or(begins);
        if !here || !deaths.met.insert(place.clone()) {
            return;
        }
        match deaths.file.write_all(format!("! {place}\n").as_bytes()) {
            Ok(()) => std::process::abort(),
            Err(error) => tracing::error!(%error, place, "not noted, so not died at"),
        }
    }

    /// [`met`], each kind of wish for itself.
    pub fn met_by(boundary: Boundary, effect: &Effect) {
        met(boundary, &words(effect));
    }

    fn words(effect: &Effect) -> String {
        let name = effect.name();
        match effect {
            Effect::SetTraffic { abort: Some(_), .. } => format!("{name} abort"),
            Effect::ScaleWorkload { role: Role::Stable, .. } => format!("{name} stable"),
            Effect::ScaleWorkload { role: Role::Canary, replicas: Replicas::ZeroAfter(_) } => {
                format!("{name} zero")
            }
            Effect::Publish { notice: Notice::Finished { .. }, .. } => format!("{name} finished"),
            Effect::SetTraffic { abort: None, .. }
            | Effect::ScaleWorkload { role: Role::Canary, .. }
            | Effect::Publish { .. }
            | Effect::ReleaseTraffic
            | Effect::WatchDrain { .. }
            | Effect::EmptyWorkload
            | Effect::PromoteFirst
            | Effect::PromoteWorkload
            | Effect::RestoreWorkload
            | Effect::Observe(_)
            | Effect::WakeAt { .. }
            | Effect::AskGate { .. }
            | Effect::Alert { .. }
            | Effect::ResolveAlert { .. } => name.to_owned(),
        }
    }
}
