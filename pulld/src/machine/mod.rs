//! The two boundaries of the agent: dpkg, which knows what is installed, and systemd, which runs it.
//!
//! Two traits ([`PackageManager`], [`ServiceManager`]), each with one real implementation ([`dpkg::Dpkg`],
//! [`systemd::Systemd`]) and one in memory for tests. Everything the agent decides is decided from their plain values.
//! dpkg itself works in a service of its own ([`runner`]), and a timer guards the update of pulld ([`guard`]); [`deb`] reads packages without it.

mod baseline;
mod clock;
pub(crate) mod deb;
#[cfg(any(test, feature = "fail-points"))]
pub(crate) mod door;
pub(crate) mod dpkg;
mod dpkg_lock;
mod dpkg_request;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod guard;
mod instances;
mod package_changes;
mod package_manager;
mod package_state;
mod probe;
pub(crate) mod runner;
mod service_manager;
pub(crate) mod systemd;
mod unit_state;

pub(crate) use dpkg_lock::LockHolder;
pub(crate) use dpkg_request::{DpkgRequest, DpkgResult};
pub(crate) use instances::instances;
pub(crate) use package_changes::PackageChange;
pub(crate) use package_manager::{AvailablePackage, Compare, DebInfo, InstalledPackage, OWN_PACKAGE, PackageManager};
pub(crate) use package_state::PackageState;
pub(crate) use service_manager::{CheckResult, LastWords, OWN_UNIT, ServiceManager, UNITS_AT_ONCE};
pub(crate) use unit_state::{ActiveState, LoadState, ServiceType, SubState, UnitFileState, UnitState};
