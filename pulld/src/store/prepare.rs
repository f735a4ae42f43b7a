//! Everything that must be on disk and right before anything on the machine changes: forward and back.
//!
//! An app that can't be prepared is left out; the others go on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail, ensure};
use bucket::{AppName, Bucket, ReleaseName};

use crate::{
    decide::{
        plan::{self, Step},
        units::UnitBefore,
    },
    machine::{
        DebInfo, InstalledPackage, OWN_PACKAGE, OwnedUnit, PackageManager, PackageState, ServiceManager, UnitState,
    },
    service::liveness::Liveness,
    store::{
        cache::{self, Cache},
        download::{self, Found},
    },
    transaction::record::{AppUpdate, Before, RollbackTarget, Target},
};

/// Reads what a `.deb` says of itself.
pub(crate) type Inspect = fn(&Path) -> Result<DebInfo>;

/// What preparing takes.
#[derive(Debug)]
pub(crate) struct Preparer<'a, P, S> {
    /// Where releases come from.
    pub(crate) bucket: &'a Bucket,
    /// Where they are kept.
    pub(crate) cache: &'a Cache,
    /// dpkg.
    pub(crate) packages: &'a P,
    /// systemd.
    pub(crate) services: &'a S,
    /// How a `.deb` is read.
    pub(crate) inspect: Inspect,
    /// Where the packages are unpacked.
    pub(crate) root: &'a Path,
    /// Who is told how long a wait may be.
    pub(crate) liveness: &'a Liveness,
}

/// An app that can't be prepared. Nothing of it has changed; it is tried again.
#[derive(Debug)]
pub(crate) struct Unprepared {
    /// Which.
    pub(crate) app: AppName,
    /// Why.
    pub(crate) error: anyhow::Error,
}

/// A release that is on disk and says what it should.
struct Candidate {
    release: ReleaseName,
    deb: PathBuf,
    info: DebInfo,
    before: Option<InstalledPackage>,
    rollback_target: RollbackTarget,
}

impl<P: PackageManager, S: ServiceManager> Preparer<'_, P, S> {
    /// Prepares the steps of a plan on a machine that has `installed`.
    pub(crate) async fn prepare(
        &self,
        steps: &[Step],
        installed: &[InstalledPackage],
    ) -> (Vec<AppUpdate>, Vec<Unprepared>) {
        let mut unprepared = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        for step in steps {
            let Step::Install { release, .. } = step else { continue };
            match self.candidate(release, installed, &candidates).await {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => unprepared.push(Unprepared { app: release.app().clone(), error }),
            }
        }
        self.refuse_what_cannot_be(&mut candidates, &mut unprepared).await;
        let mut updates = Vec::new();
        for candidate in candidates {
            let app = candidate.release.app().clone();
            match self.update(candidate, installed).await {
                Ok(update) => updates.push(update),
                Err(error) => unprepared.push(Unprepared { app, error }),
            }
        }
        for step in steps {
            if let Step::Remove { package, release } = step {
                updates.push(removal(package, release));
            }
        }
        updates.sort_by_key(AppUpdate::is_own);
        (updates, unprepared)
    }

    /// Downloads and reads one release, and what it goes back to.
    async fn candidate(
        &self,
        release: &ReleaseName,
        installed: &[InstalledPackage],
        others: &[Candidate],
    ) -> Result<Candidate> {
        let Found::File(deb) = download::obtain(self.bucket, self.cache, release, self.liveness).await? else {
            bail!("there is no such release in the bucket: push another one");
        };
        let (inspect, path) = (self.inspect, deb.clone());
        let info = tokio::task::spawn_blocking(move || inspect(&path)).await??;
        ensure!(
            info.release.as_ref() == Some(release),
            "the package inside isn't that release: its `Push-Release` is `{}`",
            info.release.as_ref().map_or("missing", |inside| inside.stem())
        );
        let own = release.app().as_str() == OWN_PACKAGE;
        ensure!(
            (info.package == OWN_PACKAGE) == own,
            "the package inside is `{}`, but package and app `{}` only go together",
            info.package,
            OWN_PACKAGE
        );
        ensure!(
            others.iter().all(|other| other.info.package != info.package),
            "its package `{}` is that of another app in the same document",
            info.package
        );
        let before = plan::current(installed, release.app()).cloned();
        let rollback_target = self.rollback_target(&info, before.as_ref()).await?;
        Ok(Candidate { release: release.clone(), deb, info, before, rollback_target })
    }

    /// How to undo an install. What was there before must be on disk, or be known to be nowhere.
    async fn rollback_target(&self, info: &DebInfo, before: Option<&InstalledPackage>) -> Result<RollbackTarget> {
        if let Some(release) = before.and_then(|before| before.release.as_ref()) {
            let found = download::obtain(self.bucket, self.cache, release, self.liveness)
                .await
                .map_err(|error| error.context(format!("the way back to `{}` can't be made sure", release.stem())))?;
            return Ok(match found {
                Found::File(deb) => RollbackTarget::Deb(deb),
                Found::Nowhere => {
                    RollbackTarget::None { reason: format!("`{}` is no longer in the bucket", release.stem()) }
                }
            });
        }
        let there = self.packages.packages(std::slice::from_ref(&info.package)).await?;
        let there = there.iter().find(|there| there.package == info.package && there.state != PackageState::Absent);
        Ok(match there.map(|there| &there.release) {
            None => RollbackTarget::Remove,
            Some(None) => RollbackTarget::None {
                reason: format!("the package `{}` that was there isn't a release", info.package),
            },
            Some(Some(other)) => {
                bail!("its package `{}` is installed from another app, `{}`", info.package, other.app())
            }
        })
    }

    /// Leaves out what dpkg would refuse, until what is left goes together.
    async fn refuse_what_cannot_be(&self, candidates: &mut Vec<Candidate>, unprepared: &mut Vec<Unprepared>) {
        loop {
            let infos: Vec<DebInfo> = candidates.iter().map(|candidate| candidate.info.clone()).collect();
            let mut refused = BTreeSet::new();
            for candidate in candidates.iter() {
                if let Err(error) = self.ensure_installable(&candidate.info, &infos).await {
                    refused.insert(candidate.release.app().clone());
                    unprepared.push(Unprepared { app: candidate.release.app().clone(), error });
                }
            }
            if refused.is_empty() {
                return;
            }
            // Another one may have counted on a package that was just left out.
            candidates.retain(|candidate| !refused.contains(candidate.release.app()));
        }
    }

    async fn ensure_installable(&self, info: &DebInfo, together: &[DebInfo]) -> Result<()> {
        cache::ensure_space(self.root, together.iter().map(|info| info.installed_size).sum())?;
        let obstacles = self.packages.obstacles(info, together).await?;
        ensure!(obstacles.is_empty(), "it can't be installed here: {}", obstacles.join("; "));
        Ok(())
    }

    /// Notes how everything is before anything changes.
    async fn update(&self, candidate: Candidate, installed: &[InstalledPackage]) -> Result<AppUpdate> {
        let Candidate { release, deb, info, before, rollback_target } = candidate;
        if let RollbackTarget::None { reason } = &rollback_target {
            tracing::warn!(app = %release.app(), release = release.stem(), reason, "`{}` goes in without a way back: {reason}", release.stem());
        }
        let old = before.as_ref().map(|before| before.units.as_slice()).unwrap_or_default();
        let mut units = Vec::new();
        for unit in &info.units {
            units.push(self.unit_before(unit, true).await?);
        }
        for unit in old.iter().filter(|old| info.units.iter().all(|new| new.name != old.name)) {
            units.push(self.unit_before(unit, false).await?);
        }
        let first = !installed.iter().any(|there| there.package == info.package && there.state != PackageState::Absent)
            && rollback_target_is_free(&rollback_target);
        Ok(AppUpdate {
            app: release.app().clone(),
            package: info.package,
            target: Target::Release { release, deb },
            before: before.and_then(|before| Some(Before { package: before.package, release: before.release? })),
            first,
            rollback_target,
            check: info.check,
            units,
            replaced: false,
            failure: None,
            outcome: None,
        })
    }

    async fn unit_before(&self, unit: &OwnedUnit, wanted: bool) -> Result<UnitBefore> {
        let was: UnitState = self
            .services
            .unit(&unit.name)
            .await
            .map_err(|error| anyhow!("could not ask systemd about `{}`: {error:#}", unit.name))?;
        let (invocation, restarts) = (was.invocation.clone(), was.restarts);
        Ok(UnitBefore { unit: unit.clone(), wanted, was, invocation, restarts })
    }
}

/// Whether no foreign package of that name is in the way.
fn rollback_target_is_free(rollback_target: &RollbackTarget) -> bool {
    !matches!(rollback_target, RollbackTarget::None { .. })
}

fn removal(package: &str, release: &ReleaseName) -> AppUpdate {
    AppUpdate {
        app: release.app().clone(),
        package: package.to_owned(),
        target: Target::Removed { release: release.clone() },
        before: Some(Before { package: package.to_owned(), release: release.clone() }),
        first: false,
        rollback_target: RollbackTarget::None { reason: "a removal isn't undone".to_owned() },
        check: None,
        units: Vec::new(),
        replaced: false,
        failure: None,
        outcome: None,
    }
}
