//! What is noted of units before dpkg unpacks their packages, and of the unpacking: so that the process that comes after
//! an interruption, perhaps after a reboot, can tell which of them run what is installed.

use anyhow::Result;
use bucket::Timestamp;

use crate::{
    decide::units::{UnitBefore, Unpacking},
    machine::{DpkgResult, PackageManager, ServiceManager},
};

use super::{executor::TransactionRunner, record::Transaction};

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Notes how the units of all apps are, because dpkg is about to unpack their packages again.
    pub(super) async fn note_units(&self, transaction: &mut Transaction) -> Result<()> {
        let boot = self.services.boot()?;
        for unit in transaction.others_mut().flat_map(|update| &mut update.units) {
            self.note_counts(unit).await;
            unit.unpacking = Some(Unpacking { boot: boot.clone(), done: None });
        }
        Ok(())
    }

    /// The same for the updates in those places, in the record too. It has that already unless this is another boot, or
    /// dpkg did unpack them.
    pub(super) async fn note_unpacking(&self, transaction: &mut Transaction, places: &[usize]) -> Result<()> {
        let unpacking = Some(Unpacking { boot: self.services.boot()?, done: None });
        let mut is_new = false;
        for at in places {
            for unit in transaction.updates[*at].units.iter_mut().filter(|unit| unit.unpacking != unpacking) {
                self.note_counts(unit).await;
                unit.unpacking.clone_from(&unpacking);
                is_new = true;
            }
        }
        if is_new { transaction.save(&self.paths.transaction()) } else { Ok(()) }
    }

    /// Notes in an interrupted transaction what its dpkg run left, if that was in this boot. In one of an earlier boot, how
    /// its units are now: what was counted then says nothing of this boot.
    pub(super) async fn note_what_is_known(
        &self,
        transaction: &mut Transaction,
        result: Option<&DpkgResult>,
    ) -> Result<()> {
        let boot = Some(self.services.boot()?);
        if transaction.boot == boot {
            if let Some(result) = result {
                note_unpacked(transaction, result);
            }
            return Ok(());
        }
        for unit in transaction.others_mut().flat_map(|update| &mut update.units) {
            self.note_counts(unit).await;
        }
        transaction.boot = boot;
        Ok(())
    }

    /// Notes the invocation and the restarts of a unit; none while systemd does not answer.
    async fn note_counts(&self, unit: &mut UnitBefore) {
        let now = self.services.unit(unit.unit.name.as_str()).await.ok();
        (unit.invocation, unit.restarts) = now.map(|now| (now.invocation, now.restarts)).unwrap_or_default();
        (unit.noted, unit.restarts_at_own) = (Some(Timestamp::now()), None);
    }
}

/// Notes when dpkg had unpacked the packages of a transaction, as far as its result says. Without that, what runs is taken
/// for older.
pub(super) fn note_unpacked(transaction: &mut Transaction, result: &DpkgResult) {
    for update in transaction.others_mut() {
        let previous = update.previous.installed().map(|previous| &previous.package);
        let moments = std::iter::once(&update.package).chain(previous).filter_map(|name| result.unpacked.get(name));
        let Some(moment) = moments.max() else { continue };
        for unpacking in update.units.iter_mut().filter_map(|unit| unit.unpacking.as_mut()) {
            unpacking.done = Some(*moment);
        }
    }
}
