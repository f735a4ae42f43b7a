//! The phase in which the units of what was installed are restarted.

use anyhow::Result;
use bucket::{UnitAction, UnitName};
use futures_util::future::join_all;

use crate::{
    decide::{
        triggered,
        units::{self, Act, UnitBefore},
        verdict::START_TIMEOUT,
    },
    failure::{Fault, NotStarted, Unhealthy, UnitFault, last_lines},
    machine::{LastWords, PackageManager, ServiceManager, UnitState},
    service::events,
};

use super::{executor::TransactionRunner, record::Transaction, update::AppUpdate};

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Restarts the units of what was installed; `units_are_read` is whether systemd has read their files since.
    pub(super) async fn restart(&self, transaction: &mut Transaction, units_are_read: bool) -> Result<()> {
        if !transaction.others().any(AppUpdate::is_forward) {
            return Ok(());
        }
        if !units_are_read {
            self.services.daemon_reload().await?;
        }
        self.stop_leftovers(&transaction.dropped(AppUpdate::is_forward)).await?;
        self.liveness.within(START_TIMEOUT);
        let forward = transaction.others_mut().filter(|update| update.is_forward());
        let restarted = join_all(forward.map(|update| async move {
            let wanted = update.units.iter_mut().filter(|unit| unit.wanted);
            if let Err(fault) = self.restart_units(wanted, true).await? {
                update.fail(Fault::UnitFailed(fault), true);
            }
            Ok(())
        }));
        restarted.await.into_iter().collect()
    }

    /// Stops the services of a socket: systemd starts no socket whose service runs, and the next connection starts it anew.
    async fn stop_triggered(&self, socket: &UnitName, state: &UnitState) -> Result<()> {
        for service in state.triggers.iter().filter(|service| !triggered::is_connection(socket, service)) {
            if self.services.unit(service).await?.is_running() {
                // Should it not stop, the socket cannot start, which is the reason that counts.
                self.stop(service, &format!(" to restart `{socket}`")).await;
            }
        }
        Ok(())
    }

    /// Stops a unit; `why` ends the sentence that the journal has of it.
    pub(super) async fn stop(&self, name: &str, why: &str) {
        match self.services.stop(name, START_TIMEOUT).await {
            Ok(job) if job.succeeded() => {
                tracing::info!(message_id = events::UNIT, unit = name, "stopped `{name}`{why}");
            }
            Ok(job) => tracing::warn!(message_id = events::UNIT, unit = name, "`{name}` did not stop ({job})"),
            Err(error) => tracing::warn!(message_id = events::UNIT, unit = name, "`{name}` did not stop: {error:#}"),
        }
    }

    /// Restarts an app's units one after the other; `replaced` is whether dpkg changed their package. Notes of each
    /// what `NRestarts` is then: systemd goes on counting where it was about to restart the unit itself (it resets the count
    /// only when a unit that had come to rest is started), and its restarts before ours say nothing of the release.
    ///
    /// Gives a unit that did not start, and why. Those after it are not tried.
    ///
    /// # Errors
    /// When systemd does not answer, as on a machine that goes down: that says nothing of the release.
    pub(super) async fn restart_units(
        &self,
        units: impl Iterator<Item = &mut UnitBefore>,
        replaced: bool,
    ) -> Result<Result<(), UnitFault>> {
        let boot = self.services.boot()?;
        let mut units: Vec<&mut UnitBefore> = units.collect();
        // A socket before its service, which is stopped for it.
        units.sort_by_key(|before| before.unit.name.kind() != "socket");
        for before in units {
            let name = before.unit.name.clone();
            let name = name.as_str();
            let now = self.services.unit(name).await?;
            let act = units::act(before, &now, &boot, replaced);
            if act == Act::Restart && before.unit.name.kind() == "socket" {
                self.stop_triggered(&before.unit.name, &now).await?;
            }
            let (job, done) = match act {
                Act::Restart => (self.services.restart(name, START_TIMEOUT).await, "restarted"),
                Act::Reload => (self.services.reload(name, START_TIMEOUT).await, "reloaded"),
                Act::Leave(why) | Act::Ignore(why) => {
                    tracing::debug!(message_id = events::UNIT, unit = name, why, "not restarting `{name}`: {why}");
                    continue;
                }
            };
            let job = match job {
                Ok(job) => job,
                Err(error) => {
                    self.services.unit(name).await?;
                    return Ok(Err(not_started(name, NotStarted::Refused { words: format!("{error:#}") }, vec![])));
                }
            };
            if job.succeeded() {
                tracing::info!(message_id = events::UNIT, unit = name, ?act, "{done} `{name}`");
                if let (Act::Restart, Ok(after)) = (act, self.services.unit(name).await) {
                    before.restarts_at_own = Some(after.restarts);
                }
                continue;
            }
            let state = self.services.unit(name).await.ok();
            let words = last_words(self.services, before, state.as_ref()).await;
            let failed = state.filter(|state| !state.result.is_success());
            let job = || NotStarted::Job(job.as_str().to_owned());
            let why = failed.map_or_else(job, |state| NotStarted::Failed(state.failure()));
            return Ok(Err(not_started(name, why, last_lines(&words.lines))));
        }
        Ok(Ok(()))
    }
}

fn not_started(name: &str, why: NotStarted, lines: Vec<String>) -> UnitFault {
    UnitFault { unit: name.to_owned(), how: Unhealthy::NotStarted(why), lines }
}

/// What the journal has of a unit since dpkg ran: of every start, because one that systemd starts again and again tells
/// the same story each time. What it was before may have said goodbye meanwhile: that is left out, unless it is what was
/// reloaded.
pub(super) async fn last_words(
    services: &impl ServiceManager,
    before: &UnitBefore,
    now: Option<&UnitState>,
) -> LastWords {
    let Some(noted) = before.noted else { return LastWords::default() };
    let was_replaced = now.is_some_and(|now| now.invocation != before.invocation)
        && !before.invocation.is_empty()
        && before.unit.action != UnitAction::Reload;
    services.last_words(before.unit.name.as_str(), noted, was_replaced.then_some(before.invocation.as_str())).await
}
