//! Deliberate faults in the runtime's order, for the simulation to find: who cannot find them proves nothing. Outside of
//! this crate's own tests the answer is a constant no; a shipped binary has none of them. (A build with debug assertions has the
//! one that `$SLUICE_FAULT` names, so that stories on real servers can be held against it.)

/// One thing done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    ExecuteBeforeSave,
    AcknowledgeBeforeSave,
    NeverSave,
    SaveOverAnothersState,
    AbortWaitsForTheStore,
    LoseWhatWaitsForTheStore,
    SettleBeforeAllIsTold,
    WriteOverALaterFence,
    PublishUnderAFreshId,
    ForgetWhatIsOutstanding,
    KeepTheFormerEpoch,
    IgnoreTheAbortMark,
    ReuseNumbers,
    /// Of several daemons:
    ActWithoutOwning,
    SkipTheFence,
    TakeFromTheLiving,
    ServeTwice,
    AcknowledgeUnread,
    LeaveAnAlertBehind,
    ForgetFormerOwners,
    AcknowledgeUnanswered,
}

#[cfg(all(not(test), not(debug_assertions)))]
pub const fn has(_: Fault) -> bool {
    false
}

#[cfg(all(not(test), debug_assertions))]
pub fn has(fault: Fault) -> bool {
    static NAMED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("SLUICE_FAULT").ok());
    NAMED.as_ref().is_some_and(|named| *named == format!("{fault:?}"))
}

#[cfg(test)]
pub use simulated::{ALL, has, with};

#[cfg(test)]
mod simulated {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    pub fn has(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }

    /// Plans meet `ReuseNumbers` and `WriteOverALaterFence` too seldom for them to be found among the tests' seeds.
    pub const ALL: [Fault; 19] = [
        Fault::ExecuteBeforeSave,
        Fault::AcknowledgeBeforeSave,
        Fault::NeverSave,
        Fault::SaveOverAnothersState,
        Fault::AbortWaitsForTheStore,
        Fault::LoseWhatWaitsForTheStore,
        Fault::SettleBeforeAllIsTold,
        Fault::PublishUnderAFreshId,
        Fault::ForgetWhatIsOutstanding,
        Fault::KeepTheFormerEpoch,
        Fault::IgnoreTheAbortMark,
        Fault::ActWithoutOwning,
        Fault::SkipTheFence,
        Fault::TakeFromTheLiving,
        Fault::ServeTwice,
        Fault::AcknowledgeUnread,
        Fault::LeaveAnAlertBehind,
        Fault::ForgetFormerOwners,
        Fault::AcknowledgeUnanswered,
    ];

    /// Runs `what` with this fault, on this thread only.
    pub fn with<T>(fault: Option<Fault>, what: impl FnOnce() -> T) -> T {
        FAULT.set(fault);
        let done = what();
        FAULT.set(None);
        done
    }
}
