//! What the end of an update means to people and to the quarantine.

use anyhow::Result;
use bucket::Timestamp;

use crate::{
    failure::{Aftermath, Failure, Fault, OtherPackages},
    service::events,
    state::{
        paths::Paths,
        quarantine::{Quarantine, Quarantined},
    },
};

use super::{progress::Outcome, record::Transaction, update::AppUpdate};

/// The previous release of the app runs again.
pub(super) fn rolled_back(update: &mut AppUpdate) {
    update.progress.rolled_back();
    let title = update.title();
    match update.outcome() {
        Some(Outcome::RolledBack(failure)) => tracing::warn!(
            message_id = events::ROLLED_BACK,
            app = %update.app,
            release = title,
            reason = %failure,
            "rolled back `{title}`, quarantined until its entry in the server document changes: {failure}"
        ),
        Some(Outcome::Postponed(failure)) => tracing::warn!(
            message_id = events::ROLLED_BACK,
            app = %update.app,
            release = title,
            reason = %failure,
            "postponed `{title}`, will retry: {failure}"
        ),
        Some(Outcome::Done | Outcome::Degraded { .. }) | None => {}
    }
}

/// The update cannot be undone either, because of that. What does not have to be undone stays as it is.
pub(super) fn degrade(update: &mut AppUpdate, aftermath: Aftermath) {
    if !update.has_failed() {
        return;
    }
    update.progress.degrade(aftermath);
    log_degraded(update);
}

/// The release that was put back doesn't stay up either, because of that.
pub(super) fn previous_is_unhealthy(fault: Fault) -> Aftermath {
    Aftermath::PreviousUnhealthy(Box::new(fault))
}

/// However an update ended, what else its dpkg runs changed is for a person to judge.
pub(super) fn degrade_for_what_was_unplanned(transaction: &mut Transaction) {
    for update in &mut transaction.updates {
        let Some(changes) = update.unplanned.take() else { continue };
        update.progress.find_unplanned(OtherPackages { changes, app: Some(update.app.clone()) });
        log_degraded(update);
    }
}

fn log_degraded(update: &AppUpdate) {
    if let Some(Outcome::Degraded { failure, .. }) = update.outcome() {
        tracing::error!(
            message_id = events::DEGRADED,
            app = %update.app,
            release = update.title(),
            reason = %failure,
            "`{}` is degraded, manual intervention required: {failure}",
            update.app
        );
    }
}

/// Makes sure, before anything is rolled back, that releases at fault are not retried.
pub(super) fn quarantine_those_at_fault(
    transaction: &Transaction,
    quarantine: &mut Quarantine,
    paths: &Paths,
) -> Result<()> {
    change(quarantine, paths, |quarantine| {
        for update in &transaction.updates {
            if let Some(failed) = update.progress.failure().filter(|failed| failed.release_at_fault) {
                add(update, transaction, quarantine, &failed.failure, false);
            }
        }
    })
}

/// Notes degraded releases in the quarantine, and lifts it for apps whose update succeeded: not for those that a person
/// rolled back, whose release in the document is as bad as it was.
pub(super) fn quarantine_by_outcome(
    transaction: &Transaction,
    quarantine: &mut Quarantine,
    paths: &Paths,
) -> Result<()> {
    change(quarantine, paths, |quarantine| {
        for update in &transaction.updates {
            match update.outcome() {
                Some(Outcome::Degraded { failure, retried: false }) => {
                    add(update, transaction, quarantine, failure, true);
                }
                Some(Outcome::Done) if is_lifting(update, transaction) => lift(update, quarantine),
                // What was the machine's fault is tried again, and repairs what was left half-done.
                Some(
                    Outcome::Done
                    | Outcome::Degraded { retried: true, .. }
                    | Outcome::RolledBack(_)
                    | Outcome::Postponed(_),
                )
                | None => {}
            }
        }
    })
}

/// Whether the success of an update says that the document's release of its app is none to keep away.
fn is_lifting(update: &AppUpdate, transaction: &Transaction) -> bool {
    let is_beside = transaction.installed_beside(update).is_some();
    transaction.generation.is_some() && !is_beside && transaction.is_all_done(&update.app)
}

/// Writes the quarantine if `by` makes it another one.
fn change(quarantine: &mut Quarantine, paths: &Paths, by: impl FnOnce(&mut Quarantine)) -> Result<()> {
    let before = quarantine.clone();
    by(quarantine);
    if *quarantine == before { Ok(()) } else { quarantine.save(&paths.quarantine()) }
}

/// Lifts the quarantine of an app whose update succeeded, unless that only repaired what the quarantined release had left.
fn lift(update: &AppUpdate, quarantine: &mut Quarantine) {
    match update.release().and_then(|release| quarantine.repaired_by(release)) {
        Some(entry) if entry.degraded => {
            entry.degraded = false;
            entry.failure = entry.failure.clone().and(Aftermath::RestoredLater);
        }
        Some(_) => {}
        None => drop(quarantine.lift(&update.app)),
    }
}

/// Quarantines the release of an update, if it has one and a document asked for it. One that was to repair what another
/// has left is not: it had stayed up here. If a rollback that is made up for leads to one that doesn't, a person has to see
/// to it, and neither takes the other's place again.
fn add(update: &AppUpdate, transaction: &Transaction, quarantine: &mut Quarantine, failure: &Failure, degraded: bool) {
    let (Some(release), Some(generation)) = (update.release(), transaction.generation) else { return };
    if let Some(repaired) = quarantine.repaired_by(release) {
        repaired.degraded |= degraded;
        if repaired.failure.awaits_rollback() {
            let unhealthy = previous_is_unhealthy(failure.first().clone());
            repaired.failure = repaired.failure.clone().and(unhealthy);
        }
        return;
    }
    let previous = update.previous.installed().map(|previous| previous.release.clone());
    quarantine.add(Quarantined {
        release: release.clone(),
        failure: failure.clone(),
        generation,
        degraded,
        since: Timestamp::now(),
        previous: previous.filter(|previous| previous != release),
    });
}
