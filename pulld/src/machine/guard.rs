//! The timer that restores the previous pulld unless the new one disarms it in time: units of systemd's own, written
//! before dpkg installs a new pulld.
//!
//! They lie in `/etc`, where no package removes them, and the timer is enabled: after a power cut it begins anew with
//! the boot. What it starts is a copy of the program that armed it ([`super::runner::rescue`]).

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::state::{
    persist,
    rescue::{Armed, Rescue},
};

/// The service that carries out the rescue, or removes all of it when it is not armed.
pub(crate) const RESCUE_UNIT: &str = "pulld-rescue.service";

/// The timer that starts it.
const TIMER: &str = "pulld-rescue.timer";

const SERVICE_TEXT: &str = include_str!("../../../systemd/pulld-rescue.service");
const TIMER_TEXT: &str = include_str!("../../../systemd/pulld-rescue.timer");

/// Where administrators' units lie (systemd.unit(5)).
const UNITS: &str = "/etc/systemd/system";

/// What enables the timer.
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/pulld-rescue.timer";

/// Has systemd start the rescue when its time has passed, also after a reboot.
///
/// # Errors
/// When it cannot be had: then nothing guards a new pulld.
pub(super) fn arm(rescue: &Rescue, armed: &Armed) -> Result<()> {
    rescue.keep_program(Path::new("/proc/self/exe"))?;
    let units = Path::new(UNITS);
    for (name, text) in [(RESCUE_UNIT, SERVICE_TEXT), (TIMER, &timer(armed))] {
        // systemd warns of units that not everybody may read.
        persist::write_for_everybody(&units.join(name), text.as_bytes())?;
    }
    let wanted = Path::new(WANTED);
    if !wanted.is_symlink() {
        let failed = || format!("could not create `{WANTED}`");
        let new = wanted.with_extension("new");
        persist::create_directory(wanted.parent().unwrap_or(units))?;
        persist::remove(&new)?;
        between_fail_points!(symlink(units.join(TIMER), &new), "guard.link").with_context(failed)?;
        persist::rename(&new, wanted)?;
    }
    systemctl(&["daemon-reload"])?;
    begin()
}

/// Begins the time anew. To be called with the dpkg lock held: a rescue that waits for it is called off.
pub(super) fn begin() -> Result<()> {
    systemctl(&["stop", "--quiet", RESCUE_UNIT])?;
    systemctl(&["restart", TIMER])
}

/// Removes what [`arm`] wrote.
pub(super) fn remove(rescue: &Rescue) -> Result<()> {
    persist::remove(Path::new(WANTED))?;
    if let Err(error) = systemctl(&["stop", TIMER]) {
        // One that systemd knows no more starts nothing.
        tracing::debug!("{error:#}");
    }
    for unit in [TIMER, RESCUE_UNIT] {
        persist::remove(&Path::new(UNITS).join(unit))?;
    }
    persist::remove(&rescue.program())?;
    systemctl(&["daemon-reload"])
}

/// Runs systemctl(1), which must succeed.
pub(super) fn systemctl(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null());
    let status = between_fail_points!(command.status(), "systemctl({})", arguments.join(" "));
    let status = status.context("could not run systemctl")?;
    ensure!(status.success(), "`systemctl {}` failed: {status}", arguments.join(" "));
    Ok(())
}

fn timer(armed: &Armed) -> String {
    TIMER_TEXT.replace("@WITHIN@", &format!("{}ms", armed.within.as_millis()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_timer_has_the_time_that_it_was_armed_with() {
        let armed = Armed { within: Duration::from_millis(2_500), ..Armed::default() };
        assert!(timer(&armed).contains("\nOnActiveSec=2500ms\n"), "{}", timer(&armed));
        assert!(!timer(&armed).contains('@'));
        let default = timer(&Armed::default());
        assert!(default.contains("\nOnActiveSec=130000ms\n"), "the health window and two minutes: {default}");
        assert!(SERVICE_TEXT.contains("ExecStart=/var/lib/pulld/rescue/pulld rescue /var/lib/pulld/rescue\n"));
    }
}
