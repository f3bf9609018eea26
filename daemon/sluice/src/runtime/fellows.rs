//! The daemons on one bus: who lives, and whose a rollout is. Plain bookkeeping: no IO, no clock; `now` is given.
//!
//! Each daemon writes a beat every two seconds under its own name ([`BEAT_EVERY`]). Whoever's beat has not changed for six
//! seconds by the observer's own monotonic clock is dead ([`DEAD_AFTER`]); clocks of different hosts are never compared.
//! Whose a rollout should be is the highest of the hashes of its policy with each living daemon (rendezvous hashing, Thaler
//! and Ravishankar 1996): all of them come to the same answer without asking each other, and a death moves only what the
//! dead one had. Whose it is stands in its record, and changes hands by compare-and-swap alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_bus::StoreRevision;
use tokio::time::Instant;

pub const BEAT_EVERY: Duration = Duration::from_secs(2);
pub const DEAD_AFTER: Duration = Duration::from_secs(6);
/// Who has not looked for so long (it was frozen, or the store was away) knows of nobody's death.
const BLINDED_BY: Duration = Duration::from_secs(4);
/// Clusters that were heard of within this time are asked before something is refused.
const LATELY: Duration = Duration::from_secs(60);
/// Names that were not heard of for so long are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// What a daemon writes of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    pub daemon: String,
    /// Drawn anew at each start: of two with one name the later one stays.
    pub incarnation: String,
    /// Its cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// It stops, and has let go of all that was its own.
    pub leaving: bool,
    /// So that every beat is another value.
    pub count: u64,
}

/// One daemon as the others see it.
#[derive(Debug, Clone)]
struct Seen {
    cluster: Option<String>,
    revision: StoreRevision,
    /// When its beat was last seen to change.
    since: Instant,
    leaving: bool,
}

/// All daemons as this one sees them.
#[derive(Debug)]
pub struct Fellows {
    own: String,
    /// This daemon's own.
    cluster: Option<String>,
    seen: BTreeMap<String, Seen>,
    looked: Option<Instant>,
}

impl Fellows {
    pub fn new(own: &str, cluster: Option<&str>) -> Fellows {
        Fellows {
            own: own.to_owned(),
            cluster: cluster.map(str::to_owned),
            seen: BTreeMap::new(),
            looked: None,
        }
    }

    /// What stands in the store now. Who was blind for a while counts everybody's six seconds anew.
    pub fn look(&mut self, beats: &[(Beat, StoreRevision)], now: Instant) {
        let blind = self.looked.is_some_and(|looked| now.duration_since(looked) > BLINDED_BY);
        self.looked = Some(now);
        if blind {
            self.seen.values_mut().for_each(|seen| seen.since = now);
        }
        for (beat, revision) in beats {
            let seen = self.seen.entry(beat.daemon.clone()).or_insert(Seen {
                cluster: beat.cluster.clone(),
                revision: 0,
                since: now,
                leaving: false,
            });
            if seen.revision != *revision {
                *seen = Seen {
                    cluster: beat.cluster.clone(),
                    revision: *revision,
                    since: now,
                    leaving: beat.leaving,
                };
            }
        }
        self.seen.retain(|_, seen| now.duration_since(seen.since) < FORGET_AFTER);
    }

    /// Whether somebody of this name lives. One that nobody has heard of is given its six seconds from now on.
    pub fn lives(&mut self, name: &str, now: Instant) -> bool {
        let unheard = Seen { cluster: None, revision: 0, since: now, leaving: false };
        name == self.own || self.seen.entry(name.to_owned()).or_insert(unheard).lives(now)
    }

    /// Whose a rollout of this policy should be: one of the living of this daemon's own cluster.
    pub fn chosen(&self, policy: &str, now: Instant) -> String {
        self.chosen_in(self.cluster.as_deref(), policy, now)
    }

    /// The same in another cluster; where nobody of that one lives, one of all who do: somebody has to answer.
    pub fn chosen_in(&self, cluster: Option<&str>, policy: &str, now: Instant) -> String {
        let there = self.living(now).filter(|name| self.cluster_of(name) == cluster);
        let chosen = there.max_by_key(|name| weight(name, policy));
        chosen.map_or_else(|| self.chosen_of_all(policy, now), str::to_owned)
    }

    /// One of all the living, of whatever cluster.
    pub fn chosen_of_all(&self, policy: &str, now: Instant) -> String {
        self.living(now).max_by_key(|name| weight(name, policy)).unwrap_or(&self.own).to_owned()
    }

    /// Clusters that were heard of within the last minute, sorted; `None` is the one without a name. A daemon that restarts or
    /// stammers reads its cluster's announcements when it is back: nobody refuses them in its place meanwhile.
    pub fn clusters(&self, now: Instant) -> BTreeSet<Option<&str>> {
        let lately = |seen: &&Seen| seen.revision > 0 && now.duration_since(seen.since) < LATELY;
        let others = self.seen.values().filter(lately).map(|seen| seen.cluster.as_deref());
        others.chain([self.cluster.as_deref()]).collect()
    }

    fn cluster_of(&self, name: &str) -> Option<&str> {
        if name == self.own { self.cluster.as_deref() } else { self.seen.get(name)?.cluster.as_deref() }
    }

    /// Whose it would be without `owner`.
    pub fn chosen_but(&self, policy: &str, owner: &str, now: Instant) -> String {
        let others = self.living(now).filter(|name| *name != owner);
        others.max_by_key(|name| weight(name, policy)).unwrap_or(&self.own).to_owned()
    }

    /// The living, by name.
    pub fn names(&self, now: Instant) -> Vec<String> {
        let mut names: Vec<String> = self.living(now).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Whether another name was ever heard of, dead or alive.
    pub fn knows_others(&self) -> bool {
        self.seen.keys().any(|name| *name != self.own)
    }

    fn living(&self, now: Instant) -> impl Iterator<Item = &str> {
        let heard = self.seen.iter().filter(move |(name, seen)| **name != self.own && seen.heard(now));
        std::iter::once(self.own.as_str()).chain(heard.map(|(name, _)| name.as_str()))
    }
}

impl Seen {
    fn lives(&self, now: Instant) -> bool {
        !self.leaving && now.duration_since(self.since) < DEAD_AFTER
    }

    /// One that has beaten, and not only been asked for.
    fn heard(&self, now: Instant) -> bool {
        self.revision > 0 && self.lives(now)
    }
}

/// Who has the highest of a policy has its rollouts.
pub fn weight(name: &str, policy: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([0]);
    hash.update(policy);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(daemon: &str, count: u64, leaving: bool) -> (Beat, StoreRevision) {
        (Beat { daemon: daemon.into(), incarnation: "1".into(), cluster: None, leaving, count }, count)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `a` among `b` and `c`, looking every second while `b` is silent from the start.
    fn watched(until: u64, start: Instant) -> Fellows {
        let mut fellows = Fellows::new("a", None);
        for second in 0..=until {
            let beats = [beat("a", second + 1, false), beat("b", 1, false), beat("c", second + 1, false)];
            fellows.look(&beats, start + seconds(second));
        }
        fellows
    }

    #[test]
    fn who_is_silent_for_six_seconds_is_dead_and_who_beats_is_not() {
        let start = Instant::now();
        assert!(watched(5, start).lives("b", start + seconds(5)));
        let mut later = watched(6, start);
        assert!(!later.lives("b", start + seconds(6)) && later.lives("c", start + seconds(6)));
    }

    #[test]
    fn who_leaves_is_gone_at_once_and_who_returns_is_back_at_once() {
        let start = Instant::now();
        let mut fellows = watched(1, start);
        fellows.look(&[beat("b", 7, true)], start + seconds(2));
        assert!(!fellows.lives("b", start + seconds(2)));
        fellows.look(&[beat("b", 8, false)], start + seconds(3));
        assert!(fellows.lives("b", start + seconds(3)));
    }

    #[test]
    fn who_was_frozen_itself_calls_nobody_dead() {
        let start = Instant::now();
        let mut fellows = watched(2, start);
        let awake = start + seconds(62);
        fellows.look(&[beat("b", 1, false), beat("c", 3, false)], awake);
        assert!(fellows.lives("b", awake) && fellows.lives("c", awake));
        for second in 63..=68 {
            fellows.look(&[beat("c", second, false)], start + seconds(second));
        }
        assert!(!fellows.lives("b", start + seconds(68)), "but six seconds later it does");
    }

    #[test]
    fn a_name_that_nobody_has_heard_of_gets_its_six_seconds_and_no_rollout() {
        let start = Instant::now();
        let mut fellows = watched(0, start);
        assert!(fellows.lives("ghost", start));
        assert!((0..100).all(|policy| fellows.chosen(&format!("shop/{policy}"), start) != "ghost"));
        let beats = |second| [beat("b", second + 1, false)];
        (1..=6).for_each(|second| fellows.look(&beats(second), start + seconds(second)));
        assert!(!fellows.lives("ghost", start + seconds(6)));
    }

    #[test]
    fn all_come_to_the_same_choice_and_a_death_moves_only_what_the_dead_one_had() {
        let start = Instant::now();
        let beats = ["a", "b", "c"].map(|name| beat(name, 1, false));
        let all = ["a", "b", "c"].map(|own| {
            let mut fellows = Fellows::new(own, None);
            fellows.look(&beats, start);
            fellows
        });
        let mut without_c = Fellows::new("a", None);
        without_c.look(&beats[..2], start);
        let mut had = BTreeMap::new();
        for policy in (0..300).map(|number| format!("shop/checkout-{number}")) {
            let chosen = all[0].chosen(&policy, start);
            assert!(all.iter().all(|one| one.chosen(&policy, start) == chosen));
            let now = without_c.chosen(&policy, start);
            assert!(chosen == "c" || chosen == now, "{policy} moved from {chosen} to {now}");
            *had.entry(chosen).or_insert(0) += 1;
        }
        assert!(had.len() == 3 && had.values().all(|count| (60..=140).contains(count)), "{had:?}");
    }

    #[test]
    fn each_cluster_chooses_among_its_own_and_another_answers_only_where_nobody_of_it_lives() {
        let start = Instant::now();
        let of = |daemon: &str, cluster: &str| {
            let (beat, revision) = beat(daemon, 1, false);
            (Beat { cluster: Some(cluster.into()), ..beat }, revision)
        };
        let mut fellows = Fellows::new("a", Some("north"));
        fellows.look(&[of("a", "north"), of("b", "south"), of("c", "south")], start);
        for policy in (0..50).map(|number| format!("shop/{number}")) {
            assert_eq!(fellows.chosen(&policy, start), "a");
            assert_ne!(fellows.chosen_in(Some("south"), &policy, start), "a");
            assert_eq!(
                fellows.chosen_in(Some("east"), &policy, start),
                fellows.chosen_of_all(&policy, start)
            );
        }
        let both = [Some("north"), Some("south")].into();
        assert_eq!(fellows.clusters(start), both);
        assert_eq!(
            fellows.clusters(start + DEAD_AFTER * 2),
            both,
            "a cluster that is silent for a moment is one still"
        );
        assert_eq!(fellows.clusters(start + LATELY), [Some("north")].into());
    }
}
