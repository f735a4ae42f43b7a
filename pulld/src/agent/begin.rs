//! What a cycle begins with: how the last process ended, and the end of a dpkg run that somebody else has under way.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    decide::wait::Wait,
    machine::{InstalledPackage, OWN_PACKAGE, OWN_UNIT, PackageManager, ServiceManager},
    service::events,
    transaction::executor::LOCK_PATIENCE,
};

use super::{Agent, observe};

/// The time between two looks at dpkg.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long the first cycle of a process waits for the end of such a run: the one that started the process, perhaps.
const PATIENCE_AT_START: Duration = Duration::from_mins(10);

/// How long any other cycle waits. A dpkg run of the agent's own waits longer, and names who holds the lock.
const PATIENCE: Duration = Duration::from_mins(1);

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Begins a cycle, the first one of this process or a later one.
    pub(super) async fn begin(&mut self, is_start: bool) {
        self.own_first |= is_start && self.has_crashed().await;
        // What is half-done of an unfinished transaction is its own.
        if !self.paths.transaction().exists() {
            self.wait_for_dpkg(if is_start { PATIENCE_AT_START } else { PATIENCE }).await;
        }
    }

    /// Whether systemd started this process by itself because the last one had ended.
    async fn has_crashed(&self) -> bool {
        self.machine.services.unit(OWN_UNIT).await.is_ok_and(|unit| unit.restarts > 0)
    }

    /// Waits while somebody else's dpkg run has a package of the agent's half-done. pulld's own postinst starts the agent,
    /// and until that run ends dpkg calls pulld broken; what a person installs or removes is only then what it will be.
    /// A package that is broken while nobody holds dpkg's lock is.
    async fn wait_for_dpkg(&self, patience: Duration) {
        let begun = Instant::now();
        let (mut is_logged, mut is_reported) = (false, false);
        while begun.elapsed() < patience {
            let installed = observe::installed(&self.machine.packages, &self.liveness).await.unwrap_or_default();
            let is_ours = |package: &InstalledPackage| package.release.is_some() || package.package == OWN_PACKAGE;
            let is_half_done = |package: &InstalledPackage| is_ours(package) && package.is_broken();
            let Some(half_done) = installed.iter().find(|package| is_half_done(package)) else { return };
            let Some(holder) = self.machine.packages.lock_holder() else { return };
            let waits = Wait::HalfDone { holder, package: half_done.package.clone() };
            if !is_logged {
                tracing::info!(message_id = events::LOCK_HELD, "{waits}");
                is_logged = true;
            }
            if !is_reported && begun.elapsed() >= LOCK_PATIENCE {
                self.report_waiting(installed, &waits);
                is_reported = true;
            }
            self.liveness.within(patience);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
