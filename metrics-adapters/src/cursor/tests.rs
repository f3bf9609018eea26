//! Stories of samples and the windows that come of them.

use proptest::prelude::*;
use sluice_analyzers::Bucket;

use super::*;

/// A sample: `(arm, pod, at, requests, errors)`.
fn sample(arm: Arm, pod: &str, at_ms: i64, requests: u64, errors: u64) -> PodSample {
    PodSample {
        arm,
        pod: pod.to_owned(),
        at_ms,
        requests,
        errors,
        buckets: None,
        started_ms: None,
        ready_ms: None,
        strata: Vec::new(),
    }
}

fn stable(at_ms: i64, requests: u64, errors: u64) -> PodSample {
    sample(Arm::Stable, "s", at_ms, requests, errors)
}

fn canary(at_ms: i64, requests: u64, errors: u64) -> PodSample {
    sample(Arm::Canary, "c", at_ms, requests, errors)
}

fn reading(at_ms: i64, pods: Vec<PodSample>) -> Reading {
    Reading { at_ms, pods, ..Reading::default() }
}

fn buckets(counts: [u64; 3]) -> Option<Vec<Bucket>> {
    let les = [0.1, 0.5, f64::INFINITY];
    Some(les.into_iter().zip(counts).map(|(le, count)| Bucket { le, count }).collect())
}

/// `(pod, requests, errors)` of each pod of a window.
fn counts(closed: &Closed) -> Vec<(&str, u64, u64)> {
    let Closed::Window(window) = closed else { panic!("no window: {closed:?}") };
    window.check().expect("a window that can be judged");
    window.pods.iter().map(|pod| (pod.pod.as_str(), pod.requests, pod.errors)).collect()
}

fn waits(closed: &Closed) -> bool {
    matches!(closed, Closed::Waiting(_))
}

/// A cursor in step 1 whose starting points are 100 requests and 10 errors at 1,000 ms.
fn started() -> Cursor {
    let mut cursor = Cursor::new();
    let first = cursor.close(&reading(1_000, vec![stable(1_000, 100, 10), canary(1_000, 100, 10)]), 1);
    assert!(waits(&first), "the first samples are starting points: {first:?}");
    cursor
}

#[test]
fn a_window_is_the_difference_of_two_readings() {
    let mut cursor = started();
    let closed = cursor.close(&reading(2_010, vec![stable(2_000, 150, 11), canary(2_005, 105, 13)]), 1);
    assert_eq!(counts(&closed), [("s", 50, 1), ("c", 5, 3)]);
    let Closed::Window(window) = closed else { unreachable!() };
    assert_eq!((window.step, window.start_ms, window.end_ms), (1, 1_000, 2_005));
    assert_eq!(window.pods[1].sampled_ms, Some((1_000, 2_005)));
}

#[test]
fn windows_follow_each_other_without_a_gap() {
    let mut cursor = started();
    cursor.close(&reading(2_000, vec![stable(1_900, 150, 11), canary(2_000, 105, 13)]), 1);
    let Closed::Window(next) =
        cursor.close(&reading(3_000, vec![stable(2_900, 160, 11), canary(3_000, 106, 13)]), 1)
    else {
        panic!("no window")
    };
    assert_eq!((next.start_ms, next.end_ms), (2_000, 3_000));
}

#[test]
fn the_same_reading_again_counts_nothing() {
    let mut cursor = started();
    let two = reading(2_000, vec![stable(2_000, 150, 11), canary(2_000, 105, 13)]);
    cursor.close(&two, 1);
    assert!(waits(&cursor.close(&two, 1)));
}

#[test]
fn an_older_sample_from_another_replica_is_ignored_and_is_no_reset() {
    let mut cursor = started();
    cursor.close(&reading(2_000, vec![stable(2_000, 150, 11), canary(2_000, 105, 13)]), 1);
    let other = reading(2_100, vec![stable(1_700, 130, 10), canary(1_700, 103, 12)]);
    assert!(waits(&cursor.close(&other, 1)));
    let later = cursor.close(&reading(3_000, vec![stable(2_700, 170, 11), canary(2_700, 107, 14)]), 1);
    assert_eq!(counts(&later), [("s", 20, 0), ("c", 2, 1)]);
}

#[test]
fn a_window_waits_for_both_versions_and_then_has_all_of_both() {
    let mut cursor = started();
    assert!(waits(&cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(1_000, 100, 10)]), 1)));
    let both = cursor.close(&reading(3_000, vec![stable(3_000, 170, 12), canary(3_000, 101, 10)]), 1);
    assert_eq!(counts(&both), [("s", 70, 2), ("c", 1, 0)]);
}

#[test]
fn a_drop_in_a_later_sample_is_a_restart_and_counts_from_zero() {
    let mut cursor = started();
    let closed = cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 7, 2)]), 1);
    assert_eq!(counts(&closed), [("s", 50, 0), ("c", 7, 2)]);
    let Closed::Window(window) = closed else { unreachable!() };
    assert_eq!(window.pods[1].restarts, Some(1));
}

#[test]
fn a_restarted_process_may_have_more_errors_than_before() {
    let mut cursor = started();
    let closed = cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 60, 30)]), 1);
    assert_eq!(counts(&closed), [("s", 50, 0), ("c", 60, 30)]);
}

#[test]
fn half_a_scrape_counts_nothing_and_the_whole_one_after_it_counts_everything_once() {
    let at = |sample: PodSample, buckets| PodSample { buckets, ..sample };
    let whole = |at_ms, n| at(canary(at_ms, n, 10), buckets([n / 2, n, n]));
    for half in [
        at(canary(2_000, 70, 0), Some(vec![])),
        at(canary(2_000, 105, 10), buckets([20, 40, 40])),
        at(canary(2_000, 105, 4), Some(vec![])),
    ] {
        let mut cursor = Cursor::new();
        cursor.close(&reading(1_000, vec![stable(1_000, 9, 0), whole(1_000, 100)]), 1);
        let closed = cursor.close(&reading(2_000, vec![stable(2_000, 9, 0), half]), 1);
        assert!(waits(&closed), "{closed:?}");
        assert!(cursor.take_complaints()[0].contains("half a scrape"));
        let closed = cursor.close(&reading(3_000, vec![stable(3_000, 9, 0), whole(3_000, 120)]), 1);
        assert_eq!(counts(&closed), [("s", 0, 0), ("c", 20, 0)]);
    }
}

#[test]
fn a_contradiction_that_stays_is_waited_out_and_then_the_pod_starts_anew() {
    let mut cursor = started();
    for at in [2_000, 3_000, 4_000, 5_000] {
        let n = 100 + at as u64 / 1_000;
        assert!(waits(&cursor.close(&reading(at, vec![stable(at, 100, 10), canary(at, n, 2)]), 1)));
    }
    assert!(cursor.take_complaints().iter().any(|said| said.contains("counted from here on")));
    let closed = cursor.close(&reading(6_000, vec![stable(6_000, 150, 10), canary(6_000, 115, 3)]), 1);
    assert_eq!(counts(&closed), [("s", 50, 0), ("c", 10, 1)]);
}

#[test]
fn a_restart_that_its_start_time_tells_needs_no_drop() {
    let with_start = |mut sample: PodSample, started| {
        sample.started_ms = Some(started);
        sample
    };
    let mut cursor = Cursor::new();
    cursor.close(&reading(10_000, vec![stable(10_000, 9, 0), with_start(canary(10_000, 100, 10), 500)]), 1);
    let closed = cursor
        .close(&reading(20_000, vec![stable(20_000, 9, 0), with_start(canary(20_000, 300, 30), 11_000)]), 1);
    assert_eq!(counts(&closed), [("s", 0, 0), ("c", 300, 30)]);
}

#[test]
fn a_pods_clock_that_runs_ahead_makes_nothing_count_twice() {
    let ahead = |mut sample: PodSample| {
        sample.started_ms = Some(25_000);
        sample
    };
    let mut cursor = Cursor::new();
    cursor.close(&reading(10_000, vec![stable(10_000, 9, 0), ahead(canary(10_000, 100, 10))]), 1);
    let mut total = 0;
    for at in [20_000, 30_000, 40_000] {
        let closed = cursor
            .close(&reading(at, vec![stable(at, 9, 0), ahead(canary(at, 100 + at as u64 / 1_000, 10))]), 1);
        total += counts(&closed)[1].1;
    }
    assert_eq!(total, 40);
}

#[test]
fn counters_that_go_down_in_one_and_the_same_process_are_a_vanished_series_and_no_restart() {
    let same = |mut sample: PodSample| {
        sample.started_ms = Some(500);
        sample
    };
    let mut cursor = Cursor::new();
    cursor.close(&reading(10_000, vec![stable(10_000, 9, 0), same(canary(10_000, 100, 10))]), 1);
    let closed = cursor.close(&reading(20_000, vec![stable(20_000, 9, 0), same(canary(20_000, 70, 8))]), 1);
    assert!(waits(&closed), "what the other series count says nothing: {closed:?}");
    assert!(cursor.take_complaints()[0].contains("vanished"));
    let closed = cursor.close(&reading(30_000, vec![stable(30_000, 9, 0), same(canary(30_000, 105, 11))]), 1);
    assert_eq!(counts(&closed), [("s", 0, 0), ("c", 5, 1)], "the series came back");
}

#[test]
fn the_first_request_and_error_of_a_pod_that_stood_there_count() {
    let mut cursor = Cursor::new();
    cursor.close(&reading(1_000, vec![stable(1_000, 100, 10), canary(1_000, 0, 0)]), 1);
    let closed = cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 1, 1)]), 1);
    assert_eq!(counts(&closed), [("s", 50, 0), ("c", 1, 1)]);
}

#[test]
fn a_wholly_new_pod_counts_from_zero_only_if_it_began_after_the_last_reading() {
    let new = |started_ms, at| PodSample { started_ms, ..sample(Arm::Canary, "new", at, 40, 4) };
    for (started, counted) in [(Some(1_500), true), (Some(900), false), (None, false)] {
        let mut cursor = started_cursor_reading_at(1_000);
        let closed = cursor.close(
            &reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 101, 10), new(started, 2_000)]),
            1,
        );
        let seen = counts(&closed).contains(&("new", 40, 4));
        assert_eq!(seen, counted, "started {started:?}: {closed:?}");
    }
}

fn started_cursor_reading_at(at: i64) -> Cursor {
    let mut cursor = Cursor::new();
    cursor.close(&reading(at, vec![stable(at, 100, 10), canary(at, 100, 10)]), 1);
    cursor
}

#[test]
fn what_a_vanished_pod_counted_last_is_kept_until_the_window_closes() {
    let mut cursor = started();
    assert!(waits(&cursor.close(&reading(2_000, vec![stable(1_000, 100, 10), canary(2_000, 130, 12)]), 1)));
    let closed =
        cursor.close(&reading(3_000, vec![stable(3_000, 150, 10), sample(Arm::Canary, "d", 3_000, 5, 0)]), 1);
    assert_eq!(counts(&closed), [("s", 50, 0), ("c", 30, 2)]);
}

#[test]
fn a_pod_that_comes_back_is_counted_on_and_its_window_does_not_reach_back() {
    let mut cursor = started();
    let other = |at, n| sample(Arm::Canary, "d", at, n, 0);
    cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), other(2_000, 1)]), 1);
    cursor.close(&reading(3_000, vec![stable(3_000, 160, 10), other(3_000, 2)]), 1);
    let Closed::Window(window) = cursor
        .close(&reading(4_000, vec![stable(4_000, 170, 10), other(4_000, 3), canary(4_000, 190, 10)]), 1)
    else {
        panic!("no window")
    };
    let back = window.pods.iter().find(|pod| pod.pod == "c").unwrap();
    assert_eq!((back.requests, back.sampled_ms), (90, Some((1_000, 4_000))));
    assert_eq!(window.start_ms, 3_000);
}

#[test]
fn more_errors_than_requests_are_held_back_and_counted_once_they_agree() {
    let mut cursor = started();
    let torn = cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 101, 13)]), 1);
    assert!(waits(&torn), "{torn:?}");
    assert!(cursor.take_complaints()[0].contains("canary pod c"), "the pod is named");
    let whole = cursor.close(&reading(3_000, vec![stable(3_000, 160, 10), canary(3_000, 110, 13)]), 1);
    assert_eq!(counts(&whole), [("s", 60, 0), ("c", 10, 3)]);
}

#[test]
fn histograms_are_subtracted_bucket_by_bucket() {
    let at = |sample: PodSample, counts| PodSample { buckets: buckets(counts), ..sample };
    let mut cursor = Cursor::new();
    cursor.close(&reading(1_000, vec![stable(1_000, 9, 0), at(canary(1_000, 100, 0), [50, 90, 100])]), 1);
    let Closed::Window(window) =
        cursor.close(&reading(2_000, vec![stable(2_000, 9, 0), at(canary(2_000, 110, 0), [52, 97, 110])]), 1)
    else {
        panic!("no window")
    };
    let counts: Vec<u64> = window.pods[1].buckets.iter().map(|bucket| bucket.count).collect();
    assert_eq!(counts, [2, 7, 10]);
}

#[test]
fn a_histogram_that_contradicts_itself_costs_the_latencies_and_nothing_else() {
    let at = |sample: PodSample, buckets| PodSample { buckets, ..sample };
    let other_layout = Some(vec![Bucket { le: 0.2, count: 60 }, Bucket { le: f64::INFINITY, count: 110 }]);
    for (second, complaint) in [
        (buckets([60, 91, 110]), Some("fewer than")),
        (other_layout, Some("other boundaries")),
        (Some(vec![]), Some("vanished")),
        (None, None),
    ] {
        let mut cursor = Cursor::new();
        cursor.close(
            &reading(1_000, vec![stable(1_000, 9, 0), at(canary(1_000, 100, 0), buckets([50, 90, 100]))]),
            1,
        );
        let closed =
            cursor.close(&reading(2_000, vec![stable(2_000, 9, 0), at(canary(2_000, 110, 1), second)]), 1);
        assert_eq!(counts(&closed), [("s", 0, 0), ("c", 10, 1)]);
        let Closed::Window(window) = closed else { unreachable!() };
        assert!(window.pods[1].buckets.is_empty());
        let said = cursor.take_complaints();
        assert_eq!(
            said.iter().any(|said| complaint.is_some_and(|c| said.contains(c))),
            complaint.is_some(),
            "{said:?}"
        );
    }
}

#[test]
fn a_window_never_spans_a_weight_change() {
    let mut cursor = started();
    cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 110, 10)]), 1);
    cursor.begin_step(2, 2_500);
    // Sampled before the change, read after it.
    assert!(waits(&cursor.close(&reading(2_600, vec![stable(2_400, 180, 10), canary(2_450, 130, 20)]), 2)));
    // The first samples under the new weight still hold counts of the old one.
    assert!(waits(&cursor.close(&reading(3_600, vec![stable(3_400, 190, 10), canary(3_450, 140, 21)]), 2)));
    let Closed::Window(window) =
        cursor.close(&reading(4_600, vec![stable(4_400, 200, 10), canary(4_450, 150, 22)]), 2)
    else {
        panic!("no window")
    };
    assert_eq!((window.step, window.start_ms, window.end_ms), (2, 3_400, 4_450));
    assert_eq!(counts(&Closed::Window(window)), [("s", 10, 0), ("c", 10, 1)]);
}

#[test]
fn a_step_that_nobody_announced_begins_with_the_next_samples() {
    let mut cursor = started();
    assert!(waits(&cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 110, 10)]), 2)));
    assert!(waits(&cursor.close(&reading(3_000, vec![stable(3_000, 160, 10), canary(3_000, 120, 10)]), 2)));
    let closed = cursor.close(&reading(4_000, vec![stable(4_000, 165, 10), canary(4_000, 121, 10)]), 2);
    assert_eq!(counts(&closed), [("s", 5, 0), ("c", 1, 0)]);
}

#[test]
fn a_canary_pod_that_starts_under_the_new_weight_counts_from_its_first_request() {
    let mut cursor = started();
    cursor.begin_step(2, 2_500);
    cursor.close(&reading(3_000, vec![stable(2_900, 180, 10)]), 2);
    let new = PodSample { started_ms: Some(3_100), ..sample(Arm::Canary, "n", 3_900, 8, 8) };
    let closed = cursor.close(&reading(4_000, vec![stable(3_900, 190, 10), new]), 2);
    assert_eq!(counts(&closed), [("s", 10, 0), ("n", 8, 8)]);
}

#[test]
fn the_time_before_the_rollout_needs_stable_alone() {
    let mut cursor = Cursor::new();
    cursor.close(&reading(1_000, vec![stable(1_000, 100, 10)]), 0);
    assert_eq!(counts(&cursor.close(&reading(2_000, vec![stable(2_000, 150, 11)]), 0)), [("s", 50, 1)]);
}

#[test]
fn a_version_that_is_not_in_the_answer_is_no_data_and_never_a_zero() {
    let mut cursor = started();
    let closed = cursor.close(&reading(2_000, vec![stable(2_000, 150, 10)]), 1);
    assert_eq!(closed, Closed::NoData("the answer holds no pod of canary".to_owned()));
    let empty = started().close(&reading(2_000, vec![]), 1);
    assert!(matches!(empty, Closed::NoData(why) if why.contains("stable")));
}

#[test]
fn samples_that_have_stood_still_for_three_intervals_are_no_data() {
    let mut cursor = started();
    cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 110, 10)]), 1);
    let still = |at| reading(at, vec![stable(at, 160, 10), canary(2_000, 110, 10)]);
    assert!(waits(&cursor.close(&still(4_900), 1)));
    assert!(matches!(cursor.close(&still(5_100), 1), Closed::NoData(why) if why.contains("3100 ms old")));
}

#[test]
fn after_a_crash_the_gap_is_one_window_and_nothing_counts_twice() {
    let mut cursor = started();
    cursor.close(&reading(2_000, vec![stable(2_000, 150, 10), canary(2_000, 110, 10)]), 1);
    let saved = serde_json::to_string(&cursor).unwrap();
    cursor.close(&reading(3_000, vec![stable(3_000, 170, 10), canary(3_000, 130, 10)]), 1);
    let mut restored: Cursor = serde_json::from_str(&saved).unwrap();
    let closed = restored.close(&reading(90_000, vec![stable(90_000, 950, 20), canary(90_000, 210, 12)]), 1);
    assert_eq!(counts(&closed), [("s", 800, 10), ("c", 100, 2)]);
}

#[test]
fn pods_beyond_the_bound_are_told_and_not_kept() {
    let mut cursor = Cursor::new();
    let many = (0..MOST_PODS + 5).map(|n| sample(Arm::Canary, &n.to_string(), 1_000, 1, 0)).collect();
    cursor.close(&reading(1_000, many), 1);
    assert_eq!(cursor.canary.len(), MOST_PODS);
    assert!(cursor.take_complaints()[0].contains("more than 2000 pods"));
    let gone = reading(1_000 + FORGET_MS, vec![]);
    cursor.close(&gone, 1);
    assert!(cursor.canary.is_empty(), "what nobody saw for an hour is forgotten");
}

/// Growth of each pod between two scrapes: requests, and errors among them.
fn growth() -> impl Strategy<Value = Vec<Vec<(u64, u64)>>> {
    let step = (0u64..50).prop_flat_map(|requests| (Just(requests), 0..=requests));
    proptest::collection::vec(proptest::collection::vec(step, 4), 2..30)
}

/// Reads the rows of `growth` that `read` says, and the last one; gives the totals of each pod and their span.
fn totals(growth: &[Vec<(u64, u64)>], read: &[bool]) -> (BTreeMap<String, (u64, u64)>, i64) {
    let pods = [(Arm::Stable, "a"), (Arm::Stable, "b"), (Arm::Canary, "c"), (Arm::Canary, "d")];
    let (mut cursor, mut now) = (Cursor::new(), [(0u64, 0u64); 4]);
    let (mut sums, mut span) = (BTreeMap::new(), 0);
    for (row, grown) in growth.iter().enumerate() {
        now.iter_mut().zip(grown).for_each(|(now, grown)| *now = (now.0 + grown.0, now.1 + grown.1));
        if row > 0 && row + 1 < growth.len() && !read[row % read.len()] {
            continue;
        }
        let at = 1_000 * (row as i64 + 1);
        let samples = pods
            .iter()
            .zip(now)
            .enumerate()
            .map(|(i, ((arm, pod), (n, x)))| sample(*arm, pod, at + 10 * i as i64, n, x));
        let closed = cursor.close(&reading(at + 100, samples.collect()), 1);
        if let Closed::Window(window) = closed {
            window.check().expect("a window that can be judged");
            span += window.end_ms - window.start_ms;
            for pod in window.pods {
                let sum: &mut (u64, u64) = sums.entry(pod.pod).or_default();
                *sum = (sum.0 + pod.requests, sum.1 + pod.errors);
            }
        }
    }
    (sums, span)
}

proptest! {
    #[test]
    fn splitting_a_span_into_more_readings_gives_the_same_totals(growth in growth(), read in proptest::collection::vec(any::<bool>(), 1..8)) {
        prop_assert_eq!(totals(&growth, &[true]), totals(&growth, &read));
    }

    #[test]
    fn whatever_is_read_every_window_can_be_judged_and_they_follow_each_other(
        samples in proptest::collection::vec((0..2u8, 0..3u8, 0i64..100, 0u64..20, 0u64..20, proptest::option::of(0i64..100)), 0..60),
        step_at in 0usize..60,
    ) {
        let mut cursor = Cursor::new();
        let mut end = i64::MIN;
        for (place, chunk) in samples.chunks(3).enumerate() {
            let pods: Vec<PodSample> = chunk.iter().map(|(arm, pod, at, requests, errors, started)| PodSample {
                started_ms: *started,
                buckets: buckets([0, *errors, *requests.max(errors)]),
                ..sample(if *arm == 0 { Arm::Stable } else { Arm::Canary }, &pod.to_string(), *at, *requests.max(errors), *errors)
            }).collect();
            let step = 1 + u32::from(place * 3 > step_at);
            if let Closed::Window(window) = cursor.close(&reading(place as i64 * 5, pods), step) {
                prop_assert_eq!(window.check(), Ok(()));
                prop_assert!(window.start_ms >= end);
                end = window.end_ms;
            }
        }
    }
}

#[test]
fn samples_from_while_a_weight_is_written_belong_to_neither_weight() {
    let mut cursor = started();
    let before = |at, n| vec![stable(at, n, 10), canary(at, n, 10)];
    // The write begins at 2,500 ms; what was sampled before is a window of the former weight.
    cursor.hold(Some(2_500));
    let closed = cursor.close(&reading(2_600, before(2_000, 150)), 1);
    assert_eq!(counts(&closed), [("s", 50, 0), ("c", 50, 0)]);
    let between = cursor.close(&reading(3_100, before(3_000, 200)), 1);
    assert!(waits(&between), "{between:?}");
    // It was read back at 3,500 ms: the first samples after that are starting points.
    cursor.begin_step(2, 3_500);
    cursor.hold(None);
    assert!(waits(&cursor.close(&reading(4_100, before(4_000, 300)), 2)));
    let closed = cursor.close(&reading(5_100, before(5_000, 310)), 2);
    assert_eq!(counts(&closed), [("s", 10, 0), ("c", 10, 0)]);
}

#[test]
fn a_write_that_did_not_come_about_loses_nothing() {
    let mut cursor = started();
    cursor.hold(Some(1_500));
    assert!(waits(&cursor.close(&reading(2_100, vec![stable(2_000, 150, 10), canary(2_000, 150, 10)]), 1)));
    cursor.hold(None);
    let closed = cursor.close(&reading(3_100, vec![stable(3_000, 200, 10), canary(3_000, 200, 10)]), 1);
    assert_eq!(counts(&closed), [("s", 100, 0), ("c", 100, 0)]);
}

/// A sample whose requests and errors are told apart by stratum.
fn told_apart(sample: PodSample, strata: &[(&str, u64, u64)]) -> PodSample {
    let of = |(name, requests, errors): &(&str, u64, u64)| crate::Stratum {
        name: (*name).to_owned(),
        requests: *requests,
        errors: *errors,
        buckets: None,
    };
    let strata: Vec<_> = strata.iter().map(of).collect();
    let (requests, errors) =
        strata.iter().fold((0, 0), |(n, x), stratum| (n + stratum.requests, x + stratum.errors));
    PodSample { requests, errors, strata, ..sample }
}

/// `(pod, stratum, requests, errors)` of each row of a window.
fn rows(closed: &Closed) -> Vec<(&str, &str, u64, u64)> {
    let Closed::Window(window) = closed else { panic!("no window: {closed:?}") };
    window.check().expect("a window that can be judged");
    let row = |pod: &'_ PodWindow| (pod.requests, pod.errors);
    window.pods.iter().map(|pod| (pod.pod.as_str(), pod.stratum.as_str(), row(pod).0, row(pod).1)).collect()
}

#[test]
fn strata_are_counted_apart_and_one_that_appears_later_begins_at_zero() {
    let mut cursor = Cursor::new();
    let first = vec![
        told_apart(stable(1_000, 0, 0), &[("GET", 100, 1), ("POST", 50, 5)]),
        told_apart(canary(1_000, 0, 0), &[("GET", 10, 0)]),
    ];
    cursor.close(&reading(1_000, first), 1);
    let second = vec![
        told_apart(stable(2_000, 0, 0), &[("GET", 190, 2), ("POST", 50, 5)]),
        told_apart(canary(2_000, 0, 0), &[("GET", 15, 1), ("POST", 7, 2)]),
    ];
    let closed = cursor.close(&reading(2_000, second), 1);
    assert_eq!(rows(&closed), [("s", "GET", 90, 1), ("c", "GET", 5, 1), ("c", "POST", 7, 2)]);
    let third = vec![
        told_apart(stable(3_000, 0, 0), &[("GET", 190, 2), ("POST", 50, 5)]),
        told_apart(canary(3_000, 0, 0), &[("GET", 16, 1), ("POST", 7, 2)]),
    ];
    let closed = cursor.close(&reading(3_000, third), 1);
    assert_eq!(rows(&closed), [("s", "GET", 0, 0), ("c", "GET", 1, 0)], "a silent pod is there, too");
}

#[test]
fn a_stratum_that_vanishes_is_waited_out_and_a_restart_begins_them_all_anew() {
    let told = |at, n| vec![told_apart(stable(at, 0, 0), &[("a", n, 0), ("b", n, 0)]), canary(at, n, 0)];
    let mut cursor = Cursor::new();
    cursor.close(&reading(1_000, told(1_000, 100)), 1);
    let half = vec![told_apart(stable(2_000, 0, 0), &[("a", 500, 0)]), canary(2_000, 110, 0)];
    assert!(waits(&cursor.close(&reading(2_000, half), 1)), "more in all, and less of one");
    assert!(cursor.take_complaints()[0].contains("some of its counters went down"));
    assert_eq!(
        rows(&cursor.close(&reading(3_000, told(3_000, 120)), 1)),
        [("s", "a", 20, 0), ("s", "b", 20, 0), ("c", "", 20, 0)]
    );
    assert_eq!(
        rows(&cursor.close(&reading(4_000, told(4_000, 5)), 1)),
        [("s", "a", 5, 0), ("s", "b", 5, 0), ("c", "", 5, 0)]
    );
}

#[test]
fn strata_beyond_the_busiest_of_stables_are_one_for_good() {
    let names: Vec<String> = (0..40).map(|n| format!("/{n:02}")).collect();
    let busy = |more: u64| -> Vec<(&str, u64, u64)> {
        names.iter().enumerate().map(|(n, name)| (name.as_str(), 100 * n as u64 + more, 0)).collect()
    };
    let both =
        |at, more| vec![told_apart(stable(at, 0, 0), &busy(more)), told_apart(canary(at, 0, 0), &busy(more))];
    let mut cursor = Cursor::new();
    cursor.close(&reading(1_000, both(1_000, 0)), 1);
    assert!(cursor.take_complaints()[0].contains("more than 16 values"));
    for at in [2, 3] {
        let closed = cursor.close(&reading(at * 1_000, both(at * 1_000, at as u64)), 1);
        let more = if at == 2 { 2 } else { 1 };
        let canary: Vec<_> = rows(&closed).into_iter().filter(|row| row.0 == "c").collect();
        assert_eq!((canary.len(), canary[0]), (17, ("c", "(others)", 24 * more, 0)), "{canary:?}");
        assert_eq!(canary[1], ("c", "/24", more, 0));
        assert_eq!(cursor.take_complaints(), Vec::<String>::new(), "said once");
    }
}

/// A daemon that knows strata takes over from one that did not: what is counted between belongs to none.
#[test]
fn a_pod_that_was_not_told_apart_before_is_counted_as_a_whole_once() {
    let mut cursor = started();
    let told =
        |at, n: u64| vec![told_apart(stable(at, 0, 0), &[("a", n, 0), ("b", n, n)]), canary(at, n, 10)];
    assert_eq!(
        rows(&cursor.close(&reading(2_000, told(2_000, 150)), 1)),
        [("s", "", 200, 140), ("c", "", 50, 0)]
    );
    let mut cursor: Cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert_eq!(
        rows(&cursor.close(&reading(3_000, told(3_000, 160)), 1)),
        [("s", "a", 10, 0), ("s", "b", 10, 10), ("c", "", 10, 0)]
    );
}

/// A client library that makes a native histogram coarser while it runs.
#[test]
fn a_histogram_that_loses_boundaries_goes_on_at_those_that_are_left() {
    let at = |sample: PodSample, buckets| PodSample { buckets, ..sample };
    let coarse = Some(vec![Bucket { le: 0.5, count: 97 }, Bucket { le: f64::INFINITY, count: 110 }]);
    let mut cursor = Cursor::new();
    cursor.close(
        &reading(1_000, vec![stable(1_000, 9, 0), at(canary(1_000, 100, 0), buckets([50, 90, 100]))]),
        1,
    );
    let closed =
        cursor.close(&reading(2_000, vec![stable(2_000, 9, 0), at(canary(2_000, 110, 0), coarse)]), 1);
    let Closed::Window(window) = closed else { panic!("no window") };
    let seen: Vec<(f64, u64)> =
        window.pods[1].buckets.iter().map(|bucket| (bucket.le, bucket.count)).collect();
    assert_eq!(seen, [(0.5, 7), (f64::INFINITY, 10)]);
    assert_eq!(cursor.take_complaints(), Vec::<String>::new());
}
