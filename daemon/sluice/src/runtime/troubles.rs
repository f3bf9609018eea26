//! What a rollout waits for that cannot be reached just now, for whoever looks at it (`status`). Nothing is decided by it:
//! each place that tries again notes why here, and takes the note back when it has come through.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// Who does not answer, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silent {
    /// A decision is to be saved.
    Store,
    /// A weight is to be written.
    Target,
    /// Pods are to be scaled or replaced.
    Workload,
    /// What happened is to be told.
    Bus,
    /// On-call is to be told.
    OnCall,
}

type Notes = BTreeMap<Silent, String>;

/// One rollout's notes; clones share them.
#[derive(Debug, Clone)]
pub struct Troubles {
    notes: watch::Sender<Notes>,
}

impl Troubles {
    pub fn none() -> Troubles {
        Troubles { notes: watch::channel(Notes::new()).0 }
    }

    /// It did not come about, and is tried again. Answers whether that is news.
    pub fn note(&self, who: Silent, why: &str) -> bool {
        self.notes.send_if_modified(|notes| {
            let news = notes.get(&who).is_none_or(|noted| noted != why);
            if news {
                notes.insert(who, why.to_owned());
            }
            news
        })
    }

    /// It came about, or is no longer wanted.
    pub fn over(&self, who: Silent) {
        self.notes.send_if_modified(|notes| notes.remove(&who).is_some());
    }

    /// Tells when the notes change.
    pub fn changes(&self) -> watch::Receiver<Notes> {
        self.notes.subscribe()
    }

    /// What is waited for, after what the state itself says.
    pub fn added_to(&self, waits_for: Option<String>) -> Option<String> {
        let notes = self.notes.borrow();
        let words = notes.iter().map(|(who, why)| format!("{}: {why}", who.words()));
        waits_for.into_iter().chain(words).reduce(|all, more| format!("{all}; {more}"))
    }
}

impl Silent {
    fn words(self) -> &'static str {
        match self {
            Silent::Store => "the store, to save what was decided",
            Silent::Target => "the target, to take the weight",
            Silent::Workload => "the pods, to be scaled or replaced",
            Silent::Bus => "the bus, to tell what happened",
            Silent::OnCall => "on-call, to be told",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_stands_behind_what_the_state_waits_for_until_it_is_over() {
        let (troubles, state) = (Troubles::none(), || Some("the first window".to_owned()));
        assert_eq!(troubles.added_to(state()), state());
        assert_eq!(troubles.added_to(None), None);
        assert!(troubles.note(Silent::Bus, "no connection"));
        assert!(troubles.note(Silent::Store, "no connection"));
        let store = "the store, to save what was decided: no connection";
        let bus = "the bus, to tell what happened: no connection";
        assert_eq!(troubles.added_to(state()), Some(format!("the first window; {store}; {bus}")));
        troubles.over(Silent::Store);
        assert_eq!(troubles.added_to(None).as_deref(), Some(bus));
    }

    #[test]
    fn the_same_note_again_is_no_news() {
        let troubles = Troubles::none();
        let mut changes = troubles.changes();
        assert!(troubles.note(Silent::Target, "no answer"));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(!troubles.note(Silent::Target, "no answer"));
        troubles.over(Silent::Store);
        assert!(!changes.has_changed().unwrap());
    }
}
