//! An update allocates nothing once a step has begun, and a metric's state is small.

#![allow(unsafe_code, reason = "an allocator that counts")]

use sluice_analyzers::plan::{Plan, Pods};
use sluice_analyzers::{Arm, Bucket, Evidence, PodWindow, Window, judge};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator; only a counter of this thread is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn window(at: i64, latency: bool) -> Window {
    let pod = |arm, name: String, n: u64, x: u64| {
        let mut pod = PodWindow::new(arm, name, n, x);
        if latency {
            let buckets = [(0.1, n - n / 10), (0.5, n - n / 100), (f64::INFINITY, n)];
            pod.buckets = buckets.map(|(le, count)| Bucket { le, count }).to_vec();
        }
        pod
    };
    let stable = (0..6).map(|place| pod(Arm::Stable, format!("s{place}"), 240, (at % 3) as u64));
    let canary = (0..2).map(|place| pod(Arm::Canary, format!("c{place}"), 40, (at % 7 / 5) as u64));
    let pods = stable.chain(canary).collect();
    Window { step: 1, start_ms: at * 15_000, end_ms: (at + 1) * 15_000, pods }
}

fn allocations(plan: &Plan, latency: bool) -> u64 {
    let windows: Vec<Window> = (0..200).map(|at| window(at, latency)).collect();
    let mut evidence = Evidence::new(plan);
    windows[..2].iter().for_each(|window| {
        judge(plan, &mut evidence, window).expect("a good window");
    });
    let before = COUNT.with(Cell::get);
    windows[2..].iter().for_each(|window| {
        judge(plan, &mut evidence, window).expect("a good window");
    });
    COUNT.with(Cell::get) - before
}

#[test]
fn an_update_allocates_nothing() {
    let plain = Plan { pods: Pods::Dispersion, latency: None, ..Plan::new(vec![0.1, 0.5]) };
    assert_eq!(allocations(&plain, false), 0);
    let latency = Plan { pods: Pods::Dispersion, ..Plan::new(vec![0.1, 0.5]) };
    assert_eq!(allocations(&latency, true), 0);
    // What cannot decide is not integrated; deciding may allocate.
    assert_eq!(allocations(&Plan::new(vec![0.1, 0.5]), true), 0);
}

/// As the store keeps it: eight bytes a number, names left out.
#[test]
fn the_state_of_a_metric_is_small() {
    let plan = Plan { latency: None, restarts: None, ..Plan::new(vec![0.01, 0.05, 0.25, 0.5]) };
    let mut evidence = Evidence::new(&plan);
    for at in 0..50 {
        let mut window = window(at, false);
        window.step = 1 + (at / 10) as u32;
        // Hours long, so that restarts are drawn, and stable read first, so that the canary is held against two windows.
        (window.start_ms, window.end_ms) = (at * 3_600_000, (at + 1) * 3_600_000);
        for pod in &mut window.pods {
            let late = if pod.arm == Arm::Canary { 0 } else { 9_000 };
            pod.sampled_ms = Some((window.start_ms - late, window.end_ms - late));
        }
        judge(&plan, &mut evidence, &window).expect("a good window");
    }
    let value = serde_json::to_value(&evidence).expect("evidence is plain");
    let numbers = count(&value["errors"]);
    assert!(numbers * 8 <= 4_096, "{numbers} numbers");
}

fn count(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Number(_) => 1,
        serde_json::Value::Array(of) => of.iter().map(count).sum(),
        serde_json::Value::Object(of) => of.values().map(count).sum(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => 0,
    }
}
