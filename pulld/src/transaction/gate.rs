//! The health gate: whether a release stays up after its units were restarted.
//!
//! [`watch`] takes samples of the units of all releases in the same window, and judges each release for itself by
//! [`verdict`]. A newer server document does not cut the wait short: it is read by the next cycle, and what is installed
//! has a verdict by then.

use std::{collections::BTreeMap, time::Duration};

use bucket::{AppName, Check, UnitAction};
use tokio::time::Instant;

use crate::{
    decide::{
        trial::Trial,
        triggered,
        units::{self, Act, UnitBefore},
        verdict::{START_TIMEOUT, Sample, Verdict, verdict},
    },
    failure::{FailureKind, Fault, UnitFault, last_lines},
    machine::{PackageManager, ServiceManager, UnitState},
    service::events,
};

use super::{check, executor::TransactionRunner, record::Transaction, restart::last_words};

/// The time between two samples of a unit.
const INTERVAL: Duration = Duration::from_millis(500);

/// A release under test.
#[derive(Debug, Clone)]
pub(super) struct HealthTarget {
    /// Its app.
    pub(super) app: AppName,
    /// The units to judge, each with its restarts by systemd so far.
    pub(super) units: Vec<(UnitBefore, u32)>,
    /// Its own check.
    pub(super) check: Option<Check>,
}

impl<P: PackageManager, S: ServiceManager> TransactionRunner<'_, P, S> {
    /// Watches the units of what was installed.
    pub(super) async fn gate(&self, transaction: &mut Transaction) {
        let mut targets = Vec::new();
        for update in transaction.others().filter(|update| update.is_forward() && update.release().is_some()) {
            let units: Vec<&UnitBefore> = update.units.iter().filter(|unit| unit.wanted).collect();
            let units = self.judged(&units).await;
            targets.push(HealthTarget { app: update.app.clone(), units, check: update.check.clone() });
        }
        let unhealthy = self.watch(&targets).await;
        for update in transaction.others_mut().filter(|update| update.is_forward()) {
            if let Some(fault) = unhealthy.get(&update.app).filter(|_| update.release().is_some()) {
                // Nobody knows whether it stays up while systemd can't be asked: that is none of its doing.
                update.fail(fault.clone(), fault.kind() != FailureKind::MachineAtFault);
                continue;
            }
            update.progress.succeed();
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

    /// Watches releases until each is judged; gives those that cannot stay.
    pub(super) async fn watch(&self, targets: &[HealthTarget]) -> BTreeMap<AppName, Fault> {
        let window = self.settings.health_window;
        let checks = targets.iter().filter_map(|target| Some(Trial::of(target.check.as_ref()?, window).longest()));
        self.liveness.within(START_TIMEOUT * 2 + window * 4 + checks.max().unwrap_or_default());
        watch(self.services, targets, window).await
    }

    /// Which units are judged, each with the restarts that do not count against it.
    pub(super) async fn judged(&self, units: &[&UnitBefore]) -> Vec<(UnitBefore, u32)> {
        let mut judged = Vec::new();
        let boot = self.services.boot().unwrap_or_default();
        for before in units {
            let now = self.services.unit(before.unit.name.as_str()).await.ok();
            let ignored = |now: &UnitState| {
                matches!(units::act(before, now, &boot, true), Act::Ignore(_)) && !triggered::is_triggered(before, now)
            };
            if now.as_ref().is_some_and(ignored) {
                continue;
            }
            // One that its package restarted, or we did before we were interrupted, begins with none, or goes on counting
            // where it was before.
            let earlier = now.map_or(before.restarts, |now| now.restarts.min(before.restarts));
            judged.push(((*before).clone(), before.restarts_at_own.unwrap_or(earlier)));
        }
        judged
    }
}

async fn watch(services: &impl ServiceManager, targets: &[HealthTarget], window: Duration) -> BTreeMap<AppName, Fault> {
    let began = Instant::now();
    let watching = targets.iter().map(|target| async move {
        let unhealthy = watch_one(services, target, window, began).await.err()?;
        Some((target.app.clone(), unhealthy))
    });
    futures_util::future::join_all(watching).await.into_iter().flatten().collect()
}

/// Judges a unit by what starts it: we, or another unit.
fn judge(before: &UnitBefore, samples: &[Sample], restarts: u32, window: Duration) -> Verdict {
    match before.unit.action {
        UnitAction::None => triggered::verdict(before, samples, window),
        UnitAction::Restart | UnitAction::Reload | UnitAction::Start => verdict(samples, restarts, window),
    }
}

async fn watch_one(
    services: &impl ServiceManager,
    target: &HealthTarget,
    window: Duration,
    began: Instant,
) -> Result<(), Fault> {
    let mut open: Vec<(&UnitBefore, u32, Vec<Sample>)> =
        target.units.iter().map(|(before, restarts)| (before, *restarts, Vec::new())).collect();
    while !open.is_empty() {
        let mut left = Vec::new();
        for (before, restarts, mut samples) in open {
            let (name, at) = (before.unit.name.as_str(), began.elapsed());
            match services.unit(name).await {
                Ok(state) => samples.push(Sample { at, state }),
                Err(error) if at >= START_TIMEOUT => return Err(Fault::machines(&error)),
                Err(_) => {}
            }
            match judge(before, &samples, restarts, window) {
                Verdict::Wait => left.push((before, restarts, samples)),
                Verdict::Healthy => {}
                Verdict::Unhealthy(how) => {
                    let words = last_words(services, before, samples.last().map(|last| &last.state)).await;
                    // systemd forgets how a process ended when it starts the next one: the journal doesn't.
                    if let Some(last) = samples.last_mut() {
                        last.state.end = last.state.end.or(words.end);
                    }
                    let how = match judge(before, &samples, restarts, window) {
                        Verdict::Unhealthy(in_full) => in_full,
                        Verdict::Wait | Verdict::Healthy => how,
                    };
                    let lines = last_lines(&words.lines);
                    return Err(Fault::UnitFailed(UnitFault { unit: name.to_owned(), how, lines }));
                }
            }
        }
        open = left;
        if !open.is_empty() {
            let pace = INTERVAL.min(window.max(Duration::from_millis(50)));
            // The last sample is taken when the window ends, however long the others took.
            let left = window.saturating_sub(began.elapsed());
            tokio::time::sleep(if left.is_zero() { pace } else { pace.min(left) }).await;
        }
    }
    match &target.check {
        Some(check) => check::pass(services, target.app.as_str(), check, window).await,
        None => Ok(()),
    }
}
