//! Clears away the units that no installed release has any more: what an update dropped, and what a rollback took back.
//!
//! systemd keeps a unit whose file is gone as long as it runs, has failed, or is wanted by another one.

use anyhow::Result;

use crate::{
    decide::{
        leftover::{Leftover, leftover},
        units::UnitBefore,
        verdict::START_TIMEOUT,
    },
    machine::{PackageManager, ServiceManager},
    service::events,
};

use super::executor::TransactionRunner;

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Stops what releases dropped, before what takes its place starts: that may need its port. That it was running is
    /// in the record, so that a rollback starts it again.
    pub(super) async fn stop_leftovers(&self, units: &[UnitBefore]) -> Result<()> {
        for (name, leftover) in self.leftovers(units).await? {
            if leftover == Leftover::Retire {
                self.stop_leftover(&name).await;
            }
        }
        Ok(())
    }

    /// Stops and disables what no release has any more, and forgets that it failed. It can be repeated: what is done
    /// already has nothing left to do.
    pub(super) async fn retire(&self, units: &[UnitBefore]) -> Result<()> {
        let leftovers = self.leftovers(units).await?;
        for (name, _) in leftovers.iter().filter(|(_, leftover)| *leftover == Leftover::Retire) {
            self.stop_leftover(name).await;
            if let Err(error) = self.services.disable(name).await {
                tracing::warn!(message_id = events::UNIT, unit = name, "`{name}` stays enabled: {error:#}");
            }
        }
        if leftovers.is_empty() {
            return Ok(());
        }
        // Without their links, nothing wants them any more.
        self.services.daemon_reload().await?;
        for (name, _) in leftovers {
            self.services.reset_failed(&name).await;
        }
        Ok(())
    }

    async fn stop_leftover(&self, name: &str) {
        if self.services.unit(name).await.is_ok_and(|now| now.is_running()) {
            self.stop(name, ", which no release has any more").await;
        }
    }

    /// Those of some units that are left over.
    async fn leftovers(&self, units: &[UnitBefore]) -> Result<Vec<(String, Leftover)>> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        self.liveness.within(START_TIMEOUT);
        let installed = self.packages.packages(&[]).await?;
        let mut leftovers = Vec::new();
        for before in units {
            let name = before.unit.name.as_str();
            let Ok(now) = self.services.unit(name).await else { continue };
            match leftover(before, &now, &installed) {
                Leftover::No => {}
                found => leftovers.push((name.to_owned(), found)),
            }
        }
        Ok(leftovers)
    }
}
