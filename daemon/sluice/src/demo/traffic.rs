//! Open-loop load: so many requests a second whatever the answers are like, as real users send them.
//!
//! Loopback only, bounded in rate and in requests under way; what would go beyond the bound is left out and counted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    http::{Request, Uri},
};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{self, Instant, MissedTickBehavior, timeout},
};

use super::loopback::{HttpClient, client, is_loopback};

/// More would measure this machine and not the service.
const MOST_PER_SECOND: u32 = 5_000;
const MOST_UNDER_WAY: usize = 512;
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
const MOST_BODY_BYTES: usize = 1024 * 1024;
const TICK: Duration = Duration::from_millis(5);

/// Since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    pub sent: u64,
    /// Answered with anything below 500.
    pub well: u64,
    /// Answered with 500 or more, or not at all.
    pub failed: u64,
    /// Not sent, because too many were under way or this machine did not keep up.
    pub left_out: u64,
}

/// Ends when stopped or dropped.
#[derive(Debug)]
pub struct Load {
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Load {
    /// Sends GETs to a URL on loopback, 1 to 5,000 a second, evenly spaced. Must be called within a tokio runtime.
    pub fn start(url: &str, per_second: u32) -> io::Result<Load> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let uri: Uri = url.parse().map_err(|error| wrong(format!("{url:?} is no URL: {error}")))?;
        if !is_loopback(&uri) {
            return Err(wrong(format!("{url:?} is not on loopback, where the demo's load stays")));
        }
        if !(1..=MOST_PER_SECOND).contains(&per_second) {
            return Err(wrong(format!("{per_second} requests a second: give 1 to {MOST_PER_SECOND}")));
        }
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(run(uri, per_second, counts.clone()));
        Ok(Load { counts, task })
    }

    pub fn sent(&self) -> Sent {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { sent, well, failed, left_out } = &*self.counts;
        Sent { sent: now(sent), well: now(well), failed: now(failed), left_out: now(left_out) }
    }

    /// Sends nothing any more; what is under way is given up.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled is what it is meant to be.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    well: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
}

/// Requests end with this task: the set aborts them when dropped.
async fn run(url: Uri, per_second: u32, counts: Arc<Counts>) {
    let (client, places) = (client(), Arc::new(Semaphore::new(MOST_UNDER_WAY)));
    let mut under_way = JoinSet::new();
    let mut schedule = Schedule::new(per_second);
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let (due, late) = schedule.due();
        count(&counts.left_out, late);
        for _ in 0..due {
            match places.clone().try_acquire_owned() {
                Ok(place) => {
                    count(&counts.sent, 1);
                    let (client, url, counts) = (client.clone(), url.clone(), counts.clone());
                    under_way.spawn(async move {
                        let _place = place;
                        one(&client, url, &counts).await;
                    });
                }
                Err(_) => count(&counts.left_out, 1),
            }
        }
    }
}

async fn one(client: &HttpClient, url: Uri, counts: &Counts) {
    let well = match timeout(ANSWER_LIMIT, answer(client, get(url))).await {
        Ok(Ok((status, _))) => status < 500,
        Ok(Err(_)) | Err(_) => false,
    };
    count(if well { &counts.well } else { &counts.failed }, 1);
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// How many requests are due at an instant.
#[derive(Debug)]
struct Schedule {
    began: Instant,
    per_second: f64,
    handed_out: u64,
    /// A pause of this machine is not made up for beyond so many at once.
    most_at_once: u64,
}

impl Schedule {
    fn new(per_second: u32) -> Schedule {
        let most_at_once = u64::from(per_second / 10).max(1);
        Schedule { began: Instant::now(), per_second: f64::from(per_second), handed_out: 0, most_at_once }
    }

    /// Those due now, and those that come too late to be sent at all.
    fn due(&mut self) -> (u64, u64) {
        let all = (self.began.elapsed().as_secs_f64() * self.per_second) as u64;
        let open = all.saturating_sub(self.handed_out);
        self.handed_out = all.max(self.handed_out);
        let due = open.min(self.most_at_once);
        (due, open - due)
    }
}

fn get(url: Uri) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = url;
    request
}

/// Status and body, read to the end so that the connection can be used again.
async fn answer(
    client: &HttpClient,
    request: Request<Body>,
) -> Result<(u16, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let response = client.request(request).await?;
    let status = response.status().as_u16();
    let body = to_bytes(Body::new(response.into_body()), MOST_BODY_BYTES).await?;
    Ok((status, body.to_vec()))
}

/// One GET on loopback.
#[cfg(test)]
pub(crate) async fn fetch(url: &str) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    send(get(url.parse()?)).await
}

/// One request on loopback.
#[cfg(test)]
pub(crate) async fn send(
    request: Request<Body>,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let (status, body) = timeout(ANSWER_LIMIT, answer(&client(), request)).await??;
    Ok((status, String::from_utf8(body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::service::{Behaviour, Service};

    #[tokio::test(start_paused = true)]
    async fn so_many_a_second_are_due_and_a_pause_is_not_made_up_for() {
        let mut schedule = Schedule::new(400);
        let mut due = 0;
        for _ in 0..200 {
            time::advance(TICK).await;
            due += schedule.due().0;
        }
        assert!((399..=400).contains(&due), "{due} in a second");
        time::advance(Duration::from_secs(1)).await;
        let (due, late) = schedule.due();
        assert_eq!(due, 40);
        assert!((359..=361).contains(&late), "{late}");
    }

    #[tokio::test]
    async fn requests_go_out_and_their_answers_are_counted() {
        let behaviour =
            Behaviour { version: "v1".into(), latency: Duration::from_millis(1), error_rate: 0.5 };
        let service = Service::start(behaviour).await.unwrap();
        let load = Load::start(&service.url(), 500).unwrap();
        timeout(Duration::from_secs(60), async {
            while load.sent().well < 50 || load.sent().failed < 50 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let sent = load.sent();
        assert!(sent.sent >= sent.well + sent.failed);
        load.stop().await;
    }

    #[tokio::test]
    async fn nothing_is_sent_beyond_this_machine_or_beyond_reason() {
        assert!(Load::start("http://10.0.0.1/", 10).is_err());
        assert!(Load::start("http://localhost/", 10).is_err());
        assert!(Load::start("http://127.0.0.1:1/", 0).is_err());
        assert!(Load::start("http://127.0.0.1:1/", 5_001).is_err());
    }
}
