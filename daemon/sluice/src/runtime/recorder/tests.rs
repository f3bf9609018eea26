use serde_json::json;
use sluice_analyzers::{Arm, Bucket, PodWindow, Window};
use sluice_bus::Embedded;
use sluice_rollout::{Event, Reason, Timestamp, Verdict, Weight};
use sluice_wire::{
    decisions::{Entry, Sum, batch},
    policy::Policy,
    record::Owner,
};

use super::{session::Session, *};

fn id(name: &str) -> RolloutId {
    RolloutId::new("shop", name, "v2").unwrap()
}

fn taken(name: &str) -> Taken {
    Taken {
        at: Timestamp::from_millis(1_000),
        sluice: String::new(),
        machine: 1,
        analysis: 1,
        owner: Owner { daemon: "a".into(), incarnation: "1".into(), epoch: 3, cluster: None },
        charter: String::new(),
        state: state(name),
    }
}

fn state(name: &str) -> State {
    State::new(id(name), 3, Timestamp::from_millis(1_000))
}

fn decided(revision: u64) -> Decided {
    Decided {
        now: Timestamp::from_millis(2_000),
        event: Event::Requested,
        revision,
        phase: "gated".into(),
        weight: Weight::ZERO,
        reason: Reason::Requested,
        effects: Vec::new(),
        answer: None,
        saved: true,
        state: Sum::new(),
    }
}

/// A queue of so many entries, and the writer behind it, which takes them when it is told to.
struct House {
    records: Records,
    inbox: mpsc::Receiver<Message>,
    writer: Writer,
    ledger: Ledger,
    meters: Arc<Meters>,
}

impl House {
    fn with_room_for(entries: usize) -> House {
        let (notes, inbox) = mpsc::channel(entries);
        let (meters, ledger) =
            (Arc::new(Meters::default()), Ledger::new(Arc::new(Embedded::in_memory().unwrap())));
        let records = Records { notes, meters: meters.clone() };
        House { records, inbox, writer: Writer::new(ledger.clone(), meters.clone()), ledger, meters }
    }

    async fn work(&mut self) {
        while let Ok(Message::Note { id, losses, note }) = self.inbox.try_recv() {
            self.writer.take(&id, losses, note).await;
        }
    }

    /// What stands in the record, in words.
    async fn record(&mut self, name: &str) -> Vec<String> {
        self.writer.write_all().await;
        let batches = self.ledger.record(&id(name), 0, usize::MAX).await.unwrap();
        let lines =
            batches.iter().flat_map(|(_, text)| batch(std::str::from_utf8(text).unwrap()).unwrap().lines);
        lines.map(|line| format!("{} {}", line.n, told(&line.entry().unwrap()))).collect()
    }

    fn dropped(&self) -> String {
        let text = self.meters.text();
        let line = text.lines().find(|line| line.starts_with(r#"sluice_dropped_total{kind="record"}"#));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    }
}

fn told(entry: &Entry) -> String {
    match entry {
        Entry::Taken(_) => "taken".into(),
        Entry::Planned(_) => "planned".into(),
        Entry::Resumed(_) => "resumed".into(),
        Entry::Judged(_) => "judged".into(),
        Entry::Decided(decided) => format!("decided {}", decided.revision),
        Entry::Lost(lost) => format!("lost {}", lost.entries),
        Entry::Synced(_) => "synced".into(),
    }
}

#[tokio::test]
async fn a_beginning_that_finds_no_room_is_handed_over_before_anything_that_follows() {
    let mut house = House::with_room_for(3);
    let other = house.records.session(&id("other"), taken("other"));
    other.flush();
    other.flush();
    let recorder = house.records.session(&id("checkout"), taken("checkout"));
    recorder.decided(decided(1), &state("checkout"));
    assert_eq!(house.dropped(), "2", "the decision, and where it led to");
    house.work().await;
    recorder.decided(decided(2), &state("checkout"));
    house.work().await;
    recorder.decided(decided(3), &state("checkout"));
    house.work().await;
    let record = house.record("checkout").await;
    assert_eq!(record[..3], ["0 taken", "1 lost 2", "2 decided 2"], "{record:?}");
    assert!(record[3].ends_with("synced"), "what follows rests on it: {record:?}");
}

#[tokio::test]
async fn a_beginning_that_is_too_large_leaves_a_session_that_says_so() {
    let mut house = House::with_room_for(8);
    let mut large = taken("checkout");
    large.sluice = "x".repeat(500 * 1024);
    let recorder = house.records.session(&id("checkout"), large);
    house.work().await;
    recorder.decided(decided(1), &state("checkout"));
    house.work().await;
    assert_eq!(house.record("checkout").await, ["0 lost 1", "1 decided 1", "2 synced"]);
    assert_eq!(house.dropped(), "1");
}

#[tokio::test]
async fn what_a_former_session_still_says_is_not_put_into_its_successors_chain() {
    let mut house = House::with_room_for(8);
    let former = house.records.session(&id("checkout"), taken("checkout"));
    former.decided(decided(1), &state("checkout"));
    let successor = house.records.session(&id("checkout"), taken("checkout"));
    former.decided(decided(2), &state("checkout"));
    successor.decided(decided(3), &state("checkout"));
    house.work().await;
    assert_eq!(house.record("checkout").await, ["0 taken", "1 decided 1", "0 taken", "1 decided 3"]);
}

#[tokio::test]
async fn sessions_whose_owner_has_gone_are_forgotten_and_what_they_lack_is_said() {
    let mut house = House::with_room_for(3);
    let recorder = house.records.session(&id("checkout"), taken("checkout"));
    house.work().await;
    let other = house.records.session(&id("other"), taken("other"));
    other.flush();
    other.flush();
    recorder.decided(decided(1), &state("checkout"));
    drop(recorder);
    house.work().await;
    assert_eq!(house.record("checkout").await, ["0 taken", "1 lost 2"]);
    assert_eq!(house.writer.sessions.len(), 1, "nobody writes there any more");
    let never = house.records.session(&id("never"), taken("never"));
    (0..3).for_each(|_| never.flush());
    let unheard = house.records.session(&id("unheard"), taken("unheard"));
    let before = house.dropped();
    drop(unheard);
    assert_ne!(house.dropped(), before, "a beginning that nobody heard of is counted");
}

#[test]
fn batches_stay_small_and_keep_their_order() {
    let mut session = Session::new(Losses::of(Arc::new(Meters::default())));
    session.add(Note::Taken(Box::new(taken("checkout"))), usize::MAX);
    for revision in 0..4 {
        let note = Decided { phase: "x".repeat(100 * 1024), ..decided(revision) };
        session.add(Note::Decided(Box::new(note), Box::new(state("checkout"))), usize::MAX);
    }
    let mut counts = Vec::new();
    while let Some((count, text)) = session.next_batch() {
        assert!(text.len() < 300 * 1024 && batch(&text).unwrap().lines.len() == count);
        counts.push(count);
        session.written(count);
    }
    assert_eq!((counts, session.bytes), (vec![3, 2], 0));
}

/// A window of so many pods, whose histogram has so many buckets, as an observer hands it over.
fn judged(pods: usize, buckets: usize) -> Note {
    let (start_ms, end_ms) = (1_790_000_000_000, 1_790_000_015_000);
    let bucket = |place: usize| Bucket { le: 0.005 * (1 << place) as f64, count: 1_000 + place as u64 };
    let pod = |place: usize| PodWindow {
        arm: if place.is_multiple_of(2) { Arm::Canary } else { Arm::Stable },
        pod: format!("checkout-7d9f8b6c5d-x2k{place:02}"),
        stratum: "GET".into(),
        requests: 1_234,
        errors: 12,
        buckets: (0..buckets).map(bucket).collect(),
        values: Vec::new(),
        ready_for_ms: Some(123_456),
        restarts: Some(0),
        sampled_ms: Some((start_ms, end_ms)),
    };
    let window = Window { step: 1, start_ms, end_ms, pods: (0..pods).map(pod).collect() };
    let words = "errors: canary fails as often as stable (0.8 to 1.1 times, 95 % sure); needs about 1,200 more \
                 requests to advance (1 min)";
    let event = Event::Evidence {
        step: 0,
        verdict: Verdict::Undecided,
        counted: Duration::from_secs(15),
        until: Timestamp::from_millis(end_ms),
        words: words.into(),
        alarms: None,
    };
    let policy = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutPolicy", "metadata": {"name": "checkout"},
        "spec": {"target": {"webhook": {"url": "http://127.0.0.1:1"}}, "steps": [{"weight": 5}],
            "metrics": {"prometheus": {"url": "http://127.0.0.1:1"}}}});
    let plan = Policy::from_json("policy", &policy).unwrap().plan().unwrap();
    let judged = Judged { step: 0, window, event, evidence: Sum::new() };
    Note::Judged(Box::new(judged), Box::new(Evidence::new(&plan)))
}

/// The figures of docs/records.md: whoever changes what is kept has to change what operators reckon with.
#[test]
fn a_window_takes_as_much_room_as_operators_are_told() {
    let mut session = Session::new(Losses::of(Arc::new(Meters::default())));
    let mut bytes = |pods, buckets| session.add(judged(pods, buckets), usize::MAX).bytes;
    let (none, pods, buckets) = (bytes(0, 0), bytes(6, 0), bytes(6, 12));
    let each = ((pods - none) / 6, (buckets - pods) / (6 * 12));
    assert!((500..700).contains(&none), "a window by itself: {none}");
    assert!((150..250).contains(&each.0) && (15..35).contains(&each.1), "a pod and a bucket: {each:?}");
    assert!((2_800..3_600).contains(&buckets), "six pods with twelve buckets each: {buckets}");
}
