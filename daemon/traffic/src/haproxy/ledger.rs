//! What HAProxy itself cannot keep: whose it is, the fence, and an abort's mark. In two files beside the socket:
//! `<socket>.sluice.lock`, held for as long as the daemon lives, and `<socket>.sluice.json`.
//!
//! Within a process all targets on one socket share one ledger, so that connecting twice is no conflict and a fence counts for
//! both. For a port on loopback the files stand in the folder for temporary files.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use sluice_rollout::{Fence, Weight};
use tokio::sync::OwnedMutexGuard;

use super::runtime::Address;
use crate::{AbortMark, TargetError};

/// What is known of one pair of arms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub fence: Option<Fence>,
    /// What the latest write meant.
    pub weight: Option<Weight>,
    pub rollout: Option<String>,
    pub abort: Option<AbortMark>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Locked; the lock goes with it.
    _lock: File,
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Ledgers of this process by the path of their file; those that nobody holds are dropped at the next opening.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Ledger>>>> = LazyLock::new(Mutex::default);

impl Ledger {
    pub fn open(address: &Address) -> Result<Arc<Ledger>, TargetError> {
        let base = base(address);
        let path = PathBuf::from(format!("{}.sluice.json", base.display()));
        let mut open = guard(&OPEN);
        open.retain(|_, ledger| ledger.strong_count() > 0);
        if let Some(ledger) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(ledger);
        }
        let lock = lock(&PathBuf::from(format!("{}.sluice.lock", base.display())))?;
        let entries = Mutex::new(read(&path)?);
        let ledger = Arc::new(Ledger { _lock: lock, path: path.clone(), entries, turns: Mutex::default() });
        open.insert(path, Arc::downgrade(&ledger));
        Ok(ledger)
    }

    /// One write at a time.
    pub async fn turn(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = guard(&self.turns).entry(name.into()).or_default().clone();
        turn.lock_owned().await
    }

    pub fn entry(&self, name: &str) -> Entry {
        guard(&self.entries).get(name).cloned().unwrap_or_default()
    }

    /// In memory at once, then in the file, by a new one that takes the old one's place.
    pub fn keep(&self, name: &str, entry: Entry) -> Result<(), TargetError> {
        let mut entries = guard(&self.entries);
        entries.insert(name.into(), entry);
        let bytes = serde_json::to_vec(&*entries).unwrap_or_default();
        let next = self.path.with_extension("json.new");
        std::fs::write(&next, bytes)
            .and_then(|()| std::fs::rename(&next, &self.path))
            .map_err(|error| no_file(&self.path, &error))
    }
}

fn base(address: &Address) -> PathBuf {
    match address {
        // The same socket by another path is the same ledger.
        Address::Unix(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
        Address::Tcp(address) => {
            std::env::temp_dir().join(format!("haproxy-{}-{}", address.ip(), address.port()))
        }
    }
}

fn lock(path: &Path) -> Result<File, TargetError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| no_file(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TargetError::Refused(format!(
            "another daemon holds {}: one HAProxy belongs to one daemon; end the other, or let it do this",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(no_file(path, &error)),
    }
}

/// A file that is not there, or that cannot be read as ours, is an empty one.
fn read(path: &Path) -> Result<BTreeMap<String, Entry>, TargetError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(no_file(path, &error)),
    }
}

fn no_file(path: &Path, error: &std::io::Error) -> TargetError {
    TargetError::NotAsNeeded(format!(
        "{}: {error}; the folder of HAProxy's socket has to be there and writable for this user",
        path.display()
    ))
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
