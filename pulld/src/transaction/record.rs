//! The record of the work under way, so that a process that dies at any moment is followed by one that knows.
//!
//! It is written before each phase begins, whole or not at all. What got installed is never read from it but queried
//! from dpkg: without the record nothing is wrong, only the rollback targets are no longer known.

use std::path::Path;

use anyhow::Result;
use bucket::{Activity, AppName, Generation, ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    decide::units::UnitBefore,
    failure::Aftermath,
    service::announcer::{Activities, Doing, Installed},
    state::persist,
};

use super::{
    progress::{Outcome, Progress},
    update::AppUpdate,
};

/// The shape of the record that this program writes. What it reads: see [`super::load()`].
pub(super) const SCHEMA: u32 = 2;

/// How often a transaction is resumed before it is rolled back, and again before the rollback is given up.
pub(crate) const MAX_RESUMPTIONS: u32 = 5;

/// Updates of several apps that began together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    schema: u32,
    /// When it began, by this machine's clock.
    pub(crate) started: Timestamp,
    /// The server document that asked for it; `None` when a person did.
    pub(crate) generation: Option<Generation>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// How often a new process found it unfinished in the phase it is in.
    pub(crate) resumptions: u32,
    /// The boot in which it was last worked on; `None` in a record of an earlier pulld. systemd's counts begin anew with
    /// each.
    #[serde(default)]
    pub(crate) boot: Option<String>,
    /// The process that requested the dpkg run for pulld's own package: only another one can be the new pulld.
    pub(crate) self_update_by: Option<String>,
    /// The apps it updates.
    pub(crate) updates: Vec<AppUpdate>,
}

/// How far a transaction is. Each phase can be begun again from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// dpkg installs and removes.
    Installing,
    /// Units are restarted.
    Restarting,
    /// Units are watched by the health gate.
    Gating,
    /// dpkg restores the previous releases of the apps that failed.
    RollingBack,
    /// The units of the restored releases are restarted and watched.
    CheckingRollback,
    /// pulld replaces itself; the new process passes its health gate.
    UpdatingAgent,
    /// Every update has its outcome.
    Done,
}

impl Transaction {
    /// A new one, before anything has changed.
    pub(crate) fn new(
        started: Timestamp,
        generation: Option<Generation>,
        boot: Option<String>,
        updates: Vec<AppUpdate>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            started,
            generation,
            phase: Phase::Installing,
            resumptions: 0,
            boot,
            self_update_by: None,
            updates,
        }
    }

    /// Writes the record.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::write(path, &serde_json::to_vec(self)?)
    }

    /// Goes on to `phase` and writes that down.
    pub(crate) fn enter(&mut self, phase: Phase, path: &Path) -> Result<()> {
        self.phase = phase;
        self.resumptions = 0;
        self.save(path)
    }

    /// What is done in its phase, with each app that it concerns. A removal is nothing that anybody waits for.
    pub(super) fn activities(&self) -> Activities {
        let installs = self.updates.iter().filter(|update| update.release().is_some());
        installs.filter_map(|update| Some((update.app.clone(), self.doing(update)?))).collect()
    }

    /// What is done with an app in this phase.
    fn doing(&self, update: &AppUpdate) -> Option<Doing> {
        let previous = update.previous.installed().map(|previous| &previous.release);
        let failure = update.progress.failure().map(|failed| &failed.failure);
        let rolling_back = Doing { reason: failure.map(ToString::to_string), ..Doing::new(Activity::RollingBack) };
        Some(match (self.phase, update.is_own()) {
            (Phase::Installing, false) | (Phase::UpdatingAgent, true) if update.is_forward() => {
                Doing::new(Activity::Installing)
            }
            (Phase::Restarting | Phase::Gating, false) if update.is_forward() => {
                Doing { installed: Installed::of(update.release()), ..Doing::new(Activity::WatchingHealth) }
            }
            (Phase::UpdatingAgent, true) if update.has_failed() => rolling_back,
            (Phase::RollingBack, false) if update.has_failed() => match update.progress {
                Progress::RollingBack { replaced: true, .. } => {
                    Doing { installed: Installed::of(update.release()), ..rolling_back }
                }
                _ => rolling_back,
            },
            (Phase::CheckingRollback, false) if update.has_failed() => {
                let restored = previous.cloned().map_or(Aftermath::Removed, Aftermath::Restored);
                let reason = failure.map(|failure| failure.clone().and(restored).to_string());
                Doing { installed: Installed::of(previous), reason, ..rolling_back }
            }
            _ => return None,
        })
    }

    /// The apps that it has yet to bring to their release, or back.
    pub(crate) fn apps_under_way(&self) -> impl Iterator<Item = &AppName> {
        let open = self.updates.iter().filter(|update| update.outcome().is_none() && update.release().is_some());
        open.map(|update| &update.app)
    }

    /// The packages that it is about.
    pub(super) fn packages(&self) -> Vec<String> {
        let names = |update: &AppUpdate| {
            let previous = update.previous.installed().map(|previous| previous.package.clone());
            std::iter::once(update.package.clone()).chain(previous)
        };
        self.updates.iter().flat_map(names).collect()
    }

    /// The updates of other apps than pulld itself.
    pub(crate) fn others(&self) -> impl Iterator<Item = &AppUpdate> {
        self.updates.iter().filter(|update| !update.is_own())
    }

    /// The places of the updates that are meant.
    pub(super) fn places(&self, is_meant: impl Fn(&AppUpdate) -> bool) -> Vec<usize> {
        let updates = self.updates.iter().enumerate();
        updates.filter(|(_, update)| is_meant(update)).map(|(at, _)| at).collect()
    }

    /// The same, to be changed.
    pub(crate) fn others_mut(&mut self) -> impl Iterator<Item = &mut AppUpdate> {
        self.updates.iter_mut().filter(|update| !update.is_own())
    }

    /// The update that installs a release of the app beside this one, which removes what was left behind of it.
    pub(super) fn beside(&self, update: &AppUpdate) -> Option<&AppUpdate> {
        let mut others = self.updates.iter().filter(|other| update.release().is_none() && other.app == update.app);
        others.find(|other| other.release().is_some())
    }

    /// The release that it installs.
    pub(crate) fn installed_beside(&self, update: &AppUpdate) -> Option<&ReleaseName> {
        self.beside(update).and_then(AppUpdate::release)
    }

    /// Those that remove what was left behind beside a release that an update installs.
    pub(crate) fn removed_beside<'a>(&'a self, update: &'a AppUpdate) -> impl Iterator<Item = &'a AppUpdate> {
        let others = self.updates.iter().filter(|other| update.release().is_some() && other.app == update.app);
        others.filter(|other| other.release().is_none())
    }

    /// Whether every update of an app succeeded.
    pub(crate) fn is_all_done(&self, app: &AppName) -> bool {
        self.updates.iter().filter(|update| update.app == *app).all(|update| update.outcome() == Some(&Outcome::Done))
    }

    /// The units of other apps' updates, of those that are `meant`, that only the previous releases own.
    pub(super) fn dropped(&self, meant: impl Fn(&AppUpdate) -> bool) -> Vec<UnitBefore> {
        let units = self.others().filter(|update| meant(update)).flat_map(|update| &update.units);
        units.filter(|unit| !unit.wanted).cloned().collect()
    }

    /// The update of pulld itself, if there is one that has not ended.
    pub(crate) fn own_mut(&mut self) -> Option<&mut AppUpdate> {
        self.updates.iter_mut().find(|update| update.is_own() && update.outcome().is_none())
    }
}
