//! A disk of its own for a daemon: a small file system in a mount namespace, which a story fills up and empties again.

use std::fs::{File, remove_file};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sluice_rig::Server;

/// Arguments of `sh` that put a tmpfs of so many kilobytes under `data` and then run what follows them.
pub(crate) fn mounted(kilobytes: u32) -> Vec<String> {
    let mount = format!("mount -t tmpfs -o size={kilobytes}k,mode=700 tmpfs data && exec \"$@\"");
    ["--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned).to_vec()
}

/// The data folder of a running daemon, as that process sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    filler: PathBuf,
}

impl Disk {
    pub(crate) fn of(server: &Server, data: &std::path::Path) -> Result<Disk> {
        let pid = server.pid().context("the daemon does not run")?;
        let seen = data.strip_prefix("/").with_context(|| format!("{} is relative", data.display()))?;
        Ok(Disk { filler: PathBuf::from(format!("/proc/{pid}/root")).join(seen).join("filler") })
    }

    /// Leaves not a byte.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = File::create(&self.filler).with_context(|| self.filler.display().to_string())?;
        for size in [64 * 1024, 4096, 1] {
            let block = vec![1; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("{}: {error}", self.filler.display()),
                }
            }
        }
        Ok(())
    }

    /// Takes away what [`Disk::fill`] wrote.
    pub(crate) fn empty(&self) -> Result<()> {
        remove_file(&self.filler).with_context(|| self.filler.display().to_string())
    }
}
