//! What seldom meets by chance: troubles, deaths and words that come together. Drawn beside others, or alone, so that what
//! follows from them is not hidden by the rest.

use sluice_wire::policy::OnNewRelease;

use super::{Door, Happening, Lasting, NAMES, Plan, Trouble};
use crate::runtime::{
    fellows,
    simulation::people::{NAME, NAMESPACE},
};

impl Plan {
    /// One of them, and not much else.
    pub(super) fn scene(&mut self, chance: &mut fastrand::Rng) {
        let who = self.first_owner();
        match (chance.u8(0..5), self.daemons > 1) {
            (0, true) => self.cut_off_owner_aborts(who, chance),
            (1, true) => self.former_owner_has_yet_to_tell(who, chance),
            (2, true) => self.stand_still_with_a_weight_in_hand(who, chance),
            (0 | 3, _) => self.abort_that_only_the_target_knows(chance),
            (_, _) => self.answers_have_no_bucket(chance),
        }
    }

    /// Several of them, by chance.
    pub(super) fn trouble_together(&mut self, chance: &mut fastrand::Rng) {
        let who = chance.usize(0..self.daemons);
        if let Some((bad, _)) = self.bad.first().copied()
            && chance.u8(0..3) == 0
        {
            self.turn_bad_without_the_store(bad, who, chance);
        }
        if chance.u8(0..3) == 0 {
            self.last(Trouble::TargetSlow, None, 10_000, 40_000);
            let dies = Happening::Dies { who, calls: chance.u32(1..4) };
            self.happenings.push((chance.i64(15_050..16_500), dies));
        }
        if chance.u8(0..8) == 0 {
            self.abort_that_only_the_target_knows(chance);
        }
        if self.daemons > 1 && chance.bool() {
            self.stand_still_with_a_weight_in_hand(who, chance);
        }
    }

    fn last(&mut self, trouble: Trouble, whose: Option<usize>, from: i64, to: i64) {
        self.lasting.push(Lasting { trouble, from, to, whose });
    }

    /// A canary turns bad while the store is away, and perhaps the daemon dies.
    fn turn_bad_without_the_store(&mut self, bad: i64, who: usize, chance: &mut fastrand::Rng) {
        self.last(Trouble::StoreAway, None, bad - 3_000, bad + 30_000);
        if chance.bool() {
            let dies = Happening::Dies { who, calls: chance.u32(1..12) };
            self.happenings.push((bad + chance.i64(3_000..25_000), dies));
        }
    }

    /// A person aborts a canary with traffic while the store is away, and all die before it is back.
    fn abort_that_only_the_target_knows(&mut self, chance: &mut fastrand::Rng) {
        let at = chance.i64(18_000..35_000);
        self.last(Trouble::StoreAway, None, at, at + 25_000);
        let (key, action) = ("on the way".to_owned(), "abort");
        let says = Happening::Says { door: Door::Asked, key, action };
        self.happenings.push((at + chance.i64(0..5_000), says));
        for who in 0..self.daemons {
            let dies = Happening::Dies { who, calls: chance.u32(1..4) };
            self.happenings.push((at + chance.i64(6_000..12_000), dies));
        }
    }

    /// One daemon cannot reach the target, stands still, and wakes up when another may have the rollout: what it wants to
    /// write still stands before its eyes.
    fn stand_still_with_a_weight_in_hand(&mut self, who: usize, chance: &mut fastrand::Rng) {
        let at = chance.i64(3_000..40_000);
        let still = at + chance.i64(10_000..20_000);
        self.last(Trouble::TargetAway, Some(who), at, still + 1_000);
        self.happenings.push((still, Happening::Freezes { who, ms: chance.i64(10_000..25_000) }));
    }

    /// The owner reaches neither store nor target, and a person aborts at its door: on-call and the bus hear of it, whoever
    /// takes the rollout over does not.
    fn cut_off_owner_aborts(&mut self, who: usize, chance: &mut fastrand::Rng) {
        let at = chance.i64(18_000..45_000);
        let back = at + chance.i64(20_000..60_000);
        for trouble in [Trouble::StoreAway, Trouble::TargetAway] {
            self.last(trouble, Some(who), at, back);
        }
        let (door, key) = (Door::HttpOf(who), "at the door".to_owned());
        let says = Happening::Says { door, key, action: "abort" };
        self.happenings.push((at + chance.i64(100..4_000), says));
    }

    /// A release is superseded, and its owner cannot tell what came of it for longer than the others look on.
    fn former_owner_has_yet_to_tell(&mut self, who: usize, chance: &mut fastrand::Rng) {
        self.on_new_release = OnNewRelease::Supersede;
        let at = chance.i64(16_000..50_000);
        self.happenings.push((at, Happening::Announces { attempt: "v5".to_owned(), copies: 1 }));
        self.last(Trouble::BusAway, Some(who), at + chance.i64(100..2_000), at + chance.i64(25_000..50_000));
    }

    /// Commands come in while their answers cannot be kept.
    fn answers_have_no_bucket(&mut self, chance: &mut fastrand::Rng) {
        let at = chance.i64(12_000..50_000);
        self.last(Trouble::AnswersAway, None, at, at + chance.i64(3_000..40_000));
        for (number, action) in ["pause", "resume"].into_iter().enumerate() {
            let key = format!("unheard {number}");
            let says = Happening::Says { door: Door::Stored, key, action };
            self.happenings.push((at + chance.i64(10..8_000), says));
        }
    }

    /// Whose the rollouts are while everybody lives.
    fn first_owner(&self) -> usize {
        let policy = format!("{NAMESPACE}/{NAME}");
        let names = NAMES.iter().take(self.daemons).enumerate();
        names.max_by_key(|(_, name)| fellows::weight(name, &policy)).map_or(0, |(who, _)| who)
    }
}
