//! What happens outside of the daemons: releases are announced, people command, tools write back, processes die.

use bytes::Bytes;
use serde_json::json;
use sluice_bus::{Feed, MESSAGE_ID};
use sluice_rollout::Timestamp;
use sluice_wire::{
    cloudevent::CloudEvent,
    message::{ANNOUNCED, Command},
    subject::{OVERRIDE, REQUEST, event, person},
};

use super::{
    checks,
    plan::{Door, Happening, Rubbish},
    process::Process,
    world::{EPOCH_MS, Shared, World},
};
use crate::control::Control;

/// The one policy.
pub const NAMESPACE: &str = "shop";
pub const NAME: &str = "checkout";
/// Whoever commands.
const USER: &str = "ann";
/// How often a person who has had enough says so.
const ASKED_EVERY_MS: i64 = 10_000;

/// What the plan has for this moment.
pub fn happen(world: &Shared, processes: &mut [Process]) {
    while let Some(due) = due(world) {
        world.note(format!("{due:?}"));
        one(world, processes, due);
    }
    let late = {
        let mut world = world.lock();
        let now = world.clock;
        let asks = now > world.plan.patience() && now - world.checks.asked_last > ASKED_EVERY_MS;
        if asks {
            world.checks.asked_last = now;
        }
        asks
    };
    if late {
        let key = format!("the last word at {}", world.lock().clock);
        world.lock().say(Door::Asked, &key, "abort");
        world.mail().notify_waiters();
    }
}

fn due(world: &Shared) -> Option<Happening> {
    let mut world = world.lock();
    let now = world.clock;
    let (at, _) = world.plan.happenings.first()?;
    (*at <= now).then(|| world.plan.happenings.remove(0).1)
}

fn one(world: &Shared, processes: &mut [Process], happening: Happening) {
    match happening {
        Happening::Dies { who, calls } => world.lock().live(who, |life| life.dies_in = Some(calls)),
        Happening::AllDieAndStoreIsRestored { calls } => {
            let mut world = world.lock();
            world.lives.iter_mut().for_each(|life| life.dies_in = Some(calls));
            world.kept.restores = true;
        }
        Happening::Stops { who } => world.stop(who),
        Happening::Freezes { who, ms } => {
            let mut world = world.lock();
            let until = world.clock + ms;
            world.live(who, |life| life.frozen_until = Some(until));
            world.checks.cut = true;
        }
        Happening::Copied => {
            let mut world = world.lock();
            world.kept.copy = Some(world.kept.keys.clone());
        }
        Happening::Announces { attempt, copies } => {
            let mut world = world.lock();
            (1..=copies).for_each(|copy| world.announce(&attempt, copy));
        }
        Happening::Says { door: Door::Http, key, action } => {
            if let Some(process) = processes.iter().find(|process| process.runs()) {
                visit(world, process, key, action);
            }
        }
        Happening::Says { door: Door::HttpOf(who), key, action } => {
            if let Some(process) = processes.get(who).filter(|process| process.runs()) {
                visit(world, process, key, action);
            }
        }
        Happening::Says { door, key, action } => world.lock().say(door, &key, action),
        Happening::Throws(rubbish) => world.lock().throw(rubbish),
        Happening::Hand(hundredths) => checks::hand(&mut world.lock(), hundredths),
        Happening::ClockJumps { who, by } => {
            let mut world = world.lock();
            world.live(who, |life| life.skew += by);
            world.checks.skewed = true;
        }
    }
    world.mail().notify_waiters();
}

fn visit(world: &Shared, process: &Process, key: String, action: &'static str) {
    let world = world.clone();
    let visitor = Visitor::new(&world);
    process.at_its_door(|daemon| async move {
        let _visitor = visitor;
        let command = Command { reason: "says so".into(), ..Command::default() };
        let answer = daemon.command(USER, NAMESPACE, NAME, action, key.clone(), command).await;
        checks::answering::told(&mut world.lock(), &format!("{USER} {key}"), action, &answer);
    });
}

/// Somebody waits at the door: until the answer, or until the daemon dies with it.
struct Visitor(Shared);

impl Visitor {
    fn new(world: &Shared) -> Visitor {
        world.lock().visits += 1;
        Visitor(world.clone())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.lock().visits -= 1;
    }
}

impl World {
    fn live(&mut self, who: usize, change: impl FnOnce(&mut super::world::Life)) {
        if let Some(life) = self.lives.get_mut(who).filter(|life| life.runs()) {
            change(life);
        }
    }

    /// CI's message, under an id of the event's own; each copy is another message to the bus.
    pub fn announce(&mut self, attempt: &str, copy: u8) {
        let data = json!({"version": attempt, "attempt": attempt});
        let id = format!("build {attempt}");
        let at = Timestamp::from_millis(EPOCH_MS + self.clock);
        let told = CloudEvent::new(id.clone(), "ci", ANNOUNCED, "shop/checkout", at, data);
        self.checks.announced.insert(attempt.to_owned());
        let headers = vec![(MESSAGE_ID.to_owned(), format!("{id} {copy}"))];
        let body = Bytes::from(told.to_bytes());
        self.publish(Feed::Events, &event(NAMESPACE, NAME, "announced"), headers, body);
    }

    fn say(&mut self, door: Door, key: &str, action: &str) {
        let body = Bytes::from(json!({"reason": "says so", "id": key}).to_string());
        match door {
            Door::Stored => {
                // Each publish is a message of its own: the body's id tells the repeat.
                let headers = vec![(MESSAGE_ID.to_owned(), format!("{key} {}", self.mail.published()))];
                self.publish(
                    Feed::Overrides,
                    &person(OVERRIDE, USER, NAMESPACE, NAME, action),
                    headers,
                    body,
                );
            }
            Door::Asked | Door::Http | Door::HttpOf(_) => {
                let subject = person(REQUEST, USER, NAMESPACE, NAME, action);
                if let Some(number) = self.ask(&subject, Vec::new(), body) {
                    self.checks.asked.insert(number, (format!("{USER} {key}"), action.to_owned()));
                }
            }
        }
    }

    fn throw(&mut self, rubbish: Rubbish) {
        let at = Timestamp::from_millis(EPOCH_MS + self.clock);
        let release = |data| {
            let told = CloudEvent::new("rubbish".into(), "ci", ANNOUNCED, "shop/checkout", at, data);
            Bytes::from(told.to_bytes())
        };
        let (feed, subject, body) = match rubbish {
            Rubbish::NoEvent => (
                Feed::Events,
                event(NAMESPACE, NAME, "announced"),
                Bytes::from_static(b"{\"specversion\":1,"),
            ),
            Rubbish::UnknownPolicy => {
                (Feed::Events, event(NAMESPACE, "nothing", "announced"), release(json!({"version": "v9"})))
            }
            Rubbish::WrongPolicy => {
                let policy =
                    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy", "spce": {}});
                (Feed::Events, event(NAMESPACE, NAME, "announced"), release(json!({"policy": policy})))
            }
            Rubbish::NoCommand => (
                Feed::Overrides,
                person(OVERRIDE, USER, NAMESPACE, NAME, "pause"),
                Bytes::from_static(b"[1, 2]"),
            ),
            Rubbish::UnknownAction => (
                Feed::Overrides,
                person(OVERRIDE, USER, NAMESPACE, NAME, "explode"),
                Bytes::from_static(b"{\"reason\": \"why not\"}"),
            ),
        };
        let sequence = self.publish(feed, &subject, Vec::new(), body);
        self.checks.thrown.insert(sequence);
    }
}
