//! Carries out a transaction, phase by phase, and can begin with any of them.
//!
//! What dpkg did is asked of dpkg after each order, never concluded from the order's result: that only gives the
//! words for the reason.

use anyhow::Result;
use bucket::Timestamp;
use futures_util::future::join_all;

use crate::{
    Liveness, Paths, Rescue, Settings, events,
    health::{self, Patient, START_LIMIT},
    machine::{
        InstalledPackage, Order, OrderResult, OwnedUnit, PackageManager, PackageState, ServiceManager, UnitState,
    },
    quarantine::{Quarantine, Quarantined},
    rollback::{self, Undo},
    transaction::{Change, MAX_RESUMPTIONS, Outcome, Phase, Target, Transaction, Trouble, UnitBefore, WayBack},
    units::{self, Act},
};

/// What a transaction is carried out with.
#[derive(Debug)]
pub struct Hands<'a, P, S> {
    /// dpkg.
    pub packages: &'a P,
    /// systemd.
    pub services: &'a S,
    /// Where the record and the quarantine are.
    pub paths: &'a Paths,
    /// Time limits.
    pub settings: &'a Settings,
    /// This process, as no other is called.
    pub instance: &'a str,
    /// What is wrong with the configuration: a new pulld that can't read it doesn't prove itself.
    pub wrong: Option<&'a str>,
    /// Who is told how long a wait may be.
    pub liveness: &'a Liveness,
}

/// What the agent does after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Goes on.
    GoOn,
    /// Ends, so that systemd starts the pulld that is installed now.
    Leave,
}

impl<P: PackageManager, S: ServiceManager> Hands<'_, P, S> {
    /// Finishes or undoes a transaction that another process, or an earlier cycle, left behind.
    pub async fn resume(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<After> {
        transaction.resumptions += 1;
        transaction.save(&self.paths.transaction())?;
        tracing::warn!(
            message_id = events::RESUMED,
            phase = ?transaction.phase,
            resumptions = transaction.resumptions,
            "an unfinished transaction is taken up again"
        );
        self.liveness.within(self.settings.transaction_timeout);
        let ended = self.packages.resume().await?;
        if transaction.resumptions > MAX_RESUMPTIONS {
            self.give_up(transaction, quarantine).await?;
        }
        self.carry_out(transaction, quarantine, Some(ended)).await
    }

    /// Carries out a transaction from the phase it is in. `resumed` holds the result of an order that ended meanwhile.
    pub async fn carry_out(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        resumed: Option<Option<OrderResult>>,
    ) -> Result<After> {
        let record = self.paths.transaction();
        let (resumed, ended) = (resumed.is_some(), resumed.flatten());
        if transaction.phase == Phase::Installing {
            self.install(transaction, resumed, ended.as_ref()).await?;
            transaction.enter(Phase::Restarting, &record)?;
        }
        if transaction.phase == Phase::Restarting {
            self.restart(transaction).await?;
            transaction.enter(Phase::Gating, &record)?;
        }
        if transaction.phase == Phase::Gating {
            self.gate(transaction).await?;
            self.begin_to_go_back(transaction, quarantine).await?;
        }
        if transaction.phase == Phase::RollingBack {
            self.put_back(transaction).await?;
            transaction.enter(Phase::GatingBack, &record)?;
        }
        if transaction.phase == Phase::GatingBack {
            self.gate_back(transaction).await?;
            transaction.enter(Phase::UpdatingAgent, &record)?;
        }
        if transaction.phase == Phase::UpdatingAgent {
            if self.update_agent(transaction, quarantine, ended.as_ref()).await? == After::Leave {
                return Ok(After::Leave);
            }
            self.note_the_degraded(transaction, quarantine)?;
            transaction.enter(Phase::Done, &record)?;
        }
        Ok(After::GoOn)
    }

    /// Ends what was interrupted too often: first it goes back, and if that is interrupted too often, it stays as it is.
    async fn give_up(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let reason = format!("it was interrupted {} times", transaction.resumptions);
        let record = self.paths.transaction();
        match transaction.phase {
            Phase::Installing | Phase::Restarting | Phase::Gating => {
                transaction
                    .others_mut()
                    .filter(|change| change.is_well())
                    .for_each(|change| change.fail(&reason, true));
                self.begin_to_go_back(transaction, quarantine).await
            }
            Phase::RollingBack | Phase::GatingBack => {
                for change in transaction.others_mut().filter(|change| change.is_in_trouble()) {
                    degrade(change, &format!("going back: {reason}"));
                }
                transaction.enter(Phase::UpdatingAgent, &record)
            }
            Phase::UpdatingAgent => {
                if let Some(own) = transaction.own_mut() {
                    if own.is_in_trouble() {
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
    async fn install(&self, transaction: &mut Transaction, resumed: bool, ended: Option<&OrderResult>) -> Result<()> {
        if transaction.others().next().is_none() {
            return Ok(());
        }
        let result = if let Some(result) = ended {
            result.clone()
        } else {
            if resumed {
                self.mark_units(transaction).await;
                transaction.save(&self.paths.transaction())?;
            }
            self.install_what_is_missing(transaction, resumed).await?
        };
        let missing = missing(transaction, &self.installed(transaction).await?);
        let together = transaction.others().count() > 1;
        for at in missing {
            // One that fails may have kept the others out: each gets a chance of its own.
            let result = if together { self.order(&[&transaction.changes[at]]).await } else { result.clone() };
            let installed = self.installed(transaction).await?;
            let change = &mut transaction.changes[at];
            if !is_in_place(change, &installed) {
                change.fail(explain(&result), is_to_blame(change, &result, &installed));
            }
        }
        Ok(())
    }

    /// Sends the order for what isn't in place yet; a fresh transaction needn't ask dpkg first.
    async fn install_what_is_missing(&self, transaction: &Transaction, resumed: bool) -> Result<OrderResult> {
        let installed = if resumed { self.installed(transaction).await? } else { Vec::new() };
        let open = |change: &&Change| !resumed || !is_in_place(change, &installed);
        let changes: Vec<&Change> = transaction.others().filter(open).collect();
        if changes.is_empty() {
            return Ok(no_result("dpkg had done everything"));
        }
        Ok(self.order(&changes).await)
    }

    /// Has dpkg carry out some changes; what keeps it from trying is a result too.
    async fn order(&self, changes: &[&Change]) -> OrderResult {
        let mut order = self.empty_order();
        for change in changes {
            match &change.target {
                Target::Release { deb, .. } => order.install.push(deb.clone()),
                Target::Removed { .. } => order.remove.push(change.package.clone()),
            }
        }
        self.execute(&order).await
    }

    fn empty_order(&self) -> Order {
        Order { install: vec![], remove: vec![], restart_agent: false, timeout: self.settings.transaction_timeout }
    }

    async fn execute(&self, order: &Order) -> OrderResult {
        self.liveness.within(order.timeout);
        let result = self.packages.execute(order).await;
        self.liveness.within(START_LIMIT);
        result.unwrap_or_else(|error| no_result(&format!("{error:#}")))
    }

    /// What dpkg has of the packages that a transaction is about.
    async fn installed(&self, transaction: &Transaction) -> Result<Vec<InstalledPackage>> {
        let before = transaction.changes.iter().filter_map(|change| Some(change.before.as_ref()?.package.clone()));
        let names: Vec<String> =
            transaction.changes.iter().map(|change| change.package.clone()).chain(before).collect();
        self.packages.packages(&names).await
    }

    /// Notes which invocation of each unit is there before dpkg runs again.
    async fn mark_units(&self, transaction: &mut Transaction) {
        for unit in transaction.others_mut().flat_map(|change| &mut change.units) {
            if let Ok(now) = self.services.unit(&unit.unit.name).await {
                (unit.invocation, unit.restarts) = (now.invocation, now.restarts);
            }
        }
    }

    /// Restarts the units of what got in.
    async fn restart(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(|change| change.is_well() && change.release().is_some()) {
            return Ok(());
        }
        self.services.daemon_reload().await?;
        self.liveness.within(START_LIMIT);
        let owned = transaction.others().filter(|change| change.is_well()).map(|change| async move {
            let ours: Vec<&UnitBefore> = change.units.iter().filter(|unit| unit.wanted).collect();
            (change.app.clone(), self.restart_units(&ours, true).await)
        });
        for (app, failed) in join_all(owned).await {
            if let (Some(reason), Some(change)) = (failed, transaction.others_mut().find(|change| change.app == app)) {
                change.fail(reason, true);
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
        let mut patients = Vec::new();
        for change in transaction.others().filter(|change| change.is_well() && change.release().is_some()) {
            let units: Vec<&UnitBefore> = change.units.iter().filter(|unit| unit.wanted).collect();
            let units = self.judged(&units).await;
            patients.push(Patient { app: change.app.clone(), units, check: change.check.clone() });
        }
        self.liveness.within(START_LIMIT * 2 + self.settings.health_window * 4);
        let ill = health::watch(self.services, &patients, self.settings.health_window).await;
        for change in transaction.others_mut() {
            if let Some(ill) = ill.get(&change.app) {
                change.fail(&ill.reason, ill.blamed);
            }
            if change.is_well() {
                change.outcome = Some(Outcome::Done);
                tracing::info!(
                    message_id = events::INSTALLED,
                    app = %change.app,
                    release = change.title(),
                    "`{}` is {}",
                    change.title(),
                    if change.release().is_some() { "installed and healthy" } else { "removed" }
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
    async fn begin_to_go_back(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let record = self.paths.transaction();
        if !transaction.others().any(Change::is_in_trouble) {
            return transaction.enter(Phase::UpdatingAgent, &record);
        }
        self.quarantine_the_blamed(transaction, quarantine)?;
        self.mark_units(transaction).await;
        let installed = self.installed(transaction).await?;
        for change in transaction.others_mut().filter(|change| change.is_in_trouble()) {
            change.replaced = !rollback::undo(change, &installed).is_ok_and(|undo| undo.is_nothing());
        }
        transaction.enter(Phase::RollingBack, &record)
    }

    /// Makes sure, before anything goes back, that what goes back isn't tried again.
    fn quarantine_the_blamed(&self, transaction: &Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let mut changed = false;
        for change in transaction.changes.iter().filter(|change| change.is_in_trouble()) {
            changed |= quarantine_if_blamed(change, transaction, quarantine, false);
        }
        if changed { quarantine.save(&self.paths.quarantine()) } else { Ok(()) }
    }

    /// Notes in the quarantine where a person is needed.
    fn note_the_degraded(&self, transaction: &Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let mut changed = false;
        for change in &transaction.changes {
            match &change.outcome {
                Some(Outcome::Degraded { .. }) => {
                    changed |= quarantine_if_blamed(change, transaction, quarantine, true);
                }
                Some(Outcome::Done) => {
                    let before = quarantine.clone();
                    quarantine.lift(&change.app);
                    changed |= before != *quarantine;
                }
                _ => {}
            }
        }
        if changed { quarantine.save(&self.paths.quarantine()) } else { Ok(()) }
    }

    /// dpkg puts back what was there before, one app after the other.
    async fn put_back(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(Change::is_in_trouble) {
            return Ok(());
        }
        let installed = self.installed(transaction).await?;
        for at in 0..transaction.changes.len() {
            let change = &transaction.changes[at];
            if change.is_own() || !change.is_in_trouble() {
                continue;
            }
            let reason = change.trouble.as_ref().map(|trouble| trouble.reason.clone()).unwrap_or_default();
            tracing::warn!(message_id = events::UNHEALTHY, app = %change.app, release = change.title(), reason, "`{}` is unhealthy, going back: {reason}", change.title());
            match rollback::undo(change, &installed) {
                Err(none) => degrade(&mut transaction.changes[at], &format!("there is no way back: {none}")),
                Ok(undo) if undo.is_nothing() => {}
                Ok(undo) => {
                    let result = self.undo(&undo, false).await;
                    let installed = self.installed(transaction).await?;
                    let change = &mut transaction.changes[at];
                    if !rollback::undo(change, &installed).is_ok_and(|undo| undo.is_nothing()) {
                        degrade(change, &format!("going back failed: {}", explain(&result)));
                    }
                }
            }
        }
        Ok(())
    }

    async fn undo(&self, undo: &Undo, restart_agent: bool) -> OrderResult {
        let mut order = self.empty_order();
        order.install.extend(undo.install.clone());
        order.remove.extend(undo.remove.clone());
        order.restart_agent = restart_agent;
        self.execute(&order).await
    }

    /// Restarts and watches the units of what was put back.
    async fn gate_back(&self, transaction: &mut Transaction) -> Result<()> {
        if !transaction.others().any(Change::is_in_trouble) {
            return Ok(());
        }
        self.services.daemon_reload().await?;
        let installed = self.installed(transaction).await?;
        let mut patients = Vec::new();
        for at in 0..transaction.changes.len() {
            let change = &transaction.changes[at];
            if change.is_own() || !change.is_in_trouble() {
                continue;
            }
            let there = change
                .before
                .as_ref()
                .and_then(|before| installed.iter().find(|package| package.package == before.package));
            let owned = there.map(|package| package.units.as_slice()).unwrap_or_default();
            let units = as_owned(&change.units, owned);
            let units: Vec<&UnitBefore> = units.iter().collect();
            let failed = self.restart_units(&units, change.replaced).await;
            let patient = Patient { app: change.app.clone(), units: self.judged(&units).await, check: None };
            match failed {
                Some(reason) => {
                    degrade(
                        &mut transaction.changes[at],
                        &format!("what was there before doesn't run either: {reason}"),
                    );
                }
                None => patients.push(patient),
            }
        }
        self.liveness.within(START_LIMIT * 2 + self.settings.health_window * 4);
        let ill = health::watch(self.services, &patients, self.settings.health_window).await;
        for change in transaction.others_mut().filter(|change| change.is_in_trouble()) {
            match ill.get(&change.app) {
                Some(ill) => degrade(change, &format!("what was there before doesn't run either: {}", ill.reason)),
                None => settle_back(change),
            }
        }
        Ok(())
    }

    /// pulld's own package: sends the order, or judges it if this is the process that came of it.
    async fn update_agent(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        ended: Option<&OrderResult>,
    ) -> Result<After> {
        let rescue = Rescue::new(self.paths.rescue());
        let rescued = rescue.left_behind()?;
        let sent_by = transaction.sent_by.clone();
        let installed = self.installed(transaction).await?;
        let Some(own) = transaction.own_mut() else { return Ok(After::GoOn) };
        if let Some(words) = rescued {
            own.fail(format!("the new pulld didn't start, and the rescue put the one before back: {words}"), true);
        }
        let came_of_it = is_in_place(own, &installed) && sent_by.as_deref() != Some(self.instance);
        if let (Some(wrong), true) = (self.wrong, came_of_it) {
            own.fail(format!("the new pulld can't go by its configuration: {wrong}"), true);
        }
        if own.is_well() && is_in_place(own, &installed) {
            if sent_by.as_deref() == Some(self.instance) {
                return Ok(After::Leave);
            }
            self.prove_ourselves(own, &rescue).await?;
            return Ok(After::GoOn);
        }
        if own.is_well() {
            let result = match ended.filter(|_| sent_by.is_some()) {
                Some(result) => result.clone(),
                None => self.send_own(transaction, &rescue).await?,
            };
            let installed = self.installed(transaction).await?;
            let Some(own) = transaction.own_mut() else { return Ok(After::GoOn) };
            if is_in_place(own, &installed) {
                tracing::info!(message_id = events::SELF_UPDATE, "the new pulld is installed: this one ends");
                return Ok(After::Leave);
            }
            own.fail(explain(&result), is_to_blame(own, &result, &installed));
        }
        self.undo_own(transaction, quarantine, &rescue).await
    }

    /// Has dpkg replace pulld. Normally systemd ends this process before the order is done.
    async fn send_own(&self, transaction: &mut Transaction, rescue: &Rescue) -> Result<OrderResult> {
        let mut order = self.empty_order();
        order.restart_agent = true;
        for own in transaction.changes.iter().filter(|change| change.is_own()) {
            tracing::info!(
                message_id = events::SELF_UPDATE,
                release = own.title(),
                "pulld replaces itself with `{}`",
                own.title()
            );
            if let Target::Release { deb, .. } = &own.target {
                order.install.push(deb.clone());
            }
            if let WayBack::Deb(deb) = &own.way_back {
                rescue.keep(deb)?;
                rescue.arm()?;
            } else {
                tracing::warn!(message_id = events::SELF_UPDATE, "there is no way back for pulld itself");
            }
        }
        transaction.sent_by = Some(self.instance.to_owned());
        transaction.save(&self.paths.transaction())?;
        Ok(self.execute(&order).await)
    }

    /// Has dpkg put the pulld before back, unless it is there.
    async fn undo_own(
        &self,
        transaction: &mut Transaction,
        quarantine: &mut Quarantine,
        rescue: &Rescue,
    ) -> Result<After> {
        self.quarantine_the_blamed(transaction, quarantine)?;
        let installed = self.installed(transaction).await?;
        let Some(own) = transaction.own_mut() else { return Ok(After::GoOn) };
        match rollback::undo(own, &installed) {
            Err(none) => degrade(own, &format!("there is no way back: {none}")),
            Ok(undo) if undo.is_nothing() => {
                settle_back(own);
                rescue.disarm()?;
            }
            Ok(undo) => {
                transaction.sent_by = Some(self.instance.to_owned());
                transaction.save(&self.paths.transaction())?;
                let result = self.undo(&undo, true).await;
                let installed = self.installed(transaction).await?;
                let Some(own) = transaction.own_mut() else { return Ok(After::GoOn) };
                if rollback::undo(own, &installed).is_ok_and(|undo| undo.is_nothing()) {
                    return Ok(After::Leave);
                }
                degrade(own, &format!("going back failed: {}", explain(&result)));
            }
        }
        Ok(After::GoOn)
    }

    /// The new pulld has come up, read its configuration and the record; now it holds out for the window.
    async fn prove_ourselves(&self, own: &mut Change, rescue: &Rescue) -> Result<()> {
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
fn is_in_place(change: &Change, installed: &[InstalledPackage]) -> bool {
    let there = installed.iter().find(|package| package.package == change.package);
    match &change.target {
        Target::Release { release, .. } => there.is_some_and(|package| {
            package.state == PackageState::Installed && package.release.as_ref() == Some(release)
        }),
        Target::Removed { .. } => there.is_none_or(|package| package.state == PackageState::Absent),
    }
}

/// The changes of other apps than pulld that dpkg doesn't have, by their place.
fn missing(transaction: &Transaction, installed: &[InstalledPackage]) -> Vec<usize> {
    let changes = transaction.changes.iter().enumerate();
    let missing = changes.filter(|(_, change)| !change.is_own() && !is_in_place(change, installed));
    missing.map(|(at, _)| at).collect()
}

/// Whether a failed install is the release's fault: dpkg got to it, or said so. A held lock or a service that couldn't
/// be started leaves the package as it was, and says nothing about the release.
fn is_to_blame(change: &Change, result: &OrderResult, installed: &[InstalledPackage]) -> bool {
    if change.release().is_none() {
        return false;
    }
    let untouched = rollback::undo(change, installed).is_ok_and(|undo| undo.is_nothing());
    !(untouched && matches!(result.exit, None | Some(2)))
}

fn no_result(trouble: &str) -> OrderResult {
    OrderResult { exit: None, trouble: Some(trouble.to_owned()), output: String::new() }
}

/// Why an order failed, in dpkg's own words where it has some.
fn explain(result: &OrderResult) -> String {
    let what = match (&result.trouble, result.exit) {
        (Some(trouble), _) => trouble.clone(),
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
fn quarantine_if_blamed(
    change: &Change,
    transaction: &Transaction,
    quarantine: &mut Quarantine,
    degraded: bool,
) -> bool {
    let (Some(trouble), Some(release), Some(generation)) = (&change.trouble, change.release(), transaction.generation)
    else {
        return false;
    };
    if !trouble.blamed && !degraded {
        return false;
    }
    let reason = match &change.outcome {
        Some(Outcome::Degraded { reason }) => reason.clone(),
        _ => trouble.reason.clone(),
    };
    quarantine.add(Quarantined { release: release.clone(), reason, generation, degraded, since: Timestamp::now() });
    true
}

/// What was there before runs again.
fn settle_back(change: &mut Change) {
    let Some(trouble) = &change.trouble else { return };
    let reason = trouble.reason.clone();
    if trouble.blamed {
        tracing::warn!(
            message_id = events::ROLLED_BACK,
            app = %change.app,
            release = change.title(),
            reason,
            "`{}` was rolled back, and isn't tried again until the document changes: {reason}",
            change.title()
        );
        change.outcome = Some(Outcome::RolledBack { reason });
    } else {
        tracing::warn!(message_id = events::ROLLED_BACK, app = %change.app, release = change.title(), reason, "`{}` is put off: {reason}", change.title());
        change.outcome = Some(Outcome::Postponed { reason });
    }
}

/// A person is needed.
fn degrade(change: &mut Change, why: &str) {
    let reason = match &change.trouble {
        Some(trouble) => format!("{}; {why}", trouble.reason),
        None => why.to_owned(),
    };
    tracing::error!(message_id = events::DEGRADED, app = %change.app, release = change.title(), reason, "`{}` needs a person: {reason}", change.app);
    change.trouble.get_or_insert(Trouble { reason: reason.clone(), blamed: true });
    change.outcome = Some(Outcome::Degraded { reason });
}
