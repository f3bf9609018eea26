//! One sink with its ledger and the worker that says what the ledger decides.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use sluice_rollout::{AlertKind, RolloutId};
use sluice_wire::alert::{Alert, AlertStatus, kind_name};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Pace, Sink, SinkError,
    ledger::{Batch, Ledger, Rules},
    receipt::Part,
};

/// A sink has a time limit of its own; this one is for a sink that does not keep it.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// How a sink fares, for metrics and the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStats {
    pub name: String,
    /// Alerts that are up.
    pub firing: usize,
    /// Alerts with news that the sink does not have yet.
    pub unsaid: usize,
    /// Messages taken, and alerts in them, repeats included.
    pub messages: u64,
    pub alerts: u64,
    /// Messages that were not taken and went to be tried again.
    pub retried: u64,
    /// Alerts that the sink will never take.
    pub refused: u64,
    /// Alerts that found no room.
    pub dropped: u64,
    /// For how long the sink has taken nothing, and why not.
    pub failing: Option<(Duration, String)>,
}

/// Ends its worker when dropped; what was unsaid then is lost, unless [`Outlet::shut`] was awaited first.
#[derive(Debug)]
pub(crate) struct Outlet {
    desk: Arc<Desk>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// A timer that comes so late was not kept from by work.
const OVERSLEPT: Duration = Duration::from_secs(4);
const AWAKE_AFTER: Duration = Duration::from_secs(3);

/// What the worker and the callers share.
struct Desk {
    sink: Arc<dyn Sink>,
    ledger: Mutex<Ledger>,
    news: Notify,
    closing: CancellationToken,
}

impl Outlet {
    /// Must be called within a tokio runtime.
    pub fn open(sink: Arc<dyn Sink>, rules: Rules) -> Outlet {
        let ledger = Mutex::new(Ledger::new(rules));
        let desk = Arc::new(Desk { sink, ledger, news: Notify::new(), closing: CancellationToken::new() });
        let worker = tokio::spawn(desk.clone().work());
        Outlet { desk, worker: Mutex::new(Some(worker)) }
    }

    /// Takes a word into the ledger; answers when the sink has it. `elsewhere`: a replica has told of this alert.
    pub fn say(&self, alert: &Alert, elsewhere: bool) -> Part {
        let (waiter, outcome) = oneshot::channel();
        let (alert, now) = (alert.clone(), Instant::now());
        match alert.status {
            AlertStatus::Firing => self.desk.ledger().fire(alert, waiter, now),
            AlertStatus::Resolved => self.desk.ledger().resolve(alert, elsewhere, waiter, now),
        }
        self.desk.news.notify_one();
        Part { sink: self.desk.sink.name(), receiver: self.desk.sink.receiver(), outcome }
    }

    pub fn receiver(&self) -> String {
        self.desk.sink.receiver()
    }

    pub fn has_told(&self, alert: &Alert) -> bool {
        self.desk.ledger().has_told(alert)
    }

    pub fn restore(&self, alerts: &[Alert]) {
        self.keep(alerts, Ledger::restore);
    }

    pub fn doubt(&self, alerts: &[Alert]) {
        self.keep(alerts, Ledger::doubt);
    }

    fn keep(&self, alerts: &[Alert], keep: fn(&mut Ledger, Alert, Instant)) {
        let now = Instant::now();
        for alert in alerts.iter().filter(|alert| alert.is_firing()) {
            keep(&mut self.desk.ledger(), alert.clone(), now);
        }
        self.desk.news.notify_one();
    }

    pub fn missed(&self, resolved: &[Alert]) {
        let now = Instant::now();
        for alert in resolved {
            self.desk.ledger().missed(alert.clone(), now);
        }
        self.desk.news.notify_one();
    }

    pub fn forget(&self, rollout: &RolloutId, but: &[AlertKind]) {
        self.desk.ledger().forget(rollout, but);
    }

    /// Says what is unsaid, for as long as `limit`; answers how many alerts are left over.
    pub async fn shut(&self, limit: Duration) -> usize {
        self.desk.ledger().close(Instant::now());
        self.desk.closing.cancel();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut worker) = worker
            && time::timeout(limit, &mut worker).await.is_err()
        {
            worker.abort();
        }
        self.desk.ledger().stop();
        self.desk.ledger().unsaid()
    }

    pub fn stats(&self) -> SinkStats {
        let ledger = self.desk.ledger();
        let counts = ledger.counts();
        SinkStats {
            name: self.desk.sink.name(),
            firing: ledger.firing(),
            unsaid: ledger.unsaid(),
            messages: counts.messages,
            alerts: counts.alerts,
            retried: counts.failed,
            refused: counts.refused,
            dropped: counts.dropped,
            failing: ledger.failing().map(|failing| (failing.since.elapsed(), failing.why.clone())),
        }
    }

    /// Nothing is up and nothing is to be said.
    pub fn is_idle(&self) -> bool {
        let ledger = self.desk.ledger();
        ledger.firing() == 0 && ledger.unsaid() == 0
    }

    pub fn name(&self) -> String {
        self.desk.sink.name()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            worker.abort();
        }
    }
}

impl Desk {
    async fn work(self: Arc<Self>) {
        let limiter = limiter(self.sink.pace());
        while self.due().await {
            self.deliver(&limiter).await;
        }
        while let Some(due) = self.next_unsaid() {
            time::sleep_until(due).await;
            self.deliver(&limiter).await;
        }
    }

    /// Waits until there is something to say; `false` when the outlet closes.
    async fn due(&self) -> bool {
        loop {
            let next = self.ledger().next();
            if next.is_some_and(|next| next <= Instant::now()) {
                return !self.closing.is_cancelled();
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return false,
                () = self.news.notified() => {}
                () = until(next) => {
                    if next.is_some_and(|next| next.elapsed() > OVERSLEPT) {
                        // This process stood still. Whoever holds the rollouts may find first that they are another's now.
                        time::sleep(AWAKE_AFTER).await;
                    }
                }
            }
        }
    }

    async fn deliver(&self, limiter: &Limiter) {
        limiter_turn(limiter).await;
        let Some(batch) = self.take() else { return };
        let sent = time::timeout(SEND_LIMIT, self.sink.send(&batch.alerts)).await;
        let result = sent.unwrap_or_else(|_| {
            Err(SinkError::Unanswered { why: format!("no answer within {SEND_LIMIT:?}") })
        });
        self.log(&batch, &result);
        self.ledger().settle(&batch, result, Instant::now());
    }

    fn log(&self, batch: &Batch, result: &Result<(), SinkError>) {
        let sink = self.sink.name();
        for alert in &batch.alerts {
            let (rollout, kind) = (&alert.rollout, kind_name(alert.kind));
            match result {
                Ok(()) => tracing::debug!(sink, %rollout, kind, status = ?alert.status, "alert told"),
                Err(SinkError::Final { why }) => tracing::error!(sink, %rollout, kind, why, "alert refused"),
                Err(error) => tracing::warn!(sink, %rollout, kind, %error, "alert not taken yet"),
            }
        }
    }

    fn take(&self) -> Option<Batch> {
        self.ledger().take(Instant::now())
    }

    fn next_unsaid(&self) -> Option<Instant> {
        self.ledger().next_unsaid()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("sink", &self.sink).finish_non_exhaustive()
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<std::time::Instant>>;

fn limiter(pace: Pace) -> Limiter {
    let shortest = Duration::from_millis(1);
    let quota = Quota::with_period(pace.per.max(shortest)).unwrap_or(Quota::per_second(pace.burst));
    RateLimiter::direct_with_clock(quota.allow_burst(pace.burst), TokioClock)
}

async fn limiter_turn(limiter: &Limiter) {
    while let Err(not_yet) = limiter.check() {
        time::sleep(not_yet.wait_time_from(TokioClock.now())).await;
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}
