//! What a seed draws: how many daemons there are, when which trouble begins and ends, and what people and their tools do.

mod scenes;

use sluice_wire::policy::OnNewRelease;

/// When the troubles of a plan that is drawn are over.
const CALM_FROM: i64 = 120_000;
/// Whoever still runs so long after the troubles is aborted by a person.
const PATIENCE: i64 = 150_000;
/// And must have ended so long after that.
const LIMIT: i64 = 300_000;
/// The daemons of a run have the first of these names.
pub const NAMES: [&str; 3] = ["one", "two", "three"];

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
    /// A replica of the source answers that has not heard the latest.
    SourceBehind,
    BusAway,
    BusAnswersLost,
    /// Messages take seconds, and overtake each other.
    MailSlow,
    /// Commands come in, and the bucket of their answers has no leader just now.
    AnswersAway,
    OnCallAway,
    OnCallAnswersLost,
}

/// Losing the store is what most of the runtime's order is about.
const TROUBLES: [Trouble; 15] = [
    Trouble::StoreAway,
    Trouble::StoreAway,
    Trouble::StoreAway,
    Trouble::StoreAnswersLost,
    Trouble::TargetAway,
    Trouble::TargetSlow,
    Trouble::TargetAnswersLost,
    Trouble::SourceDown,
    Trouble::SourceBehind,
    Trouble::BusAway,
    Trouble::BusAnswersLost,
    Trouble::MailSlow,
    Trouble::AnswersAway,
    Trouble::OnCallAway,
    Trouble::OnCallAnswersLost,
];

/// A trouble and when it lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Lasting {
    pub trouble: Trouble,
    pub from: i64,
    pub to: i64,
    /// One daemon's alone; nothing: everybody's.
    pub whose: Option<usize>,
}

/// By which way a person's word comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Kept in its stream until it is acknowledged.
    Stored,
    /// Asked on the bus, answered at once or not at all.
    Asked,
    /// HTTP, at the first daemon that runs.
    Http,
    /// The same at this one.
    HttpOf(usize),
}

/// What cannot be read, or must not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rubbish {
    NoEvent,
    UnknownPolicy,
    WrongPolicy,
    NoCommand,
    UnknownAction,
}

/// What happens at a moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The daemon dies at its so many-th call from then.
    Dies {
        who: usize,
        calls: u32,
    },
    /// All of them die, and the store comes back as it was some time before.
    AllDieAndStoreIsRestored {
        calls: u32,
    },
    /// Told to stop, as at a new version of itself.
    Stops {
        who: usize,
    },
    /// Stands still, and goes on as if nothing had been.
    Freezes {
        who: usize,
        ms: i64,
    },
    Copied,
    /// `copies`: how often the sender publishes it, under ids of their own.
    Announces {
        attempt: String,
        copies: u8,
    },
    Says {
        door: Door,
        key: String,
        action: &'static str,
    },
    Throws(Rubbish),
    /// Somebody else's weight at the target.
    Hand(u32),
    ClockJumps {
        who: usize,
        by: i64,
    },
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub daemons: usize,
    pub on_new_release: OnNewRelease,
    /// How far one daemon's time may run ahead of another's (ms).
    pub grain: i64,
    pub lasting: Vec<Lasting>,
    /// In their order.
    pub happenings: Vec<(i64, Happening)>,
    /// When the canary is bad: from, to.
    pub bad: Vec<(i64, i64)>,
    /// No trouble begins after this; what is wrong by then must come right.
    pub calm_from: i64,
}

impl Plan {
    pub fn draw(chance: &mut fastrand::Rng) -> Plan {
        let daemons = [1, 1, 1, 2, 2, 3][chance.usize(0..6)];
        let on_new_release = match chance.u8(0..4) {
            0 => OnNewRelease::Queue,
            1 => OnNewRelease::Refuse,
            _ => OnNewRelease::Supersede,
        };
        let grain = [20, 200, 500][chance.usize(0..3)];
        let (lasting, happenings) = (Vec::new(), Vec::new());
        let bad = chance.bool().then(|| (chance.i64(15_000..CALM_FROM - 30_000), i64::MAX));
        let (bad, calm_from) = (Vec::from_iter(bad), CALM_FROM);
        let mut plan = Plan { daemons, on_new_release, grain, lasting, happenings, bad, calm_from };
        plan.announce(chance);
        let most = if chance.u8(0..4) == 0 {
            plan.scene(chance);
            2
        } else {
            plan.trouble(chance);
            plan.trouble_together(chance);
            6
        };
        for number in 0..=chance.u8(0..most) {
            let at = chance.i64(0..CALM_FROM);
            plan.happen(number, at, chance);
        }
        plan.happenings.sort_by_key(|(at, _)| *at);
        plan
    }

    fn announce(&mut self, chance: &mut fastrand::Rng) {
        let copies = |chance: &mut fastrand::Rng| 1 + u8::from(chance.u8(0..3) == 0);
        let first = Happening::Announces { attempt: "v2".to_owned(), copies: copies(chance) };
        self.happenings.push((chance.i64(0..2_000), first));
        if chance.u8(0..3) == 0 {
            let second = Happening::Announces { attempt: "v3".to_owned(), copies: copies(chance) };
            self.happenings.push((chance.i64(3_000..80_000), second));
            if chance.u8(0..3) == 0 {
                let third = Happening::Announces { attempt: "v4".to_owned(), copies: 1 };
                self.happenings.push((chance.i64(10_000..90_000), third));
            }
        }
    }

    fn trouble(&mut self, chance: &mut fastrand::Rng) {
        for _ in 0..chance.u8(0..5) {
            let from = chance.i64(0..CALM_FROM - 20_000);
            let length = if chance.bool() { chance.i64(100..5_000) } else { chance.i64(20_000..100_000) };
            let trouble = TROUBLES[chance.usize(0..TROUBLES.len())];
            let alone = self.daemons > 1 && chance.bool();
            let whose = alone.then(|| chance.usize(0..self.daemons));
            self.lasting.push(Lasting { trouble, from, to: (from + length).min(CALM_FROM), whose });
        }
    }

    fn happen(&mut self, number: u8, at: i64, chance: &mut fastrand::Rng) {
        let who = chance.usize(0..self.daemons);
        let happening = match chance.u8(0..24) {
            0..=6 => Happening::Dies { who, calls: chance.u32(1..40) },
            7 => Happening::AllDieAndStoreIsRestored { calls: chance.u32(1..40) },
            8 | 9 => Happening::Copied,
            10 | 11 => Happening::Freezes { who, ms: chance.i64(2_000..60_000) },
            12 => Happening::Stops { who },
            13..=17 => return self.say(number, at, chance),
            18 => Happening::Hand(chance.u32(0..10_001)),
            19 => return self.write_back(at, chance),
            20 | 21 => Happening::ClockJumps { who, by: chance.i64(-120_000..120_000) },
            _ => Happening::Throws(rubbish(chance)),
        };
        self.happenings.push((at, happening));
    }

    /// A command, and perhaps its repeat.
    fn say(&mut self, number: u8, at: i64, chance: &mut fastrand::Rng) {
        let door = [Door::Stored, Door::Stored, Door::Asked, Door::Http][chance.usize(0..4)];
        let action = ["pause", "resume", "promote", "retry", "abort", "skip"][chance.usize(0..6)];
        let said = Happening::Says { door, key: format!("k{number}"), action };
        if chance.bool() {
            self.happenings.push((at + chance.i64(100..20_000), said.clone()));
        }
        self.happenings.push((at, said));
    }

    /// A tool that holds the target against its repository, again and again.
    fn write_back(&mut self, at: i64, chance: &mut fastrand::Rng) {
        let (weight, every) = (chance.u32(0..10_001), chance.i64(2_000..20_000));
        for time in 0..chance.i64(2..7) {
            self.happenings.push(((at + time * every).min(CALM_FROM), Happening::Hand(weight)));
        }
    }

    /// Whether this daemon has this trouble; `None`: whoever is outside of all of them.
    pub fn is(&self, trouble: Trouble, who: Option<usize>, at: i64) -> bool {
        let concerns = |one: &&Lasting| one.whose.is_none() || one.whose == who;
        self.lasting
            .iter()
            .filter(|one| one.trouble == trouble)
            .filter(concerns)
            .any(|one| (one.from..one.to).contains(&at))
    }

    pub fn is_bad(&self, at: i64) -> bool {
        self.bad.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// When whoever still runs is aborted by a person.
    pub fn patience(&self) -> i64 {
        self.calm_from + PATIENCE
    }

    /// When everything has ended, or never will.
    pub fn limit(&self) -> i64 {
        self.patience() + LIMIT
    }
}

fn rubbish(chance: &mut fastrand::Rng) -> Rubbish {
    match chance.u8(0..5) {
        0 => Rubbish::NoEvent,
        1 => Rubbish::UnknownPolicy,
        2 => Rubbish::WrongPolicy,
        3 => Rubbish::NoCommand,
        _ => Rubbish::UnknownAction,
    }
}
