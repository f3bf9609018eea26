//! What holds of readings and the windows that come of them, whatever a server has answered.

use sluice_analyzers::{Arm, Window};
use sluice_metrics_adapters::{Closed, Cursor, Reading};

/// Readings in a row, through one cursor; it is saved and read back after each, as after a crash.
pub struct Counting {
    cursor: Cursor,
    ended_ms: i64,
}

impl Default for Counting {
    fn default() -> Counting {
        Counting { cursor: Cursor::new(), ended_ms: i64::MIN }
    }
}

impl Counting {
    pub fn take(&mut self, reading: &Reading, step: u32) {
        for pod in &reading.pods {
            assert!(pod.errors <= pod.requests, "{pod:?}");
            let counts: Vec<u64> = pod.buckets.iter().flatten().map(|bucket| bucket.count).collect();
            assert!(counts.is_sorted(), "{pod:?}");
        }
        let closed = self.cursor.close(reading, step);
        assert!(self.cursor.take_complaints().len() <= 20);
        match closed {
            Closed::Window(window) => self.window(&window),
            Closed::NoData(why) | Closed::Waiting(why) => assert!(!why.is_empty()),
        }
        let saved = serde_json::to_string(&self.cursor).expect("a cursor is JSON");
        let restored: Cursor = serde_json::from_str(&saved).expect("a saved cursor is read");
        assert_eq!(restored, self.cursor, "it was saved as {saved}");
    }

    fn window(&mut self, window: &Window) {
        assert_eq!(window.check(), Ok(()), "{window:?}");
        assert!(window.start_ms < window.end_ms && window.start_ms >= self.ended_ms, "{window:?}");
        self.ended_ms = window.end_ms;
        for arm in [Arm::Stable, Arm::Canary] {
            assert!(window.step == 0 || window.of(arm).next().is_some(), "{arm:?} is missing: {window:?}");
        }
        assert!(window.pods.iter().all(|pod| pod.errors <= pod.requests), "{window:?}");
    }
}
