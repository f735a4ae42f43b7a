//! What the machine has: packages from dpkg, units from systemd, and files that differ from their packages.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::AppName;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    machine::{
        Compare, InstalledPackage, OWN_PACKAGE, PackageManager, PackageState, ServiceManager, UNITS_AT_ONCE, UnitState,
        instances,
    },
    service::liveness::Liveness,
};

/// How often every file of a package is compared with it.
const FILE_CHECK: Duration = Duration::from_hours(1);

/// Time for comparing the files of one package.
const FILE_CHECK_TIMEOUT: Duration = Duration::from_mins(5);

/// How long one cycle may compare files before it leaves the other packages to the next ones. One package is always done.
const FILE_CHECK_BUDGET: Duration = Duration::from_secs(1);

/// What dpkg has of releases, and of pulld however it was installed.
pub(super) async fn installed(packages: &impl PackageManager, liveness: &Liveness) -> Result<Vec<InstalledPackage>> {
    liveness.within(Duration::ZERO);
    packages.packages(&[OWN_PACKAGE.to_owned()]).await.context("could not query dpkg for the installed packages")
}

/// The state of every unit of the installed releases, by name. A unit that systemd says nothing about is left out.
pub(super) async fn units(
    services: &impl ServiceManager,
    installed: &[InstalledPackage],
) -> BTreeMap<String, UnitState> {
    let owned = || installed.iter().flat_map(|package| &package.units);
    let mut units = instances(services, owned()).await.unwrap_or_else(|error| {
        tracing::debug!("{error:#}");
        BTreeMap::new()
    });
    let asked = owned().filter(|unit| !unit.name.is_template()).map(async |unit| {
        let state = services.unit(unit.name.as_str()).await;
        state.map(|state| (unit.name.to_string(), state)).inspect_err(
            |error| tracing::debug!(unit = %unit.name, "could not query systemd about `{}`: {error:#}", unit.name),
        )
    });
    let answers = stream::iter(asked).buffered(UNITS_AT_ONCE).filter_map(async |answer| answer.ok());
    units.extend(answers.collect::<Vec<_>>().await);
    units
}

/// Files that differ from what their packages shipped, as last compared.
#[derive(Debug, Default)]
pub(super) struct ChangedFiles {
    by_package: BTreeMap<String, Vec<String>>,
    compared: BTreeMap<String, Compared>,
}

/// How the files of a package were last compared.
#[derive(Debug, Clone)]
struct Compared {
    /// When all of them were, or dpkg had just unpacked them.
    whole: Instant,
    /// When it was last seen which of them were touched.
    seen: Instant,
    /// Whether that is to be seen again: a person asked, or dpkg had just unpacked them.
    is_open: bool,
    /// Why that could not be said.
    failure: Option<String>,
}

impl Compared {
    fn is_due(&self) -> bool {
        self.whole.elapsed() >= FILE_CHECK
    }
}

impl ChangedFiles {
    /// The differences by package, in the words of [`PackageManager::changed_files`].
    pub(super) fn by_package(&self) -> &BTreeMap<String, Vec<String>> {
        &self.by_package
    }

    /// Whether the files of a package were compared since the agent started, or dpkg has unpacked them since.
    pub(super) fn is_compared(&self, package: &str) -> bool {
        self.compared.get(package).is_some_and(|compared| compared.failure.is_none())
    }

    /// Whether nobody waits for a comparison of its files, whatever the last one said.
    pub(super) fn is_looked_at(&self, package: &str) -> bool {
        self.compared.get(package).is_some_and(|compared| !compared.is_open)
    }

    /// The packages whose last comparison failed, with the reasons.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.compared.iter().filter_map(|(package, compared)| Some((package.as_str(), compared.failure.as_deref()?)))
    }

    /// Forgets a package that something else than what was wanted happened to: it is compared anew.
    pub(super) fn forget(&mut self, package: &str) {
        self.by_package.remove(package);
        self.compared.remove(package);
    }

    /// dpkg has just unpacked a package, and what its files were like then was noted: only what was touched since is read. To
    /// read them all again would only delay the report that says so.
    pub(super) fn note_unpacked(&mut self, package: &str) {
        self.by_package.remove(package);
        let now = Instant::now();
        self.compared.insert(package.to_owned(), Compared { whole: now, seen: now, is_open: true, failure: None });
    }

    /// Compares files with their packages. On request those that were touched, of all packages: whoever has just edited or
    /// mended one asks for that. At the start and once per hour all files. What takes longer than a cycle may is gone on with
    /// in the next ones, longest ago first.
    pub(super) async fn check(
        &mut self,
        packages: &impl PackageManager,
        installed: &[InstalledPackage],
        requested: bool,
        liveness: &Liveness,
    ) {
        let begun = Instant::now();
        let names: BTreeSet<&String> =
            installed.iter().filter(|package| is_whole(package)).map(|package| &package.package).collect();
        self.by_package.retain(|name, _| names.contains(name));
        self.compared.retain(|name, _| names.contains(name));
        self.compared.values_mut().for_each(|compared| compared.is_open |= requested);
        let open = self.compared.iter().filter(|(_, compared)| compared.is_open);
        let mut open: Vec<(Instant, String)> = open.map(|(name, compared)| (compared.seen, name.clone())).collect();
        open.sort();
        let is_over = |at: usize| at > 0 && begun.elapsed() >= FILE_CHECK_BUDGET;
        for (at, (_, name)) in open.into_iter().enumerate() {
            if is_over(at) {
                break;
            }
            self.compare(packages, &name, Compare::Touched, liveness).await;
        }
        let before = |name: &String| self.compared.get(name);
        let mut due: Vec<&String> =
            names.into_iter().filter(|name| before(name).is_none_or(Compared::is_due)).collect();
        due.sort_by_key(|name| before(name).map(|before| before.whole));
        for (at, name) in due.into_iter().enumerate() {
            if is_over(at) {
                break;
            }
            self.compare(packages, name, Compare::All, liveness).await;
        }
    }

    /// Compares the files of one package.
    async fn compare(&mut self, packages: &impl PackageManager, name: &str, compare: Compare, liveness: &Liveness) {
        liveness.within(FILE_CHECK_TIMEOUT);
        let changed = packages.changed_files(name, compare).await;
        let now = Instant::now();
        let before = self.compared.get(name).filter(|_| compare == Compare::Touched).map(|before| before.whole);
        let failure = changed.as_ref().err().map(|error| format!("{error:#}"));
        let compared = Compared { whole: before.unwrap_or(now), seen: now, is_open: false, failure };
        self.compared.insert(name.to_owned(), compared);
        match changed {
            Ok(changed) => drop(self.by_package.insert(name.to_owned(), changed)),
            Err(error) => {
                tracing::debug!(package = %name, "could not compare the files of `{name}`: {error:#}");
                self.by_package.remove(name);
            }
        }
    }
}

/// The apps with a package whose files are compared and of which that is not known.
pub(super) fn unknown(installed: &[InstalledPackage], is_known: impl Fn(&str) -> bool) -> BTreeSet<&AppName> {
    let unknown = installed.iter().filter(|package| is_whole(package) && !is_known(&package.package));
    unknown.filter_map(|package| Some(package.release.as_ref()?.app())).collect()
}

/// Whether a package is one whose files are compared.
fn is_whole(package: &InstalledPackage) -> bool {
    package.release.is_some() && package.state == PackageState::Installed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{World, release};

    fn package(app: &str) -> InstalledPackage {
        InstalledPackage {
            package: app.to_owned(),
            version: "1".to_owned(),
            state: PackageState::Installed,
            on_hold: false,
            release: Some(release(app, 1)),
            units: vec![],
        }
    }

    /// As after an installation.
    async fn unpack(world: &World, files: &mut ChangedFiles, package: &str) {
        world.changed_files(package, Compare::Unpacked).await.unwrap();
        files.note_unpacked(package);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cycle_compares_files_for_a_second_and_the_next_one_goes_on() {
        let (world, liveness) = (World::default(), Liveness::new());
        world.slow_comparison_down(Duration::from_millis(400));
        let installed = ["a", "b", "c", "d", "e"].map(package);
        let mut files = ChangedFiles::default();
        let compared = async |files: &mut ChangedFiles, requested: bool| {
            let before = world.files_read().len();
            files.check(&world, &installed, requested, &liveness).await;
            world.files_read()[before..].concat()
        };
        let uncompared = |files: &ChangedFiles| {
            installed
                .iter()
                .filter(|there| !files.is_compared(&there.package))
                .map(|there| &*there.package)
                .collect::<String>()
        };
        assert_eq!(uncompared(&files), "abcde");
        assert_eq!(compared(&mut files, false).await, "abc");
        assert_eq!(uncompared(&files), "de", "which is said");
        assert_eq!(compared(&mut files, true).await, "de", "what was never compared comes first");
        assert_eq!(uncompared(&files), "");
        assert_eq!(compared(&mut files, false).await, "");
        assert_eq!(compared(&mut files, true).await, "", "nobody touched anything");
        files.forget("e");
        assert_eq!(compared(&mut files, false).await, "e");
        unpack(&world, &mut files, "d").await;
        assert_eq!(compared(&mut files, true).await, "", "the report of an installation doesn't wait for it");
        tokio::time::advance(FILE_CHECK).await;
        assert_eq!(compared(&mut files, false).await, "abc");
        assert_eq!(compared(&mut files, false).await, "de");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_touched_is_compared_before_what_is_due_and_no_longer_than_a_cycle_may_take() {
        let (world, liveness) = (World::default(), Liveness::new());
        world.slow_comparison_down(Duration::from_secs(1));
        let names: Vec<String> = (10..60).map(|n| format!("p{n}")).collect();
        let installed: Vec<InstalledPackage> = names.iter().map(|name| package(name)).collect();
        let mut files = ChangedFiles::default();
        for name in &names {
            unpack(&world, &mut files, name).await;
        }
        files.check(&world, &installed, false, &liveness).await;
        tokio::time::advance(FILE_CHECK).await;
        for name in ["p58", "p30"] {
            world.edit_files(name, &["/srv/a is changed"]);
        }
        let unseen = |files: &ChangedFiles| names.iter().filter(|name| !files.is_looked_at(name)).count();
        files.check(&world, &installed, true, &liveness).await;
        assert_eq!(world.files_read(), ["p30", "p10"], "and one that is due");
        assert_eq!(unseen(&files), 29, "those after p30");
        files.check(&world, &installed, true, &liveness).await;
        assert_eq!(world.files_read()[2..], ["p58", "p11"], "what was not seen comes first");
        assert_eq!(files.by_package()["p58"], ["/srv/a is changed"]);
        files.check(&world, &installed, false, &liveness).await;
        assert_eq!(unseen(&files), 0, "whoever asked need not ask again");
        world.edit_files("p58", &[]);
        files.check(&world, &installed, true, &liveness).await;
        assert_eq!(files.by_package()["p58"], [""; 0], "mended");
    }
}
