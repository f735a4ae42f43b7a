//! The phases in which the previous releases of what failed are restored, restarted and watched.

use anyhow::Result;
use bucket::{OwnedUnit, UnitAction};

use crate::{
    decide::{dpkg_failure, instances::action_of_instance, rollback::Undo, units::UnitBefore},
    failure::{Aftermath, Fault},
    machine::{DpkgResult, PackageManager, ServiceManager},
    service::events,
    state::quarantine::Quarantine,
};

use super::{
    executor::TransactionRunner,
    gate::HealthTarget,
    marks::note_unpacked,
    outcome,
    progress::Progress,
    record::{Phase, Transaction},
    unplanned::under_dpkg,
    update::AppUpdate,
};

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Notes what the rollback needs to know, first of all what must not be retried.
    pub(super) async fn start_rollback(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
    ) -> Result<()> {
        let record = self.paths.transaction();
        if !transaction.others().any(AppUpdate::has_failed) {
            return transaction.enter(Phase::UpdatingAgent, &record);
        }
        outcome::quarantine_those_at_fault(transaction, quarantine, self.paths)?;
        self.note_units(transaction).await?;
        let installed = self.installed(transaction).await?;
        for update in transaction.others_mut() {
            let replaced = !update.is_undone(&installed);
            update.progress.start_rollback(replaced);
        }
        transaction.enter(Phase::RollingBack, &record)
    }

    /// dpkg restores the previous releases, one app after the other.
    pub(super) async fn roll_back(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(AppUpdate::has_failed) {
            return Ok(());
        }
        let (suspects, installed) = (under_dpkg(transaction), self.installed(transaction).await?);
        for at in 0..transaction.updates.len() {
            let update = &transaction.updates[at];
            let Some(failed) = update.progress.failure().filter(|_| !update.is_own()) else { continue };
            let (title, reason) = (update.title(), failed.failure.to_string());
            let stays = update.is_undone(&installed) && update.previous_title() == Some(title);
            let what = match update.release() {
                None => format!("the removal of `{title}` failed"),
                Some(_) if stays => format!("`{title}` stays as it is"),
                Some(_) => format!("`{title}` is unhealthy, rolling back"),
            };
            tracing::warn!(
                message_id = events::UNHEALTHY,
                app = %update.app,
                release = title,
                reason,
                "{what}: {reason}"
            );
            match update.undo(&installed) {
                Err(none) => outcome::degrade(&mut transaction.updates[at], Aftermath::CannotRollBack(none)),
                Ok(undo) if undo.is_nothing() => {}
                Ok(undo) => {
                    self.note_unpacking(transaction, &[at]).await?;
                    let result = self.undo(transaction, &undo, false).await?;
                    note_unpacked(transaction, &result);
                    self.note_changes(transaction, &[at], result.changes.as_deref())?;
                    let installed = self.installed(transaction).await?;
                    let update = &mut transaction.updates[at];
                    // dpkg's state doesn't say whether it was installed again; that it was unpacked does.
                    let is_unpacked =
                        update.previous.installed().is_some_and(|before| result.unpacked.contains_key(&before.package));
                    if !update.is_undone(&installed) || undo.restore.is_some() && !is_unpacked {
                        let fault = dpkg_failure::explain(&result, Some(update.title()));
                        outcome::degrade(update, Aftermath::RollbackFailed(Box::new(fault)));
                    }
                }
            }
        }
        self.note_what_is_unnoted(transaction, &suspects).await
    }

    /// Has dpkg carry out a rollback; `restart_agent` is for pulld's own.
    ///
    /// # Errors
    /// Also when another program held dpkg's lock for too long: the rollback goes on in the next cycle.
    pub(super) async fn undo(
        &self,
        transaction: &mut Transaction,
        undo: &Undo,
        restart_agent: bool,
    ) -> Result<DpkgResult> {
        let mut request = self.empty_request(transaction);
        request.install.extend(undo.install.clone());
        request.remove.extend(undo.remove.clone());
        request.restore.extend(undo.restore.clone());
        request.restart_agent = restart_agent;
        let result = self.run_dpkg(&request).await?;
        self.ensure_not_locked_out(transaction, &result)?;
        Ok(result)
    }

    /// Restarts and watches the units of what was restored.
    pub(super) async fn check_rollback(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(AppUpdate::has_failed) {
            return Ok(());
        }
        self.services.daemon_reload().await?;
        // Before anything starts again: what the release added may hold a port.
        let undone = transaction.others().filter(|update| matches!(update.progress, Progress::RollingBack { .. }));
        self.retire(&undone.flat_map(|update| update.units.clone()).collect::<Vec<_>>()).await?;
        let installed = self.installed(transaction).await?;
        let mut targets = Vec::new();
        for update in transaction.others_mut() {
            let Progress::RollingBack { replaced, .. } = update.progress else { continue };
            let previous = update
                .previous
                .installed()
                .and_then(|previous| installed.iter().find(|package| package.package == previous.package));
            let owned = previous.map(|package| package.units.as_slice()).unwrap_or_default();
            let mut units = as_owned(&update.units, owned);
            let restarted = self.restart_units(units.iter_mut(), replaced).await?;
            let started = |unit: &&UnitBefore| unit.unit.action != UnitAction::None;
            let units: Vec<&UnitBefore> = units.iter().filter(started).collect();
            let target = HealthTarget { app: update.app.clone(), units: self.judged(&units).await, check: None };
            match restarted {
                Ok(()) => targets.push(target),
                Err(fault) => outcome::degrade(update, outcome::previous_is_unhealthy(Fault::UnitFailed(fault))),
            }
        }
        let mut unhealthy = self.watch(&targets).await;
        for update in transaction.others_mut().filter(|update| update.has_failed()) {
            match unhealthy.remove(&update.app) {
                Some(fault) => outcome::degrade(update, outcome::previous_is_unhealthy(fault)),
                None => outcome::rolled_back(update),
            }
        }
        Ok(())
    }
}

/// The units of what was restored, as that release wants them, and the instances that the machine has of its templates.
fn as_owned(before: &[UnitBefore], owned: &[OwnedUnit]) -> Vec<UnitBefore> {
    let as_wanted = |before: &UnitBefore| {
        let by_name = owned.iter().find(|unit| unit.name == before.unit.name).cloned();
        let template =
            || owned.iter().find(|unit| before.by_machine && Some(&unit.name) == before.unit.name.template().as_ref());
        let of_template = || {
            let action = action_of_instance(template()?, &before.was);
            Some(OwnedUnit { action, ..before.unit.clone() })
        };
        let unit = by_name.or_else(of_template)?;
        Some(UnitBefore { unit, ..before.clone() })
    };
    let place = |unit: &UnitBefore| owned.iter().position(|owned| owned.name == unit.unit.name);
    let mut units: Vec<UnitBefore> = before.iter().filter_map(as_wanted).collect();
    units.sort_by_key(|unit| place(unit).unwrap_or(usize::MAX));
    units
}
