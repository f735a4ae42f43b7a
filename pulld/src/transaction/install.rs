//! The phase in which dpkg installs and removes everything but pulld.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    decide::dpkg_failure,
    failure::{DpkgEnd, Fault},
    machine::{Compare, DpkgResult, InstalledPackage, PackageManager, ServiceManager},
};

use super::{
    executor::{Start, TransactionRunner},
    marks::note_unpacked,
    record::{Phase, Transaction},
    update::{AppUpdate, Target},
};

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// dpkg installs and removes everything but pulld, in one run. Says whether systemd has read its unit files since.
    /// When all went well, the next phase has begun.
    pub(super) async fn install(&self, transaction: &mut Transaction, start: &Start) -> Result<bool> {
        if transaction.others().next().is_none() {
            return Ok(false);
        }
        let result = if let Some(result) = start.result() {
            result.clone()
        } else {
            if start.is_resumed() {
                self.leave_what_is_on_hold(transaction).await?;
                transaction.save(&self.paths.transaction())?;
            }
            let result = self.install_what_is_missing(transaction, start).await?;
            if start.is_resumed() {
                self.ensure_not_locked_out(transaction, &result)?;
            }
            result
        };
        // Side by side: each waits for another process, or for the disk.
        let (reloaded, missing) =
            tokio::join!(self.services.daemon_reload(), self.note_installed(transaction, &result));
        let missing = missing?;
        reloaded?;
        let together = transaction.others().count() > 1;
        let is_read = missing.is_empty() || !together;
        let (mut result, mut unpacked) = (result.clone(), result.unpacked);
        let mut installed = if missing.is_empty() { Vec::new() } else { self.installed(transaction).await? };
        for at in missing {
            if let Some(fault) = why_it_stays(transaction, at, &installed, &unpacked) {
                transaction.updates[at].fail(fault, false);
                continue;
            }
            if together && is_missing(transaction, at, &installed, &unpacked) {
                // One that fails may have kept the others out: each gets a chance of its own.
                result = self.install_all(transaction, &[at]).await?;
                self.note_changes(transaction, &[at], result.changes.as_deref())?;
                unpacked.extend(result.unpacked.clone());
                installed = self.installed(transaction).await?;
            }
            if is_missing(transaction, at, &installed, &unpacked) {
                fail_by_dpkg(&mut transaction.updates[at], &result, &installed);
            } else {
                self.note_files(vec![transaction.updates[at].package.clone()]).await;
            }
        }
        Ok(is_read)
    }

    /// Notes what a dpkg run has done, and gives the updates that it has not carried out. When it has carried out all of
    /// them, the next phase has begun.
    async fn note_installed(&self, transaction: &mut Transaction, result: &DpkgResult) -> Result<Vec<usize>> {
        let missing = missing(transaction, &self.installed(transaction).await?, &result.unpacked);
        // What isn't there though it was installed is something else, perhaps.
        let mut suspects = if missing.is_empty() { going_forward(transaction) } else { missing.clone() };
        if suspects.is_empty() {
            // What an interrupted run was for was put on hold since, and is gone on with no more.
            suspects = transaction.places(|update| !update.is_own());
        }
        let in_place: Vec<usize> = going_forward(transaction).into_iter().filter(|at| !missing.contains(at)).collect();
        let files = self.note_files(in_place.iter().map(|at| transaction.updates[*at].package.clone()).collect());
        let noted = async {
            self.note_changes(transaction, &suspects, result.changes.as_deref())?;
            if missing.is_empty() {
                transaction.enter(Phase::Restarting, &self.paths.transaction())?;
            }
            Ok(missing)
        };
        // The first to be asked reads the files while the other one writes.
        tokio::join!(files, noted).1
    }

    /// Notes what the files of packages are like that dpkg has just unpacked: what differs later was changed since.
    async fn note_files(&self, packages: Vec<String>) {
        for package in packages {
            if let Err(error) = self.packages.changed_files(&package, Compare::Unpacked).await {
                tracing::debug!(%package, "could not note the files of `{package}`: {error:#}");
            }
        }
    }

    /// Gives up the updates whose package a person put on hold since they were planned.
    async fn leave_what_is_on_hold(&self, transaction: &mut Transaction) -> Result<()> {
        let installed = self.installed(transaction).await?;
        for at in transaction.places(|update| !update.is_own()) {
            if !is_missing(transaction, at, &installed, &BTreeMap::new()) {
                continue;
            }
            let update = &transaction.updates[at];
            let previous = update.previous.installed().map(|previous| &previous.package);
            // What is removed takes files with it that belong to what is installed beside it.
            let beside = transaction.beside(update).map(|beside| &beside.package);
            let is_of = |there: &InstalledPackage| {
                there.package == update.package || [previous, beside].contains(&Some(&there.package))
            };
            if let Some(there) = installed.iter().find(|there| there.on_hold && is_of(there)) {
                transaction.updates[at].fail(Fault::OnHold { package: there.package.clone() }, false);
            }
        }
        Ok(())
    }

    /// Installs what is not in place yet; a fresh transaction need not query dpkg first.
    async fn install_what_is_missing(&self, transaction: &mut Transaction, start: &Start) -> Result<DpkgResult> {
        let installed = if start.is_resumed() { self.installed(transaction).await? } else { Vec::new() };
        // Whether what is in order was installed again after a package beside it had gone, nobody knows.
        let is_open = |at: usize| !start.is_resumed() || is_missing(transaction, at, &installed, &BTreeMap::new());
        let mut places = going_forward(transaction);
        places.retain(|at| is_open(*at));
        if places.is_empty() {
            let changes = self.packages.unnoted_changes(&self.empty_request(transaction)).await?;
            return Ok(DpkgResult { changes: Some(changes), ..DpkgResult::failed("dpkg had done everything") });
        }
        self.install_all(transaction, &places).await
    }

    /// Has dpkg carry out some updates, by their place, in one run. A release that is in order is installed again only once
    /// the package beside it has lost its files.
    async fn install_all(&self, transaction: &mut Transaction, places: &[usize]) -> Result<DpkgResult> {
        self.note_unpacking(transaction, places).await?;
        let mut request = self.empty_request(transaction);
        let updates: Vec<&AppUpdate> = places.iter().map(|at| &transaction.updates[*at]).collect();
        let goes = |there: &AppUpdate| updates.iter().any(|update| update.package == there.package);
        let is_beside = |update: &AppUpdate| transaction.removed_beside(update).any(goes);
        let is_any_beside = updates.iter().any(|update| is_beside(update));
        let installed = if is_any_beside { self.installed(transaction).await? } else { Vec::new() };
        for update in &updates {
            match &update.target {
                Target::Release { deb, .. } => {
                    let waits = is_beside(update) && update.is_in_place(&installed);
                    request.install.extend((!waits).then(|| deb.clone()));
                }
                Target::Removed { .. } => {
                    request.remove.push(update.package.clone());
                    if let Some(Target::Release { deb, .. }) = transaction.beside(update).map(|beside| &beside.target) {
                        request.restore.insert(update.package.clone(), deb.clone());
                    }
                }
            }
        }
        let result = self.run_dpkg(&request).await?;
        note_unpacked(transaction, &result);
        Ok(result)
    }
}

/// The updates of other apps than pulld that go forward, by their place.
fn going_forward(transaction: &Transaction) -> Vec<usize> {
    transaction.places(|update| !update.is_own() && update.is_forward())
}

/// Those of them that dpkg has not carried out, removals first.
fn missing(transaction: &Transaction, installed: &[InstalledPackage], unpacked: &BTreeMap<String, u64>) -> Vec<usize> {
    let mut missing = going_forward(transaction);
    missing.retain(|at| is_missing(transaction, *at, installed, unpacked));
    missing.sort_by_key(|at| transaction.updates[*at].release().is_some());
    missing
}

/// Whether dpkg has not carried out an update. What is installed beside a package that goes must have been `unpacked`, too,
/// though it was in order: dpkg deletes with that package the files that it had taken over.
fn is_missing(
    transaction: &Transaction,
    at: usize,
    installed: &[InstalledPackage],
    unpacked: &BTreeMap<String, u64>,
) -> bool {
    let update = &transaction.updates[at];
    let is_unpacked = || unpacked.contains_key(&update.package);
    !update.is_in_place(installed) || transaction.removed_beside(update).next().is_some() && !is_unpacked()
}

/// Why a release that is in order is not installed again, if that is so: why the package beside it could not be removed.
fn why_it_stays(
    transaction: &Transaction,
    at: usize,
    installed: &[InstalledPackage],
    unpacked: &BTreeMap<String, u64>,
) -> Option<Fault> {
    let update = &transaction.updates[at];
    let mut failed = transaction.removed_beside(update).filter_map(|removed| removed.progress.failure());
    let failed = failed.next().filter(|_| update.is_in_place(installed) && !unpacked.contains_key(&update.package))?;
    Some(failed.failure.first().clone())
}

/// Notes that dpkg did not carry out an update, and whether the release caused that: dpkg got to it, or said so. A held lock or a
/// service that could not be started leaves the package as it was, and says nothing about the release; nor does a disk that is
/// full or read-only, whatever dpkg left half-done because of it.
pub(super) fn fail_by_dpkg(update: &mut AppUpdate, result: &DpkgResult, installed: &[InstalledPackage]) {
    let mut fault = dpkg_failure::explain(result, update.previous_title());
    // dpkg(1): it exits with 2 for a fatal error of its own, as a held lock.
    let dpkg_gave_up = matches!(result.end, DpkgEnd::Failed(_) | DpkgEnd::Exited(2));
    fault.machine_at_fault |= result.is_locked_out || update.is_undone(installed) && dpkg_gave_up;
    let release_at_fault = update.release().is_some() && !fault.machine_at_fault;
    update.fail(Fault::DpkgFailed(Box::new(fault)), release_at_fault);
}
