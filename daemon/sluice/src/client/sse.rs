//! Server-sent events, as far as Sluice writes them: `data:` lines and an empty line after each event.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

/// An event larger than this ends the stream.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Bytes in, whole events' data out.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    seen: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MOST_BYTES} bytes")]
pub(super) struct TooLarge;

impl Events {
    /// Takes what came, in pieces of any size, and gives the data of every event that it completed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => events.extend(self.end_of_line()),
                b'\r' => {}
                other => self.line.push(*other),
            }
            if self.line.len() + self.data.len() > MOST_BYTES {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return std::mem::take(&mut self.seen).then(|| std::mem::take(&mut self.data));
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.seen, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = b": keep-alive\n\nid: 4\ndata: {\"a\":\ndata: 1}\n\ndata:x\r\n\r\n";
        for size in 1..text.len() {
            let mut events = Events::default();
            let whole: Vec<Vec<u8>> = text.chunks(size).flat_map(|part| events.push(part).unwrap()).collect();
            assert_eq!(whole, [b"{\"a\":\n1}".to_vec(), b"x".to_vec()], "cut into {size} bytes");
        }
    }

    #[test]
    fn an_endless_event_is_given_up() {
        let mut events = Events::default();
        assert_eq!(events.push(&vec![b'x'; MOST_BYTES + 1]), Err(TooLarge));
    }
}
