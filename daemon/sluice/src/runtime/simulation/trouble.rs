//! What a seed draws: when which trouble begins and ends, and what people do.

use sluice_rollout::Action;

/// No trouble begins after this; what is wrong by then must come right.
pub const CALM_FROM: i64 = 120_000;
/// Whoever still runs is aborted by a person then.
pub const PATIENCE: i64 = CALM_FROM + 150_000;
/// And must have ended by then.
pub const LIMIT: i64 = PATIENCE + 300_000;

/// What lasts for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    StoreAway,
    /// Saved, but nobody is told.
    StoreAnswersLost,
    TargetAway,
    TargetSlow,
    TargetAnswersLost,
    SourceDown,
    BusAway,
    BusAnswersLost,
}

/// Losing the store is what most of the runtime's order is about.
const TROUBLES: [Trouble; 10] = [
    Trouble::StoreAway,
    Trouble::StoreAway,
    Trouble::StoreAway,
    Trouble::StoreAnswersLost,
    Trouble::TargetAway,
    Trouble::TargetSlow,
    Trouble::TargetAnswersLost,
    Trouble::SourceDown,
    Trouble::BusAway,
    Trouble::BusAnswersLost,
];

/// What happens at a moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The daemon dies at its so many-th call from then.
    Dies(u32),
    /// And the store comes back as it was some time before.
    DiesAndStoreIsRestored(u32),
    Copied,
    Says(String, Action),
    Hand(u32),
    ClockJumps(i64),
    Usurped,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub lasting: Vec<(Trouble, i64, i64)>,
    /// In their order.
    pub happenings: Vec<(i64, Happening)>,
    pub bad_from: Option<i64>,
}

impl Plan {
    pub fn draw(chance: &mut fastrand::Rng) -> Plan {
        let mut lasting = Vec::new();
        for _ in 0..chance.u8(0..5) {
            let from = chance.i64(0..CALM_FROM - 20_000);
            let length = if chance.bool() { chance.i64(100..5_000) } else { chance.i64(20_000..100_000) };
            let trouble = TROUBLES[chance.usize(0..TROUBLES.len())];
            lasting.push((trouble, from, (from + length).min(CALM_FROM)));
        }
        let mut happenings = Vec::new();
        for number in 0..chance.u8(1..7) {
            let at = chance.i64(0..CALM_FROM);
            happenings.push((at, Happening::draw(number, chance)));
        }
        let bad_from = chance.bool().then(|| chance.i64(15_000..CALM_FROM - 30_000));
        troubles_together(chance, bad_from, &mut lasting, &mut happenings);
        // A command may come again, before and after a crash.
        let again = |(at, what): &(i64, Happening)| match what {
            Happening::Says(..) => Some((at + 700, what.clone())),
            _ => None,
        };
        let repeats: Vec<_> = happenings.iter().filter_map(again).collect();
        happenings.extend(repeats);
        happenings.sort_by_key(|(at, _)| *at);
        Plan { lasting, happenings, bad_from }
    }

    pub fn is(&self, trouble: Trouble, at: i64) -> bool {
        self.lasting.iter().any(|(is, from, to)| *is == trouble && (*from..*to).contains(&at))
    }

    pub fn is_bad(&self, at: i64) -> bool {
        self.bad_from.is_some_and(|from| at >= from)
    }
}

/// What seldom meets by chance: a canary that turns bad while the store is away and the daemon dies, and a daemon that dies
/// while its first weight is on a slow way.
fn troubles_together(
    chance: &mut fastrand::Rng,
    bad_from: Option<i64>,
    lasting: &mut Vec<(Trouble, i64, i64)>,
    happenings: &mut Vec<(i64, Happening)>,
) {
    if let Some(bad) = bad_from
        && chance.u8(0..3) == 0
    {
        lasting.push((Trouble::StoreAway, bad - 3_000, bad + 30_000));
        if chance.bool() {
            happenings.push((bad + chance.i64(3_000..25_000), Happening::Dies(chance.u32(1..12))));
        }
    }
    if chance.u8(0..3) == 0 {
        lasting.push((Trouble::TargetSlow, 10_000, 40_000));
        happenings.push((chance.i64(15_050..16_500), Happening::Dies(chance.u32(1..4))));
    }
}

impl Happening {
    fn draw(number: u8, chance: &mut fastrand::Rng) -> Happening {
        match chance.u8(0..20) {
            0..=8 => Happening::Dies(chance.u32(1..40)),
            9 => Happening::DiesAndStoreIsRestored(chance.u32(1..40)),
            10..=11 => Happening::Copied,
            12..=16 => Happening::Says(format!("k{number}"), action(chance)),
            17 => Happening::Hand(chance.u32(0..10_001)),
            18 => Happening::ClockJumps(chance.i64(-120_000..120_000)),
            _ => Happening::Usurped,
        }
    }
}

fn action(chance: &mut fastrand::Rng) -> Action {
    match chance.u8(0..6) {
        0 => Action::Pause,
        1 => Action::Resume,
        2 => Action::Promote,
        3 => Action::Retry,
        4 => Action::Abort,
        _ => Action::Skip { to: None },
    }
}
