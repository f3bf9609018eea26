//! What the daemon's process needs, as the kernel counts it (proc(5)).

use anyhow::{Context, Result};
use sluice_tests::Daemon;

/// Processor seconds so far.
pub fn used(daemon: &Daemon) -> Result<f64> {
    let stat = read(daemon, "stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok());
    // utime and stime, in hundredths of a second (USER_HZ is 100 on Linux).
    Ok((ticks(11).context("utime")? + ticks(12).context("stime")?) / 100.0)
}

/// Resident memory now, in megabytes.
pub fn memory(daemon: &Daemon) -> Result<f64> {
    let status = read(daemon, "status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
    Ok(kilobytes / 1024.0)
}

/// Connections that are open now, its own door's included.
pub fn sockets(daemon: &Daemon) -> Result<usize> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", pid(daemon)?))?;
    // One that is closed meanwhile has no link any more.
    let links = open.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    Ok(links.filter(|link| link.to_string_lossy().starts_with("socket:")).count())
}

fn pid(daemon: &Daemon) -> Result<u32> {
    daemon.server.pid().context("the daemon does not run")
}

fn read(daemon: &Daemon, page: &str) -> Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/{}/{page}", pid(daemon)?))?)
}
