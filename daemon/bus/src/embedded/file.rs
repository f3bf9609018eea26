//! The one file of the embedded bus, its lock, and opening it again after a failed write.
//!
//! redb locks the whole file for its writer, so no second process gets in. After a write error it refuses everything
//! until it is opened anew (what was committed is intact); [`File::reopen`] does that, under a lock that no reader
//! holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase};

use super::tables;
use crate::BusError;

const CACHE_BYTES: usize = 32 * 1024 * 1024;

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The database, and how to open it again.
pub(super) struct File {
    name: String,
    opener: Opener,
    database: RwLock<Option<Database>>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("File").field(&self.name).finish()
    }
}

impl File {
    /// In memory: gone with the process, and never written again after an error.
    pub(super) fn memory() -> Result<File, BusError> {
        File::open("memory", Box::new(|| builder().create_with_backend(InMemoryBackend::new())))
    }

    /// In a file that is made, readable for its owner only, if it is missing. Its folder must exist.
    pub(super) fn at(path: &Path) -> Result<File, BusError> {
        let place = path.to_owned();
        make_private(&place).map_err(|error| unusable(&place.display().to_string(), &error.to_string()))?;
        File::open(&path.display().to_string(), Box::new(move || open_database(&place)))
    }

    pub(super) fn open(name: &str, opener: Opener) -> Result<File, BusError> {
        let database = opener().map_err(|error| refused(name, &error))?;
        tables::prepare(&database).map_err(|why| unusable(name, &why))?;
        Ok(File { name: name.to_owned(), opener, database: RwLock::new(Some(database)) })
    }

    /// Reads in one snapshot.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        self.with(|database| look(&database.begin_read()?))
    }

    /// Runs with the open database. One that could not be opened again before is tried once more.
    pub(super) fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        if self.is_closed() {
            self.reopen()?;
        }
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        run(slot.as_ref().ok_or(redb::Error::DatabaseClosed)?)
    }

    fn is_closed(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Closes it and opens it again, which leaves what was committed.
    pub(super) fn reopen(&self) -> Result<(), DatabaseError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        *slot = Some((self.opener)()?);
        Ok(())
    }
}

fn open_database(path: &PathBuf) -> Result<Database, DatabaseError> {
    builder().create(path)
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn refused(name: &str, error: &DatabaseError) -> BusError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            unusable(name, "another process has it open; end that one, or give this daemon a file of its own")
        }
        other => unusable(name, &other.to_string()),
    }
}

fn unusable(name: &str, why: &str) -> BusError {
    BusError::Setup { what: format!("the embedded bus's file {name}"), why: why.to_owned() }
}
