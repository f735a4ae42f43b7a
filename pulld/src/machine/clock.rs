//! The boot of this machine, and the clock by which systemd says when units started (`CLOCK_MONOTONIC`
//! of `clock_gettime(2)`): nobody sets it, and a boot of the kernel begins it anew.

use std::fs;

use anyhow::{Context, Result};

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where it says, among other things, when systemd started (proc(5), `starttime`).
const SYSTEMD: &str = "/proc/1/stat";

/// Microseconds on the clock.
pub(super) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// Identifies this boot of the machine. A container may see the boot of its host, and boots with its own systemd.
pub(super) fn boot() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("could not read `{path}`"));
    let (id, stat) = (read(BOOT_ID)?, read(SYSTEMD)?);
    let started = started(&stat).with_context(|| format!("could not parse `{SYSTEMD}`"))?;
    Ok(format!("{}-{started}", id.trim()))
}

/// The start time of a process, the 22nd field of its line. The second is its name, which may hold anything.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_any_name_has_a_start_time() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 2 3 4 5 6 7 8 9 20 0 1 0 3381 17 18";
        assert_eq!(started(stat), Some(3381));
        assert_eq!(started("1 (x"), None);
    }
}
