//! The agent's work on its transaction: it begins one, resumes an interrupted one, and records how each app ended.

use anyhow::{Context, Result};
use bucket::{Generation, ReleaseName, Timestamp};
use tokio::time::Instant;

use crate::{
    failure::{Aftermath, Failure, Fault, OtherPackages},
    machine::{PackageManager, ServiceManager},
    random::random_fraction,
    service::{announcer::Announcer, events, liveness::Liveness, notify},
    state::{paths::Paths, persist, quarantine::Quarantined, rescue::Rescue},
    transaction::{
        self,
        executor::{Next, Start, TransactionRunner},
        progress::Outcome,
        record::Transaction,
        self_update::disarm,
        update::{AppUpdate, Target},
    },
};

use super::{Agent, Machine, configured::Configured, cycle::Cycle};

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Completes or undoes the transaction of an earlier process, or of an earlier cycle.
    pub(super) async fn resume_interrupted(&mut self, cycle: &mut Cycle) -> Result<Next> {
        let had_record = self.paths.transaction().exists();
        let Some(mut transaction) = transaction::load(&self.paths.transaction()) else {
            if had_record {
                self.forget_seen();
            }
            return self.confirm_without_record(cycle).await;
        };
        cycle.busy = true;
        notify::status(&format!("resuming {}", titles(&transaction.updates)));
        let mut meanwhile = self.report_resumed(&transaction).await;
        let Self { machine, paths, configured, instance, liveness, announcer, quarantine, .. } = self;
        let runner = runner(machine, paths, configured, instance, liveness, announcer);
        let next = tokio::select! {
            biased;
            next = runner.resume(&mut transaction, quarantine) => next,
            never = meanwhile.report() => match never {},
        };
        self.report_ended(meanwhile);
        let next = next.context("could not complete the interrupted transaction")?;
        self.close(&transaction, next, cycle)?;
        Ok(next)
    }

    /// An armed rescue without a record: this process is a new pulld whose record was lost, and confirms itself.
    async fn confirm_without_record(&mut self, cycle: &mut Cycle) -> Result<Next> {
        let rescue = Rescue::new(self.paths.rescue());
        let rescued = rescue.left_behind()?;
        if !rescue.is_armed() && rescued.is_none() {
            return Ok(Next::Continue);
        }
        self.forget_seen();
        if let Some(words) = rescued {
            let restored = Failure::from(Fault::Rescued { words });
            let (failure, is_degraded) = match rescue.unplanned()? {
                Some(changes) => {
                    let others = OtherPackages { changes, app: None };
                    (restored.and(Aftermath::OtherPackagesChanged(others)), true)
                }
                None => (restored, false),
            };
            tracing::error!(message_id = events::SELF_UPDATE, "{failure}");
            self.quarantine_rescued(&rescue, &failure, is_degraded)?;
            cycle.note_own(failure.to_string());
        }
        let window = self.configured.settings().health_window;
        self.liveness.within(window);
        tokio::time::sleep(window).await;
        disarm(&rescue, &self.machine.services).await?;
        Ok(Next::Continue)
    }

    /// The rescue restored this pulld, and the new one has left no record that it can read: what has to be known of the
    /// new one is known from when the rescue was armed.
    fn quarantine_rescued(&mut self, rescue: &Rescue, failure: &Failure, degraded: bool) -> Result<()> {
        let Some(armed) = rescue.armed()? else { return Ok(()) };
        if let (Some(release), Some(generation)) = (armed.release, armed.generation) {
            let (failure, since) = (failure.clone(), Timestamp::now());
            let previous = armed.previous;
            self.quarantine.add(Quarantined { release, failure, generation, degraded, since, previous });
            self.quarantine.save(&self.paths.quarantine())?;
        }
        Ok(())
    }

    /// Installs, restarts, checks, and rolls back where necessary. `generation` is that of the document that asks for it;
    /// `None` when a person does.
    pub(super) async fn carry_out(
        &mut self,
        updates: Vec<AppUpdate>,
        generation: Option<Generation>,
        cycle: &mut Cycle,
    ) -> Result<Next> {
        log_start(&updates);
        let carried_out = self.carry_out_new(updates, generation).await;
        // Nothing was left for it to do, perhaps.
        self.machine.packages.stand_down();
        let (transaction, next) = carried_out?;
        self.close(&transaction, next, cycle)?;
        Ok(next)
    }

    async fn carry_out_new(
        &mut self,
        updates: Vec<AppUpdate>,
        generation: Option<Generation>,
    ) -> Result<(Transaction, Next)> {
        let boot = self.machine.services.boot()?;
        let mut transaction = Transaction::new(Timestamp::now(), generation, Some(boot), updates);
        transaction.save(&self.paths.transaction())?;
        let Self { machine, paths, configured, instance, liveness, announcer, quarantine, .. } = self;
        let runner = runner(machine, paths, configured, instance, liveness, announcer);
        let next = runner.carry_out(&mut transaction, quarantine, Start::Fresh).await?;
        Ok((transaction, next))
    }

    /// Notes how the updates ended and removes the record.
    fn close(&mut self, transaction: &Transaction, next: Next, cycle: &mut Cycle) -> Result<()> {
        if next == Next::Exit {
            return Ok(());
        }
        for update in &transaction.updates {
            match update.outcome() {
                Some(Outcome::Done) => self.files.note_unpacked(&update.package),
                _ => self.files.forget(&update.package),
            }
            let (Target::Release { release, .. } | Target::Removed { release }) = &update.target;
            let is_removal = update.release().is_none();
            let beside = transaction.installed_beside(update);
            // What is left behind goes when the plan has that release installed.
            let release = beside.unwrap_or(release);
            if transaction.is_all_done(&update.app) {
                self.retries.remove(&update.app);
            }
            let text = match update.outcome() {
                Some(Outcome::Done) if beside.is_some() => {
                    format!("removed the package `{}`, which was left behind", update.package)
                }
                Some(Outcome::Done) if is_removal => "removed".to_owned(),
                Some(Outcome::Done) => format!("installed `{}`", update.title()),
                Some(Outcome::RolledBack(failure)) => format!("rolled back `{}`: {failure}", update.title()),
                Some(Outcome::Degraded { failure, retried }) => {
                    if is_removal || *retried {
                        self.schedule_retry(release, failure);
                    } else {
                        // For what dpkg calls broken, and a rollback that is tried again: the plan has nothing else for a
                        // quarantined release.
                        let repair = self.quarantine.repair(release);
                        self.retries.schedule(repair, failure, Instant::now(), random_fraction());
                    }
                    format!("degraded: {failure}")
                }
                // That is told, and tried again, with the package that it waits for.
                Some(Outcome::Postponed(failure)) if waits_for_removal(transaction, update, failure) => continue,
                Some(Outcome::Postponed(failure)) => {
                    self.schedule_retry(release, failure);
                    format!("postponed `{}`: {failure}", update.title())
                }
                None => continue,
            };
            cycle.failed |= !matches!(update.outcome(), Some(Outcome::Done));
            cycle.note(&update.app, text);
        }
        self.expect_work(transaction);
        self.forget_counts(transaction);
        self.note_lineage(transaction);
        self.end_pauses_that_failed(transaction);
        persist::remove(&self.paths.transaction())
    }

    /// Schedules the next attempt at a release, and logs the reason unless it is the same as before. If it was to repair
    /// what a quarantined release had left, that one's app is degraded.
    pub(super) fn schedule_retry(&mut self, release: &ReleaseName, failure: &Failure) {
        if self.quarantine.degrade(release)
            && let Err(error) = self.quarantine.save(&self.paths.quarantine())
        {
            tracing::warn!(message_id = events::STATE_LOST, "could not save the quarantine: {error:#}");
        }
        if self.retries.schedule(release, failure, Instant::now(), random_fraction()) {
            tracing::warn!(
                message_id = events::PREPARATION_FAILED,
                app = %release.app(),
                release = release.stem(),
                "could not prepare `{}`, will retry: {failure}",
                release.stem()
            );
        }
    }
}

/// Whether an update failed only because a package beside it could not be removed.
fn waits_for_removal(transaction: &Transaction, update: &AppUpdate, failure: &Failure) -> bool {
    let is_cause = |removed: &AppUpdate| match removed.outcome() {
        Some(Outcome::Degraded { failure: cause, .. }) => cause.first() == failure.first(),
        _ => false,
    };
    transaction.removed_beside(update).any(is_cause)
}

fn titles(updates: &[AppUpdate]) -> String {
    updates.iter().map(AppUpdate::title).collect::<Vec<_>>().join(", ")
}

fn log_start(updates: &[AppUpdate]) {
    notify::status(&format!("installing {}", titles(updates)));
    for update in updates {
        let verb = if update.release().is_some() { "installing" } else { "removing" };
        tracing::info!(
            message_id = events::INSTALLING,
            app = %update.app,
            release = update.title(),
            from = update.previous.installed().map(|previous| previous.release.stem()),
            "{verb} `{}`",
            update.title()
        );
    }
}

fn runner<'a, P, S>(
    machine: &'a Machine<P, S>,
    paths: &'a Paths,
    configured: &'a Configured,
    instance: &'a str,
    liveness: &'a Liveness,
    announcer: &'a Announcer,
) -> TransactionRunner<'a, P, S> {
    TransactionRunner {
        packages: &machine.packages,
        services: &machine.services,
        paths,
        settings: configured.settings(),
        instance,
        configuration_error: configured.invalid(),
        liveness,
        announcer,
    }
}
