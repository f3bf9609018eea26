//! How many calls go to the API server at once. kube speaks HTTP/1.1 to it, so each call beyond the open connections opens one
//! more, with a TLS handshake that costs both sides more than the call: a thousand aborts at once would open a thousand, and take
//! twice as long as over a few.
//!
//! What takes traffic away has places of its own: it waits for no read, no opening and no scaling, only for its like.

use tokio::sync::{Semaphore, SemaphorePermit};

/// More at once did not make an API server quicker.
const AT_ONCE: usize = 32;

/// Which queue a call waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Usual,
    /// Takes traffic away.
    Closing,
}

/// The places of a daemon's calls.
#[derive(Debug)]
pub(crate) struct Turns {
    usual: Semaphore,
    closing: Semaphore,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { usual: Semaphore::new(AT_ONCE), closing: Semaphore::new(AT_ONCE) }
    }
}

impl Turns {
    /// In the order of asking; the place is free again when what this gives is dropped. (Nothing only if the places were closed,
    /// which nobody does.)
    pub async fn wait(&self, turn: Turn) -> Option<SemaphorePermit<'_>> {
        let places = match turn {
            Turn::Usual => &self.usual,
            Turn::Closing => &self.closing,
        };
        places.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_takes_traffic_away_waits_for_its_like_only() {
        let turns = Turns::default();
        let mut usual = Vec::new();
        for _ in 0..AT_ONCE {
            usual.push(turns.wait(Turn::Usual).await);
        }
        assert!(turns.wait(Turn::Usual).now_or_never().is_none(), "there is no place left");
        assert!(turns.wait(Turn::Closing).now_or_never().is_some());
        usual.pop();
        assert!(turns.wait(Turn::Usual).now_or_never().is_some());
    }
}
