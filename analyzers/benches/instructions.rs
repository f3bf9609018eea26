//! How many instructions an update takes, counted by valgrind: the same on a busy machine.
//!
//! `cargo bench -p sluice-analyzers --bench instructions` (needs `valgrind` in the path)
//!
//! Each loop runs twice under callgrind, once with [`UPDATES`] more updates; the difference is what those took.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a table that is printed")]

use sluice_analyzers::errors::{ErrorsEvidence, Phi};
use sluice_analyzers::onset::Onset;
use sluice_analyzers::plan::{ErrorsPlan, Margin, Plan, Pods, alternatives};
use sluice_analyzers::rate_ratio::{Pair, increment};
use sluice_analyzers::{Arm, Evidence, PodWindow, Window, judge};
use std::hint::black_box;
use std::process::Command;

const UPDATES: u64 = 20_000;
type Loop = (&'static str, fn(u64));
const LOOPS: [Loop; 4] = [
    ("formula 1, six alternatives", formula_1),
    ("errors, both directions and the ratio's curve", dispersion),
    ("the same with the pod effect", pod_effect),
    ("a window of ten pods, checked and judged", whole_windows),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.as_slice() {
        [run, place, updates] if run == "run" => {
            LOOPS[place.parse::<usize>().unwrap()].1(updates.parse().unwrap());
        }
        _ => table(),
    }
}

fn table() {
    println!("| update | instructions |\n| --- | --- |");
    for (place, (name, _)) in LOOPS.iter().enumerate() {
        let more = counted(place, 2 * UPDATES) - counted(place, UPDATES);
        println!("| {name} | {} |", more / UPDATES);
    }
}

fn counted(place: usize, updates: u64) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap());
    let output = valgrind.args(["run", &place.to_string(), &updates.to_string()]).output();
    let output = output.expect("valgrind is needed: install it, for example with apt-get install valgrind");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("Collected :")).expect(&said);
    line.rsplit(':').next().unwrap().trim().parse().unwrap()
}

fn pair(at: u64) -> Pair {
    Pair::new((90 + at % 20, at % 3), (900 + at % 70, at % 11))
}

fn formula_1(updates: u64) {
    let (r, mut sums) = (1.25, [0.0; 6]);
    let grid: Vec<_> = alternatives(&ErrorsPlan::with_margin(Margin::default()).alternatives, r).collect();
    for at in 0..updates {
        for (sum, alternative) in sums.iter_mut().zip(&grid) {
            *sum += increment(r, alternative, pair(at)).s1;
        }
    }
    black_box(sums);
}

fn dispersion(updates: u64) {
    errors(Pods::Dispersion, updates);
}

fn pod_effect(updates: u64) {
    errors(Pods::RandomEffect, updates);
}

fn errors(pods: Pods, updates: u64) {
    let plan = ErrorsPlan::with_margin(Margin::default());
    let pod = PodWindow::new(Arm::Canary, "c", 1, 0);
    let mut evidence = ErrorsEvidence::new(&plan, pods);
    evidence.start(Onset::Step(1.0), &plan, &Window { step: 1, start_ms: 0, end_ms: 1, pods: vec![pod] });
    for at in 0..updates {
        evidence.add_pair(pair(at), Phi::NONE);
    }
    black_box(&evidence);
}

fn whole_windows(updates: u64) {
    let plan = Plan::new(vec![0.1, 0.5]);
    let mut evidence = Evidence::new(&plan);
    let pods: Vec<PodWindow> = (0..10)
        .map(|place| {
            PodWindow::new(if place < 2 { Arm::Canary } else { Arm::Stable }, format!("p{place}"), 0, 0)
        })
        .collect();
    let mut window = Window { step: 1, start_ms: 0, end_ms: 0, pods };
    for at in 0..updates {
        (window.start_ms, window.end_ms) = (at as i64 * 1000, (at as i64 + 1) * 1000);
        for (place, pod) in window.pods.iter_mut().enumerate() {
            (pod.requests, pod.errors) = (100 + (at * 7 + place as u64) % 30, (at + place as u64) % 5 / 4);
        }
        judge(&plan, &mut evidence, &window).unwrap();
    }
    black_box(&evidence);
}
