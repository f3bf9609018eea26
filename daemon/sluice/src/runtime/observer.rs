//! Reading and judging: the baseline before the canary has traffic, then one window after the other. What was made of
//! the windows is kept with how far each pod was counted, so that after a crash the gap is read as one window and
//! nothing counts twice.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_analyzers as analyzers;
use sluice_analyzers::{Evidence, Plan, Report, Window};
use sluice_metrics_adapters::{Ask, Closed, Cursor, SourceError};
use sluice_rollout::{Baseline, Event, Observation, Timestamp, Verdict, Weight};
use sluice_wire::decisions::{Judged, Sum};
use tokio::sync::watch;

use super::{clock::now, edge::Edge, gauges::GaugeReader, hub::Hub, standing::Standing};
use crate::judging::{Judgement, judge};

/// How far back history is looked at, and how finely.
const HISTORY: Duration = Duration::from_secs(6 * 3600);
const HISTORY_STEP: Duration = Duration::from_secs(15);
/// Where the source keeps no history, the service is measured for at least so long.
const LIVE_BASELINE: Duration = Duration::from_secs(2);
const LIVE_READS: u32 = 3;
/// A source that failed is asked again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// Evidence is saved when the verdict changes, and at most this often otherwise.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// All that judging rests on, saved together.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    plan: Plan,
    evidence: Evidence,
    cursor: Cursor,
    /// The step (0-based) and weight that the cursor was begun for: after a crash it goes on where it was, and no window
    /// spans a weight that a person set.
    #[serde(default)]
    begun: Option<(usize, Weight)>,
    /// When that weight had been read back, where this or an earlier start wrote it.
    #[serde(default)]
    since: Option<Timestamp>,
}

pub struct Observer {
    edge: Arc<Edge>,
    hub: Hub,
    ask: Ask,
    kept: Option<Kept>,
    wanted: watch::Receiver<Observation>,
    report: watch::Sender<Arc<Value>>,
    last_verdict: Option<Verdict>,
    complaints: Vec<String>,
    saved: tokio::time::Instant,
    gauges: GaugeReader,
}

impl Observer {
    pub fn new(edge: Arc<Edge>, ask: Ask, hub: Hub, report: watch::Sender<Arc<Value>>) -> Observer {
        let wanted = edge.observation.subscribe();
        let saved = tokio::time::Instant::now();
        Observer {
            edge,
            hub,
            ask,
            kept: None,
            wanted,
            report,
            last_verdict: None,
            complaints: Vec::new(),
            saved,
            gauges: GaugeReader::default(),
        }
    }

    /// Runs until the rollout's end.
    /// On the heap, and so is what takes long, while it runs: a rollout mostly waits, thousands do, and a future has room for
    /// each move of what it holds.
    pub async fn run(mut self: Box<Self>) {
        Box::pin(self.resume()).await;
        loop {
            let wanted = *self.wanted.borrow_and_update();
            let wait = match wanted {
                Observation::None => Duration::from_secs(3600),
                Observation::Baseline => Box::pin(self.baseline()).await,
                Observation::Step { step, weight } => Box::pin(self.window(step, weight)).await,
            };
            tokio::select! {
                biased;
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn resume(&mut self) {
        loop {
            match self.edge.parts.ledger.load_evidence::<Kept>(&self.edge.id).await {
                Ok(kept) => break self.kept = kept,
                Err(error) => {
                    tracing::error!(rollout = %self.edge.id, %error, "evidence cannot be read; nothing is judged until it can");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        if let Some(kept) = &self.kept {
            self.edge.recorder.resumed(&kept.plan, &kept.evidence);
        }
        self.tell_report();
    }

    /// Measures stable alone and freezes the plan. Answers how long to wait before the next attempt.
    async fn baseline(&mut self) -> Duration {
        if self.kept.is_none() {
            match self.measure().await {
                Ok(baseline) => match self.begin(&baseline) {
                    Ok(kept) => self.kept = Some(kept),
                    Err(why) => return self.unavailable(why).await,
                },
                Err(error) => return self.unavailable(error.to_string()).await,
            }
            self.save().await;
        }
        self.edge.post.event(Event::BaselineMeasured(Baseline::Measured)).await;
        Duration::from_secs(3600)
    }

    async fn unavailable(&self, why: String) -> Duration {
        self.edge.post.event(Event::BaselineMeasured(Baseline::Unavailable { why })).await;
        AGAIN
    }

    fn begin(&self, baseline: &analyzers::Baseline) -> Result<Kept, String> {
        let plan = self.edge.policy.plan().map_err(|error| error.to_string())?;
        let plan = Plan { retries: self.edge.charter.retries, ..plan }.frozen(baseline);
        self.edge.recorder.planned(baseline, &plan);
        let evidence = Evidence::new(&plan);
        Ok(Kept { plan, evidence, cursor: Cursor::new(), begun: None, since: None })
    }

    async fn measure(&self) -> Result<analyzers::Baseline, SourceError> {
        let until = self.hub.on_its_clock(now());
        let from = until - i64::try_from(HISTORY.as_millis()).unwrap_or(0);
        match self.hub.source().history(&self.ask, from, until, HISTORY_STEP).await {
            Ok(readings) => {
                let mut cursor = Cursor::new();
                let mut baseline = analyzers::Baseline::new();
                for reading in &readings {
                    count(&mut baseline, cursor.close(reading, 0));
                }
                Ok(baseline)
            }
            Err(SourceError::Unsupported(_)) => self.measure_live().await,
            Err(error) => Err(error),
        }
    }

    /// Some reads of now, where the source keeps no history.
    async fn measure_live(&self) -> Result<analyzers::Baseline, SourceError> {
        let began = tokio::time::Instant::now();
        let mut cursor = Cursor::new();
        let mut baseline = analyzers::Baseline::new();
        let mut reads = 0;
        while reads < LIVE_READS || began.elapsed() < LIVE_BASELINE {
            let reading = self.hub.read(&self.ask).await?;
            count(&mut baseline, cursor.close(&reading, 0));
            reads += 1;
            tokio::time::sleep(self.until(reading.next_ms)).await;
        }
        Ok(baseline)
    }

    /// Reads, closes and judges one window. Answers when the next read is worth while.
    async fn window(&mut self, step: usize, weight: Weight) -> Duration {
        if self.kept.is_none() && self.measure_late().await.is_none() {
            return AGAIN;
        }
        let number = u32::try_from(step + 1).unwrap_or(u32::MAX);
        match self.hub.read(&self.ask).await {
            Err(error) => {
                let verdict = if error.is_down() { Verdict::SourceDown } else { Verdict::NoData };
                self.tell_nothing(step, verdict, error.to_string()).await;
                AGAIN
            }
            Ok(reading) => {
                let wait = self.until(reading.next_ms);
                let ahead_ms = self.hub.on_its_clock(Timestamp::from_millis(0));
                let mut complaints = reading.complaints.clone();
                complaints.extend(self.clock_is_off());
                let Some(kept) = &mut self.kept else { return wait };
                let standing = *self.edge.standing.borrow();
                kept.begin_anew((step, weight), &standing, number, (reading.at_ms, ahead_ms));
                match kept.cursor.close(&reading, number) {
                    Closed::Window(mut window) => {
                        complaints.extend(self.gauges.fill(&mut window));
                        self.judge(step, window).await;
                        self.gauges.ask(&self.hub, &self.ask);
                    }
                    Closed::NoData(why) => self.tell_nothing(step, Verdict::NoData, why).await,
                    Closed::Waiting(_) => {}
                }
                self.complain(complaints);
                wait
            }
        }
    }

    /// A rollout taken over without evidence: it is judged from here on, without history.
    async fn measure_late(&mut self) -> Option<()> {
        match self.begin(&analyzers::Baseline::new()) {
            Ok(kept) => self.kept = Some(kept),
            Err(why) => {
                self.unavailable(why).await;
                return None;
            }
        }
        Some(())
    }

    async fn judge(&mut self, step: usize, window: Window) {
        let Some(kept) = &mut self.kept else { return };
        let Judgement { verdict, event, report } = judge(&kept.plan, &mut kept.evidence, step, &window);
        let judged = Judged { step, window, event: event.clone(), evidence: Sum::new() };
        self.edge.recorder.judged(judged, &kept.plan, &kept.evidence);
        if let Some(report) = report {
            self.report.send_replace(self.told(&report).into());
        }
        self.tell(verdict, event).await;
    }

    /// No window was closed.
    async fn tell_nothing(&mut self, step: usize, verdict: Verdict, words: String) {
        let (counted, until) = (Duration::ZERO, Timestamp::from_millis(0));
        self.tell(verdict, Event::Evidence { step, verdict, counted, until, words, alarms: None }).await;
    }

    async fn tell(&mut self, verdict: Verdict, event: Event) {
        self.edge.parts.meters.verdict(word(verdict));
        if verdict == Verdict::Fail {
            self.edge.post.urgent(event).await;
        } else {
            self.edge.post.event(event).await;
        }
        let changed = self.last_verdict.replace(verdict) != Some(verdict);
        if changed || self.saved.elapsed() >= SAVE_EVERY {
            self.save().await;
        }
    }

    fn tell_report(&self) {
        if let Some(kept) = &self.kept {
            let report = analyzers::report(&kept.plan, &kept.evidence);
            self.report.send_replace(self.told(&report).into());
        }
    }

    /// The report as people and programs get it: every finding in words, too, and what is known of the source's clock.
    fn told(&self, report: &Report) -> Value {
        let mut value = serde_json::to_value(report).unwrap_or_default();
        let findings = value["findings"].as_array_mut().into_iter().flatten();
        for (told, finding) in findings.zip(&report.findings) {
            told["words"] = finding.words().into();
        }
        let seconds = self.hub.source().clock().ahead_ms as f64 / 1000.0;
        if seconds != 0.0 {
            value["clockOffsetSeconds"] = seconds.into();
        }
        value
    }

    /// Says so in the log, too; whole seconds, so that it is said once.
    fn clock_is_off(&self) -> Option<String> {
        let (source, clock) = (self.hub.source().name(), self.hub.source().clock());
        let seconds = clock.ahead_ms as f64 / 1000.0;
        self.edge.parts.meters.clock_offset(&source, seconds);
        let side = if clock.ahead_ms < 0 { "behind" } else { "ahead of" };
        let whole = seconds.abs().round();
        let advice = if clock.ahead_ms == clock.followed_ms {
            "windows are on its clock"
        } else {
            "that is not followed beyond minutes"
        };
        (whole >= 1.0).then(|| {
            format!("{source}'s clock is {whole} s {side} ours; {advice}: put right whichever is wrong")
        })
    }

    /// How long until that instant of the source's clock.
    fn until(&self, next_ms: i64) -> Duration {
        let left = next_ms.saturating_sub(self.hub.on_its_clock(now()));
        Duration::from_millis(u64::try_from(left).unwrap_or(0).clamp(20, 60_000))
    }

    /// What was not used of the metrics, each complaint once until it changes.
    fn complain(&mut self, mut complaints: Vec<String>) {
        if let Some(kept) = &mut self.kept {
            complaints.extend(kept.cursor.take_complaints());
        }
        if complaints == self.complaints {
            return;
        }
        for complaint in &complaints {
            tracing::warn!(rollout = %self.edge.id, complaint, "a part of the metrics was not used");
        }
        self.complaints = complaints;
    }

    async fn save(&mut self) {
        self.saved = tokio::time::Instant::now();
        // A later session resumes from this evidence: the record must lead to it.
        self.edge.recorder.flush();
        if let Some(kept) = &self.kept
            && let Err(error) = self.edge.parts.ledger.save_evidence(&self.edge.id, kept).await
        {
            tracing::warn!(rollout = %self.edge.id, %error, "evidence could not be saved; after a crash it is read again");
        }
    }
}

impl Kept {
    /// A window never spans a weight change: another step, another weight, or the same one written anew begins it. What
    /// stands since when is known by our clock, samples have the source's, `ahead_ms` ahead of it.
    fn begin_anew(
        &mut self,
        watched: (usize, Weight),
        standing: &Standing,
        number: u32,
        (read_ms, ahead_ms): (i64, i64),
    ) {
        let since = standing.since();
        let on_its_clock = |ours: Timestamp| ours.millis().saturating_add(ahead_ms);
        if self.begun != Some(watched) || (since.is_some() && self.since != since) {
            (self.begun, self.since) = (Some(watched), since);
            self.cursor.begin_step(number, since.map_or(read_ms, on_its_clock));
        }
        self.cursor.hold(standing.held(now()).map(on_its_clock));
    }
}

fn count(baseline: &mut analyzers::Baseline, closed: Closed) {
    if let Closed::Window(window) = closed
        && let Err(error) = baseline.add(&window)
    {
        tracing::debug!(%error, "a window of history was left out");
    }
}

pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Undecided => "undecided",
        Verdict::NoData => "no-data",
        Verdict::SourceDown => "source-down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_metrics_adapters::{PodSample, Reading};

    fn reading(at_ms: i64, requests: u64) -> Reading {
        let pod = |arm, pod: &str| PodSample {
            arm,
            pod: pod.to_owned(),
            at_ms,
            requests,
            errors: 0,
            buckets: None,
            started_ms: None,
            ready_ms: None,
            strata: Vec::new(),
        };
        let pods = vec![pod(analyzers::Arm::Stable, "s"), pod(analyzers::Arm::Canary, "c")];
        Reading { at_ms, pods, ..Reading::default() }
    }

    /// The source's clock is 30 s behind: what was sampled just after the read-back is counted, not half a minute later.
    #[test]
    fn a_weights_windows_begin_with_the_read_back_on_the_sources_clock() {
        let plan = Plan::new(vec![0.1]);
        let evidence = Evidence::new(&plan);
        let mut kept = Kept { plan, evidence, cursor: Cursor::new(), begun: None, since: None };
        let weight = Weight::from_percent(10.0).unwrap_or_default();
        let mut standing = Standing::default();
        standing.found(weight, Timestamp::from_millis(100_000));
        kept.begin_anew((0, weight), &standing, 1, (71_000, -30_000));
        let first = kept.cursor.close(&reading(71_000, 50), 1);
        let second = kept.cursor.close(&reading(72_000, 60), 1);
        assert!(matches!(first, Closed::Waiting(_)), "{first:?}");
        let Closed::Window(window) = second else { panic!("no window: {second:?}") };
        assert_eq!(
            (window.start_ms, window.end_ms, window.requests(analyzers::Arm::Canary)),
            (71_000, 72_000, 10)
        );
    }
}
