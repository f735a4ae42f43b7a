//! Turns the steps of a plan into updates that can be carried out: everything that they need, rollback included, is on
//! disk and verified.
//!
//! An app that cannot be prepared is left out; the others go on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use bucket::{Activity, AppName, OwnedUnit, ReleaseName, Timestamp};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use crate::{
    decide::{
        dependencies,
        instances::with_instances,
        plan::{self, Step},
        rollback::{Previous, PreviousPackage},
        units::{UnitBefore, Unpacking},
    },
    failure::{DownloadFault, FailureKind, Fault, NoRollbackTarget, PackageFault, Place},
    machine::{
        AvailablePackage, DebInfo, InstalledPackage, OWN_PACKAGE, PackageManager, PackageState, ServiceManager,
        UNITS_AT_ONCE, instances,
    },
    service::{
        announcer::{Announcer, Doing},
        liveness::Liveness,
    },
    state::quarantine::Quarantine,
    transaction::{
        progress::Progress,
        update::{AppUpdate, Target},
    },
};

use super::{
    bucket::Bucket,
    cache::{self, Cache},
    download::{self, Beside, Found},
};

/// Reads the control fields of a `.deb`.
pub(crate) type Inspect = fn(&Path) -> Result<DebInfo>;

/// What updates are prepared with.
#[derive(Debug)]
pub(crate) struct Preparer<'a, P, S> {
    /// Where releases come from; without it, from the cache alone.
    pub(crate) bucket: Option<&'a Bucket>,
    /// Where they are kept.
    pub(crate) cache: &'a Cache,
    /// dpkg.
    pub(crate) packages: &'a P,
    /// systemd.
    pub(crate) services: &'a S,
    /// How long a transaction may take.
    pub(crate) transaction_timeout: Duration,
    /// The releases that did not stay up here.
    pub(crate) quarantine: &'a Quarantine,
    /// How a `.deb` is read.
    pub(crate) inspect: Inspect,
    /// Where the packages are unpacked.
    pub(crate) root: &'a Path,
    /// Where each wait is announced, for the watchdog.
    pub(crate) liveness: &'a Liveness,
    /// Where it is announced what is done, for the reports.
    pub(crate) announcer: &'a Announcer,
}

/// An app that cannot be prepared. Nothing of it has changed, and it is retried.
#[derive(Debug)]
pub(crate) struct Unprepared {
    /// The app.
    pub(crate) app: AppName,
    /// Why it cannot.
    pub(crate) fault: Fault,
}

/// A release that is on disk, and whose package is the one it should be.
struct Candidate {
    release: ReleaseName,
    deb: PathBuf,
    info: DebInfo,
    /// The units of the previous release.
    previous_units: Vec<OwnedUnit>,
    previous: Previous,
    /// What goes with its installation: what bad releases left in packages of other names.
    left_behind: Vec<InstalledPackage>,
}

impl<P: PackageManager, S: ServiceManager> Preparer<'_, P, S> {
    /// Prepares the steps of a plan on a machine that has `installed`. dpkg's service stands by for them when the
    /// last release is about to be there.
    pub(crate) async fn prepare(
        &self,
        steps: &[Step],
        installed: &[InstalledPackage],
    ) -> (Vec<AppUpdate>, Vec<Unprepared>) {
        let installs = steps.iter().filter(|step| matches!(step, Step::Install { .. }));
        let mut left = installs.clone().count();
        self.announcer.announce(installs.map(|step| (step.app().clone(), Doing::new(Activity::Downloading))).collect());
        let mut unprepared = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        for step in steps {
            let Step::Install { release, .. } = step else { continue };
            left -= 1;
            let beside: Beside<'_> = if left == 0 {
                Some(Box::pin(async {
                    self.packages.stand_by(self.transaction_timeout).await;
                    for earlier in &candidates {
                        self.packages.foresee(&earlier.deb);
                    }
                }))
            } else {
                None
            };
            match self.candidate(release, installed, &candidates, beside).await {
                Ok(candidate) => candidates.push(candidate),
                Err(fault) => unprepared.push(Unprepared { app: release.app().clone(), fault }),
            }
        }
        self.drop_uninstallable(&mut candidates, &mut unprepared).await;
        let mut updates = Vec::new();
        for candidate in candidates {
            let app = candidate.release.app().clone();
            match self.updates(candidate).await {
                Ok(all) => updates.extend(all),
                Err(fault) => unprepared.push(Unprepared { app, fault }),
            }
        }
        for step in steps {
            if let Step::Remove { package, release } = step {
                let package_units = installed.iter().find(|there| there.package == *package).map(|there| &*there.units);
                match self.units_before(&[], package_units.unwrap_or_default()).await {
                    Ok(units) => updates.push(AppUpdate::removal(package, release, units)),
                    Err(fault) => unprepared.push(Unprepared { app: release.app().clone(), fault }),
                }
            }
        }
        if updates.is_empty() {
            self.packages.stand_down();
        }
        updates.sort_by_key(AppUpdate::is_own);
        (updates, unprepared)
    }

    /// Downloads and reads one release, and its rollback target.
    async fn candidate(
        &self,
        release: &ReleaseName,
        installed: &[InstalledPackage],
        others: &[Candidate],
        beside: Beside<'_>,
    ) -> Result<Candidate, Fault> {
        let current = plan::replaced(installed, release, self.quarantine);
        let before = current.and_then(|current| Some((current, current.release.as_ref()?)));
        // Side by side: the one comes in while the other, which is on disk as a rule, is verified.
        let (read, found_before) = tokio::join!(
            Box::pin(self.obtain_and_read(release, beside)),
            Box::pin(self.obtain_previous(before.map(|(_, release)| release)))
        );
        let (deb, info) = read?;
        if let Some(fault) = unfit(release, &info, others) {
            return Err(Fault::NotInstallable(fault));
        }
        // The plan leaves out apps whose package is on hold; the name of this one's package is known only now.
        let is_held = |there: &InstalledPackage| there.on_hold && there.package == info.facts.package.as_str();
        if installed.iter().any(is_held) {
            return Err(Fault::OnHold { package: info.facts.package.to_string() });
        }
        let left_behind = plan::left_behind(installed, (release, info.facts.package.as_str()), self.quarantine);
        let previous = match before {
            Some((current, before)) if left_behind.contains(&current) => {
                Previous::Unavailable { installed: None, reason: NoRollbackTarget::NotInOrder(before.clone()) }
            }
            Some((current, release)) => self.previous_release(&info, current, release, found_before?, installed),
            None => self.previous_package(&info).await?,
        };
        let previous_units = current.map(|current| current.units.clone()).unwrap_or_default();
        let left_behind = left_behind.into_iter().cloned().collect();
        Ok(Candidate { release: release.clone(), deb, info, previous_units, previous, left_behind })
    }

    /// The file of a release, and what it says of itself.
    async fn obtain_and_read(&self, release: &ReleaseName, beside: Beside<'_>) -> Result<(PathBuf, DebInfo), Fault> {
        let obtained = download::obtain(self.bucket, self.cache, release, self.liveness, beside);
        let Found::File(deb) = obtained.await? else {
            let place = if self.bucket.is_some() { Place::InBucket } else { Place::InCache };
            return Err(Fault::NotDownloaded(DownloadFault::NotFound(place)));
        };
        self.packages.foresee(&deb);
        let (inspect, path) = (self.inspect, deb.clone());
        let read = tokio::task::spawn_blocking(move || inspect(&path)).await.map_err(anyhow::Error::from).flatten();
        let info = read.map_err(|error| Fault::of(error, FailureKind::NotInstallable))?;
        Ok((deb, info))
    }

    /// The file of the release that is installed, if one is. It must be on disk, or be known to be nowhere.
    async fn obtain_previous(&self, release: Option<&ReleaseName>) -> Result<Found, Fault> {
        let Some(release) = release else { return Ok(Found::Nowhere) };
        let found = download::obtain(self.bucket, self.cache, release, self.liveness, None).await;
        found.map_err(|fault| Fault::PreviousNotCached { release: release.clone(), fault: Box::new(fault) })
    }

    /// The rollback target of an app that has a release, whose file was `found`.
    fn previous_release(
        &self,
        info: &DebInfo,
        current: &InstalledPackage,
        release: &ReleaseName,
        found: Found,
        installed: &[InstalledPackage],
    ) -> Previous {
        let previous = PreviousPackage { package: current.package.clone(), release: release.clone() };
        match found {
            Found::File(deb) => {
                let is_there = |there: &InstalledPackage| {
                    let is_bad = plan::is_bad(there, &info.fields.release, self.quarantine);
                    there.package == info.facts.package.as_str() && there.state != PackageState::Absent && !is_bad
                };
                let adds_package = current.package != info.facts.package.as_str() && !installed.iter().any(is_there);
                Previous::Package { installed: previous, deb, adds_package }
            }
            Found::Nowhere => Previous::Unavailable {
                installed: Some(previous),
                reason: match self.bucket {
                    Some(_) => NoRollbackTarget::NotInBucket(release.clone()),
                    None => NoRollbackTarget::NotInCache(release.clone()),
                },
            },
        }
    }

    /// The rollback target of an app that has no release: normally, that there is no package of that name.
    async fn previous_package(&self, info: &DebInfo) -> Result<Previous, Fault> {
        let package = || info.facts.package.to_string();
        let there = self.packages.packages(&[package()]).await.map_err(|error| Fault::machines(&error))?;
        let there = there
            .iter()
            .find(|there| there.package == info.facts.package.as_str() && there.state != PackageState::Absent);
        Ok(match there.map(|there| &there.release) {
            None => Previous::Nothing,
            Some(None) => {
                Previous::Unavailable { installed: None, reason: NoRollbackTarget::NotARelease { package: package() } }
            }
            Some(Some(other)) => {
                let fault = PackageFault::OfAnotherApp { package: package(), app: other.app().clone() };
                return Err(Fault::NotInstallable(fault));
            }
        })
    }

    /// Leaves out what dpkg would refuse, until what is left can be installed together.
    async fn drop_uninstallable(&self, candidates: &mut Vec<Candidate>, unprepared: &mut Vec<Unprepared>) {
        // Asked once for all of them, when the first one depends on something.
        let available = OnceCell::new();
        loop {
            let infos: Vec<DebInfo> = candidates.iter().map(|candidate| candidate.info.clone()).collect();
            let mut refused = BTreeSet::new();
            for candidate in candidates.iter() {
                if let Err(fault) = self.ensure_installable(&candidate.info, &infos, &available).await {
                    refused.insert(candidate.release.app().clone());
                    unprepared.push(Unprepared { app: candidate.release.app().clone(), fault });
                }
            }
            if refused.is_empty() {
                return;
            }
            // Another one may have counted on a package that was just left out.
            candidates.retain(|candidate| !refused.contains(candidate.release.app()));
        }
    }

    async fn ensure_installable(
        &self,
        info: &DebInfo,
        together: &[DebInfo],
        available: &OnceCell<Vec<AvailablePackage>>,
    ) -> Result<(), Fault> {
        // Sizes are what packages say of themselves.
        let installed_size = together.iter().fold(0, |sum: u64, info| sum.saturating_add(info.facts.installed_size));
        cache::ensure_space(self.root, installed_size)?;
        // Only where it matters: each query takes a process.
        let for_all = info.facts.architecture.is_all();
        let machines = |error| Fault::machines(&error);
        let architecture = if for_all { None } else { Some(self.packages.architecture().await.map_err(machines)?) };
        let available: &[AvailablePackage] = if info.facts.depends.is_empty() {
            &[]
        } else {
            available.get_or_try_init(|| self.packages.available()).await.map_err(machines)?
        };
        let obstacles = dependencies::obstacles(info, architecture.as_deref(), available, together);
        if obstacles.is_empty() { Ok(()) } else { Err(Fault::NotInstallable(PackageFault::Unmet(obstacles))) }
    }

    /// Notes how everything is before anything changes. With the release's own update come the removals of what was left
    /// behind.
    async fn updates(&self, candidate: Candidate) -> Result<Vec<AppUpdate>, Fault> {
        let Candidate { release, deb, info, previous_units, previous, left_behind } = candidate;
        if let Previous::Unavailable { reason, .. } = &previous {
            tracing::warn!(
                app = %release.app(),
                release = release.stem(),
                %reason,
                "installing `{}` without a rollback target: {reason}",
                release.stem()
            );
        }
        let mut units = self.units_before(&info.fields.units, &previous_units).await?;
        if !left_behind.is_empty() {
            // dpkg's scripts stop what two packages of an app have in common.
            units.iter_mut().for_each(UnitBefore::forget_that_it_was_stopped);
        }
        let mut updates = vec![AppUpdate {
            app: release.app().clone(),
            package: info.facts.package.into(),
            target: Target::Release { release, deb },
            previous,
            check: info.fields.check,
            units,
            unplanned: None,
            progress: Progress::Forward,
        }];
        for left in left_behind {
            if let Some(of) = &left.release {
                let units = self.units_before(&[], &left.units).await?;
                updates.push(AppUpdate::removal(&left.package, of, units));
            }
        }
        Ok(updates)
    }

    /// How the units of the `new` release and of the `old` one are. Only systemd can fail to say it.
    async fn units_before(&self, new: &[OwnedUnit], old: &[OwnedUnit]) -> Result<Vec<UnitBefore>, Fault> {
        self.ask_for_units(new, old).await.map_err(|error| Fault::machines(&error))
    }

    /// The same. Of templates, the instances.
    async fn ask_for_units(&self, new: &[OwnedUnit], old: &[OwnedUnit]) -> Result<Vec<UnitBefore>> {
        let instances = instances(self.services, new.iter().chain(old)).await?;
        let by_name = |units: &[OwnedUnit], unit: &OwnedUnit| units.iter().any(|other| other.name == unit.name);
        let mut asked = Vec::new();
        for unit in with_instances(new, &instances) {
            // An instance that the old release brought and the new one doesn't is dropped, though its template stays.
            if by_name(new, &unit) || !by_name(old, &unit) {
                let by_machine = !by_name(new, &unit);
                let is_new = !by_machine && !by_name(old, &unit);
                asked.push((unit, true, by_machine, is_new));
            }
        }
        for unit in with_instances(old, &instances) {
            if !asked.iter().any(|(known, ..)| known.name == unit.name) {
                let by_machine = !by_name(old, &unit);
                asked.push((unit, false, by_machine, false));
            }
        }
        let boot = self.services.boot()?;
        let asked = asked.into_iter().map(async |(unit, wanted, by_machine, is_new)| {
            let before = self.unit_before(unit, wanted, &boot).await?;
            Ok(UnitBefore { by_machine, is_new, ..before })
        });
        stream::iter(asked).buffered(UNITS_AT_ONCE).try_collect().await
    }

    async fn unit_before(&self, unit: OwnedUnit, wanted: bool, boot: &str) -> Result<UnitBefore> {
        let was = self.services.unit(unit.name.as_str()).await?;
        let unpacking = Some(Unpacking { boot: boot.to_owned(), done: None });
        Ok(UnitBefore { noted: Some(Timestamp::now()), unpacking, ..UnitBefore::new(unit, wanted, was) })
    }
}

/// What is wrong with the package of a release, by its name and what it says of itself.
fn unfit(release: &ReleaseName, info: &DebInfo, others: &[Candidate]) -> Option<PackageFault> {
    let package = info.facts.package.to_string();
    if info.fields.release != *release {
        Some(PackageFault::OtherRelease(info.fields.release.clone()))
    } else if (package == OWN_PACKAGE) != (release.app().as_str() == OWN_PACKAGE) {
        Some(PackageFault::Reserved { package, reserved: OWN_PACKAGE.to_owned() })
    } else if others.iter().any(|other| other.info.facts.package == info.facts.package) {
        Some(PackageFault::OfTwoApps { package })
    } else {
        None
    }
}
