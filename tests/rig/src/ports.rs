//! Ports that nobody else takes: below the ephemeral range, and held by a file lock that every process of the rig
//! respects, so that a server can stop and come back on the port that it had.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A loopback port that belongs to its holder until dropped, whether something listens on it or not.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds a port that is neither in use nor held.
    pub fn free() -> Result<Self> {
        // Processes begin at different places, so that they seldom try each other's ports.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = std::process::id().wrapping_mul(211);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = start.wrapping_add(step) % u32::from(COUNT);
            let number = FIRST + u16::try_from(offset).context("the range of ports fits into 16 bits")?;
            if let Some(lock) = lock(number)?
                && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
            {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {}", u32::from(FIRST) + u32::from(COUNT))
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn lock(number: u16) -> Result<Option<File>> {
    let folder = std::env::temp_dir().join("sluice-rig-ports");
    std::fs::create_dir_all(&folder).context("creating the folder of port locks")?;
    let path = folder.join(number.to_string());
    let file = match OpenOptions::new().create(true).append(true).open(&path) {
        Ok(file) => file,
        // Another account of this machine made it: its port, not ours.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
