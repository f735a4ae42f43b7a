//! Carries out a transaction, phase by phase, and can begin with any of them.
//!
//! What dpkg did is asked of dpkg after each order, never concluded from the order's result: that only gives the
//! words for the reason.

use anyhow::Result;
use bucket::Timestamp;
use futures_util::future::join_all;

use crate::{
    config::Settings,
    decide::units::{self, Act, UnitBefore},
    machine::{
        DpkgRequest, DpkgResult, InstalledPackage, OwnedUnit, PackageManager, PackageState, ServiceManager, UnitState,
    },
    service::{events, liveness::Liveness},
    state::{
        paths::Paths,
        quarantine::{Quarantine, Quarantined},
    },
    transaction::{
        gate::{self, HealthTarget, START_LIMIT},
        record::{AppUpdate, Failure, MAX_RESUMPTIONS, Outcome, Phase, RollbackTarget, Target, Transaction},
        rescue::Rescue,
        rollback::{self, Undo},
    },
};

/// What a transaction is carried out with.
#[derive(Debug)]
pub(crate) struct TransactionRunner<'a, P, S> {
    /// dpkg.
    pub(crate) packages: &'a P,
    /// systemd.
    pub(crate) services: &'a S,
    /// Where the record and the quarantine are.
    pub(crate) paths: &'a Paths,
    /// Time limits.
    pub(crate) settings: &'a Settings,
    /// This process, as no other is called.
    pub(crate) instance: &'a str,
    /// What is wrong with the configuration: a new pulld that can't read it doesn't prove itself.
    pub(crate) wrong: Option<&'a str>,
    /// Who is told how long a wait may be.
    pub(crate) liveness: &'a Liveness,
}

/// How carrying out a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// In the process that wrote the record: dpkg hasn't run yet.
    Fresh,
    /// After an interruption: dpkg may have run or not.
    Resumed {
        /// How the interrupted dpkg run ended, if it left a result.
        result: Option<DpkgResult>,
    },
}

impl Start {
    fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }

    fn result(&self) -> Option<&DpkgResult> {
        match self {
            Self::Fresh | Self::Resumed { result: None } => None,
            Self::Resumed { result: Some(result) } => Some(result),
        }
    }
}

/// What the agent does after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It continues.
    Continue,
    /// It exits, so that systemd starts the pulld that is installed now.
    Exit,
}

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Finishes or undoes a transaction that another process, or an earlier cycle, left behind.
    pub(crate) async fn resume(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<Next> {
        transaction.resumptions += 1;
        transaction.save(&self.paths.transaction())?;
        tracing::warn!(
            message_id = events::RESUMED,
            phase = ?transaction.phase,
            resumptions = transaction.resumptions,
            "an unfinished transaction is taken up again"
        );
        self.liveness.within(self.settings.transaction_timeout);
        let result = self.packages.resume().await?;
        if transaction.resumptions > MAX_RESUMPTIONS {
            self.give_up(transaction, quarantine).await?;
        }
        self.carry_out(transaction, quarantine, Start::Resumed { result }).await
    }

    /// Carries out a transaction from the phase it is in.
    pub(crate) async fn carry_out(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        start: Start,
    ) -> Result<Next> {
        let record = self.paths.transaction();
        if transaction.phase == Phase::Installing {
            self.install(transaction, &start).await?;
            transaction.enter(Phase::Restarting, &record)?;
        }
        if transaction.phase == Phase::Restarting {
            self.restart(transaction).await?;
            transaction.enter(Phase::Gating, &record)?;
        }
        if transaction.phase == Phase::Gating {
            self.gate(transaction).await?;
            self.start_rollback(transaction, quarantine).await?;
        }
        if transaction.phase == Phase::RollingBack {
            self.roll_back(transaction).await?;
            transaction.enter(Phase::CheckingRollback, &record)?;
        }
        if transaction.phase == Phase::CheckingRollback {
            self.check_rollback(transaction).await?;
            transaction.enter(Phase::UpdatingAgent, &record)?;
        }
        if transaction.phase == Phase::UpdatingAgent {
            if self.update_agent(transaction, quarantine, start.result()).await? == Next::Exit {
                return Ok(Next::Exit);
            }
            self.quarantine_degraded(transaction, quarantine)?;
            transaction.enter(Phase::Done, &record)?;
        }
        Ok(Next::Continue)
    }

    /// Ends what was interrupted too often: first it goes back, and if that is interrupted too often, it stays as it is.
    async fn give_up(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let reason = format!("it was interrupted {} times", transaction.resumptions);
        let record = self.paths.transaction();
        match transaction.phase {
            Phase::Installing | Phase::Restarting | Phase::Gating => {
                transaction.others_mut().filter(|update| update.is_ok()).for_each(|update| update.fail(&reason, true));
                self.start_rollback(transaction, quarantine).await
            }
            Phase::RollingBack | Phase::CheckingRollback => {
                for update in transaction.others_mut().filter(|update| update.has_failed()) {
                    degrade(update, &format!("going back: {reason}"));
                }
                transaction.enter(Phase::UpdatingAgent, &record)
            }
            Phase::UpdatingAgent => {
                if let Some(own) = transaction.own_mut() {
                    if own.has_failed() {
                        degrade(own, &format!("going back: {reason}"));
                    } else {
                        own.fail(&reason, true);
                    }
                }
                transaction.enter(Phase::UpdatingAgent, &record)
            }
            Phase::Done => Ok(()),
        }
    }

    /// dpkg installs and removes everything but pulld, in one order.
    async fn install(&self, transaction: &mut Transaction, start: &Start) -> Result<()> {
        if transaction.others().next().is_none() {
            return Ok(());
        }
        let result = if let Some(result) = start.result() {
            result.clone()
        } else {
            if start.is_resumed() {
                self.mark_units(transaction).await;
                transaction.save(&self.paths.transaction())?;
            }
            self.install_what_is_missing(transaction, start).await?
        };
        let missing = missing(transaction, &self.installed(transaction).await?);
        let together = transaction.others().count() > 1;
        for at in missing {
            // One that fails may have kept the others out: each gets a chance of its own.
            let result = if together { self.request(&[&transaction.updates[at]]).await } else { result.clone() };
            let installed = self.installed(transaction).await?;
            let update = &mut transaction.updates[at];
            if !is_in_place(update, &installed) {
                update.fail(explain(&result), is_release_at_fault(update, &result, &installed));
            }
        }
        Ok(())
    }

    /// Sends the order for what isn't in place yet; a fresh transaction needn't ask dpkg first.
    async fn install_what_is_missing(&self, transaction: &Transaction, start: &Start) -> Result<DpkgResult> {
        let installed = if start.is_resumed() { self.installed(transaction).await? } else { Vec::new() };
        let open = |update: &&AppUpdate| !start.is_resumed() || !is_in_place(update, &installed);
        let updates: Vec<&AppUpdate> = transaction.others().filter(open).collect();
        if updates.is_empty() {
            return Ok(no_result("dpkg had done everything"));
        }
        Ok(self.request(&updates).await)
    }

    /// Has dpkg carry out some changes; what keeps it from trying is a result too.
    async fn request(&self, updates: &[&AppUpdate]) -> DpkgResult {
        let mut request = self.empty_order();
        for update in updates {
            match &update.target {
                Target::Release { deb, .. } => request.install.push(deb.clone()),
                Target::Removed { .. } => request.remove.push(update.package.clone()),
            }
        }
        self.execute(&request).await
    }

    fn empty_order(&self) -> DpkgRequest {
        DpkgRequest {
            install: vec![],
            remove: vec![],
            restart_agent: false,
            timeout: self.settings.transaction_timeout,
        }
    }

    async fn execute(&self, request: &DpkgRequest) -> DpkgResult {
        self.liveness.within(request.timeout);
        let result = self.packages.execute(request).await;
        self.liveness.within(START_LIMIT);
        result.unwrap_or_else(|error| no_result(&format!("{error:#}")))
    }

    /// What dpkg has of the packages that a transaction is about.
    async fn installed(&self, transaction: &Transaction) -> Result<Vec<InstalledPackage>> {
        let before = transaction.updates.iter().filter_map(|update| Some(update.before.as_ref()?.package.clone()));
        let names: Vec<String> =
            transaction.updates.iter().map(|update| update.package.clone()).chain(before).collect();
        self.packages.packages(&names).await
    }

    /// Notes which invocation of each unit is there before dpkg runs again.
    async fn mark_units(&self, transaction: &mut Transaction) {
        for unit in transaction.others_mut().flat_map(|update| &mut update.units) {
            if let Ok(now) = self.services.unit(&unit.unit.name).await {
                (unit.invocation, unit.restarts) = (now.invocation, now.restarts);
            }
        }
    }

    /// Restarts the units of what got in.
    async fn restart(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(|update| update.is_ok() && update.release().is_some()) {
            return Ok(());
        }
        self.services.daemon_reload().await?;
        self.liveness.within(START_LIMIT);
        let owned = transaction.others().filter(|update| update.is_ok()).map(|update| async move {
            let ours: Vec<&UnitBefore> = update.units.iter().filter(|unit| unit.wanted).collect();
            (update.app.clone(), self.restart_units(&ours, true).await)
        });
        for (app, failed) in join_all(owned).await {
            if let (Some(reason), Some(update)) = (failed, transaction.others_mut().find(|update| update.app == app)) {
                update.fail(reason, true);
            }
        }
        Ok(())
    }

    /// Restarts an app's units one after the other; the first that doesn't come up ends it.
    async fn restart_units(&self, units: &[&UnitBefore], replaced: bool) -> Option<String> {
        for before in units {
            let name = &before.unit.name;
            let now = match self.services.unit(name).await {
                Ok(now) => now,
                Err(error) => return Some(format!("could not ask systemd about `{name}`: {error:#}")),
            };
            let act = units::act(before, &now, replaced);
            let job = match act {
                Act::Restart => self.services.restart(name, START_LIMIT).await,
                Act::Reload => self.services.reload(name, START_LIMIT).await,
                Act::Leave(why) | Act::Ignore(why) => {
                    tracing::debug!(message_id = events::UNIT, unit = name, why, "`{name}` is left alone: {why}");
                    continue;
                }
            };
            match job {
                Ok(job) if matches!(job.0.as_str(), "done" | "skipped" | "canceled") => {
                    tracing::info!(message_id = events::UNIT, unit = name, ?act, "`{name}` is up");
                }
                Ok(job) => {
                    let result = self.services.unit(name).await.map(|state| state.result).unwrap_or_default();
                    let result = if result.is_empty() || result == "success" { job.0 } else { result };
                    return Some(format!("`{name}` didn't start ({})", result.escape_debug()));
                }
                Err(error) => return Some(format!("`{name}` didn't start: {error:#}")),
            }
        }
        None
    }

    /// Watches the units of what got in.
    async fn gate(&self, transaction: &mut Transaction) -> Result<()> {
        let mut targets = Vec::new();
        for update in transaction.others().filter(|update| update.is_ok() && update.release().is_some()) {
            let units: Vec<&UnitBefore> = update.units.iter().filter(|unit| unit.wanted).collect();
            let units = self.judged(&units).await;
            targets.push(HealthTarget { app: update.app.clone(), units, check: update.check.clone() });
        }
        self.liveness.within(START_LIMIT * 2 + self.settings.health_window * 4);
        let unhealthy = gate::watch(self.services, &targets, self.settings.health_window).await;
        for update in transaction.others_mut() {
            if let Some(unhealthy) = unhealthy.get(&update.app) {
                update.fail(&unhealthy.reason, unhealthy.release_at_fault);
            }
            if update.is_ok() {
                update.outcome = Some(Outcome::Done);
                tracing::info!(
                    message_id = events::INSTALLED,
                    app = %update.app,
                    release = update.title(),
                    "`{}` is {}",
                    update.title(),
                    if update.release().is_some() { "installed and healthy" } else { "removed" }
                );
            }
        }
        Ok(())
    }

    /// Which units are judged, each with the restarts that don't count against it.
    async fn judged(&self, units: &[&UnitBefore]) -> Vec<(String, u32)> {
        let mut judged = Vec::new();
        for before in units {
            let name = &before.unit.name;
            let now = self.services.unit(name).await.ok();
            if now.as_ref().is_some_and(|now| matches!(units::act(before, now, true), Act::Ignore(_))) {
                continue;
            }
            let same = |now: &UnitState| now.invocation == before.invocation;
            judged.push((name.clone(), if now.as_ref().is_some_and(same) { before.restarts } else { 0 }));
        }
        judged
    }

    /// Notes what going back needs to know, first of all what must not be tried again.
    async fn start_rollback(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let record = self.paths.transaction();
        if !transaction.others().any(AppUpdate::has_failed) {
            return transaction.enter(Phase::UpdatingAgent, &record);
        }
        self.quarantine_those_at_fault(transaction, quarantine)?;
        self.mark_units(transaction).await;
        let installed = self.installed(transaction).await?;
        for update in transaction.others_mut().filter(|update| update.has_failed()) {
            update.replaced = !rollback::undo(update, &installed).is_ok_and(|undo| undo.is_nothing());
        }
        transaction.enter(Phase::RollingBack, &record)
    }

    /// Makes sure, before anything goes back, that what goes back isn't tried again.
    fn quarantine_those_at_fault(&self, transaction: &Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let mut changed = false;
        for update in transaction.updates.iter().filter(|update| update.has_failed()) {
            changed |= quarantine_if_at_fault(update, transaction, quarantine, false);
        }
        if changed { quarantine.save(&self.paths.quarantine()) } else { Ok(()) }
    }

    /// Notes in the quarantine where a person is needed.
    fn quarantine_degraded(&self, transaction: &Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let mut changed = false;
        for update in &transaction.updates {
            match &update.outcome {
                Some(Outcome::Degraded { .. }) => {
                    changed |= quarantine_if_at_fault(update, transaction, quarantine, true);
                }
                Some(Outcome::Done) => {
                    let before = quarantine.clone();
                    quarantine.lift(&update.app);
                    changed |= before != *quarantine;
                }
                _ => {}
            }
        }
        if changed { quarantine.save(&self.paths.quarantine()) } else { Ok(()) }
    }

    /// dpkg puts back what was there before, one app after the other.
    async fn roll_back(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(AppUpdate::has_failed) {
            return Ok(());
        }
        let installed = self.installed(transaction).await?;
        for at in 0..transaction.updates.len() {
            let update = &transaction.updates[at];
            if update.is_own() || !update.has_failed() {
                continue;
            }
            let reason = update.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default();
            tracing::warn!(message_id = events::UNHEALTHY, app = %update.app, release = update.title(), reason, "`{}` is unhealthy, going back: {reason}", update.title());
            match rollback::undo(update, &installed) {
                Err(none) => degrade(&mut transaction.updates[at], &format!("there is no way back: {none}")),
                Ok(undo) if undo.is_nothing() => {}
                Ok(undo) => {
                    let result = self.undo(&undo, false).await;
                    let installed = self.installed(transaction).await?;
                    let update = &mut transaction.updates[at];
                    if !rollback::undo(update, &installed).is_ok_and(|undo| undo.is_nothing()) {
                        degrade(update, &format!("going back failed: {}", explain(&result)));
                    }
                }
            }
        }
        Ok(())
    }

    async fn undo(&self, undo: &Undo, restart_agent: bool) -> DpkgResult {
        let mut request = self.empty_order();
        request.install.extend(undo.install.clone());
        request.remove.extend(undo.remove.clone());
        request.restart_agent = restart_agent;
        self.execute(&request).await
    }

    /// Restarts and watches the units of what was put back.
    async fn check_rollback(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(AppUpdate::has_failed) {
            return Ok(());
        }
        self.services.daemon_reload().await?;
        let installed = self.installed(transaction).await?;
        let mut targets = Vec::new();
        for at in 0..transaction.updates.len() {
            let update = &transaction.updates[at];
            if update.is_own() || !update.has_failed() {
                continue;
            }
            let there = update
                .before
                .as_ref()
                .and_then(|before| installed.iter().find(|package| package.package == before.package));
            let owned = there.map(|package| package.units.as_slice()).unwrap_or_default();
            let units = as_owned(&update.units, owned);
            let units: Vec<&UnitBefore> = units.iter().collect();
            let failed = self.restart_units(&units, update.replaced).await;
            let target = HealthTarget { app: update.app.clone(), units: self.judged(&units).await, check: None };
            match failed {
                Some(reason) => {
                    degrade(
                        &mut transaction.updates[at],
                        &format!("what was there before doesn't run either: {reason}"),
                    );
                }
                None => targets.push(target),
            }
        }
        self.liveness.within(START_LIMIT * 2 + self.settings.health_window * 4);
        let unhealthy = gate::watch(self.services, &targets, self.settings.health_window).await;
        for update in transaction.others_mut().filter(|update| update.has_failed()) {
            match unhealthy.get(&update.app) {
                Some(unhealthy) => {
                    degrade(update, &format!("what was there before doesn't run either: {}", unhealthy.reason));
                }
                None => settle_rollback(update),
            }
        }
        Ok(())
    }

    /// pulld's own package: sends the order, or judges it if this is the process that came of it.
    async fn update_agent(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        ended: Option<&DpkgResult>,
    ) -> Result<Next> {
        let rescue = Rescue::new(self.paths.rescue());
        let rescued = rescue.left_behind()?;
        let sent_by = transaction.sent_by.clone();
        let installed = self.installed(transaction).await?;
        let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
        if let Some(words) = rescued {
            own.fail(format!("the new pulld didn't start, and the rescue put the one before back: {words}"), true);
        }
        let came_of_it = is_in_place(own, &installed) && sent_by.as_deref() != Some(self.instance);
        if let (Some(wrong), true) = (self.wrong, came_of_it) {
            own.fail(format!("the new pulld can't go by its configuration: {wrong}"), true);
        }
        if own.is_ok() && is_in_place(own, &installed) {
            if sent_by.as_deref() == Some(self.instance) {
                return Ok(Next::Exit);
            }
            self.confirm_self_update(own, &rescue).await?;
            return Ok(Next::Continue);
        }
        if own.is_ok() {
            let result = match ended.filter(|_| sent_by.is_some()) {
                Some(result) => result.clone(),
                None => self.send_own(transaction, &rescue).await?,
            };
            let installed = self.installed(transaction).await?;
            let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
            if is_in_place(own, &installed) {
                tracing::info!(message_id = events::SELF_UPDATE, "the new pulld is installed: this one ends");
                return Ok(Next::Exit);
            }
            own.fail(explain(&result), is_release_at_fault(own, &result, &installed));
        }
        self.undo_own(transaction, quarantine, &rescue).await
    }

    /// Has dpkg replace pulld. Normally systemd ends this process before the order is done.
    async fn send_own(&self, transaction: &mut Transaction, rescue: &Rescue) -> Result<DpkgResult> {
        let mut request = self.empty_order();
        request.restart_agent = true;
        for own in transaction.updates.iter().filter(|update| update.is_own()) {
            tracing::info!(
                message_id = events::SELF_UPDATE,
                release = own.title(),
                "pulld replaces itself with `{}`",
                own.title()
            );
            if let Target::Release { deb, .. } = &own.target {
                request.install.push(deb.clone());
            }
            if let RollbackTarget::Deb(deb) = &own.rollback_target {
                rescue.keep(deb)?;
                rescue.arm()?;
            } else {
                tracing::warn!(message_id = events::SELF_UPDATE, "there is no way back for pulld itself");
            }
        }
        transaction.sent_by = Some(self.instance.to_owned());
        transaction.save(&self.paths.transaction())?;
        Ok(self.execute(&request).await)
    }

    /// Has dpkg put the pulld before back, unless it is there.
    async fn undo_own(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        rescue: &Rescue,
    ) -> Result<Next> {
        self.quarantine_those_at_fault(transaction, quarantine)?;
        let installed = self.installed(transaction).await?;
        let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
        match rollback::undo(own, &installed) {
            Err(none) => degrade(own, &format!("there is no way back: {none}")),
            Ok(undo) if undo.is_nothing() => {
                settle_rollback(own);
                rescue.disarm()?;
            }
            Ok(undo) => {
                transaction.sent_by = Some(self.instance.to_owned());
                transaction.save(&self.paths.transaction())?;
                let result = self.undo(&undo, true).await;
                let installed = self.installed(transaction).await?;
                let Some(own) = transaction.own_mut() else { return Ok(Next::Continue) };
                if rollback::undo(own, &installed).is_ok_and(|undo| undo.is_nothing()) {
                    return Ok(Next::Exit);
                }
                degrade(own, &format!("going back failed: {}", explain(&result)));
            }
        }
        Ok(Next::Continue)
    }

    /// The new pulld has come up, read its configuration and the record; now it holds out for the window.
    async fn confirm_self_update(&self, own: &mut AppUpdate, rescue: &Rescue) -> Result<()> {
        self.liveness.within(self.settings.health_window);
        tokio::time::sleep(self.settings.health_window).await;
        if let Target::Release { deb, .. } = &own.target
            && deb.exists()
        {
            rescue.keep(deb)?;
        }
        rescue.disarm()?;
        tracing::info!(
            message_id = events::SELF_UPDATE,
            release = own.title(),
            "the new pulld, `{}`, has proved itself",
            own.title()
        );
        own.outcome = Some(Outcome::Done);
        Ok(())
    }
}

/// The units of what was put back, as that release wants them.
fn as_owned(before: &[UnitBefore], owned: &[OwnedUnit]) -> Vec<UnitBefore> {
    let named = |unit: &OwnedUnit| before.iter().find(|before| before.unit.name == unit.name).cloned();
    owned.iter().filter_map(|unit| Some(UnitBefore { unit: unit.clone(), ..named(unit)? })).collect()
}

/// Whether dpkg has of a change what it should.
fn is_in_place(update: &AppUpdate, installed: &[InstalledPackage]) -> bool {
    let there = installed.iter().find(|package| package.package == update.package);
    match &update.target {
        Target::Release { release, .. } => there.is_some_and(|package| {
            package.state == PackageState::Installed && package.release.as_ref() == Some(release)
        }),
        Target::Removed { .. } => there.is_none_or(|package| package.state == PackageState::Absent),
    }
}

/// The changes of other apps than pulld that dpkg doesn't have, by their place.
fn missing(transaction: &Transaction, installed: &[InstalledPackage]) -> Vec<usize> {
    let updates = transaction.updates.iter().enumerate();
    let missing = updates.filter(|(_, update)| !update.is_own() && !is_in_place(update, installed));
    missing.map(|(at, _)| at).collect()
}

/// Whether a failed install is the release's fault: dpkg got to it, or said so. A held lock or a service that couldn't
/// be started leaves the package as it was, and says nothing about the release.
fn is_release_at_fault(update: &AppUpdate, result: &DpkgResult, installed: &[InstalledPackage]) -> bool {
    if update.release().is_none() {
        return false;
    }
    let untouched = rollback::undo(update, installed).is_ok_and(|undo| undo.is_nothing());
    !(untouched && matches!(result.exit, None | Some(2)))
}

fn no_result(failure: &str) -> DpkgResult {
    DpkgResult { exit: None, failure: Some(failure.to_owned()), output: String::new() }
}

/// Why an order failed, in dpkg's own words where it has some.
fn explain(result: &DpkgResult) -> String {
    let what = match (&result.failure, result.exit) {
        (Some(failure), _) => failure.clone(),
        (None, Some(exit)) => format!("dpkg exited with {exit}"),
        (None, None) => "dpkg was killed".to_owned(),
    };
    let telling =
        |line: &&str| line.starts_with("dpkg: error") || line.contains(" error ") || line.starts_with("dpkg:");
    let lines: Vec<&str> = result.output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines.iter().find(|line| telling(line)).or(lines.last());
    // The sentence after dpkg's "error processing …" line is the one that tells.
    let at = words.and_then(|words| lines.iter().position(|line| line == words));
    let said: Vec<&str> = at.map(|at| lines[at..].iter().take(2).copied().collect()).unwrap_or_default();
    let said: String = said.join(" ").chars().take(400).flat_map(char::escape_debug).collect();
    let what: String = what.chars().take(400).flat_map(char::escape_debug).collect();
    if said.is_empty() { what } else { format!("{what}: {said}") }
}

/// Quarantines the release of a change if it is to blame; whether it did.
fn quarantine_if_at_fault(
    update: &AppUpdate,
    transaction: &Transaction,
    quarantine: &mut Quarantine,
    degraded: bool,
) -> bool {
    let (Some(failure), Some(release), Some(generation)) = (&update.failure, update.release(), transaction.generation)
    else {
        return false;
    };
    if !failure.release_at_fault && !degraded {
        return false;
    }
    let reason = match &update.outcome {
        Some(Outcome::Degraded { reason }) => reason.clone(),
        _ => failure.reason.clone(),
    };
    quarantine.add(Quarantined { release: release.clone(), reason, generation, degraded, since: Timestamp::now() });
    true
}

/// What was there before runs again.
fn settle_rollback(update: &mut AppUpdate) {
    let Some(failure) = &update.failure else { return };
    let reason = failure.reason.clone();
    if failure.release_at_fault {
        tracing::warn!(
            message_id = events::ROLLED_BACK,
            app = %update.app,
            release = update.title(),
            reason,
            "`{}` was rolled back, and isn't tried again until the document changes: {reason}",
            update.title()
        );
        update.outcome = Some(Outcome::RolledBack { reason });
    } else {
        tracing::warn!(message_id = events::ROLLED_BACK, app = %update.app, release = update.title(), reason, "`{}` is put off: {reason}", update.title());
        update.outcome = Some(Outcome::Postponed { reason });
    }
}

/// A person is needed.
fn degrade(update: &mut AppUpdate, why: &str) {
    let reason = match &update.failure {
        Some(failure) => format!("{}; {why}", failure.reason),
        None => why.to_owned(),
    };
    tracing::error!(message_id = events::DEGRADED, app = %update.app, release = update.title(), reason, "`{}` needs a person: {reason}", update.app);
    update.failure.get_or_insert(Failure { reason: reason.clone(), release_at_fault: true });
    update.outcome = Some(Outcome::Degraded { reason });
}
