//! What people changed with dpkg themselves, since the agent last looked.

use bucket::{Event, Timestamp};

use crate::{
    decide::by_hand::{When, by_hand, packages},
    machine::{PackageManager, ServiceManager},
    service::events,
    transaction::{progress::Outcome, record::Transaction, update::AppUpdate},
};

use super::{Agent, cycle::Cycle};

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Logs and keeps what was changed by hand, with what the plan of this cycle makes of it. While a transaction is
    /// unfinished, what differs is its work.
    pub(super) fn tell_changes_by_hand(&mut self, cycle: &Cycle) {
        if self.paths.transaction().exists() {
            return;
        }
        let now = Timestamp::now();
        let packages = packages(cycle.installed());
        let mut is_new = false;
        for change in self.seen.changes(&packages) {
            let when = When::of(self.machine.packages.changed_at(&change.package), now);
            let Some(change) = by_hand(change, when, &cycle.plan, &cycle.report) else { continue };
            let text = change.to_string();
            tracing::warn!(message_id = events::DRIFT, app = %change.app, "{text}");
            is_new |= self.events.add(Event { at: change.when.time(), app: Some(change.app.to_string()), text });
        }
        if is_new && let Err(error) = self.events.save(&self.paths.events()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save what was changed by hand: {error:#}");
        }
        if self.seen.take_over(packages) {
            self.save_seen();
        }
    }

    /// Expects what a transaction has installed, while its record is still there: nothing of it was done by hand.
    pub(super) fn expect_work(&mut self, transaction: &Transaction) {
        let is_degraded = |update: &AppUpdate| matches!(update.outcome(), Some(Outcome::Degraded { .. }));
        if transaction.updates.iter().any(is_degraded) {
            // Nor was what dpkg may have changed beside it.
            self.seen.forget_all();
        }
        for update in &transaction.updates {
            if let Some(previous) = update.previous.installed() {
                self.seen.forget(&previous.package);
            }
            match update.release() {
                Some(release) if update.outcome() == Some(&Outcome::Done) => self.seen.expect(&update.package, release),
                _ => self.seen.forget(&update.package),
            }
        }
        self.save_seen();
    }

    /// Forgets everything: what changed since was not necessarily done by hand.
    pub(super) fn forget_seen(&mut self) {
        self.seen.forget_all();
        self.save_seen();
    }

    fn save_seen(&self) {
        if let Err(error) = self.seen.save(&self.paths.seen()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save what is installed: {error:#}");
        }
    }
}
