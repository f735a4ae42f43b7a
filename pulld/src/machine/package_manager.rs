//! dpkg as the agent sees it: its queries and requests, and the plain values that they give.

use std::{path::Path, time::Duration};

use anyhow::Result;
use bucket::{OwnedUnit, PackageFacts, ReleaseFields, ReleaseName, Timestamp};

use super::{
    dpkg_lock::LockHolder,
    dpkg_request::{DpkgRequest, DpkgResult},
    package_changes::PackageChange,
    package_state::PackageState,
};

/// The package of the agent itself, and the name of the only app that may contain it.
pub(crate) const OWN_PACKAGE: &str = "pulld";

/// dpkg, as the agent sees it.
pub(crate) trait PackageManager {
    /// Every package that has a `Push-Release:`, and every one that is on hold or named in `also`, if dpkg knows it.
    fn packages(&self, also: &[String]) -> impl Future<Output = Result<Vec<InstalledPackage>>>;

    /// The architecture of this machine, as in `amd64`.
    fn architecture(&self) -> impl Future<Output = Result<String>>;

    /// Every package that is installed, whatever it came from.
    fn available(&self) -> impl Future<Output = Result<Vec<AvailablePackage>>>;

    /// Files of a package that were changed or are missing (dpkg(1) `--verify`), conffiles left out: paths, each with what
    /// happened to it.
    fn changed_files(&self, package: &str, compare: Compare) -> impl Future<Output = Result<Vec<String>>>;

    /// When dpkg last unpacked a package, or removed all but its conffiles; `None` where it does not keep that.
    fn changed_at(&self, package: &str) -> Option<Timestamp>;

    /// Has the service of a request stand by for one that is about to come and may take `timeout`: it then begins at once.
    /// Best effort: without it, it is started when the request comes.
    fn stand_by(&self, timeout: Duration) -> impl Future<Output = ()>;

    /// Has what stands by verify a file that the request will have dpkg install. Best effort, too.
    fn foresee(&self, deb: &Path);

    /// No request comes any more: ends what stands by.
    fn stand_down(&self);

    /// Carries out a request in a service of its own and waits for its end.
    ///
    /// The service outlives the agent: an agent that is restarted meanwhile calls [`PackageManager::resume`].
    /// With `restart_agent` it normally doesn't return: systemd restarts this process first.
    fn execute(&self, request: &DpkgRequest) -> impl Future<Output = Result<DpkgResult>>;

    /// Waits for the end of a dpkg run that an earlier process requested, or gives its result; `None` when it has none:
    /// it was never started, or a crash interrupted it.
    fn resume(&self) -> impl Future<Output = Result<Option<DpkgResult>>>;

    /// What the runs of a request's transaction have changed that was not planned, as far as nobody has noted it: also of a
    /// run that left no result, or one in which that was not compared.
    fn unnoted_changes(&self, request: &DpkgRequest) -> impl Future<Output = Result<Vec<PackageChange>>>;

    /// What changed until now is noted, and is no news to the next run.
    fn forget_changes(&self) -> Result<()>;

    /// Who else holds dpkg's lock right now: a dpkg run under way waits for that.
    fn lock_holder(&self) -> Option<LockHolder>;
}

/// Which packages have their files compared with what was shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Every one: that reads all of its files.
    All,
    /// Those of which a file was touched since they were last compared; of the others it is known what differs.
    Touched,
    /// None: dpkg has just unpacked them, and only what is touched from now on differs from what was shipped.
    Unpacked,
}

/// A package that dpkg has, or had, on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstalledPackage {
    /// Its Debian package name, without architecture qualifier.
    pub(crate) package: String,
    /// Its Debian version; empty when it is only known by its leftover conffiles.
    pub(crate) version: String,
    /// What dpkg thinks of it.
    pub(crate) state: PackageState,
    /// Whether a person put it on hold (`apt-mark hold`): it is left alone, and dpkg would forget the hold otherwise.
    pub(crate) on_hold: bool,
    /// The release it came from; `None` for packages that are not releases.
    pub(crate) release: Option<ReleaseName>,
    /// The units it owns, from `Push-Units:`.
    pub(crate) units: Vec<OwnedUnit>,
}

impl InstalledPackage {
    /// Whether dpkg calls it broken.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.state, PackageState::Broken(_))
    }
}

/// The control fields of a `.deb`, read without dpkg from the verified file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DebInfo {
    /// What any package says.
    pub(crate) facts: PackageFacts,
    /// What makes it a release.
    pub(crate) fields: ReleaseFields,
}

/// An installed package, as dependencies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AvailablePackage {
    /// `Package`
    pub(crate) package: String,
    /// `Version`
    pub(crate) version: String,
    /// `Provides`, as written.
    pub(crate) provides: String,
}
