//! One daemon as a process: a runtime of its own on a paused clock, which dies, stops, or stands still as a whole.
//!
//! ```text
//!   turn of daemon A ─▶ its runtime runs until its own time is A's + a grain ─▶ turn of whoever is furthest behind
//! ```
//!
//! Clocks of two daemons differ by a grain at most; calls end a turn now and then, so that daemons meet between any two of
//! them. A dead one's runtime is dropped with all its tasks. One that stood still finds its clock advanced at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_alerts::{Exchange, Settings};
use sluice_bus::{Bus, Doors, Store};
use sluice_metrics_adapters::{Http, Source, Sources};
use sluice_outbound::Outbound;
use sluice_traffic::Clients;
use sluice_wire::policy::Policy;
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use super::{plan::NAMES, world::Shared};
use crate::runtime::{
    Daemon, authority::Authority, historian::Historian, hub::Hubs, ledger::Ledger, meters::Meters,
    parts::Parts, policies::PolicyBook, recorder::Records,
};

const POLICY: &str = r#"{"apiVersion":"sluice.dev/v1alpha1","kind":"RolloutPolicy","metadata":{"name":"checkout","namespace":"shop"},"spec":{"target":{"webhook":{"url":"http://127.0.0.1:1/"}},"workloads":{"stable":{"deployment":"checkout"},"canary":{"deployment":"checkout-canary"},"promote":"copyTemplate","scaleDownDelay":"10s"},"metrics":{"scrape":{"stable":["http://127.0.0.1:1/metrics"],"canary":["http://127.0.0.1:1/metrics"]}},"analysis":{"warmup":"0s","risk":{"badRequests":200,"within":"60s","share":"2%"}},"steps":[{"weight":20},{"weight":50}],"limits":{"step":{"min":"10s","max":"5m"},"drain":"5s"},"bake":{"for":"15s","holdback":"10%"},"alerts":[{"webhook":{"url":"http://127.0.0.1:1/"}}]}}"#;

thread_local! {
    /// Reading it takes as long as a good part of a run.
    static READ: Policy = Policy::parse("policy", POLICY.as_bytes()).expect("the simulation's policy is sound");
    /// Making TLS clients takes longer than a whole run.
    static CLIENTS: (Clients, sluice_outbound::Client) = {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Outbound::default().client(reqwest::Client::builder);
        (Clients::new(None).expect("clients"), http.expect("a client"))
    };
}

pub struct Process {
    world: Shared,
    runtime: Option<Runtime>,
    daemon: Arc<Mutex<Option<Arc<Daemon>>>>,
}

impl Process {
    pub fn new(world: Shared) -> Process {
        Process { world, runtime: None, daemon: Arc::default() }
    }

    pub fn runs(&self) -> bool {
        self.runtime.is_some()
    }

    pub fn start(&mut self) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without IO");
        runtime.block_on(async {
            let mut world = self.world.lock();
            let clock = world.clock;
            if let Some(life) = world.life_mut() {
                life.start += 1;
                (life.began, life.offset, life.local) = (Some(Instant::now()), clock, clock);
                (life.dead, life.dies_in, life.stopping, life.frozen_until) = (false, None, false, None);
                life.well_since = clock;
            }
            world.note("starts".into());
            drop(world);
            tokio::spawn(live(self.world.clone(), self.daemon.clone()));
        });
        self.runtime = Some(runtime);
    }

    /// Runs until its time is `until`, it dies, or others are to have their turn.
    pub fn run(&mut self, until: i64) {
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            self.world.turn(true);
            let left = u64::try_from(until - self.world.lock().at()).unwrap_or(0);
            tokio::select! {
                biased;
                () = self.world.halted() => {}
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
            }
            self.world.turn(false);
        });
        self.bury_if_dead();
    }

    fn bury_if_dead(&mut self) {
        let dead = self.world.lock().life().is_some_and(|life| life.dead);
        if dead {
            self.kill();
        }
    }

    /// It stood still until now: all its timers are late at once.
    pub fn thaw(&mut self, now: i64) {
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            self.world.turn(true);
            let late = u64::try_from(now - self.world.lock().at()).unwrap_or(0);
            tokio::time::advance(Duration::from_millis(late)).await;
            self.world.turn(false);
            let mut world = self.world.lock();
            if let Some(life) = world.life_mut() {
                (life.frozen_until, life.well_since) = (None, now);
            }
            world.note("goes on".into());
        });
        self.bury_if_dead();
    }

    /// Every task ends where it stands.
    pub fn kill(&mut self) {
        let daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner).take();
        let runtime = self.runtime.take();
        {
            let mut world = self.world.lock();
            world.note("is gone".into());
            let (who, clock) = (world.who, world.clock);
            let again = clock + world.chance.i64(500..15_000);
            if let Some(who) = who {
                world.hears_nothing(who);
            }
            if let Some(life) = world.life_mut() {
                (life.began, life.dead, life.starts_at, life.frozen_until) = (None, true, again, None);
            }
        }
        drop(runtime);
        drop(daemon);
    }

    /// Something that is done within it, by whoever stands at its HTTP door.
    pub fn at_its_door<F>(&self, visit: impl FnOnce(Arc<Daemon>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(runtime), Some(daemon)) = (&self.runtime, daemon) {
            runtime.spawn(visit(daemon));
        }
    }
}

/// As `sluice run` does it: started, then until it is told to stop or displaced.
async fn live(world: Shared, slot: Arc<Mutex<Option<Arc<Daemon>>>>) {
    match begin(&world).await {
        Ok((daemon, _source)) => {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(daemon.clone());
            tokio::select! {
                biased;
                () = daemon.displaced() => world.note("gives way".into()),
                () = world.stopped() => {}
            }
            daemon.shutdown().await;
            world.note("has stopped".into());
        }
        Err(error) => world.note(format!("cannot start: {error}")),
    }
    world.die().await;
}

/// Whoever holds the source keeps it alive.
async fn begin(world: &Shared) -> anyhow::Result<(Arc<Daemon>, Arc<dyn Source>)> {
    let (policy, alone, start) = {
        let world = world.lock();
        let mut policy = READ.with(Policy::clone);
        policy.spec.on_new_release = world.plan.on_new_release;
        (policy, world.plan.daemons == 1, world.start())
    };
    let store: Arc<dyn Store> = Arc::new(world.clone());
    let bus: Arc<dyn Bus> = Arc::new(world.clone());
    let doors: Arc<dyn Doors> = Arc::new(world.clone());
    let source: Arc<dyn Source> = Arc::new(world.clone());
    let ledger = Ledger::new(store);
    let meters = Arc::new(Meters::default());
    let sources = Arc::new(Sources::new(Http::default()));
    sources.put(&policy.spec.metrics, &source);
    let alerts = Exchange::new(Outbound::default(), reqwest::Client::builder, Settings::default());
    for block in &policy.spec.alerts {
        alerts.put(block, vec![Arc::new(world.clone())]);
    }
    let (clients, http) = CLIENTS.with(Clone::clone);
    let parts = Parts {
        bus,
        doors,
        records: Records::start(ledger.clone(), meters.clone()),
        historian: Historian::start(ledger.clone(), meters.clone()),
        ledger,
        alerts: Arc::new(alerts),
        outside: Arc::new(world.clone()),
        sources,
        hubs: Arc::new(Hubs::default()),
        meters,
        http,
        clients,
        alone,
        daemon: NAMES[world.who.unwrap_or(0)].to_owned(),
        incarnation: start.to_string(),
        cluster: None,
    };
    let daemon = Daemon::awake(parts, PolicyBook::holding([policy]), Authority::new(None), None).await?;
    Ok((daemon, source))
}
