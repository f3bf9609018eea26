//! Headers of messages, and the form of a dead letter.
//!
//! A dead letter's body is the very bytes that could not be read; what is known of it stands in `Sluice-…` headers
//! beside its own. Headers that a NATS server would obey (`Nats-…`) are never copied from a message to another.

use bytes::Bytes;

use crate::plan::{MOST_BODY_BYTES, MOST_HEADER_BYTES};
use crate::{BusError, Delivery};

/// Name and value pairs.
pub type Headers = Vec<(String, String)>;

/// Where a stored override wants its answer; it must lie below `sluice.reply.<user>.`.
pub const REPLY_TO: &str = "Sluice-Reply-To";
/// Makes a repeat recognisable.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Of a dead letter: why it could not be read.
pub const REASON: &str = "Sluice-Reason";
/// Of a dead letter: where it came from.
pub const SUBJECT: &str = "Sluice-Subject";
/// Of a dead letter: the id that it had.
pub const ORIGINAL_ID: &str = "Sluice-Message-Id";
/// Of a dead letter whose body had to be cut: the bytes that it had.
pub const CUT_FROM: &str = "Sluice-Cut-From";

const MOST_REASON_CHARS: usize = 1000;
/// Headers copied into a dead letter, together; the rest is left out.
const MOST_COPIED_BYTES: usize = 16 * 1024;

/// The first header of that name, in any case.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Refuses what no server would take, or what would break its protocol.
pub(crate) fn checked(headers: &[(String, String)], body: &[u8]) -> Result<(), BusError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    within("the sum of headers", bytes, MOST_HEADER_BYTES)?;
    within("the message", body.len(), MOST_BODY_BYTES)?;
    match headers.iter().find(|(name, value)| !sound(name, value)) {
        Some((name, _)) => Err(BusError::Other(format!(
            "header {:?} is refused: names are printable ASCII without ':', values have no line breaks",
            name.chars().take(80).collect::<String>()
        ))),
        None => Ok(()),
    }
}

/// Headers and body of the dead letter for a delivery.
pub(crate) fn dead(delivery: &Delivery, reason: &str) -> (Headers, Bytes) {
    let told = [(REASON, reason), (SUBJECT, &delivery.subject), (ORIGINAL_ID, &delivery.message_id)];
    let mut headers: Headers = told.map(|(name, value)| (name.to_owned(), one_line(value))).into();
    if delivery.body.len() > MOST_BODY_BYTES {
        headers.push((CUT_FROM.to_owned(), delivery.body.len().to_string()));
    }
    let mut room = MOST_COPIED_BYTES;
    for (name, value) in &delivery.headers {
        room = room.saturating_sub(name.len() + value.len() + 4);
        if room > 0 && sound(name, value) && !obeyed(name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    (headers, delivery.body.slice(..delivery.body.len().min(MOST_BODY_BYTES)))
}

fn within(what: &str, bytes: usize, most: usize) -> Result<(), BusError> {
    if bytes > most { Err(BusError::TooLarge { what: what.to_owned(), bytes, most }) } else { Ok(()) }
}

fn sound(name: &str, value: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
        && !value.contains(['\r', '\n'])
}

/// Whether a server or a reader of dead letters would take it for an order or for our own words.
fn obeyed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("nats-") || name.starts_with("sluice-") || name.starts_with("kv-")
}

fn one_line(text: &str) -> String {
    text.chars().take(MOST_REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
