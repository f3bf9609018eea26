//! One start of the daemon, from its first read of the store to its death or to the rollout's end. What takes a rollout up
//! is in the order of the runtime's own; everything after it is the runtime itself.

use std::{sync::Arc, time::Duration};

use sluice_alerts::{Dispatcher, Exchange, Settings};
use sluice_bus::{Bus, Doors, Store, StoreError};
use sluice_metrics_adapters::{Ask, Http, Source, Sources};
use sluice_outbound::Outbound;
use sluice_rollout::{Action, Event, Override, RolloutId, State, Weight};
use sluice_traffic::{Clients, Target, Workloads};
use sluice_wire::{
    policy::Policy,
    record::{Charter, Owner, Saved, VERSION},
};
use tokio::sync::broadcast;

use super::{
    checks,
    trouble::{CALM_FROM, Happening, LIMIT, PATIENCE},
    world::Shared,
};
use crate::runtime::{
    clock::now,
    fault::{self, Fault},
    historian::Historian,
    hub::Hubs,
    ledger::Ledger,
    meters::Meters,
    parts::Parts,
    post::Post,
    recorder::Records,
    rollout::{self, Beginning, Handle},
    standing::Standing,
    taking_up,
};

/// How often the world is looked at.
const TICK: Duration = Duration::from_millis(250);

pub const POLICY: &str = r#"{"apiVersion":"sluice.dev/v1alpha1","kind":"RolloutPolicy","metadata":{"name":"checkout","namespace":"shop"},"spec":{"target":{"webhook":{"url":"http://127.0.0.1:1/"}},"metrics":{"scrape":{"stable":["http://127.0.0.1:1/metrics"],"canary":["http://127.0.0.1:1/metrics"]}},"analysis":{"warmup":"0s","risk":{"badRequests":200,"within":"60s","share":"2%"}},"steps":[{"weight":20},{"weight":50}],"limits":{"step":{"min":"10s","max":"5m"},"drain":"5s"},"bake":{"for":"15s","holdback":"10%"}}}"#;

#[derive(Debug, PartialEq)]
pub enum Ended {
    Crashed,
    Over,
}

pub fn live(world: &Shared, start: u32) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without IO");
    let ended = runtime.block_on(async {
        world.begin(start);
        let ended = tokio::select! {
            biased;
            () = death(world) => Ended::Crashed,
            () = work(world, start) => Ended::Over,
        };
        world.end();
        ended
    });
    // Every task ends where it stands.
    drop(runtime);
    ended
}

async fn death(world: &Shared) {
    while !world.lock().dead {
        world.news().notified().await;
    }
}

async fn work(world: &Shared, start: u32) {
    let source: Arc<dyn Source> = Arc::new(world.clone());
    let parts = parts(world, start, &source);
    let mut handle: Option<Handle> = None;
    while !over(world, handle.as_ref()) {
        if handle.as_ref().is_none_or(|handle| handle.post.is_closed()) {
            match take_up(world, &parts).await {
                Ok(taken) => handle = taken,
                Err(error) => {
                    world.note(format!("cannot be taken up yet: {error}"));
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        }
        tokio::time::sleep(TICK).await;
        happen(world, handle.as_ref());
    }
    if let Some(handle) = handle {
        handle.stop.cancel();
        handle.tasks.wait().await;
    }
    parts.records.close(Duration::from_secs(60)).await;
}

/// Ended and settled, somebody else's, or far too late.
fn over(world: &Shared, handle: Option<&Handle>) -> bool {
    let world = world.lock();
    let settled = handle.is_some_and(|handle| handle.post.is_closed())
        && world.keys.keys().all(|key| !key.starts_with("open/"))
        && world.flights.is_empty();
    settled || world.checks.usurped_for(world.at()) > 60_000 || world.at() > LIMIT
}

thread_local! {
    /// Making TLS clients takes longer than a whole run.
    static CLIENTS: (Clients, sluice_outbound::Client) = {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Outbound::default().client(reqwest::Client::builder);
        (Clients::new(None).expect("clients"), http.expect("a client"))
    };
}

fn parts(world: &Shared, start: u32, source: &Arc<dyn Source>) -> Parts {
    let store: Arc<dyn Store> = Arc::new(world.clone());
    let bus: Arc<dyn Bus> = Arc::new(world.clone());
    let doors: Arc<dyn Doors> = Arc::new(world.clone());
    let ledger = Ledger::new(store);
    let meters = Arc::new(Meters::default());
    let sources = Arc::new(Sources::new(Http::default()));
    sources.put(&policy().spec.metrics, source);
    let (clients, http) = CLIENTS.with(|(clients, http)| (clients.clone(), http.clone()));
    Parts {
        bus,
        doors,
        records: Records::start(ledger.clone(), meters.clone()),
        historian: Historian::start(ledger.clone(), meters.clone()),
        ledger,
        alerts: Arc::new(Exchange::new(Outbound::default(), reqwest::Client::builder, Settings::default())),
        clients,
        sources,
        hubs: Arc::new(Hubs::default()),
        meters,
        http,
        alone: true,
        daemon: "one".to_owned(),
        incarnation: start.to_string(),
        cluster: None,
    }
}

fn policy() -> Policy {
    Policy::parse("policy", POLICY.as_bytes()).expect("the simulation's policy is sound")
}

pub fn id() -> RolloutId {
    RolloutId::new("shop", "checkout", "v2").expect("a name")
}

/// As announcing and taking up do it: charter, `open`, state, in this order; then the owner.
async fn take_up(world: &Shared, parts: &Parts) -> Result<Option<Handle>, StoreError> {
    let (ledger, id) = (&parts.ledger, id());
    let charter = match ledger.charter(&id).await? {
        Some(charter) => charter,
        None => {
            let charter = charter();
            ledger.create_charter(&charter).await?;
            charter
        }
    };
    let owner =
        |epoch| Owner { daemon: "one".into(), incarnation: parts.incarnation.clone(), epoch, cluster: None };
    let (saved, revision, standing, first) = match ledger.load(&id).await? {
        None => {
            ledger.open(&id, "one").await?;
            let state = State::new(id.clone(), 1, now());
            let saved = Saved { version: VERSION, owner: owner(1), state, untold: Vec::new() };
            let revision = ledger.save(&saved, 0).await?;
            let standing = Standing::found_at_start(Some(Weight::ZERO), None, now());
            (saved, revision, standing, Event::Requested)
        }
        Some((saved, _)) if saved.owner.daemon != "one" => return Ok(None),
        Some((saved, _)) if saved.state.is_settled() => {
            ledger.settle(&id).await?;
            return Ok(None);
        }
        Some((saved, revision)) => {
            let observed = Target::observe(world).await.ok();
            let standing = taking_up::standing(observed.as_ref(), &saved.state);
            let mark = observed.and_then(|observed| observed.abort).map(|mark| mark.reason);
            let marked = mark.is_some();
            let mark = mark.filter(|_| !fault::has(Fault::IgnoreTheAbortMark));
            let epoch = saved.owner.epoch + u64::from(!fault::has(Fault::KeepTheFormerEpoch));
            let takeover = saved.owner.incarnation != parts.incarnation;
            let mut state = State { epoch, ..saved.state };
            if fault::has(Fault::ForgetWhatIsOutstanding) {
                state.outstanding.clear();
            }
            let first = match state.revision {
                // It was saved, and ended before anything was asked for.
                0 => Event::Requested,
                _ => Event::Recovered { epoch, takeover, abort_mark: mark },
            };
            ledger.tell_untold(&id, &saved.untold).await?;
            let saved = Saved { owner: owner(epoch), state, untold: Vec::new(), ..saved };
            let revision = ledger.save(&saved, revision).await?;
            world.lock().checks.must_abort = marked && saved.state.revision > 0;
            (saved, revision, standing, first)
        }
    };
    world.note(format!("{} taken up at revision {}", saved.state.phase.name(), saved.state.revision));
    Ok(Some(own(world, parts, charter, (saved, revision), standing, first)))
}

fn charter() -> Charter {
    let policy = serde_json::to_string(&policy()).unwrap_or_default();
    Charter {
        version: VERSION,
        id: id(),
        release: Some("v2".into()),
        actor: None,
        from: None,
        key: "ci 1".into(),
        sequence: None,
        policy_hash: Charter::hash(&policy),
        policy,
        announced: now(),
        after: None,
        retries: 0,
    }
}

fn own(
    world: &Shared,
    parts: &Parts,
    charter: Charter,
    (saved, revision): (Saved, u64),
    standing: Standing,
    first: Event,
) -> Handle {
    world.lock().owned = true;
    let (changes, _) = broadcast::channel(64);
    let target: Arc<dyn Target> = Arc::new(world.clone());
    let workloads: Arc<dyn Workloads> = Arc::new(world.clone());
    let policy = Arc::new(policy());
    rollout::begin(Beginning {
        parts: parts.clone(),
        charter: Arc::new(charter),
        ask: Ask::of(&policy, id()).expect("the policy says what is read"),
        policy,
        target,
        workloads,
        alerts: Arc::new(Dispatcher::new(Vec::new())),
        saved,
        revision,
        standing,
        first,
        changes,
    })
}

/// What the plan has for this moment.
fn happen(world: &Shared, handle: Option<&Handle>) {
    loop {
        let due = {
            let mut world = world.lock();
            let now = world.at();
            match world.plan.happenings.first() {
                Some((at, _)) if *at <= now => world.plan.happenings.remove(0).1,
                _ => break,
            }
        };
        one(world, handle, due);
    }
    let late = {
        let mut world = world.lock();
        let now = world.at();
        now > PATIENCE && !world.usurped && world.checks.asks_again(now)
    };
    if late && let Some(handle) = handle {
        tokio::spawn(say(world.clone(), handle.post.clone(), "the last word".into(), Action::Abort));
    }
}

fn one(world: &Shared, handle: Option<&Handle>, due: Happening) {
    let mut at = world.lock();
    at.note(format!("{due:?}"));
    match due {
        Happening::Dies(calls) => at.dies_in = Some(calls),
        Happening::DiesAndStoreIsRestored(calls) => {
            at.dies_in = Some(calls);
            at.restores = true;
        }
        Happening::Copied => at.copy = Some(at.keys.clone()),
        Happening::ClockJumps(by) => at.skew += by,
        Happening::Hand(hundredths) => {
            if let Ok(weight) = Weight::from_hundredths(hundredths) {
                at.weight = weight;
                at.target_version += 1;
                at.checks.touched_by_others = true;
            }
        }
        Happening::Usurped => checks::usurp(&mut at),
        Happening::Says(key, action) => {
            if let Some(handle) = handle {
                drop(at);
                tokio::spawn(say(world.clone(), handle.post.clone(), key, action));
            }
        }
    }
}

async fn say(world: Shared, post: Post, key: String, action: Action) {
    let (actor, reason) = ("ann".to_owned(), "says so".to_owned());
    let command =
        Override { key: key.clone(), actor, reason, expected_revision: None, action: action.clone() };
    if let Some(answer) = post.command(command).await {
        checks::answered(&mut world.lock(), &key, &action, answer);
    }
}

/// The time from which nothing goes wrong any more.
pub const CALM: i64 = CALM_FROM;
