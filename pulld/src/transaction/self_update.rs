//! The phase in which pulld replaces itself, and the new process passes its health gate.
//!
//! It is the last phase: requesting it normally ends this process, and the new one finds nothing else half-done.

use anyhow::Result;

use crate::{
    decide::{dpkg_failure, rollback::Previous},
    machine::{DpkgResult, PackageManager, ServiceManager},
    service::events,
    state::quarantine::Quarantine,
};

use super::{
    executor::{Next, TransactionRunner},
    install::is_release_at_fault,
    outcome,
    record::Transaction,
    rescue::Rescue,
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
        let by_this_process = transaction.self_update_by.as_deref() == Some(self.instance);
        let installed = self.installed(transaction).await?;
        let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
        if let Some(words) = rescued {
            let reason =
                format!("the new pulld did not start; pulld-rescue.service restored the previous version: {words}");
            own.fail(reason, true);
        }
        let in_place = own.is_in_place(&installed);
        if let (Some(error), true) = (self.configuration_error, in_place && !by_this_process) {
            own.fail(format!("the new pulld rejected its configuration: {error}"), true);
        }
        if own.is_forward() && in_place {
            if by_this_process {
                return Ok(Next::Exit);
            }
            self.confirm_self_update(own, &rescue).await?;
            return Ok(Next::Continue);
        }
        if own.is_forward() {
            let result = match ended.filter(|_| requested) {
                Some(result) => result.clone(),
                None => self.install_own(transaction, &rescue).await?,
            };
            let installed = self.installed(transaction).await?;
            let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
            if own.is_in_place(&installed) {
                tracing::info!(
                    message_id = events::SELF_UPDATE,
                    "installed the new pulld; exiting so that systemd starts it"
                );
                return Ok(Next::Exit);
            }
            own.fail(dpkg_failure::explain(&result), is_release_at_fault(own, &result, &installed));
        }
        self.undo_own(transaction, quarantine, &rescue).await
    }

    /// Has dpkg replace pulld. Normally systemd ends this process before the dpkg run is over.
    async fn install_own(&self, transaction: &mut Transaction, rescue: &Rescue) -> Result<DpkgResult> {
        let mut request = self.empty_request();
        request.restart_agent = true;
        for own in transaction.updates.iter().filter(|update| update.is_own()) {
            let title = own.title();
            tracing::info!(message_id = events::SELF_UPDATE, release = title, "updating pulld to `{title}`");
            if let Target::Release { deb, .. } = &own.target {
                request.install.push(deb.clone());
            }
            if let Previous::Package { deb, .. } = &own.previous {
                rescue.keep(deb)?;
                rescue.arm()?;
            } else {
                tracing::warn!(
                    message_id = events::SELF_UPDATE,
                    "updating pulld without a previous package to roll back to"
                );
            }
        }
        transaction.self_update_by = Some(self.instance.to_owned());
        transaction.save(&self.paths.transaction())?;
        Ok(self.run_dpkg(&request).await)
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
        match own.undo(&installed) {
            Err(none) => outcome::degrade(own, &format!("cannot roll back: {none}")),
            Ok(undo) if undo.is_nothing() => {
                outcome::rolled_back(own);
                rescue.disarm()?;
            }
            Ok(undo) => {
                transaction.self_update_by = Some(self.instance.to_owned());
                transaction.save(&self.paths.transaction())?;
                let result = self.undo(&undo, true).await;
                let installed = self.installed(transaction).await?;
                let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
                if own.is_undone(&installed) {
                    return Ok(Next::Exit);
                }
                outcome::degrade(own, &format!("rollback failed: {}", dpkg_failure::explain(&result)));
            }
        }
        Ok(Next::Continue)
    }

    /// The new pulld has started and read its configuration and the record; now it stays up for the health window.
    async fn confirm_self_update(&self, own: &mut AppUpdate, rescue: &Rescue) -> Result<()> {
        self.liveness.within(self.settings.health_window);
        tokio::time::sleep(self.settings.health_window).await;
        if let Target::Release { deb, .. } = &own.target
            && deb.exists()
        {
            rescue.keep(deb)?;
        }
        rescue.disarm()?;
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
