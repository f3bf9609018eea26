//! The way to a rollout's owner: two bounded queues, of which the urgent one is always read first.

use sluice_rollout::{Event, Fence, Override};
use sluice_wire::message::Answer;
use tokio::sync::{mpsc, oneshot};

/// Letters that wait; whoever writes more waits until there is room.
const QUEUE: usize = 256;

/// What an owner is told.
#[derive(Debug)]
pub enum Letter {
    Event(Event),
    Command {
        command: Override,
        reply: oneshot::Sender<Answer>,
    },
    /// This daemon stood still for long: the record says whose the rollout is now.
    Doubted,
    /// The target refused us: this fence stands there.
    Fenced {
        found: Fence,
    },
}

/// The way to an owner. Urgent letters overtake the others.
#[derive(Debug, Clone)]
pub struct Post {
    urgent: mpsc::Sender<Letter>,
    normal: mpsc::Sender<Letter>,
}

impl Post {
    pub async fn event(&self, event: Event) {
        // An owner that has ended takes no letters; there is nobody left to tell.
        let _ = self.normal.send(Letter::Event(event)).await;
    }

    pub async fn urgent(&self, event: Event) {
        let _ = self.urgent.send(Letter::Event(event)).await;
    }

    pub async fn letter(&self, letter: Letter) {
        let _ = self.urgent.send(letter).await;
    }

    /// The owner has ended: there is nobody to take a letter.
    pub fn is_closed(&self) -> bool {
        self.urgent.is_closed()
    }

    /// A person's command and its answer; `None` if the owner has ended.
    pub async fn command(&self, command: Override) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.urgent.send(Letter::Command { command, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// The owner's end.
pub struct Inbox {
    pub urgent: mpsc::Receiver<Letter>,
    pub normal: mpsc::Receiver<Letter>,
}

pub fn open() -> (Post, Inbox) {
    let (urgent, urgent_inbox) = mpsc::channel(QUEUE);
    let (normal, normal_inbox) = mpsc::channel(QUEUE);
    (Post { urgent, normal }, Inbox { urgent: urgent_inbox, normal: normal_inbox })
}
