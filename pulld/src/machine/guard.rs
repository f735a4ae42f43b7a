//! The timer that restores the previous pulld unless the new one disarms it in time: units of systemd's own, written
//! before dpkg installs a new pulld.
//!
//! They lie in `/etc`, where no package removes them, and the timer is enabled: after a power cut it begins anew with
//! the boot. What it starts is a copy of the program that armed it ([`super::runner::rescue`]).

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
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

/// What guards a new pulld: where its files lie, and how systemd is told of them.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// Where administrators' units lie (systemd.unit(5)).
    units: PathBuf,
    /// The program that is kept for the rescue.
    program: PathBuf,
    systemctl: fn(&[&str]) -> Result<()>,
}

impl Guard {
    /// That of this machine: the rescue is carried out by the program of this process.
    pub(super) fn of_this_machine() -> Self {
        Self::below(Path::new("/"), Path::new("/proc/self/exe"), systemctl)
    }

    /// One whose files lie below `root`, and that keeps `program`.
    pub(crate) fn below(root: &Path, program: &Path, systemctl: fn(&[&str]) -> Result<()>) -> Self {
        Self { units: root.join("etc/systemd/system"), program: program.to_owned(), systemctl }
    }

    /// What enables the timer.
    pub(crate) fn wanted(&self) -> PathBuf {
        self.units.join("multi-user.target.wants").join(TIMER)
    }

    /// The files that the timer needs to be there.
    pub(crate) fn files(&self) -> [PathBuf; 2] {
        [RESCUE_UNIT, TIMER].map(|name| self.units.join(name))
    }

    /// Has systemd start the rescue when its time has passed, also after a reboot.
    ///
    /// # Errors
    /// When it cannot be had: then nothing guards a new pulld.
    pub(crate) fn arm(&self, rescue: &Rescue, armed: &Armed) -> Result<()> {
        rescue.keep_program(&self.program)?;
        for (file, text) in self.files().iter().zip([SERVICE_TEXT, &timer(armed)]) {
            // systemd warns of units that not everybody may read.
            persist::write_for_everybody(file, text.as_bytes())?;
        }
        let wanted = self.wanted();
        if !wanted.is_symlink() {
            let failed = || format!("could not create `{}`", wanted.display());
            let new = wanted.with_extension("new");
            persist::create_directory(wanted.parent().unwrap_or(&self.units))?;
            persist::remove(&new)?;
            between_fail_points!(symlink(self.units.join(TIMER), &new), "guard.link").with_context(failed)?;
            persist::rename(&new, &wanted)?;
        }
        (self.systemctl)(&["daemon-reload"])?;
        self.begin()
    }

    /// Begins the time anew. To be called with the dpkg lock held: a rescue that waits for it is called off.
    pub(super) fn begin(&self) -> Result<()> {
        (self.systemctl)(&["stop", "--quiet", RESCUE_UNIT])?;
        (self.systemctl)(&["restart", TIMER])
    }

    /// Removes what [`Guard::arm`] wrote.
    pub(crate) fn remove(&self, rescue: &Rescue) -> Result<()> {
        persist::remove(&self.wanted())?;
        if let Err(error) = (self.systemctl)(&["stop", TIMER]) {
            // One that systemd knows no more starts nothing.
            tracing::debug!("{error:#}");
        }
        let [service, timer] = self.files();
        for unit in [timer, service] {
            persist::remove(&unit)?;
        }
        persist::remove(&rescue.program())?;
        (self.systemctl)(&["daemon-reload"])
    }
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
