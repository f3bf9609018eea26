//! The dispatcher's stories, on a paused clock: time passes only when everybody waits for it.
#![expect(clippy::unwrap_used, reason = "a test may end where what it builds on fails")]

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sluice_alerts::{Dispatcher, Outcome, Pace, Receipt, Settings, Sink, SinkError};
use sluice_rollout::{AlertKind, Timestamp};
use sluice_wire::alert::{Alert, AlertStatus};
use tokio::time::{Instant, sleep, timeout};

/// A message as the sink got it: seconds since the start, and a line per alert.
type Got = (u64, Vec<String>);
type Rule = Box<dyn FnMut(&[Alert]) -> Mood + Send>;

enum Mood {
    Take,
    Fail(SinkError),
    Hang,
}

struct Fake {
    name: &'static str,
    receiver: &'static str,
    repeat: Option<Duration>,
    at_least: Duration,
    pace: Pace,
    rule: Mutex<Rule>,
    started: Instant,
    taken: Mutex<Vec<Got>>,
    /// Summaries of what was taken.
    words: Mutex<Vec<String>>,
    tries: Mutex<Vec<Got>>,
}

impl Fake {
    fn new(name: &'static str) -> Fake {
        Fake {
            name,
            receiver: name,
            repeat: None,
            at_least: Duration::ZERO,
            pace: Pace::default(),
            rule: Mutex::new(Box::new(|_| Mood::Take)),
            started: Instant::now(),
            taken: Mutex::default(),
            words: Mutex::default(),
            tries: Mutex::default(),
        }
    }

    fn repeating(self, secs: u64) -> Fake {
        Fake { repeat: Some(Duration::from_secs(secs)), ..self }
    }

    /// It tells nobody of what is over sooner.
    fn patient(self, secs: u64) -> Fake {
        Fake { at_least: Duration::from_secs(secs), ..self }
    }

    fn replica_of(self, receiver: &'static str) -> Fake {
        Fake { receiver, ..self }
    }

    fn one_a_second(self) -> Fake {
        Fake { pace: Pace { per: Duration::from_secs(1), burst: NonZeroU32::MIN }, ..self }
    }

    fn with_rule(self, rule: impl FnMut(&[Alert]) -> Mood + Send + 'static) -> Fake {
        Fake { rule: Mutex::new(Box::new(rule)), ..self }
    }

    fn up_after(self, secs: u64) -> Fake {
        let up = self.started + Duration::from_secs(secs);
        self.with_rule(move |_| if Instant::now() >= up { Mood::Take } else { Mood::Fail(down()) })
    }

    fn taken(&self) -> Vec<Got> {
        self.taken.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.taken().into_iter().flat_map(|(_, lines)| lines).collect()
    }

    fn tries(&self) -> Vec<Got> {
        self.tries.lock().unwrap().clone()
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[async_trait]
impl Sink for Fake {
    fn name(&self) -> String {
        self.name.to_owned()
    }
    fn receiver(&self) -> String {
        self.receiver.to_owned()
    }
    fn repeat(&self) -> Option<Duration> {
        self.repeat
    }
    fn at_least(&self) -> Duration {
        self.at_least
    }
    fn pace(&self) -> Pace {
        self.pace
    }
    async fn send(&self, alerts: &[Alert]) -> Result<(), SinkError> {
        let got = (self.started.elapsed().as_secs(), alerts.iter().map(line).collect());
        self.tries.lock().unwrap().push(got);
        let mood = (self.rule.lock().unwrap())(alerts);
        match mood {
            Mood::Take => {
                let got = (self.started.elapsed().as_secs(), alerts.iter().map(line).collect());
                self.taken.lock().unwrap().push(got);
                self.words.lock().unwrap().extend(alerts.iter().map(|alert| alert.summary.clone()));
                Ok(())
            }
            Mood::Fail(error) => Err(error),
            Mood::Hang => std::future::pending().await,
        }
    }
}

fn line(alert: &Alert) -> String {
    let status = if alert.is_firing() { "firing" } else { "resolved" };
    format!("{} {status}", alert.rollout.name())
}

fn down() -> SinkError {
    SinkError::Passing { why: "down".into(), after: None }
}

fn alert(name: &str) -> Alert {
    Alert {
        rollout: format!("shop/{name}@v2").parse().unwrap(),
        kind: AlertKind::NeedsAttention,
        status: AlertStatus::Firing,
        summary: "its deadline has passed".into(),
        details: [("weight".to_owned(), "5 %".to_owned())].into(),
        since: Timestamp::from_millis(1_000),
        at: Timestamp::from_millis(1_000),
    }
}

fn abort(name: &str) -> Alert {
    Alert { kind: AlertKind::Aborting, summary: "the canary is worse".into(), ..alert(name) }
}

fn dispatcher(sinks: &[&Arc<Fake>]) -> Dispatcher {
    Dispatcher::new(sinks.iter().map(|sink| (*sink).clone() as Arc<dyn Sink>).collect())
}

/// Lets the paused clock run on.
async fn pass(secs: u64) {
    sleep(Duration::from_secs(secs)).await;
}

/// Whoever does not wait for the answer.
fn unasked(_: Receipt) {}

async fn outcomes(receipt: Receipt) -> Vec<Outcome> {
    let confirmed = timeout(Duration::from_secs(100_000), receipt.confirmed()).await.unwrap();
    confirmed.into_iter().map(|delivery| delivery.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn alerts_that_come_together_go_together_and_each_is_confirmed() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    let receipts = ["a", "b", "c"].map(|name| dispatcher.fire(alert(name)));
    for receipt in receipts {
        assert_eq!(outcomes(receipt).await, [Outcome::Told]);
    }
    assert_eq!(sink.taken(), [(0, vec!["a firing".into(), "b firing".into(), "c firing".into()])]);
}

#[tokio::test(start_paused = true)]
async fn a_firing_alert_is_kept_up_where_the_sink_forgets_and_resolved_once_everywhere() {
    let (forgets, remembers) =
        (Arc::new(Fake::new("alertmanager").repeating(60)), Arc::new(Fake::new("slack")));
    let dispatcher = dispatcher(&[&forgets, &remembers]);
    unasked(dispatcher.fire(alert("a")));
    pass(200).await;
    assert_eq!(forgets.lines(), ["a firing"; 4]);
    assert_eq!(remembers.lines(), ["a firing"]);

    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told, Outcome::Told]);
    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told, Outcome::Told]);
    pass(1_000).await;
    assert_eq!(forgets.lines().iter().filter(|line| *line == "a resolved").count(), 1);
    assert_eq!(forgets.lines().last().unwrap(), "a resolved");
    assert_eq!(remembers.lines(), ["a firing", "a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn what_came_and_went_before_anybody_was_told_is_not_told() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    let (fired, resolved) = (dispatcher.fire(alert("a")), dispatcher.resolve(alert("a")));
    assert_eq!(outcomes(fired).await, [Outcome::Needless]);
    assert_eq!(outcomes(resolved).await, [Outcome::Needless]);
    pass(100).await;
    assert!(sink.tries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_told_though_it_was_over_before_anybody_could_be_told() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    let (fired, resolved) = (dispatcher.fire(abort("a")), dispatcher.resolve(abort("a")));
    assert_eq!(outcomes(fired).await, [Outcome::Told]);
    assert_eq!(outcomes(resolved).await, [Outcome::Told]);
    pass(100).await;
    assert_eq!(sink.lines(), ["a firing", "a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_a_dead_sink_has_not_heard_of_is_told_when_it_is_back() {
    let dead = Arc::new(Fake::new("dead").up_after(600));
    let dispatcher = dispatcher(&[&dead]);
    unasked(dispatcher.fire(abort("a")));
    pass(60).await;
    assert_eq!(outcomes(dispatcher.resolve(abort("a"))).await, [Outcome::Told]);
    assert_eq!(dead.lines(), ["a firing", "a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn an_alert_stays_up_for_as_long_as_its_sink_needs_to_tell_somebody() {
    let sink = Arc::new(Fake::new("alertmanager").repeating(60).patient(45));
    let dispatcher = dispatcher(&[&sink]);
    for raised in [abort("a"), alert("b")] {
        unasked(dispatcher.fire(raised));
    }
    pass(2).await;
    let resolved = [abort("a"), alert("b")].map(|over| dispatcher.resolve(over));
    pass(30).await;
    assert_eq!(sink.taken().len(), 1, "over, and still up: {:?}", sink.taken());
    for receipt in resolved {
        assert_eq!(outcomes(receipt).await, [Outcome::Told]);
    }
    assert_eq!(sink.taken()[1], (45, vec!["a resolved".into(), "b resolved".into()]));
    unasked(dispatcher.fire(alert("b")));
    pass(100).await;
    assert_eq!(outcomes(dispatcher.resolve(alert("b"))).await, [Outcome::Told]);
    assert_eq!(dispatcher.stats()[0].unsaid, 0);
}

#[tokio::test(start_paused = true)]
async fn what_fires_again_while_its_end_waits_stays_up() {
    let sink = Arc::new(Fake::new("alertmanager").patient(45));
    let dispatcher = dispatcher(&[&sink]);
    unasked(dispatcher.fire(alert("a")));
    pass(2).await;
    let over = dispatcher.resolve(alert("a"));
    unasked(dispatcher.fire(alert("a")));
    assert_eq!(outcomes(over).await, [Outcome::Needless]);
    pass(100).await;
    assert_eq!(sink.lines(), ["a firing"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_for_an_hour_delays_no_other_and_is_told_in_the_end() {
    let (dead, well) = (Arc::new(Fake::new("dead").up_after(3_600)), Arc::new(Fake::new("well")));
    let dispatcher = dispatcher(&[&dead, &well]);
    let receipt = dispatcher.fire(alert("a"));
    pass(1).await;
    assert_eq!(well.lines(), ["a firing"]);
    pass(1_000).await;
    let stats = dispatcher.stats();
    assert_eq!((stats[0].unsaid, stats[0].messages, stats[1].unsaid), (1, 0, 0));
    assert!(stats[0].failing.as_ref().is_some_and(|(since, why)| since.as_secs() > 900 && why == "down"));

    assert_eq!(outcomes(receipt).await, [Outcome::Told, Outcome::Told]);
    assert_eq!(dead.lines(), ["a firing"]);
    // 1, 2, 4 … 60 seconds, each up to twice as long by chance: never a storm, never silence.
    let tries = dead.tries().len();
    assert!((34..=70).contains(&tries), "{tries} tries in an hour");
    assert_eq!(dispatcher.stats()[0].failing, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_over_before_a_dead_sink_was_back_is_told_once_with_its_times() {
    let dead = Arc::new(Fake::new("dead").up_after(600));
    let dispatcher = dispatcher(&[&dead]);
    let fired = dispatcher.fire(alert("a"));
    pass(60).await;
    let over = Alert { at: Timestamp::from_millis(61_000), ..alert("a") };
    let (resolved, again) = (dispatcher.resolve(over.clone()), dispatcher.resolve(over));
    assert_eq!(outcomes(fired).await, [Outcome::Needless]);
    pass(1_000).await;
    assert_eq!((outcomes(resolved).await, outcomes(again).await), (vec![Outcome::Told], vec![Outcome::Told]));
    assert_eq!(dead.lines(), ["a resolved"]);
    let words = dead.words.lock().unwrap().concat();
    assert!(words.contains("from 1970-01-01T00:00:01Z to 1970-01-01T00:01:01Z"), "{words}");
    assert!(words.ends_with("its deadline has passed"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_tells_only_of_what_fires_is_told_of_the_beginning_first() {
    let dead = Arc::new(Fake::new("dead").repeating(60).patient(30).up_after(600));
    let dispatcher = dispatcher(&[&dead]);
    unasked(dispatcher.fire(alert("a")));
    pass(60).await;
    unasked(dispatcher.resolve(alert("a")));
    pass(1_000).await;
    let lines = dead.lines();
    assert_eq!((lines.first().unwrap().as_str(), lines.last().unwrap().as_str()), ("a firing", "a resolved"));
    assert!(dead.words.lock().unwrap()[0].starts_with("over by now, was up from"));
    assert_eq!(dispatcher.stats()[0].firing, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_before_a_restart_is_told_by_the_next_process_with_its_times() {
    for (sink, lines) in [
        (Fake::new("slack").up_after(600), &["a resolved"][..]),
        (Fake::new("am").repeating(60).patient(30).up_after(600), &["a firing", "a resolved"]),
    ] {
        let sink = Arc::new(sink);
        let dispatcher = dispatcher(&[&sink]);
        let over = Alert { status: AlertStatus::Resolved, at: Timestamp::from_millis(61_000), ..alert("a") };
        dispatcher.missed(std::slice::from_ref(&over));
        let resolved = dispatcher.resolve(alert("a"));
        assert_eq!(outcomes(resolved).await, [Outcome::Told]);
        let mut told = sink.lines();
        told.dedup();
        assert_eq!(told, lines);
        let words = sink.words.lock().unwrap()[0].clone();
        assert!(words.contains("from 1970-01-01T00:00:01Z to 1970-01-01T00:01:01Z"), "{words}");
        dispatcher.missed(&[over]);
        pass(1_000).await;
        assert_eq!(dispatcher.stats()[0].firing, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_has_told_was_not_missed_and_what_fires_again_is_no_former_news() {
    let (dead, alive) = (Fake::new("a1").replica_of("am").up_after(600), Fake::new("a2").replica_of("am"));
    let (dead, alive) = (Arc::new(dead), Arc::new(alive));
    let both = dispatcher(&[&dead, &alive]);
    unasked(both.fire(alert("a")));
    pass(60).await;
    unasked(both.resolve(alert("a")));
    pass(1_000).await;
    assert_eq!((dead.lines(), alive.lines()), (vec![], vec!["a firing".to_owned(), "a resolved".to_owned()]));

    let dead = Arc::new(Fake::new("dead").up_after(600));
    let one = dispatcher(&[&dead]);
    unasked(one.fire(alert("b")));
    pass(60).await;
    unasked(one.resolve(alert("b")));
    unasked(one.fire(alert("b")));
    pass(1_000).await;
    assert_eq!(dead.lines(), ["b firing"]);
}

#[tokio::test(start_paused = true)]
async fn news_of_what_was_missed_is_bounded_and_what_is_left_out_is_counted() {
    let dead = Arc::new(Fake::new("dead").up_after(600));
    let dispatcher = dispatcher(&[&dead]);
    let all: Vec<Alert> = (0..300).map(|n| alert(&format!("a{n}"))).collect();
    all.iter().for_each(|alert| unasked(dispatcher.fire(alert.clone())));
    pass(60).await;
    all.iter().for_each(|alert| unasked(dispatcher.resolve(alert.clone())));
    pass(1_000).await;
    assert_eq!((dead.lines().len(), dispatcher.stats()[0].dropped), (256, 44));
    assert!(!dead.lines().contains(&"a0 resolved".to_owned()), "the latest are told");
}

#[tokio::test(start_paused = true)]
async fn what_it_may_have_heard_of_is_resolved_though() {
    let mut silent = true;
    let rule = move |_: &[Alert]| {
        let mood = if silent { Mood::Fail(SinkError::Unanswered { why: "cut".into() }) } else { Mood::Take };
        silent = false;
        mood
    };
    let sink = Arc::new(Fake::new("slack").with_rule(rule));
    let dispatcher = dispatcher(&[&sink]);
    unasked(dispatcher.fire(alert("a")));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told]);
    assert_eq!(sink.lines(), ["a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn resolved_while_its_firing_is_under_way_follows_after_it() {
    let mut slow = true;
    let rule = move |_: &[Alert]| if std::mem::take(&mut slow) { Mood::Hang } else { Mood::Take };
    let sink = Arc::new(Fake::new("slow").with_rule(rule));
    let dispatcher = dispatcher(&[&sink]);
    let fired = dispatcher.fire(alert("a"));
    pass(1).await;
    assert_eq!(sink.tries().len(), 1);
    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told]);
    assert_eq!(outcomes(fired).await, [Outcome::Needless]);
    assert_eq!(sink.lines(), ["a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_asks_for_patience_gets_it() {
    let started = Instant::now();
    let patience = Duration::from_secs(90);
    let rule = move |_: &[Alert]| match started.elapsed() < patience {
        true => Mood::Fail(SinkError::Passing { why: "429".into(), after: Some(patience) }),
        false => Mood::Take,
    };
    let sink = Arc::new(Fake::new("slack").with_rule(rule));
    let dispatcher = dispatcher(&[&sink]);
    unasked(dispatcher.fire(alert("a")));
    pass(10).await;
    // News does not break the promise.
    assert_eq!(outcomes(dispatcher.fire(alert("b"))).await, [Outcome::Told]);
    pass(100).await;
    assert_eq!(sink.tries().iter().map(|(second, _)| *second).collect::<Vec<_>>(), [0, 90, 90]);
    assert_eq!(sink.lines(), ["b firing", "a firing"]);
}

#[tokio::test(start_paused = true)]
async fn one_alert_that_a_sink_refuses_takes_no_other_with_it() {
    let bad = |alerts: &[Alert]| alerts.iter().any(|alert| alert.rollout.name() == "b");
    let rule = move |alerts: &[Alert]| match bad(alerts) {
        true => Mood::Fail(SinkError::Final { why: "no such label".into() }),
        false => Mood::Take,
    };
    let sink = Arc::new(Fake::new("strict").with_rule(rule));
    let dispatcher = dispatcher(&[&sink]);
    let [a, b, c] = ["a", "b", "c"].map(|name| dispatcher.fire(alert(name)));
    assert_eq!(outcomes(a).await, [Outcome::Told]);
    assert_eq!(outcomes(b).await, [Outcome::Refused { why: "no such label".into() }]);
    assert_eq!(outcomes(c).await, [Outcome::Told]);
    assert_eq!(dispatcher.stats()[0].refused, 1);
    let again = outcomes(dispatcher.resolve(alert("b"))).await;
    assert!(
        matches!(again[..], [Outcome::Refused { .. }]),
        "the end of what was refused is not told: {again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_alert_that_a_sink_chokes_on_does_not_hold_up_the_others() {
    let chokes = |alerts: &[Alert]| alerts.iter().any(|alert| alert.rollout.name() == "a0");
    let rule = move |alerts: &[Alert]| if chokes(alerts) { Mood::Fail(down()) } else { Mood::Take };
    let sink = Arc::new(Fake::new("frail").with_rule(rule));
    let dispatcher = dispatcher(&[&sink]);
    for number in 0..20 {
        unasked(dispatcher.fire(alert(&format!("a{number}"))));
    }
    pass(300).await;
    assert_eq!(sink.lines().len(), 19);
    assert_eq!(dispatcher.stats()[0].unsaid, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_sent_no_more_messages_than_it_bears() {
    let sink = Arc::new(Fake::new("slack").one_a_second());
    let settings = Settings { batch: 2, ..Settings::default() };
    let dispatcher = Dispatcher::with(vec![sink.clone()], settings);
    let receipts: Vec<Receipt> =
        (0..20).map(|number| dispatcher.fire(alert(&format!("a{number}")))).collect();
    for receipt in receipts {
        assert_eq!(outcomes(receipt).await, [Outcome::Told]);
    }
    let seconds: Vec<u64> = sink.taken().into_iter().map(|(second, _)| second).collect();
    assert_eq!(seconds, (0..10).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_and_said() {
    let dead = Arc::new(Fake::new("dead").up_after(100_000));
    let settings = Settings { capacity: 3, ..Settings::default() };
    let dispatcher = Dispatcher::with(vec![dead.clone()], settings);
    for number in 0..3 {
        unasked(dispatcher.fire(alert(&format!("a{number}"))));
    }
    assert_eq!(outcomes(dispatcher.fire(alert("late"))).await, [Outcome::Dropped]);
    assert_eq!(dispatcher.stats()[0].dropped, 1);
    // News of an alert that is in needs no room.
    unasked(dispatcher.fire(Alert { summary: "worse".into(), ..alert("a0") }));
    assert_eq!(dispatcher.stats()[0].dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_alerts_are_kept_up_not_told_anew_and_resolved_once() {
    let (forgets, remembers) =
        (Arc::new(Fake::new("alertmanager").repeating(60)), Arc::new(Fake::new("slack")));
    let dispatcher = dispatcher(&[&forgets, &remembers]);
    dispatcher.restore(&[alert("a")]);
    pass(100).await;
    assert_eq!(forgets.lines(), ["a firing"; 2]);
    assert!(remembers.lines().is_empty());
    assert_eq!(dispatcher.stats()[1].firing, 1);

    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told, Outcome::Told]);
    pass(500).await;
    assert_eq!(forgets.lines().last().unwrap(), "a resolved");
    assert_eq!(remembers.lines(), ["a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_alert_that_a_former_owner_may_have_told_is_told_though_its_beginning_was_not_here() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    dispatcher.doubt(&[alert("a")]);
    unasked(dispatcher.fire(alert("a")));
    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told]);
    assert_eq!(sink.lines(), ["a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_says_nothing_of_alerts_that_are_another_daemons_by_then() {
    let sink = Arc::new(Fake::new("alertmanager").repeating(60));
    let dispatcher = dispatcher(&[&sink]);
    unasked(dispatcher.fire(alert("a")));
    unasked(dispatcher.fire(alert("b")));
    pass(1).await;
    // Frozen for ten minutes, in which another took the one rollout over.
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::task::yield_now().await;
    dispatcher.forget(&alert("a").rollout, &[]);
    pass(10).await;
    let said: Vec<String> = sink.lines().into_iter().skip(2).collect();
    assert_eq!(said, ["b firing"], "what is its own is kept up");
    assert_eq!(dispatcher.stats()[0].firing, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_when_a_rollout_is_another_daemons_is_said() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    assert_eq!(outcomes(dispatcher.fire(alert("a"))).await, [Outcome::Told]);
    let over = dispatcher.resolve(alert("a"));
    dispatcher.forget(&alert("a").rollout, &[alert("a").kind]);
    assert_eq!(outcomes(over).await, [Outcome::Told]);
    assert_eq!(sink.lines(), ["a firing", "a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn a_resolve_that_nobody_here_fired_is_said_for_a_former_process_may_have() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told]);
    assert_eq!(sink.lines(), ["a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_again_is_no_news_and_other_words_are() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    let (first, again) = (dispatcher.fire(alert("a")), dispatcher.fire(alert("a")));
    assert_eq!(outcomes(first).await, [Outcome::Told]);
    assert_eq!(outcomes(again).await, [Outcome::Told]);
    assert_eq!(outcomes(dispatcher.fire(alert("a"))).await, [Outcome::Told]);
    assert_eq!(sink.lines(), ["a firing"]);
    let worse = Alert { summary: "worse".into(), since: Timestamp::from_millis(9_000), ..alert("a") };
    assert_eq!(outcomes(dispatcher.fire(worse)).await, [Outcome::Told]);
    assert_eq!(sink.lines(), ["a firing", "a firing"]);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_comes_back_is_a_new_one() {
    let sink = Arc::new(Fake::new("slack"));
    let dispatcher = dispatcher(&[&sink]);
    for _ in 0..2 {
        assert_eq!(outcomes(dispatcher.fire(alert("a"))).await, [Outcome::Told]);
        assert_eq!(outcomes(dispatcher.resolve(alert("a"))).await, [Outcome::Told]);
    }
    assert_eq!(sink.lines(), ["a firing", "a resolved", "a firing", "a resolved"]);
}

#[tokio::test(start_paused = true)]
async fn told_is_told_when_one_replica_of_each_receiver_has_it() {
    let dead = Arc::new(Fake::new("am-1").replica_of("am").repeating(60).up_after(5_000));
    let well = Arc::new(Fake::new("am-2").replica_of("am").repeating(60));
    let dispatcher = dispatcher(&[&dead, &well]);
    let (told, all) = (dispatcher.fire(alert("a")), dispatcher.fire(alert("a")));
    let told = timeout(Duration::from_secs(5), told.told()).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].sink.as_str(), &told[0].outcome), ("am-2", &Outcome::Told));
    assert_eq!(outcomes(all).await, [Outcome::Told, Outcome::Told]);
    assert_eq!(dead.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_what_is_unsaid_and_waits_no_longer_than_it_may() {
    let (well, hangs) = (Arc::new(Fake::new("well")), Arc::new(Fake::new("hangs").with_rule(|_| Mood::Hang)));
    let dispatcher = dispatcher(&[&well, &hangs]);
    let receipt = dispatcher.fire(alert("a"));
    let begun = Instant::now();
    let unsaid = dispatcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(unsaid.into_iter().collect::<Vec<_>>(), [("hangs".to_owned(), 1)]);
    assert_eq!(well.lines(), ["a firing"]);
    assert_eq!(outcomes(receipt).await, [Outcome::Told, Outcome::Stopped]);
    assert_eq!(outcomes(dispatcher.fire(alert("b"))).await, [Outcome::Stopped, Outcome::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_an_abort_and_leaves_an_end_that_has_to_wait_to_the_next_start() {
    let (prompt, patient) =
        (Arc::new(Fake::new("slack")), Arc::new(Fake::new("alertmanager").repeating(60).patient(45)));
    let dispatcher = dispatcher(&[&prompt, &patient]);
    unasked(dispatcher.fire(abort("a")));
    let resolved = dispatcher.resolve(abort("a"));
    let unsaid = dispatcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(unsaid.into_iter().collect::<Vec<_>>(), [("alertmanager".to_owned(), 1)]);
    assert_eq!(prompt.lines(), ["a firing", "a resolved"]);
    assert_eq!(patient.lines(), ["a firing"]);
    assert_eq!(outcomes(resolved).await, [Outcome::Told, Outcome::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tries_a_failing_sink_once_more_at_once() {
    let sink = Arc::new(Fake::new("slack").up_after(200));
    let dispatcher = dispatcher(&[&sink]);
    unasked(dispatcher.fire(alert("a")));
    pass(201).await;
    let begun = Instant::now();
    assert!(dispatcher.shutdown(Duration::from_secs(5)).await.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(sink.lines(), ["a firing"]);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_firing_alerts_are_kept_up_in_few_messages() {
    let sink = Arc::new(Fake::new("alertmanager").repeating(60));
    let dispatcher = dispatcher(&[&sink]);
    for number in 0..3_000 {
        unasked(dispatcher.fire(alert(&format!("a{number}"))));
    }
    pass(59).await;
    assert_eq!(sink.taken().len(), 100);
    assert_eq!(sink.lines().len(), 3_000);
    pass(61).await;
    assert_eq!(sink.taken().len(), 200);
}
