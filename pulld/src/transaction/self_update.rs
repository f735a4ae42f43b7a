//! The phase in which pulld replaces itself, and the new process passes its health gate.
//!
//! It is the last phase: requesting it normally ends this process, and the new one finds nothing else half-done.

use anyhow::Result;
use bucket::Activity;

use crate::{
    decide::{
        dpkg_failure,
        rollback::{Previous, Undo},
        verdict::START_TIMEOUT,
    },
    failure::{Aftermath, FailureKind, Fault},
    machine::{DpkgResult, PackageManager, ServiceManager, guard::RESCUE_UNIT},
    service::{
        announcer::{Doing, Installed},
        events,
    },
    state::{
        quarantine::Quarantine,
        rescue::{Armed, Rescue},
    },
};

use super::{
    executor::{Next, TransactionRunner},
    install::fail_by_dpkg,
    outcome,
    record::Transaction,
    unplanned::{Clause, note_unplanned, under_dpkg},
    update::{AppUpdate, Target},
};

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Updates pulld's own package, or judges the update if this is the process that came of it.
    pub(super) async fn update_agent(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        ended: Option<&DpkgResult>,
    ) -> Result<Next> {
        let rescue = Rescue::new(self.paths.rescue());
        let rescued = rescue.left_behind()?;
        let requested = transaction.self_update_by.is_some();
        let own = under_dpkg(transaction);
        if note_unplanned(transaction, &own, rescue.unplanned()?.map(Clause::of_rescue)) {
            transaction.save(&self.paths.transaction())?;
        }
        let by_this_process = transaction.self_update_by.as_deref() == Some(self.instance);
        let installed = self.installed(transaction).await?;
        let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
        if let Some(words) = rescued {
            own.fail(Fault::Rescued { words }, true);
        }
        let in_place = own.is_in_place(&installed);
        if let (Some(error), true) = (self.configuration_error, in_place && !by_this_process) {
            own.fail(Fault::RejectedConfiguration { error: error.to_owned() }, true);
        }
        // Whoever was told to install a pulld by hand did: not the one that hung.
        if let (Some(unable), true) = (rescue.unable(), requested && !in_place) {
            own.fail(Fault::told(FailureKind::NewPulldFailed, unable), true);
        }
        let is_forward = own.is_forward();
        if is_forward && in_place {
            if by_this_process {
                return Ok(Next::Exit);
            }
            self.note_what_is_unnoted(transaction, &under_dpkg(transaction)).await?;
            let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
            self.confirm_self_update(own, &rescue).await?;
            return Ok(Next::Continue);
        }
        if is_forward {
            let result = match ended.filter(|_| requested) {
                Some(result) => result.clone(),
                None => match self.install_own(transaction, &rescue).await {
                    Ok(result) => {
                        self.note_changes(transaction, &under_dpkg(transaction), result.changes.as_deref())?;
                        result
                    }
                    // Nothing has changed yet.
                    Err(error) => DpkgResult::failed(format!("{error:#}")),
                },
            };
            if transaction.resumptions > 0 {
                self.ensure_not_locked_out(transaction, &result)?;
            }
            let installed = self.installed(transaction).await?;
            let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
            if own.is_in_place(&installed) {
                tracing::info!(
                    message_id = events::SELF_UPDATE,
                    "installed the new pulld; exiting so that systemd starts it"
                );
                return Ok(Next::Exit);
            }
            fail_by_dpkg(own, &result, &installed);
        }
        self.undo_own(transaction, quarantine, &rescue).await
    }

    /// Has dpkg replace pulld. Normally systemd ends this process before the dpkg run is over.
    async fn install_own(&self, transaction: &mut Transaction, rescue: &Rescue) -> Result<DpkgResult> {
        let mut request = self.empty_request(transaction);
        request.restart_agent = true;
        for own in transaction.updates.iter().filter(|update| update.is_own()) {
            let title = own.title();
            tracing::info!(message_id = events::SELF_UPDATE, release = title, "updating pulld to `{title}`");
            if let Target::Release { deb, .. } = &own.target {
                request.install.push(deb.clone());
            }
            if let Previous::Package { deb, installed, .. } = &own.previous {
                let sha256 = deb.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                let armed = Armed {
                    release: own.release().cloned(),
                    generation: transaction.generation,
                    previous: Some(installed.release.clone()),
                    sha256,
                    within: self.settings.health_window + self.settings.rescue_after,
                };
                rescue.arm(&armed, deb)?;
            } else {
                tracing::warn!(
                    message_id = events::SELF_UPDATE,
                    "updating pulld without a previous package to roll back to"
                );
            }
        }
        transaction.self_update_by = Some(self.instance.to_owned());
        transaction.save(&self.paths.transaction())?;
        self.run_dpkg(&request).await
    }

    /// Has dpkg restore the previous pulld, unless it is installed.
    async fn undo_own(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        rescue: &Rescue,
    ) -> Result<Next> {
        outcome::quarantine_those_at_fault(transaction, quarantine, self.paths)?;
        let installed = self.installed(transaction).await?;
        self.announcer.announce(transaction.activities());
        let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
        let undo = own.undo(&installed);
        if undo.as_ref().map_or(true, Undo::is_nothing) {
            self.note_what_is_unnoted(transaction, &under_dpkg(transaction)).await?;
        }
        let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
        match undo {
            Err(none) => outcome::degrade(own, Aftermath::CannotRollBack(none)),
            Ok(undo) if undo.is_nothing() => {
                outcome::rolled_back(own);
                disarm(rescue, self.services).await?;
            }
            Ok(undo) => {
                transaction.self_update_by = Some(self.instance.to_owned());
                transaction.save(&self.paths.transaction())?;
                let result = self.undo(transaction, &undo, true).await?;
                self.note_changes(transaction, &under_dpkg(transaction), result.changes.as_deref())?;
                let installed = self.installed(transaction).await?;
                let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
                if own.is_undone(&installed) {
                    return Ok(Next::Exit);
                }
                let fault = dpkg_failure::explain(&result, Some(own.title()));
                outcome::degrade(own, Aftermath::RollbackFailed(Box::new(fault)));
            }
        }
        Ok(Next::Continue)
    }

    /// The new pulld has started and read its configuration and the record; now it stays up for the health window.
    async fn confirm_self_update(&self, own: &mut AppUpdate, rescue: &Rescue) -> Result<()> {
        let watching = Doing { installed: Installed::of(own.release()), ..Doing::new(Activity::WatchingHealth) };
        self.announcer.announce([(own.app.clone(), watching)].into());
        self.liveness.within(self.settings.health_window);
        tokio::time::sleep(self.settings.health_window).await;
        disarm(rescue, self.services).await?;
        let title = own.title();
        tracing::info!(
            message_id = events::SELF_UPDATE,
            release = title,
            "the new pulld `{title}` passed its health gate"
        );
        own.progress.succeed();
        Ok(())
    }
}

/// Keeps the rescue from acting, and has it remove its units and its program, which are not the agent's to remove.
pub(crate) async fn disarm(rescue: &Rescue, services: &impl ServiceManager) -> Result<()> {
    rescue.disarm()?;
    if rescue.program().exists()
        && let Err(error) = services.restart(RESCUE_UNIT, START_TIMEOUT).await
    {
        // Its timer starts it later, and it finds nothing to restore.
        tracing::debug!("could not start `{RESCUE_UNIT}`: {error:#}");
    }
    // One that was killed when it had removed its own files has failed, and there is nothing left to start.
    if !rescue.program().exists() {
        services.reset_failed(RESCUE_UNIT).await;
    }
    Ok(())
}
