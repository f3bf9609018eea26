//! A daemon that says what it is told to say, behind the real HTTP door on a free port of loopback.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use sluice::control::{Control, ControlError};
use sluice::http::{HttpOptions, serve};
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::decisions::RecordPage;
use sluice_wire::message::{Answer, Command};
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One command as it reached the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Commanded {
    pub user: String,
    pub place: String,
    pub action: String,
    pub key: String,
    pub command: Command,
}

pub struct Fake {
    views: Mutex<Vec<RolloutView>>,
    history: Mutex<Vec<HistoryLine>>,
    answer: Mutex<Answer>,
    pub commanded: Mutex<Vec<Commanded>>,
    pub announced: Mutex<Vec<(String, CloudEvent)>>,
    /// Views that become true one after the other once a release is announced.
    script: Mutex<Vec<RolloutView>>,
    changes: broadcast::Sender<RolloutView>,
    pub missing: Mutex<Vec<String>>,
    /// Never answers a command.
    pub mute: Mutex<bool>,
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let (changes, _) = broadcast::channel(64);
        Arc::new(Fake {
            views: Mutex::default(),
            history: Mutex::default(),
            answer: Mutex::new(accepted("paused at 5 % (step 1 of 4); revision 10")),
            commanded: Mutex::default(),
            announced: Mutex::default(),
            script: Mutex::default(),
            changes,
            missing: Mutex::default(),
            mute: Mutex::default(),
        })
    }

    pub fn with(self: Arc<Fake>, views: &[RolloutView]) -> Arc<Fake> {
        *self.views.lock().unwrap() = views.to_vec();
        self
    }

    pub fn answering(self: Arc<Fake>, answer: Answer) -> Arc<Fake> {
        *self.answer.lock().unwrap() = answer;
        self
    }

    pub fn playing(self: Arc<Fake>, script: &[RolloutView]) -> Arc<Fake> {
        *self.script.lock().unwrap() = script.to_vec();
        self
    }

    /// A view becomes true, gets a line in the history, and is told.
    pub fn change(&self, view: RolloutView) {
        self.history.lock().unwrap().push(line(&view));
        self.views.lock().unwrap().retain(|known| known.rollout.name() != view.rollout.name());
        self.views.lock().unwrap().insert(0, view.clone());
        let _ = self.changes.send(view);
    }

    fn find(&self, namespace: &str, name: &str, attempt: Option<&str>) -> Result<RolloutView, ControlError> {
        let views = self.views.lock().unwrap();
        let same = |view: &&RolloutView| {
            view.rollout.namespace() == namespace
                && view.rollout.name() == name
                && attempt.is_none_or(|attempt| attempt == view.rollout.attempt())
        };
        views.iter().find(same).cloned().ok_or_else(|| ControlError::Unknown(format!("{namespace}/{name}")))
    }
}

#[async_trait]
impl Control for Fake {
    async fn rollouts(&self) -> Vec<RolloutView> {
        self.views.lock().unwrap().clone()
    }

    async fn rollout(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<RolloutView, ControlError> {
        self.find(namespace, name, attempt)
    }

    async fn history(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<Vec<HistoryLine>, ControlError> {
        self.find(namespace, name, attempt)?;
        Ok(self.history.lock().unwrap().clone())
    }

    async fn record(
        &self,
        namespace: &str,
        name: &str,
        _attempt: Option<&str>,
        _after: u64,
    ) -> Result<RecordPage, ControlError> {
        Err(ControlError::Unknown(format!("{namespace}/{name}")))
    }

    async fn command(
        &self,
        user: &str,
        namespace: &str,
        name: &str,
        action: &str,
        key: String,
        command: Command,
    ) -> Answer {
        let (user, action) = (user.to_owned(), action.to_owned());
        let place = format!("{namespace}/{name}");
        self.commanded.lock().unwrap().push(Commanded { user, place, action, key, command });
        if *self.mute.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        self.answer.lock().unwrap().clone()
    }

    async fn announce(&self, namespace: &str, name: &str, event: CloudEvent) -> Answer {
        self.announced.lock().unwrap().push((format!("{namespace}/{name}"), event));
        let script = std::mem::take(&mut *self.script.lock().unwrap());
        let Some(first) = script.first() else { return self.answer.lock().unwrap().clone() };
        let rollout = Some(first.rollout.clone());
        script.into_iter().for_each(|view| self.change(view));
        Answer { rollout, ..accepted("shop/checkout@v2-1 begins") }
    }

    fn changes(&self) -> BoxStream<'static, RolloutView> {
        let changes = self.changes.subscribe();
        futures::stream::unfold(changes, |mut changes| async move {
            changes.recv().await.ok().map(|view| (view, changes))
        })
        .boxed()
    }

    async fn ready(&self) -> Result<(), Vec<String>> {
        let missing = self.missing.lock().unwrap().clone();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    fn metrics(&self) -> String {
        "# TYPE sluice_rollouts gauge\nsluice_rollouts 1\n# EOF\n".to_owned()
    }
}

/// The door, open until the end of the test.
pub struct House {
    pub url: String,
    pub fake: Arc<Fake>,
    pub stop: CancellationToken,
    pub served: Option<JoinHandle<std::io::Result<()>>>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn open(fake: Arc<Fake>) -> House {
    open_with(fake, HttpOptions::default()).await
}

pub async fn open_with(fake: Arc<Fake>, options: HttpOptions) -> House {
    // The first one installed stays; a second one is no fault here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let served = Some(tokio::spawn(serve(listener, fake.clone(), options, stop.clone())));
    House { url, fake, stop, served }
}

impl House {
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(reqwest::Client::new().get(self.at(path))).await
    }

    pub async fn post(&self, path: &str, body: impl Into<String>) -> (u16, Value) {
        answer(reqwest::Client::new().post(self.at(path)).body(body.into())).await
    }

    pub fn commands(&self) -> Vec<Commanded> {
        self.fake.commanded.lock().unwrap().clone()
    }

    pub fn announcements(&self) -> Vec<(String, CloudEvent)> {
        self.fake.announced.lock().unwrap().clone()
    }
}

/// Status and JSON; what is no JSON comes as text.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn accepted(message: &str) -> Answer {
    Answer { accepted: true, ..Answer::refused(message) }
}

/// A view of `shop/<name>@v2-1`, changed as told.
pub fn view(name: &str, change: Value) -> RolloutView {
    let mut view = json!({
        "rollout": format!("shop/{name}@v2-1"), "release": "v2", "revision": 9, "phase": "observing", "step": 2,
        "steps": [1.0, 5.0, 25.0, 50.0], "bake": 95.0, "weight": 5.0, "readBack": 5.0, "verdict": "undecided",
        "reason": "weight 5 % read back", "waitsFor": null, "outcome": null, "alerts": [],
        "started": 1_790_000_000_000_i64, "changed": 1_790_000_192_000_i64, "watchedSeconds": 32.0,
        "neededSeconds": 60.0, "evidence": {"long": "report"}, "owner": "sluice-0",
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        view[key] = value.clone();
    }
    serde_json::from_value(view).unwrap()
}

/// The line that the history gets for a view.
pub fn line(view: &RolloutView) -> HistoryLine {
    HistoryLine {
        rollout: view.rollout.clone(),
        at: view.changed,
        revision: view.revision,
        phase: view.phase.clone(),
        weight: view.weight.percent(),
        event: "traffic-observed".into(),
        reason: view.reason.clone(),
        code: "weight-in-effect".into(),
        actor: None,
        accepted: None,
        effects: Vec::new(),
    }
}

/// From the first step to an end.
pub fn story(outcome: &str, reason: &str) -> Vec<RolloutView> {
    let weight = if outcome == "promoted" { 100.0 } else { 0.0 };
    vec![
        view(
            "checkout",
            json!({"revision": 1, "phase": "preparing", "step": 1, "weight": 0.0, "reason": "release announced"}),
        ),
        view("checkout", json!({"revision": 2, "step": 1, "weight": 1.0, "reason": "weight 1 % read back"})),
        view(
            "checkout",
            json!({"revision": 3, "phase": outcome, "outcome": outcome, "step": null, "weight": weight, "readBack": weight, "reason": reason}),
        ),
    ]
}

/// A file of one user and token.
pub fn token_file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("tokens");
    std::fs::write(&path, text).unwrap();
    path
}
