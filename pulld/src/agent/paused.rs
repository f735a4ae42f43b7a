//! Apps that a person rolls back on this server, and that the agent leaves alone for a while.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bucket::{AppName, Timestamp};

use crate::{
    decide::{
        plan::{self, Step},
        report::Reason,
        way_back::way_back,
    },
    machine::{PackageManager, ServiceManager},
    service::{
        events,
        instructions::{Answer, Rollback},
    },
    state::{named::Named, pauses::Pause},
    transaction::{executor::Next, progress::Outcome, record::Transaction, update::AppUpdate},
};

use super::{Agent, cycle::Cycle};

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Prepares going back to an earlier release, from the cache alone, and leaves the app alone from now on. Gives what
    /// is done, in a sentence, and the work.
    ///
    /// # Errors
    /// When there is nothing to go back to, or it cannot be installed; then everything stays as it is.
    pub(super) async fn prepare_rollback(
        &mut self,
        rollback: &Rollback,
        cycle: &mut Cycle,
    ) -> Result<(String, Vec<AppUpdate>)> {
        self.read_and_plan(cycle).await?;
        let Rollback { app, to, who, why, seconds } = rollback;
        let current = plan::current(cycle.installed(), app).and_then(|package| package.release.as_ref());
        let cached = self.cache.releases_of(app)?;
        let release = match way_back(app, current, to.as_ref(), &cached, &self.lineage, &self.quarantine) {
            Ok(release) => release,
            Err(none) => bail!("{none}"),
        };
        let step = Step::Install { release: release.clone(), from: current.cloned(), reason: Reason::Rollback };
        let (updates, unprepared) = self.preparer(None).prepare(&[step], cycle.installed()).await;
        if let Some(failed) = unprepared.into_iter().next() {
            return Err(failed.fault).with_context(|| format!("could not prepare `{}`", release.stem()));
        }
        let since = Timestamp::now();
        let until = seconds.and_then(|seconds| since.checked_add(Duration::from_secs(seconds)).ok());
        let named = self.named(app);
        let before = self.pauses.clone();
        let text = format!("rolling back `{app}` to `{}`", release.stem());
        let pause = Pause { release, named, who: who.clone(), why: why.clone(), since, until };
        self.pauses.add(pause);
        if let Err(error) = self.pauses.save(&self.paths.pauses()) {
            self.pauses = before;
            self.machine.packages.stand_down();
            return Err(error);
        }
        self.retries.remove(app);
        tracing::warn!(message_id = events::PAUSED, %app, who, why, "{text}, as `{who}` asked: {why}");
        Ok((text, updates))
    }

    /// The app's entry in the document as last read, perhaps by an earlier process.
    fn named(&self, app: &AppName) -> Named {
        if let Some((_, document)) = self.desired.document() {
            return Named::of(app, Some(document));
        }
        let remembered = self.recall_unread();
        Named::of(app, remembered.as_ref().map(|remembered| &remembered.document))
    }

    /// Goes back as prepared, and reports meanwhile.
    pub(super) async fn carry_out_rollback(&mut self, updates: Vec<AppUpdate>, cycle: &mut Cycle) -> Result<Next> {
        // Now that the app is paused.
        self.read_and_plan(cycle).await?;
        let apps: Vec<AppName> = updates.iter().map(|update| update.app.clone()).collect();
        cycle.report = std::mem::take(&mut cycle.report).with_under_way(&apps);
        let mut meanwhile = self.report_begun(true, cycle).await;
        let next = tokio::select! {
            biased;
            next = self.carry_out(updates, None, cycle) => next,
            never = meanwhile.report() => match never {},
        };
        self.report_ended(meanwhile);
        let next = next?;
        if next == Next::Continue {
            // The cycle may end before it queries dpkg again, as without a bucket.
            self.read_and_plan(cycle).await?;
        }
        Ok(next)
    }

    /// Takes care again of the apps whose time has passed or whose entry has changed.
    pub(super) fn end_pauses(&mut self) {
        let before = self.pauses.clone();
        let document = self.desired.document().map(|(_, document)| document);
        for (pause, end) in self.pauses.end_those_over(document, Timestamp::now()) {
            let app = pause.release.app();
            tracing::info!(message_id = events::PAUSED, %app, "`{app}` is no longer paused: {end}");
        }
        if self.pauses != before {
            self.save_pauses();
        }
    }

    /// Takes care again of the apps that could not be rolled back.
    pub(super) fn end_pauses_that_failed(&mut self, transaction: &Transaction) {
        for update in &transaction.updates {
            let has_failed = !matches!(update.outcome(), Some(Outcome::Done));
            let is_paused = self.pauses.of(&update.app).is_some_and(|pause| Some(&pause.release) == update.release());
            if has_failed && is_paused {
                self.pauses.end(&update.app);
                self.save_pauses();
            }
        }
    }

    /// Takes care of an app again because a person says so.
    pub(super) fn resume(&mut self, app: &AppName) -> Answer {
        if self.pauses.end(app).is_none() {
            return Answer::Refused(format!("`{app}` is not paused: there is nothing to resume (see `pulld status`)"));
        }
        self.save_pauses();
        let text = format!("`{app}` is no longer paused: a person resumed it");
        tracing::info!(message_id = events::PAUSED, %app, "{text}");
        Answer::Accepted(text)
    }

    /// Notes which releases stayed up, for who goes back later.
    pub(super) fn note_lineage(&mut self, transaction: &Transaction) {
        let before = self.lineage.clone();
        for update in transaction.updates.iter().filter(|update| update.outcome() == Some(&Outcome::Done)) {
            match update.release() {
                Some(release) => {
                    let previous = update.previous.installed().map(|previous| &previous.release);
                    self.lineage.note(release, previous);
                }
                None if transaction.installed_beside(update).is_none() => self.lineage.forget(&update.app),
                None => {}
            }
        }
        if self.lineage != before
            && let Err(error) = self.lineage.save(&self.paths.lineage())
        {
            tracing::warn!(message_id = events::STATE_LOST, "could not save which releases stayed up: {error:#}");
        }
    }

    /// Writes the pauses down. Where that fails, they are lost with this process, and that is logged.
    fn save_pauses(&self) {
        if let Err(error) = self.pauses.save(&self.paths.pauses()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save which apps are paused: {error:#}");
        }
    }
}
