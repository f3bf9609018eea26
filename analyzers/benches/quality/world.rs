//! Services that fail in ways that services fail: what the judge and its rivals are shown.
//!
//! A world draws window after window of per-pod counts. Its `Trouble` says in which way it is not ideal; its `Change` what
//! is wrong with the canary, and from when.

use crate::chance::Chance;
use sluice_analyzers::{Arm, Bucket, PodWindow, Window};

/// Boundaries of Prometheus' client libraries, in seconds.
pub const BOUNDARIES: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Requests a second, both versions together.
    pub per_second: f64,
    /// Stable's rate of errors.
    pub base: f64,
    pub window_s: f64,
    pub stable_pods: usize,
    pub canary_pods: usize,
    pub latency: bool,
}

/// In which way the world is not ideal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    None,
    /// Pods' rates differ by this standard deviation (of ln rate).
    UnevenPods(f64),
    /// Errors come in bursts within a pod: of this size, or of this mean size, geometric.
    Bursts(f64),
    GeometricBursts(f64),
    /// The rate of both versions swings over the day by this factor.
    DailyWave(f64),
    /// The rate of both versions wanders: standard deviation of ln rate, correlation from window to window.
    Wander(f64, f64),
    /// Now and then a pod of either version dies, fails what it has, and counts nothing until it is back; restarts are told.
    Crashes,
    /// Two routes, one failing twenty times as often, whose shares differ between the versions and drift.
    MixShift,
    /// Now and then both versions fail together: a fifth of all requests for five minutes.
    Incidents,
    /// Incidents begin between the two versions' scrapes, stable being scraped first.
    IncidentsBetweenScrapes,
    /// The canary's pods are new: in their first minute they fail a little more and are slow, stable's have long been warm.
    SlowStart,
}

/// What is wrong with the canary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    None,
    /// Its errors, as a multiple of stable's.
    Errors(f64),
    /// From this second on.
    LateErrors(f64, f64),
    /// All its latencies, as a multiple.
    Scale(f64),
    /// So many of its requests take a second longer.
    Tail(f64),
}

pub struct World {
    service: Service,
    trouble: Trouble,
    change: Change,
    chance: Chance,
    window: Window,
    nature: Vec<f64>,
    wander: f64,
    incident_left: f64,
    down: Vec<f64>,
    age_s: f64,
    now_ms: i64,
    last_hit: f64,
}

impl World {
    pub fn new(service: Service, trouble: Trouble, change: Change, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let pods = service.stable_pods + service.canary_pods;
        let spread = if let Trouble::UnevenPods(sd) = trouble { sd } else { 0.0 };
        let nature: Vec<f64> =
            (0..pods).map(|_| (spread * chance.normal() - spread * spread / 2.0).exp()).collect();
        let routes: &[&str] = if trouble == Trouble::MixShift { &["/cheap", "/dear"] } else { &[""] };
        let mut window = Window::default();
        for pod in 0..pods {
            let arm = if pod < service.canary_pods { Arm::Canary } else { Arm::Stable };
            for route in routes {
                let mut of = PodWindow::new(arm, format!("p{pod:03}"), 0, 0);
                of.stratum = (*route).to_owned();
                if service.latency {
                    let boundaries = BOUNDARIES.iter().chain([&f64::INFINITY]);
                    of.buckets = boundaries.map(|le| Bucket { le: *le, count: 0 }).collect();
                }
                window.pods.push(of);
            }
        }
        let down = vec![0.0; pods];
        let (wander, incident_left, age_s, now_ms, last_hit) = (0.0, 0.0, 0.0, 0, 0.0);
        Self {
            service,
            trouble,
            change,
            chance,
            window,
            nature,
            wander,
            incident_left,
            down,
            age_s,
            now_ms,
            last_hit,
        }
    }

    pub fn seconds(&self) -> f64 {
        self.age_s
    }

    /// The next window, the canary having `weight` of the traffic; step 0 is history.
    pub fn next(&mut self, step: u32, weight: f64) -> &Window {
        let seconds = self.window_s(step);
        let wave = self.common(seconds);
        let ms = (seconds * 1000.0) as i64;
        (self.window.step, self.window.start_ms, self.window.end_ms) = (step, self.now_ms, self.now_ms + ms);
        let mut window = std::mem::take(&mut self.window);
        let incident = self.incident(seconds);
        let routes = window.pods.len() / self.nature.len();
        for (place, pod) in window.pods.iter_mut().enumerate() {
            self.fill(pod, place / routes, (step, weight), wave, incident);
        }
        self.window = window;
        self.now_ms += ms;
        self.age_s += if step > 0 { seconds } else { 0.0 };
        &self.window
    }

    /// History is read in windows of 15 s at least, however short the rollout's own are.
    pub fn window_s(&self, step: u32) -> f64 {
        if step == 0 { self.service.window_s.max(15.0) } else { self.service.window_s }
    }

    /// What both versions' rates have in common.
    fn common(&mut self, seconds: f64) -> f64 {
        match self.trouble {
            Trouble::DailyWave(swing) => {
                let turn = std::f64::consts::TAU * (self.now_ms as f64 / 1000.0) / 86_400.0;
                (swing.ln() * turn.sin()).exp()
            }
            Trouble::Wander(sd, keep) => {
                let keep = keep.powf(seconds / 15.0);
                self.wander = keep * self.wander + (1.0 - keep * keep).sqrt() * sd * self.chance.normal();
                self.wander.exp()
            }
            _ => 1.0,
        }
    }

    /// The share of this window that an incident covers, (stable's, the canary's). Between scrapes, stable's interval
    /// lies one window earlier than the canary's: it sees everything a window later.
    fn incident(&mut self, seconds: f64) -> (f64, f64) {
        let between = self.trouble == Trouble::IncidentsBetweenScrapes;
        if !between && self.trouble != Trouble::Incidents {
            return (0.0, 0.0);
        }
        let hit = if self.incident_left > 0.0 {
            let hit = (self.incident_left / seconds).min(1.0);
            self.incident_left -= seconds;
            hit
        } else if self.chance.unit() < seconds / 7200.0 {
            let begun = self.chance.unit();
            self.incident_left = 300.0 - begun * seconds;
            begun
        } else {
            0.0
        };
        let stable = if between { std::mem::replace(&mut self.last_hit, hit) } else { hit };
        (stable, hit)
    }

    fn fill(
        &mut self,
        pod: &mut PodWindow,
        at: usize,
        (step, weight): (u32, f64),
        wave: f64,
        incident: (f64, f64),
    ) {
        let canary = pod.arm == Arm::Canary;
        let (share, pods) = if canary {
            (if step == 0 { 0.0 } else { weight }, self.service.canary_pods)
        } else {
            (if step == 0 { 1.0 } else { 1.0 - weight }, self.service.stable_pods)
        };
        let seconds = self.window_s(step);
        let mean = self.service.per_second * seconds * share / pods as f64;
        let (part, route) = self.route(pod, canary);
        let n = self.alive(at, mean * part, seconds);
        let rate = self.rate(at, canary) * wave * route;
        let hit = if canary { incident.1 } else { incident.0 };
        let mut errors = self.errors(n, rate.min(1.0));
        errors += self.chance.binomial(n - errors.min(n), 0.2 * hit);
        let died = self.down[at] < 0.0;
        if died {
            // What it had when it died.
            errors += self.chance.poisson(3.0);
            self.down[at] = 120.0;
        }
        pod.restarts = (self.trouble == Trouble::Crashes).then_some(u64::from(died));
        (pod.requests, pod.errors) = (n, errors.min(n));
        let cold = self.trouble == Trouble::SlowStart && canary;
        pod.ready_for_ms = cold.then_some((self.age_s * 1000.0) as u64);
        if self.service.latency {
            self.fill_buckets(pod, canary);
        }
        if self.trouble == Trouble::IncidentsBetweenScrapes {
            let length = (seconds * 1000.0) as i64;
            let late = if canary { 0 } else { length };
            pod.sampled_ms = Some((self.now_ms - late, self.now_ms - late + length));
        }
    }

    /// The share of a pod's traffic on this route, and how it multiplies the rate.
    fn route(&self, pod: &PodWindow, canary: bool) -> (f64, f64) {
        if self.trouble != Trouble::MixShift {
            return (1.0, 1.0);
        }
        let drift = 0.1 * (self.now_ms as f64 / 5.0e6).sin();
        let dear = if canary { 0.3 + drift } else { 0.1 };
        if pod.stratum == "/dear" { (dear, 20.0) } else { (1.0 - dear, 1.0) }
    }

    fn alive(&mut self, at: usize, mean: f64, seconds: f64) -> u64 {
        if self.down[at] > 0.0 {
            self.down[at] -= seconds;
            return 0;
        }
        if self.trouble == Trouble::Crashes && self.chance.unit() < seconds / 14_400.0 {
            self.down[at] = -1.0;
        }
        self.chance.poisson(mean)
    }

    fn rate(&self, at: usize, canary: bool) -> f64 {
        let worse = match self.change {
            Change::Errors(ratio) if canary => ratio,
            Change::LateErrors(ratio, from) if canary && self.age_s >= from => ratio,
            Change::None
            | Change::Errors(_)
            | Change::LateErrors(..)
            | Change::Scale(_)
            | Change::Tail(_) => 1.0,
        };
        let cold = if self.trouble == Trouble::SlowStart && canary && self.age_s < 60.0 { 1.1 } else { 1.0 };
        self.service.base * self.nature[at] * worse * cold
    }

    fn errors(&mut self, n: u64, rate: f64) -> u64 {
        match self.trouble {
            Trouble::Bursts(size) => self.chance.poisson(n as f64 * rate / size) * size as u64,
            Trouble::GeometricBursts(size) => {
                let bursts = self.chance.poisson(n as f64 * rate / size);
                (0..bursts).map(|_| self.chance.geometric(size)).sum()
            }
            _ => self.chance.binomial(n, rate),
        }
    }

    /// Log-normal latencies with a median of 40 ms and a standard deviation of ln of 0.8.
    fn fill_buckets(&mut self, pod: &mut PodWindow, canary: bool) {
        let cold = self.trouble == Trouble::SlowStart && canary && self.age_s < 60.0;
        let scale = match self.change {
            Change::Scale(scale) if canary => scale,
            _ => 1.0,
        } * if cold { 3.0 } else { 1.0 };
        let tail = match self.change {
            Change::Tail(share) if canary => share,
            _ => 0.0,
        };
        let late = self.chance.binomial(pod.requests, tail);
        let (mut left, mut below, mut before) = (pod.requests - late, 0u64, 0.0);
        for (place, le) in BOUNDARIES.iter().enumerate() {
            let share = normal_below(((le / scale) / 0.040f64).ln() / 0.8);
            let within = ((share - before) / (1.0 - before).max(1e-12)).clamp(0.0, 1.0);
            let here = self.chance.binomial(left, within);
            (left, below, before) = (left - here, below + here, share);
            let late_below = if *le >= 2.5 { late } else { 0 };
            pod.buckets[place].count = below + late_below;
        }
        pod.buckets[BOUNDARIES.len()].count = pod.requests;
    }
}

/// The normal distribution function.
pub fn normal_below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}
