//! One watch of a kind in a namespace, shared by all rollouts of the daemon: ten thousand rollouts hold some watches open, not
//! tens of thousands, and the API server evaluates an object's change once.
//!
//! ```text
//!   watcher (kube) ─▶ Shelf: what stands there, by whom it concerns ─▶ a Listener each: the latest, never a queue
//! ```
//!
//! kube's own store tells every subscriber of every object; here each is woken by its own only. Who falls behind sees the latest
//! state, and whoever needs to know more reads for itself. A watch ends with its last listener. Its errors are told to all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use backon::BackoffBuilder;
use futures::{StreamExt, stream, stream::BoxStream};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Config, Event};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::kubernetes::object::{LONGEST_PAUSE, WATCH_SECONDS, pauses};

/// What is watched, and what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Keep {
    /// All but who wrote which field: targets.
    Whole,
    /// Without templates: workloads.
    Sizes,
    /// EndpointSlices, by the Service that they belong to.
    Endpoints,
}

/// The objects that concern one listener, by name.
pub(crate) type Found = BTreeMap<String, Arc<DynamicObject>>;
/// As it is told: nothing before the first listing.
type News = Option<Result<Found, Arc<watcher::Error>>>;

/// A slice's label.
const OF_SERVICE: &str = "kubernetes.io/service-name";
/// kubectl's copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Keep {
    /// Whom an object concerns: who listens for this name.
    fn concerns(self, object: &DynamicObject) -> String {
        let labels = object.metadata.labels.as_ref();
        match self {
            Keep::Whole | Keep::Sizes => name(object),
            Keep::Endpoints => labels.and_then(|labels| labels.get(OF_SERVICE)).cloned().unwrap_or_default(),
        }
    }

    /// Takes away what nobody looks at: of a namespace, every object of the kind is kept.
    fn trim(self, mut object: DynamicObject) -> DynamicObject {
        let metadata = &mut object.metadata;
        metadata.managed_fields = None;
        match self {
            Keep::Whole => {
                if let Some(annotations) = &mut metadata.annotations {
                    annotations.remove(LAST_APPLIED);
                }
            }
            Keep::Sizes | Keep::Endpoints => {
                (metadata.labels, metadata.annotations, metadata.owner_references) = (None, None, None);
                leave_out(&mut object.data["spec"], &["template", "volumeClaimTemplates", "selector"]);
                leave_out(&mut object.data["status"], &["conditions"]);
                let endpoints = object.data["endpoints"].as_array_mut();
                endpoints.into_iter().flatten().for_each(|endpoint| {
                    leave_out(endpoint, &["nodeName", "zone", "hints", "hostname", "deprecatedTopology"]);
                });
            }
        }
        object
    }
}

fn leave_out(from: &mut Value, fields: &[&str]) {
    if let Some(object) = from.as_object_mut() {
        object.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

fn name(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

/// All shared watches of a daemon.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// By the API's path, which names kind and namespace.
    open: Mutex<HashMap<(String, Keep), Weak<Shared>>>,
}

impl Watches {
    /// Everything of this kind and namespace that concerns `whom`: as it stands, then on every change. Errors while it cannot be
    /// seen. Endless.
    pub fn listen(
        &self,
        api: &Api<DynamicObject>,
        keep: Keep,
        whom: &str,
    ) -> BoxStream<'static, Result<Found, Arc<watcher::Error>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, shared| shared.strong_count() > 0);
        let place = (api.resource_url().to_owned(), keep);
        let shared = open.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Shared::begin(api.clone(), keep);
            open.insert(place, Arc::downgrade(&shared));
            shared
        });
        Listener::new(shared, whom).told()
    }
}

/// One watch, while anybody listens.
#[derive(Debug)]
struct Shared {
    shelf: Mutex<Shelf>,
    task: Mutex<Option<AbortHandle>>,
}

impl Shared {
    fn begin(api: Api<DynamicObject>, keep: Keep) -> Arc<Shared> {
        let shared = Arc::new(Shared { shelf: Mutex::new(Shelf::new(keep)), task: Mutex::default() });
        let task = tokio::spawn(follow(api, Arc::downgrade(&shared)));
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        shared
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// After an error all is listed anew: who comes in between must not wait for the next change to hear how things stand.
async fn follow(api: Api<DynamicObject>, told: Weak<Shared>) {
    let mut backoff = pauses().build();
    loop {
        let mut events = Box::pin(watcher::watcher(api.clone(), Config::default().timeout(WATCH_SECONDS)));
        while let Some(event) = events.next().await {
            let (done, failed) = (matches!(event, Ok(Event::InitDone)), event.is_err());
            let Some(shared) = told.upgrade() else { return };
            shared.shelf().take(event);
            if done {
                backoff = pauses().build();
            }
            if failed {
                break;
            }
        }
        tokio::time::sleep(backoff.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// What the watch has shown, and who wants to know.
#[derive(Debug)]
struct Shelf {
    keep: Keep,
    objects: HashMap<String, Found>,
    /// A listing that is still coming.
    listing: HashMap<String, Found>,
    listed: bool,
    fault: Option<Arc<watcher::Error>>,
    listeners: HashMap<String, watch::Sender<News>>,
}

impl Shelf {
    fn new(keep: Keep) -> Shelf {
        Shelf {
            keep,
            objects: HashMap::new(),
            listing: HashMap::new(),
            listed: false,
            fault: None,
            listeners: HashMap::new(),
        }
    }

    fn take(&mut self, event: watcher::Result<Event<DynamicObject>>) {
        match event {
            Ok(Event::Init) => self.listing.clear(),
            Ok(Event::InitApply(object)) => {
                let (whom, object) = (self.keep.concerns(&object), self.keep.trim(object));
                self.listing.entry(whom).or_default().insert(name(&object), Arc::new(object));
            }
            Ok(Event::InitDone) => {
                self.objects = std::mem::take(&mut self.listing);
                (self.listed, self.fault) = (true, None);
                self.tell_all();
            }
            Ok(Event::Apply(object)) => {
                let (whom, object) = (self.keep.concerns(&object), self.keep.trim(object));
                self.objects.entry(whom.clone()).or_default().insert(name(&object), Arc::new(object));
                self.tell(&whom);
            }
            Ok(Event::Delete(object)) => {
                let whom = self.keep.concerns(&object);
                if let Some(found) = self.objects.get_mut(&whom) {
                    found.remove(&name(&object));
                    if found.is_empty() {
                        self.objects.remove(&whom);
                    }
                }
                self.tell(&whom);
            }
            Err(error) => {
                self.fault = Some(Arc::new(error));
                self.tell_all();
            }
        }
    }

    fn news(&self, whom: &str) -> News {
        match &self.fault {
            Some(fault) => Some(Err(fault.clone())),
            None => self.listed.then(|| Ok(self.objects.get(whom).cloned().unwrap_or_default())),
        }
    }

    fn tell(&self, whom: &str) {
        if let Some(listener) = self.listeners.get(whom) {
            let now = self.news(whom);
            listener.send_if_modified(|told| {
                let is_news = !same(told, &now);
                *told = now;
                is_news
            });
        }
    }

    fn tell_all(&self) {
        self.listeners.keys().for_each(|whom| self.tell(whom));
    }

    fn listen(&mut self, whom: &str) -> watch::Receiver<News> {
        let now = self.news(whom);
        let listener = self.listeners.entry(whom.to_owned()).or_insert_with(|| watch::channel(now).0);
        let mut receiver = listener.subscribe();
        receiver.mark_changed();
        receiver
    }

    fn leave(&mut self, whom: &str) {
        // The one who leaves still counts.
        if self.listeners.get(whom).is_some_and(|listener| listener.receiver_count() <= 1) {
            self.listeners.remove(whom);
        }
    }
}

/// The same objects in the same states. An error is news again each time.
fn same(one: &News, other: &News) -> bool {
    let versions = |found: &Found| {
        let version = |object: &Arc<DynamicObject>| {
            (object.metadata.uid.clone(), object.metadata.resource_version.clone())
        };
        found.values().map(version).collect::<Vec<_>>()
    };
    match (one, other) {
        (Some(Ok(one)), Some(Ok(other))) => versions(one) == versions(other),
        (None, None) => true,
        (Some(_) | None, Some(_) | None) => false,
    }
}

/// One who listens; with the last the watch ends.
struct Listener {
    shared: Arc<Shared>,
    whom: String,
    news: watch::Receiver<News>,
}

impl Listener {
    fn new(shared: Arc<Shared>, whom: &str) -> Listener {
        let news = shared.shelf().listen(whom);
        Listener { shared, whom: whom.to_owned(), news }
    }

    fn told(self) -> BoxStream<'static, Result<Found, Arc<watcher::Error>>> {
        let news = stream::unfold(self, |mut listener| async move {
            loop {
                // The sender goes with the last listener only.
                listener.news.changed().await.ok()?;
                let now = listener.news.borrow_and_update().clone();
                if let Some(now) = now {
                    return Some((now, listener));
                }
            }
        });
        news.boxed()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.shelf().leave(&self.whom);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: u32) -> DynamicObject {
        serde_json::from_value(
            json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(),
            "labels": {OF_SERVICE: "canary"}, "managedFields": [{"manager": "kubectl"}]},
            "spec": {"replicas": version, "template": {"spec": {}}}}),
        )
        .unwrap()
    }

    fn shelf(keep: Keep, whom: &str) -> (Shelf, watch::Receiver<News>) {
        let mut shelf = Shelf::new(keep);
        let news = shelf.listen(whom);
        (shelf, news)
    }

    /// The listener's news since it last looked: versions of the objects, or an error.
    fn heard(news: &mut watch::Receiver<News>) -> Option<Result<Vec<String>, ()>> {
        if !news.has_changed().unwrap() {
            return None;
        }
        let now = news.borrow_and_update().clone()?;
        let version = |object: &Arc<DynamicObject>| object.metadata.resource_version.clone().unwrap();
        Some(now.map(|found| found.values().map(version).collect()).map_err(drop))
    }

    fn listed(shelf: &mut Shelf, objects: &[DynamicObject]) {
        shelf.take(Ok(Event::Init));
        objects.iter().for_each(|object| shelf.take(Ok(Event::InitApply(object.clone()))));
        shelf.take(Ok(Event::InitDone));
    }

    #[test]
    fn each_hears_of_its_own_object_only_and_a_listing_that_says_the_same_is_no_news() {
        let (mut shelf, mut news) = shelf(Keep::Whole, "a");
        assert_eq!(heard(&mut news), None, "nothing is known before the first listing");
        listed(&mut shelf, &[object("a", 1), object("b", 1)]);
        assert_eq!(heard(&mut news), Some(Ok(vec!["1".into()])));
        shelf.take(Ok(Event::Apply(object("b", 2))));
        listed(&mut shelf, &[object("a", 1), object("b", 2)]);
        assert_eq!(heard(&mut news), None);
        shelf.take(Ok(Event::Apply(object("a", 3))));
        assert_eq!(heard(&mut news), Some(Ok(vec!["3".into()])));
        shelf.take(Ok(Event::Delete(object("a", 3))));
        assert_eq!(heard(&mut news), Some(Ok(vec![])), "it is gone");
        listed(&mut shelf, &[object("b", 2)]);
        assert_eq!(heard(&mut news), None);
    }

    #[test]
    fn who_comes_later_hears_what_stands_there_and_the_last_one_leaves_nothing() {
        let (mut shelf, first) = shelf(Keep::Whole, "a");
        listed(&mut shelf, &[object("a", 1)]);
        let mut second = shelf.listen("a");
        assert_eq!(heard(&mut second), Some(Ok(vec!["1".into()])));
        shelf.leave("a");
        drop(first);
        assert_eq!(shelf.listeners.len(), 1);
        shelf.leave("a");
        assert!(shelf.listeners.is_empty());
    }

    #[test]
    fn while_nothing_can_be_seen_all_are_told_and_what_stands_there_is_news_again() {
        let (mut shelf, mut news) = shelf(Keep::Whole, "a");
        listed(&mut shelf, &[object("a", 1)]);
        heard(&mut news);
        shelf.take(Err(watcher::Error::NoResourceVersion));
        assert_eq!(heard(&mut news), Some(Err(())));
        let mut later = shelf.listen("a");
        assert_eq!(heard(&mut later), Some(Err(())), "whoever comes now is told nothing old");
        listed(&mut shelf, &[object("a", 1)]);
        assert_eq!(heard(&mut news), Some(Ok(vec!["1".into()])));
    }

    #[test]
    fn slices_concern_their_service_and_workloads_are_kept_without_templates() {
        let (mut shelf, mut news) = shelf(Keep::Endpoints, "canary");
        listed(&mut shelf, &[object("v4", 1), object("v6", 2)]);
        assert_eq!(heard(&mut news), Some(Ok(vec!["1".into(), "2".into()])));
        let kept = Keep::Sizes.trim(object("a", 3));
        assert_eq!(kept.data["spec"], json!({"replicas": 3}));
        assert!(kept.metadata.managed_fields.is_none());
    }
}
