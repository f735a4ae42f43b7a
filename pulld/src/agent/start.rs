//! What the first cycle of a process begins with: how the last one ended, and the dpkg run that started this one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    machine::{OWN_PACKAGE, OWN_UNIT, PackageManager, PackageState, ServiceManager},
    service::events,
};

use super::{Agent, observe};

/// The time between two looks at dpkg.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long the end of a dpkg run is waited for. While it lasts nothing could be installed anyway.
const PATIENCE: Duration = Duration::from_mins(10);

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Begins the first cycle.
    pub(super) async fn start(&mut self) {
        self.own_first |= self.has_crashed().await;
        self.wait_until_installed().await;
    }

    /// Whether systemd started this process by itself because the last one had ended.
    async fn has_crashed(&self) -> bool {
        self.machine.services.unit(OWN_UNIT).await.is_ok_and(|unit| unit.restarts > 0)
    }

    /// Waits until dpkg is done with pulld's own package: its postinst starts the agent, and until that ends dpkg calls the
    /// package broken. One that is broken while nobody holds dpkg's lock is.
    async fn wait_until_installed(&self) {
        self.liveness.within(PATIENCE);
        let deadline = Instant::now() + PATIENCE;
        let mut is_told = false;
        while Instant::now() < deadline {
            let Some(holder) = self.machine.packages.lock_holder() else { return };
            let installed = observe::installed(&self.machine.packages, &self.liveness).await.unwrap_or_default();
            let own = installed.iter().find(|package| package.package == OWN_PACKAGE);
            if !own.is_some_and(|own| matches!(own.state, PackageState::Broken(_))) {
                return;
            }
            if !is_told {
                tracing::info!(message_id = events::LOCK_HELD, "waiting until {holder} has installed pulld");
                is_told = true;
            }
            self.liveness.within(PATIENCE);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
