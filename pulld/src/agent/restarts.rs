//! Units that keep dying after their release passed its health gate: counted in every cycle, told from the third time on.

use std::{collections::BTreeMap, time::Duration};

use bucket::Timestamp;
use tokio::time::Instant;

use crate::{
    decide::{instances::with_instances, report::Unstable},
    machine::{LastWords, PackageManager, ServiceManager, UnitState},
    service::events,
    state::{
        paths::Paths,
        stability::{Counted, Stability, WINDOW},
    },
    transaction::record::Transaction,
};

use super::{Agent, cycle::Cycle};

/// The time between two readings of what one unit wrote.
const READ_INTERVAL: Duration = Duration::from_mins(1);

/// Most units whose journal is read in one cycle.
const MAX_READINGS: usize = 8;

/// Time for one of them.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The units' restarts by systemd itself.
#[derive(Debug)]
pub(super) struct Restarts {
    stability: Stability,
    /// Those that do not stay up, by unit.
    unstable: BTreeMap<String, Dying>,
}

/// A unit that does not stay up, and when its journal was read.
#[derive(Debug)]
struct Dying {
    told: Unstable,
    read: Instant,
}

impl Restarts {
    /// What is known of earlier agents.
    pub(super) fn load(paths: &Paths) -> Self {
        Self { stability: Stability::load(&paths.stability()), unstable: BTreeMap::new() }
    }

    /// The units that do not stay up, by name.
    pub(super) fn unstable(&self) -> BTreeMap<&str, &Unstable> {
        self.unstable.iter().map(|(unit, dying)| (unit.as_str(), &dying.told)).collect()
    }
}

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Counts the restarts of the units that a cycle sees, and reads the journal of those that do not stay up. While a
    /// transaction is unfinished, they are its own.
    pub(super) async fn count_restarts(&mut self, cycle: &Cycle, units: &BTreeMap<String, UnitState>) {
        if self.paths.transaction().exists() {
            return;
        }
        let Ok(boot) = self.machine.services.boot() else { return };
        let owned = cycle.installed().iter().filter_map(|package| Some((package.release.as_ref()?, package)));
        let names: Vec<_> = owned
            .flat_map(|(release, package)| {
                with_instances(&package.units, units).into_iter().map(move |unit| (unit.name.to_string(), release))
            })
            .collect();
        let counted = names.iter().filter_map(|(unit, release)| {
            Some(Counted { unit, release, restarts: units.get(unit.as_str())?.restarts })
        });
        if self.restarts.stability.count(counted, &boot, Timestamp::now()) {
            self.save_stability();
        }
        self.read_last_words(units).await;
    }

    /// Keeps what is told of the units that do not stay up as it is now.
    async fn read_last_words(&mut self, units: &BTreeMap<String, UnitState>) {
        let Self { restarts: Restarts { stability, unstable }, machine, liveness, .. } = self;
        let now: BTreeMap<&str, u32> = stability.unstable().collect();
        unstable.retain(|unit, _| now.contains_key(unit.as_str()));
        let mut readings = 0;
        for (unit, restarts) in now {
            if let Some(dying) = unstable.get_mut(unit) {
                let is_new = restarts > dying.told.restarts;
                dying.told.restarts = restarts;
                if !is_new || dying.read.elapsed() < READ_INTERVAL {
                    continue;
                }
            }
            if readings == MAX_READINGS {
                continue;
            }
            readings += 1;
            liveness.within(READ_TIMEOUT);
            let since = Timestamp::now() - WINDOW;
            // What runs now has not died.
            let except = units.get(unit).map(|state| state.invocation.as_str()).filter(|id| !id.is_empty());
            let LastWords { lines, end } = machine.services.last_words(unit, since, except).await;
            let told = Unstable { unit: unit.to_owned(), restarts, end, lines };
            unstable.insert(unit.to_owned(), Dying { told, read: Instant::now() });
        }
    }

    /// Leaves out of the count what the units of a transaction did meanwhile, while its record is still there.
    pub(super) fn forget_counts(&mut self, transaction: &Transaction) {
        let mut has_changed = false;
        for unit in transaction.updates.iter().flat_map(|update| &update.units) {
            has_changed |= self.restarts.stability.forget_count(unit.unit.name.as_str());
        }
        if has_changed {
            self.save_stability();
        }
    }

    fn save_stability(&self) {
        if let Err(error) = self.restarts.stability.save(&self.paths.stability()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save how often units were restarted: {error:#}");
        }
    }
}
