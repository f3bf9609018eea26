//! Messages from the bus: a subject on the first line, headers up to an empty line, then the body.
//!
//! What is read and written again is read alike. No name widens a subject.

use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::message::{Announcement, Command};
use sluice_wire::policy::{Policy, access};
use sluice_wire::subject::{self, Subject};

/// No action.
const UNKNOWN: &str = "explode";

struct Message<'i> {
    subject: String,
    headers: Vec<(String, String)>,
    body: &'i [u8],
}

pub fn check(input: &[u8]) {
    let message = Message::of(input);
    addressed(&message.subject);
    announced(&message);
    commanded(&message);
}

impl Message<'_> {
    fn of(input: &[u8]) -> Message<'_> {
        let end = input.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = end.map_or((&[][..], input), |end| (&input[..end], &input[end + 2..]));
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let subject = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Message { subject, headers, body }
    }
}

fn addressed(text: &str) {
    let written = match Subject::parse(text) {
        Ok(Subject::Event { namespace, rollout, kind }) => subject::event(&namespace, &rollout, &kind),
        Ok(Subject::Override { stored, user, namespace, rollout, action }) => {
            let root = if stored { subject::OVERRIDE } else { subject::REQUEST };
            subject::person(root, &user, &namespace, &rollout, &action)
        }
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(Subject::parse(&written), Subject::parse(text), "{text:?} is written as {written:?}");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_%.".contains(c);
    assert!(written.chars().all(plain), "{written:?} could mean more than one subject");
}

fn announced(message: &Message<'_>) {
    let event = match CloudEvent::read(&message.headers, message.body) {
        Ok(event) => event,
        Err(error) => return assert!(error.to_string().len() < 4_000, "{error}"),
    };
    let again = CloudEvent::read(&[], &event.to_bytes());
    assert_eq!(
        again.as_ref(),
        Ok(&event),
        "it was written as {}",
        String::from_utf8_lossy(&event.to_bytes())
    );
    let Ok(announcement) = serde_json::from_value::<Announcement>(event.data) else { return };
    let written = serde_json::to_value(&announcement).expect("an announcement is JSON");
    let again: Announcement = serde_json::from_value(written).expect("what was written is read");
    assert_eq!(again, announcement);
    if let Some(Err(faults)) = announcement.policy.map(|policy| Policy::from_json("data.policy", &policy)) {
        assert!(!faults.to_string().is_empty());
    }
}

fn commanded(message: &Message<'_>) {
    let Ok((_, command)) = Command::read(&message.headers, message.body) else { return };
    for action in access::ACTIONS.into_iter().chain([UNKNOWN]) {
        if let Err(error) = command.asked(action) {
            assert!(!error.to_string().is_empty());
        }
    }
    let written = serde_json::to_vec(&command).expect("a command is JSON");
    assert_eq!(Command::read(&[], &written), Ok((command.id.clone(), command)));
}
