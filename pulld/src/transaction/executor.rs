//! Carries out a transaction, phase by phase, and can begin with any of them.
//!
//! What dpkg did is queried from dpkg after each run, never concluded from the result of the run: that only gives the
//! words for the reason.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    config::Settings,
    decide::{verdict::START_TIMEOUT, wait::Wait},
    failure::{Aftermath, DpkgEnd, Fault},
    machine::{DpkgRequest, DpkgResult, InstalledPackage, PackageChange, PackageManager, ServiceManager},
    service::{announcer::Announcer, events, liveness::Liveness},
    state::{paths::Paths, quarantine::Quarantine},
};

use super::{
    outcome,
    progress::Outcome,
    record::{MAX_RESUMPTIONS, Phase, Transaction},
    unplanned::{self, under_dpkg},
    update::AppUpdate,
};

/// How long the agent waits for whoever holds dpkg's lock before that is named in the report.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The time between two looks at who holds it from then on.
const LOCK_INTERVAL: Duration = Duration::from_secs(1);

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
    /// Identifies this process: no other one has the same.
    pub(crate) instance: &'a str,
    /// Why the configuration is invalid, if it is: a new pulld that cannot read it fails its health gate.
    pub(crate) configuration_error: Option<&'a str>,
    /// Where each wait is announced, for the watchdog.
    pub(crate) liveness: &'a Liveness,
    /// Where it is announced what is done, for the reports.
    pub(crate) announcer: &'a Announcer,
}

/// How carrying out a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// In the process that wrote the record: dpkg has not run yet.
    Fresh,
    /// After an interruption: dpkg may have run or not.
    Resumed {
        /// How the interrupted dpkg run ended, if it left a result.
        result: Option<DpkgResult>,
    },
}

impl Start {
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }

    pub(super) fn result(&self) -> Option<&DpkgResult> {
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
    /// Completes or rolls back a transaction that another process, or an earlier cycle, left unfinished.
    pub(crate) async fn resume(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<Next> {
        self.liveness.within(self.settings.transaction_timeout);
        // dpkg may be at it still.
        self.announcer.announce(transaction.activities());
        let request = self.empty_request(transaction);
        // While systemd does not answer, nothing is resumed, and that is no resumption.
        let mut result = self.accompany(self.packages.resume()).await?;
        transaction.resumptions += 1;
        let is_given_up = transaction.resumptions > MAX_RESUMPTIONS;
        let is_repaired_first = matches!(transaction.phase, Phase::RollingBack | Phase::UpdatingAgent) && !is_given_up;
        if let Some(result) = result.as_mut().filter(|_| !is_repaired_first) {
            self.compare(&request, result).await;
        }
        self.note_what_is_known(transaction, result.as_ref()).await?;
        transaction.save(&self.paths.transaction())?;
        // Of what was being installed it is better known which app's release did it when the rest is installed too.
        if transaction.phase != Phase::Installing || is_given_up {
            let suspects = under_dpkg(transaction);
            match &result {
                Some(result) => self.note_changes(transaction, &suspects, result.changes.as_deref())?,
                None if is_given_up => self.note_what_is_unnoted(transaction, &suspects).await?,
                // What it left half-done is repaired first.
                None => {}
            }
        }
        tracing::warn!(
            message_id = events::RESUMED,
            phase = ?transaction.phase,
            resumptions = transaction.resumptions,
            "resuming an interrupted transaction"
        );
        if is_given_up {
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
        let mut units_are_read = false;
        if transaction.phase == Phase::Installing {
            self.announcer.announce(transaction.activities());
            units_are_read = self.install(transaction, &start).await?;
            if transaction.phase == Phase::Installing {
                transaction.enter(Phase::Restarting, &record)?;
            }
        }
        if transaction.phase == Phase::Restarting {
            self.announcer.announce(transaction.activities());
            self.restart(transaction, units_are_read).await?;
            transaction.enter(Phase::Gating, &record)?;
        }
        if transaction.phase == Phase::Gating {
            self.announcer.announce(transaction.activities());
            self.gate(transaction).await;
            self.start_rollback(transaction, quarantine).await?;
        }
        if transaction.phase == Phase::RollingBack {
            self.announcer.announce(transaction.activities());
            self.roll_back(transaction).await?;
            transaction.enter(Phase::CheckingRollback, &record)?;
        }
        if transaction.phase == Phase::CheckingRollback {
            self.announcer.announce(transaction.activities());
            self.check_rollback(transaction).await?;
            transaction.enter(Phase::UpdatingAgent, &record)?;
        }
        if transaction.phase == Phase::UpdatingAgent {
            self.announcer.announce(transaction.activities());
            // Here, because it can be repeated: every other app has its outcome on disk.
            self.retire(&transaction.dropped(|update| update.outcome() == Some(&Outcome::Done))).await?;
            if self.update_agent(transaction, quarantine, start.result()).await? == Next::Exit {
                return Ok(Next::Exit);
            }
            outcome::degrade_for_what_was_unplanned(transaction);
            outcome::quarantine_by_outcome(transaction, quarantine, self.paths)?;
            transaction.enter(Phase::Done, &record)?;
        }
        Ok(Next::Continue)
    }

    /// Ends what was interrupted too often: first by a rollback; a rollback that is interrupted too often stays as it is.
    async fn give_up(&self, transaction: &mut Transaction, quarantine: &mut Quarantine) -> Result<()> {
        let times = transaction.resumptions;
        let record = self.paths.transaction();
        match transaction.phase {
            Phase::Installing | Phase::Restarting | Phase::Gating => {
                let fail = |update: &mut AppUpdate| update.fail(Fault::Interrupted { times }, true);
                transaction.others_mut().for_each(fail);
                self.start_rollback(transaction, quarantine).await
            }
            Phase::RollingBack | Phase::CheckingRollback => {
                let interrupted = Aftermath::RollbackInterrupted { times };
                transaction.others_mut().for_each(|update| outcome::degrade(update, interrupted.clone()));
                transaction.enter(Phase::UpdatingAgent, &record)
            }
            Phase::UpdatingAgent => {
                if let Some(own) = transaction.own_mut() {
                    if own.has_failed() {
                        outcome::degrade(own, Aftermath::RollbackInterrupted { times });
                    } else {
                        own.fail(Fault::Interrupted { times }, true);
                    }
                }
                transaction.enter(Phase::UpdatingAgent, &record)
            }
            Phase::Done => Ok(()),
        }
    }

    /// Has dpkg carry out a request; what keeps it from trying is a result too.
    ///
    /// # Errors
    /// When systemd does not answer any more, as on a machine that goes down: then nobody knows what dpkg does, and it is
    /// for the next process to find out.
    pub(super) async fn run_dpkg(&self, request: &DpkgRequest) -> Result<DpkgResult> {
        self.liveness.within(request.timeout);
        let mut result = match self.accompany(self.packages.execute(request)).await {
            Ok(result) => result,
            Err(error) => {
                let failed = DpkgResult::failed(format!("{error:#}"));
                self.packages.resume().await?.unwrap_or(failed)
            }
        };
        self.compare(request, &mut result).await;
        self.liveness.within(START_TIMEOUT);
        Ok(result)
    }

    /// A run that did not compare what else changed may have had one before it that was interrupted, and did that. Whoever
    /// has the lock may be in the middle of something.
    async fn compare(&self, request: &DpkgRequest, result: &mut DpkgResult) {
        if result.changes.is_some() || result.is_locked_out {
            return;
        }
        match self.packages.unnoted_changes(request).await {
            Ok(changes) => result.changes = Some(changes),
            Err(error) => tracing::warn!("could not see what else dpkg changed: {error:#}"),
        }
    }

    /// Leaves what has to be done to the next cycle, which resumes it, if another program held dpkg's lock for too long: what
    /// is half-done is neither judged nor given up before dpkg could run, and that was no resumption.
    ///
    /// # Errors
    /// In that case.
    pub(super) fn ensure_not_locked_out(&self, transaction: &mut Transaction, result: &DpkgResult) -> Result<()> {
        match &result.end {
            DpkgEnd::Failed(reason) if result.is_locked_out => {
                transaction.resumptions = transaction.resumptions.saturating_sub(1);
                transaction.save(&self.paths.transaction())?;
                bail!("dpkg was not run, will retry: {reason}")
            }
            _ => Ok(()),
        }
    }

    /// Waits for the end of a dpkg run. Should another program's hold of dpkg's lock keep it from beginning, that program
    /// is named: in the journal, and to whoever hears what is done.
    async fn accompany<T>(&self, run: impl Future<Output = T>) -> T {
        let naming = async {
            tokio::time::sleep(LOCK_PATIENCE).await;
            let mut named = None;
            loop {
                let holder = self.packages.lock_holder();
                if holder != named {
                    let waits = holder.clone().map(|holder| Wait::DpkgLock(holder).to_string());
                    if let Some(waits) = &waits {
                        tracing::warn!(message_id = events::LOCK_HELD, "{waits}");
                    }
                    self.announcer.announce_wait(waits);
                    named = holder;
                }
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = run => ended,
            () = naming => unreachable!("it never ends"),
        };
        self.announcer.announce_wait(None);
        ended
    }

    /// Notes in the record what dpkg runs changed of packages that the transaction isn't about, with the updates that may
    /// have caused it, which are those in the places `suspects`. From then on it is no news; what was not compared, which
    /// is `None`, is some yet.
    pub(super) fn note_changes(
        &self,
        transaction: &mut Transaction,
        suspects: &[usize],
        changes: Option<&[PackageChange]>,
    ) -> Result<()> {
        let Some(changes) = changes else { return Ok(()) };
        let clauses = unplanned::clauses(transaction, changes);
        if unplanned::note_unplanned(transaction, suspects, clauses) {
            transaction.save(&self.paths.transaction())?;
        }
        self.packages.forget_changes()
    }

    /// The same for what an interrupted dpkg run has changed that no run after it was compared with: nothing is left to run
    /// that would repair it.
    pub(super) async fn note_what_is_unnoted(&self, transaction: &mut Transaction, suspects: &[usize]) -> Result<()> {
        let changes = self.packages.unnoted_changes(&self.empty_request(transaction)).await?;
        self.note_changes(transaction, suspects, Some(&changes))
    }

    /// A request for a part of a transaction, that is to be filled.
    pub(super) fn empty_request(&self, transaction: &Transaction) -> DpkgRequest {
        DpkgRequest {
            timeout: self.settings.transaction_timeout,
            transaction: Some(transaction.started.to_string()),
            planned: transaction.packages(),
            ..DpkgRequest::default()
        }
    }

    /// What dpkg has of the packages that a transaction is about.
    pub(super) async fn installed(&self, transaction: &Transaction) -> Result<Vec<InstalledPackage>> {
        self.packages.packages(&transaction.packages()).await
    }
}
