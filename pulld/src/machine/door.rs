//! A boundary with a fail point at the begin and at the end of every call.

use std::{path::Path, time::Duration};

use anyhow::Result;
use bucket::{Probe, Timestamp, UnitName};

use super::{
    dpkg_lock::LockHolder,
    dpkg_request::{DpkgRequest, DpkgResult},
    package_changes::PackageChange,
    package_manager::{AvailablePackage, Compare, InstalledPackage, PackageManager},
    service_manager::{CheckResult, LastWords, ServiceManager},
    unit_state::{JobResult, UnitState},
};

/// dpkg or systemd, with fail points.
#[derive(Debug)]
pub(crate) struct Door<T>(pub(crate) T);

impl<P: PackageManager> PackageManager for Door<P> {
    async fn packages(&self, also: &[String]) -> Result<Vec<InstalledPackage>> {
        between_fail_points!(self.0.packages(also).await, "packages.packages")
    }

    async fn architecture(&self) -> Result<String> {
        between_fail_points!(self.0.architecture().await, "packages.architecture")
    }

    async fn available(&self) -> Result<Vec<AvailablePackage>> {
        between_fail_points!(self.0.available().await, "packages.available")
    }

    async fn changed_files(&self, package: &str, compare: Compare) -> Result<Vec<String>> {
        between_fail_points!(self.0.changed_files(package, compare).await, "packages.changed_files({package})")
    }

    fn changed_at(&self, package: &str) -> Option<Timestamp> {
        between_fail_points!(self.0.changed_at(package), "packages.changed_at({package})")
    }

    async fn stand_by(&self, timeout: Duration) {
        between_fail_points!(self.0.stand_by(timeout).await, "packages.stand_by");
    }

    fn foresee(&self, deb: &Path) {
        between_fail_points!(self.0.foresee(deb), "packages.foresee");
    }

    fn stand_down(&self) {
        between_fail_points!(self.0.stand_down(), "packages.stand_down");
    }

    async fn execute(&self, request: &DpkgRequest) -> Result<DpkgResult> {
        between_fail_points!(self.0.execute(request).await, "packages.execute")
    }

    async fn resume(&self) -> Result<Option<DpkgResult>> {
        between_fail_points!(self.0.resume().await, "packages.resume")
    }

    async fn unnoted_changes(&self, request: &DpkgRequest) -> Result<Vec<PackageChange>> {
        between_fail_points!(self.0.unnoted_changes(request).await, "packages.unnoted_changes")
    }

    fn forget_changes(&self) -> Result<()> {
        between_fail_points!(self.0.forget_changes(), "packages.forget_changes")
    }

    fn lock_holder(&self) -> Option<LockHolder> {
        between_fail_points!(self.0.lock_holder(), "packages.lock_holder")
    }
}

impl<S: ServiceManager> ServiceManager for Door<S> {
    fn boot(&self) -> Result<String> {
        self.0.boot()
    }

    async fn daemon_reload(&self) -> Result<()> {
        between_fail_points!(self.0.daemon_reload().await, "services.daemon_reload")
    }

    async fn unit(&self, name: &str) -> Result<UnitState> {
        between_fail_points!(self.0.unit(name).await, "services.unit({name})")
    }

    async fn last_words(&self, name: &str, since: Timestamp, except: Option<&str>) -> LastWords {
        between_fail_points!(self.0.last_words(name, since, except).await, "services.last_words({name})")
    }

    async fn restart(&self, name: &str, timeout: Duration) -> Result<JobResult> {
        between_fail_points!(self.0.restart(name, timeout).await, "services.restart({name})")
    }

    async fn reload(&self, name: &str, timeout: Duration) -> Result<JobResult> {
        between_fail_points!(self.0.reload(name, timeout).await, "services.reload({name})")
    }

    async fn instances(&self, template: &UnitName) -> Result<Vec<UnitName>> {
        between_fail_points!(self.0.instances(template).await, "services.instances({template})")
    }

    async fn stop(&self, name: &str, timeout: Duration) -> Result<JobResult> {
        between_fail_points!(self.0.stop(name, timeout).await, "services.stop({name})")
    }

    async fn disable(&self, name: &str) -> Result<()> {
        between_fail_points!(self.0.disable(name).await, "services.disable({name})")
    }

    async fn reset_failed(&self, name: &str) {
        between_fail_points!(self.0.reset_failed(name).await, "services.reset_failed({name})");
    }

    async fn check(&self, app: &str, probe: &Probe, timeout: Duration) -> Result<CheckResult> {
        between_fail_points!(self.0.check(app, probe, timeout).await, "services.check({app})")
    }
}
