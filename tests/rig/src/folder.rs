//! Folders for servers' data and logs. They go with the test; what a killed process left behind is swept away by the
//! next one (each process holds a lock in its own, and a lock does not survive its process).
//!
//! `SLUICE_RIG_KEEP=1` keeps everything for a look afterwards.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "sluice-rig-run-";

/// A folder of one server, removed when dropped.
#[derive(Debug)]
pub struct Folder {
    inner: TempDir,
}

impl Folder {
    /// Makes an empty folder whose name begins with `label`.
    pub fn new(label: &str) -> Result<Self> {
        let inner = tempfile::Builder::new()
            .prefix(&format!("{label}-"))
            .disable_cleanup(kept())
            .tempdir_in(run_folder()?)
            .context("making a server's folder")?;
        Ok(Self { inner })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.inner.path()
    }

    /// Writes a file into it and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Replaces a file in one step, so that a reader sees the old content or the new one, never a half.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, content).with_context(|| format!("writing {}", draft.display()))?;
    fs::rename(&draft, path).with_context(|| format!("renaming to {}", path.display()))
}

fn kept() -> bool {
    std::env::var_os("SLUICE_RIG_KEEP").is_some()
}

/// This process's own folder: `<temp>/sluice-rig-run-…`.
fn run_folder() -> Result<&'static Path> {
    static RUN: OnceLock<std::result::Result<(PathBuf, File), String>> = OnceLock::new();
    let made = RUN.get_or_init(|| {
        sweep();
        make_run_folder().map_err(|error| format!("{error:#}"))
    });
    match made {
        Ok((path, _lock)) => Ok(path),
        Err(reason) => anyhow::bail!("making this run's folder: {reason}"),
    }
}

fn make_run_folder() -> Result<(PathBuf, File)> {
    loop {
        let folder = tempfile::Builder::new().prefix(PREFIX).disable_cleanup(true).tempdir()?;
        let lock = File::create(folder.path().join("lock"))?;
        lock.lock().context("locking")?;
        // Another process's sweep may have taken the lock first; then the folder is gone.
        if folder.path().exists() {
            return Ok((folder.path().to_owned(), lock));
        }
    }
}

/// Removes the folders of processes that are gone. What cannot be removed (another account's) stays.
fn sweep() {
    if kept() {
        return;
    }
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        // A folder without a lock is just being made.
        let Ok(lock) = OpenOptions::new().write(true).open(entry.path().join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
