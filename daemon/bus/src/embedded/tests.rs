//! What cannot be seen from outside: a disk that is full, and limits by age.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use redb::StorageBackend;

use super::*;
use crate::plan::StreamLimits;
use crate::{Doors, Store};

const EVENT: &str = "sluice.event.shop.checkout.released";
const OUT: &str = "sluice.out.shop.checkout.x";

/// A disk that can be full. What is on it stays there when the file is closed.
#[derive(Debug, Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let bytes = self.bytes.lock().unwrap();
        out.copy_from_slice(bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        let from = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn bus_on(disk: &Disk) -> Embedded {
    let disk = disk.clone();
    let opener = move || file::builder().create_with_backend(disk.clone());
    Embedded::on(File::open("a disk", Box::new(opener)).unwrap(), EmbeddedConfig::default()).unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_passes() {
    let disk = Disk::default();
    let bus = bus_on(&disk);
    let kept = bus.publish_event(EVENT, &[], "before".into()).await.unwrap();
    let revision = bus.put("key", "before".into(), 0).await.unwrap();

    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = bus.publish_event(EVENT, &[], "while".into()).await;
        assert!(matches!(&refused, Err(error @ BusError::Storage(_)) if error.is_passing()), "{refused:?}");
        assert!(bus.put("key", "while".into(), revision).await.is_err());
    }
    assert!(matches!(bus.healthy().await, Err(BusError::Storage(_))));

    disk.full.store(false, Ordering::SeqCst);
    let later = bus.publish_event(EVENT, &[], "after".into()).await.unwrap();
    assert_eq!(bus.healthy().await, Ok(()));
    assert_eq!(bus.get("key").await, Ok(Some(("before".into(), revision))));
    let mut events = bus.subscribe(Feed::Events).await.unwrap();
    for (sequence, text) in [(kept, "before"), (later, "after")] {
        let delivery = events.next().await.unwrap();
        assert_eq!((delivery.sequence, &delivery.body[..]), (Some(sequence), text.as_bytes()));
        delivery.ack.done().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_to_the_sender_survives_a_crash_of_the_process() {
    let disk = Disk::default();
    let bus = bus_on(&disk);
    for n in 0..50 {
        bus.publish_event(EVENT, &[], n.to_string().into()).await.unwrap();
    }
    // As a crash leaves it: copied while it is open, never closed.
    let left = Disk { bytes: Arc::new(Mutex::new(disk.bytes.lock().unwrap().clone())), ..Disk::default() };
    let again = bus_on(&left);
    let mut events = again.subscribe(Feed::Events).await.unwrap();
    for n in 0..50 {
        assert_eq!(&events.next().await.unwrap().body[..], n.to_string().as_bytes());
    }
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> Embedded {
    let mut limits = Limits::default();
    change(&mut limits);
    Embedded::open(EmbeddedConfig { limits, ..EmbeddedConfig::default() }).unwrap()
}

#[tokio::test]
async fn unacknowledged_messages_are_never_dropped_and_the_sender_is_told() {
    let bus = with_limits(|limits| limits.events = StreamLimits { bytes: 4096, ..limits.events });
    let mut taken = 0;
    let refused = loop {
        match bus.publish_event(EVENT, &[], vec![b'x'; 400].into()).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the limit is not kept");
    };
    assert!(matches!(&refused, BusError::Storage(why) if why.contains("acknowledged")), "{refused:?}");

    let mut events = bus.subscribe(Feed::Events).await.unwrap();
    for sequence in 1..=taken {
        let delivery = events.next().await.unwrap();
        assert_eq!(delivery.sequence, Some(sequence));
        delivery.ack.done().await.unwrap();
    }
    assert_eq!(bus.publish_event(EVENT, &[], "now there is room".into()).await, Ok(taken + 1));
}

#[tokio::test]
async fn old_messages_ids_lines_and_answers_go_with_the_next_write() {
    let short = Duration::from_millis(1);
    let bus = with_limits(|limits| {
        limits.out = StreamLimits { age: short, duplicates: short, ..limits.out };
        limits.log.age = short;
        limits.answers_age = short;
    });
    bus.publish(OUT, &[], "old".into(), "id").await.unwrap();
    bus.append("log", "old".into()).await.unwrap();
    let later = now().millis() + 5;
    while now().millis() < later {
        tokio::task::yield_now().await;
    }
    bus.publish(OUT, &[], "new".into(), "id").await.unwrap();
    bus.append("log", "new".into()).await.unwrap();
    let first = bus.follow("sluice.out.>", Some(0)).await.unwrap().next().await.unwrap();
    assert_eq!((first.sequence, &first.body[..]), (2, &b"new"[..]));
    assert_eq!(bus.log("log", 10).await.unwrap(), ["new"]);
}

#[tokio::test]
async fn lines_of_all_logs_together_stay_within_their_bytes() {
    let bus = with_limits(|limits| limits.log.bytes = 1000);
    for n in 0..30 {
        bus.append(&format!("log/{}", n % 3), vec![b'x'; 100].into()).await.unwrap();
    }
    let mut left = 0;
    for n in 0..3 {
        left += bus.log(&format!("log/{n}"), 100).await.unwrap().len();
    }
    assert_eq!(left, 10);
}
