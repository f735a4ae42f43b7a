//! A fake `.deb`: a line of JSON that also says how the release behaves.

use std::path::Path;

use anyhow::{Context, Result};
use bucket::{OwnedUnit, PackageFacts, ReleaseFields, ReleaseName, UnitAction};
use serde::{Deserialize, Serialize};

use super::super::package_manager::DebInfo;

/// A release of an app, as if built at that minute.
pub(crate) fn release(app: &str, minute: u8) -> ReleaseName {
    format!("{app}/{app}:qa@build:2026-11-20T21:{minute:02}:00Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb")
        .parse()
        .unwrap()
}

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Behaviour {
    /// It installs and stays up.
    #[default]
    Good,
    /// Its service crashes three seconds after each start.
    Crashes,
    /// Its service doesn't start.
    DoesNotStart,
    /// dpkg refuses it and leaves the package as it was.
    Refused,
    /// dpkg leaves it half-configured.
    Breaks,
    /// dpkg removes another package, `nginx`, with which it conflicts.
    TakesAway,
    /// The same, and dpkg leaves it half-configured.
    TakesAwayAndBreaks,
    /// dpkg finds another package in it than it says, `nginx`.
    IsAnother,
    /// Its own check fails.
    CheckFails,
}

impl Behaviour {
    /// Whether dpkg removes `nginx` with it.
    pub(super) fn takes_away(self) -> bool {
        matches!(self, Self::TakesAway | Self::TakesAwayAndBreaks)
    }
}

/// What a fake `.deb` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deb {
    pub(crate) release: ReleaseName,
    pub(crate) package: String,
    pub(crate) units: Vec<OwnedUnit>,
    pub(crate) depends: Vec<String>,
    /// In bytes, as the package says itself.
    pub(crate) installed_size: u64,
    pub(crate) behaviour: Behaviour,
}

impl Deb {
    /// A release of an app with one service of its name.
    pub(crate) fn new(release: &ReleaseName, behaviour: Behaviour) -> Self {
        let app = release.app().to_string();
        let unit = OwnedUnit::new(format!("{app}.service").parse().unwrap(), UnitAction::Restart);
        // pulld restarts itself by other means.
        let units = if app == "pulld" { vec![] } else { vec![unit] };
        Self { release: release.clone(), package: app, units, depends: vec![], installed_size: 1, behaviour }
    }
}

/// Reads a fake `.deb`.
pub(crate) fn inspect(path: &Path) -> Result<DebInfo> {
    let deb: Deb = serde_json::from_slice(&std::fs::read(path)?).context("not a .deb")?;
    let facts = PackageFacts {
        package: deb.package.parse()?,
        version: "1".to_owned(),
        architecture: "all".parse()?,
        installed_size: deb.installed_size,
        depends: deb.depends,
    };
    let check = (deb.behaviour == Behaviour::CheckFails).then(|| "/bin/false".parse().unwrap());
    Ok(DebInfo { facts, fields: ReleaseFields { release: deb.release, units: deb.units, check } })
}
