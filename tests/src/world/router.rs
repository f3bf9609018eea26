//! The router of the shop: reads the weights through a watch, as gateways do, and sends each request to a ready pod of
//! the backend whose turn it is. A backend without a ready pod gets none; its requests are counted as skipped.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use sluice_rig::kube::Watch;
use sluice_rig::load::spread;
use sluice_rig::{Fleet, Kube, Load};
use tokio::task::JoinHandle;

use super::Shape;

type Backends = Vec<(String, u64)>;

/// Follows one route.
#[derive(Debug)]
pub struct Router {
    backends: Arc<Mutex<Backends>>,
    shape: Shape,
    task: JoinHandle<()>,
}

impl Router {
    pub(super) async fn follow(kube: &Kube, namespace: &str, shape: Shape) -> Result<Router> {
        let watch = kube.watch(&shape.path(namespace)).await?;
        let backends = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(follow(watch, shape, backends.clone()));
        Ok(Router { backends, shape, task })
    }

    /// Requests that go where the route says, until the load is stopped or dropped.
    pub fn load(&self, fleet: &Fleet, per_second: f64) -> Result<Load> {
        let (backends, picker, label) = (self.backends.clone(), fleet.picker(), self.shape.version_label());
        Load::choosing(per_second, move |number| {
            let version = turn(&lock(&backends), number)?;
            picker.pick((label, &version), number)
        })
    }
}

/// Requests to the pods with a label, whatever the route says.
pub(super) fn load_of(fleet: &Fleet, label: (&'static str, &'static str), per_second: f64) -> Result<Load> {
    let picker = fleet.picker();
    Load::choosing(per_second, move |number| picker.pick(label, number))
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whose turn a request is, by the weights.
fn turn(backends: &Backends, number: u64) -> Option<String> {
    let total: u64 = backends.iter().map(|(_, weight)| weight).sum();
    let mut place = spread(number) * total as f64;
    let hit = |(_, weight): &&(String, u64)| {
        place -= *weight as f64;
        place < 0.0
    };
    backends.iter().find(hit).map(|(name, _)| name.clone())
}

async fn follow(watch: Watch, shape: Shape, backends: Arc<Mutex<Backends>>) {
    let mut known = 0;
    loop {
        let new = watch.events_after(known);
        known += new.len();
        if let Some(last) = new.iter().rev().find(|seen| seen.name() == "checkout") {
            *lock(&backends) = shape.backends(&last.object);
        }
        watch.changed(known).await;
    }
}

fn lock(backends: &Mutex<Backends>) -> std::sync::MutexGuard<'_, Backends> {
    backends.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights() {
        let backends = vec![("a".to_owned(), 90), ("b".to_owned(), 10), ("c".to_owned(), 0)];
        let count = |name: &str| {
            (0..10_000).filter(|number| turn(&backends, *number).as_deref() == Some(name)).count()
        };
        assert!((8_990..=9_010).contains(&count("a")), "{}", count("a"));
        assert_eq!(count("c"), 0);
        assert_eq!(turn(&Vec::new(), 1), None);
    }
}
