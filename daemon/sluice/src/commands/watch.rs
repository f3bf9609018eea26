//! `watch`: a live picture on a terminal, one plain line a change elsewhere, one JSON view a change for programs.

use std::collections::HashMap;
use std::time::Duration;

use sluice_wire::view::RolloutView;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::cli::{Aim, Exit, Global, WatchArgs};
use crate::client::{Client, Following};
use crate::picture::{Live, clock, view_line};

use super::{Failure, Screen, start};

/// At most so often a picture is drawn, however fast changes come.
const FRAME: Duration = Duration::from_millis(100);
/// Rollouts that are kept; the ones that changed longest ago go first.
const MOST_ROLLOUTS: usize = 10_000;

pub async fn perform(
    args: &WatchArgs,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let aim = args.rollout.as_ref().map(|rollout| rollout.aim(global));
    if let Some(aim) = &aim {
        // An unknown name is said at once instead of showing nothing for ever.
        client.status(aim).await?;
    }
    let limit = global.timeout.map(|span| span.0);
    let mut watching = Watching {
        following: client.watch(aim.clone()),
        aim,
        namespace: global.namespace.clone(),
        seen: Seen::default(),
    };
    watching.following.connected().await?;
    let live = if screen.json() { None } else { Live::open("Ctrl-C ends the watch; the rollouts go on")? };
    let named = watching.aim.is_some();
    let ended = match live {
        Some(live) => limited(limit, watching.on(live)).await,
        None => limited(limit, watching.in_lines(screen)).await,
    };
    Ok(match ended {
        Some(ended) => ended?.as_ref().map_or(Exit::Well, start::exit),
        // That it has not ended by then did not go well, if one was named.
        None if named => Exit::WentBadly,
        None => Exit::Well,
    })
}

/// Nothing if time ran out.
async fn limited<T>(limit: Option<Duration>, watch: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, watch).await.ok(),
        None => Some(watch.await),
    }
}

struct Watching {
    following: Following,
    aim: Option<Aim>,
    namespace: Option<String>,
    seen: Seen,
}

/// What happened next.
enum Turn {
    Changed(Box<RolloutView>),
    Draw,
    Stop,
}

impl Watching {
    /// The view in which the named rollout has ended; nothing if the person ended the watch.
    async fn in_lines(&mut self, screen: &mut Screen) -> Result<Option<RolloutView>, Failure> {
        let mut told: HashMap<String, String> = HashMap::new();
        let mut stop = Stop::new()?;
        loop {
            let view = tokio::select! {
                view = self.following.next() => view?,
                () = stop.asked() => return Ok(None),
            };
            if !self.wants(&view) {
                continue;
            }
            tell(&view, &mut told, screen)?;
            if self.ends_with(&view) {
                return Ok(Some(view));
            }
        }
    }

    async fn on(&mut self, mut live: Live) -> Result<Option<RolloutView>, Failure> {
        let mut frames = tokio::time::interval_at(Instant::now() + FRAME, FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = Stop::new()?;
        let mut resized = signal(SignalKind::window_change())?;
        let mut stale = true;
        let ended = loop {
            let turn = tokio::select! {
                view = self.following.next() => Turn::Changed(Box::new(view?)),
                () = stop.asked() => Turn::Stop,
                _ = resized.recv() => { stale = true; Turn::Draw }
                _ = frames.tick(), if stale => Turn::Draw,
            };
            match turn {
                Turn::Stop => break None,
                Turn::Draw => {
                    live.show(&self.seen.in_order())?;
                    stale = false;
                }
                Turn::Changed(view) if self.wants(&view) => {
                    let ends = self.ends_with(&view);
                    self.seen.put(view.as_ref().clone());
                    stale = true;
                    if ends {
                        break Some(*view);
                    }
                }
                Turn::Changed(_) => {}
            }
        };
        live.close(&self.seen.in_order())?;
        Ok(ended)
    }

    fn wants(&self, view: &RolloutView) -> bool {
        match &self.aim {
            Some(aim) => aim.means(&view.rollout),
            None => self.namespace.as_deref().is_none_or(|namespace| namespace == view.rollout.namespace()),
        }
    }

    fn ends_with(&self, view: &RolloutView) -> bool {
        self.aim.is_some() && view.outcome.is_some()
    }
}

/// Evidence alone is no change worth a line: the same words are not said twice.
fn tell(view: &RolloutView, told: &mut HashMap<String, String>, screen: &mut Screen) -> std::io::Result<()> {
    if screen.json() {
        return screen.value(view);
    }
    let line = view_line(view);
    let id = view.rollout.to_string();
    if told.get(&id) == Some(&line) {
        return Ok(());
    }
    if told.len() >= MOST_ROLLOUTS {
        told.clear();
    }
    screen.line(&format!("{}  {line}", clock(view.changed)))?;
    told.insert(id, line);
    Ok(())
}

/// The latest view of every policy.
#[derive(Default)]
struct Seen {
    views: HashMap<(String, String), RolloutView>,
}

impl Seen {
    fn put(&mut self, view: RolloutView) {
        let key = (view.rollout.namespace().to_owned(), view.rollout.name().to_owned());
        if self.views.len() >= MOST_ROLLOUTS && !self.views.contains_key(&key) {
            let oldest = self.views.iter().min_by_key(|(_, view)| view.changed).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.views.remove(&key));
        }
        self.views.insert(key, view);
    }

    /// Running ones first, then by name: a picture whose rows jump about cannot be read.
    fn in_order(&self) -> Vec<RolloutView> {
        let mut views: Vec<RolloutView> = self.views.values().cloned().collect();
        views.sort_by_key(|view| (view.outcome.is_some(), view.rollout.to_string()));
        views
    }
}

/// Ctrl-C, or a polite kill.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Stop> {
        Ok(Stop { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
