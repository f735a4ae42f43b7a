//! Which unit files are enabled: systemd's own links, and what deb-systemd-helper(1) remembers of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bucket::UnitName;
use tokio::time::timeout;

use super::bus::{ManagerProxy, QUERY_TIMEOUT, connect, in_words};
use crate::state::persist;

/// Where deb-systemd-helper remembers what it enabled.
const REMEMBERED: &str = "/var/lib/systemd/deb-systemd-helper-enabled";

/// Where its links are.
const LINKS: &str = "/etc/systemd/system";

/// Most bytes of a list of links that are read.
const MAX_LIST: u64 = 64 << 10;

/// The instances of a template that systemd has loaded.
pub(super) async fn instances(template: &UnitName) -> Result<Vec<UnitName>> {
    let listed = async {
        let connection = connect().await?;
        let pattern = format!("{}?*.{}", template.stem(), template.kind());
        let manager = ManagerProxy::new(&connection).await?;
        let units = manager.list_units_by_patterns(&[], &[&pattern]).await.map_err(|error| in_words(&error))?;
        anyhow::Ok(units.into_iter().filter_map(|unit| unit.0.parse().ok()).collect())
    };
    let listed = timeout(QUERY_TIMEOUT, listed).await.context("timed out")?;
    listed.with_context(|| format!("could not query systemd about the instances of `{template}`"))
}

/// Disables a unit whose file may be gone, so that a release that brings it again enables it as for the first time.
///
/// What is remembered goes first: whoever repeats this after an interruption finds the unit enabled still, and not one that an
/// administrator seems to have disabled.
pub(super) async fn disable(name: &str) -> Result<()> {
    forget(Path::new(REMEMBERED), name)?;
    let disabled = async {
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await?;
        match manager.disable_unit_files(&[name], false).await {
            Err(error) if is_gone(&error) => Ok(()),
            disabled => disabled.map(drop).map_err(|error| in_words(&error)),
        }
    };
    let disabled = timeout(QUERY_TIMEOUT, disabled).await.context("timed out disabling a unit")?;
    disabled.with_context(|| format!("could not disable `{name}`"))
}

/// Whether systemd has neither a file nor a link of the unit: there is nothing to disable.
fn is_gone(error: &zbus::Error) -> bool {
    let zbus::Error::MethodError(kind, ..) = error else { return false };
    ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound", "System.Error.ENOENT"]
        .contains(&kind.as_str())
}

/// Removes what deb-systemd-helper remembers of a unit, as its `purge` does: with it, a unit without links counts as
/// disabled by an administrator.
fn forget(remembered: &Path, name: &str) -> Result<()> {
    let list = remembered.join(format!("{name}.dsh-also"));
    let content = persist::read(&list, MAX_LIST)?.unwrap_or_default();
    for link in String::from_utf8_lossy(&content).lines().filter_map(|link| beneath(remembered, link)) {
        persist::remove(&link)?;
    }
    persist::remove(&list)
}

/// Where it is remembered that a link was made.
fn beneath(remembered: &Path, link: &str) -> Option<PathBuf> {
    let link = Path::new(link).strip_prefix(LINKS).ok()?;
    let is_plain = link.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    is_plain.then(|| remembered.join(link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_unit_is_enabled_as_for_the_first_time() {
        let directory = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put("d/multi-user.target.wants/web.service", "");
        put("d/multi-user.target.wants/db.service", "");
        put("secret", "");
        put(
            "d/web.service.dsh-also",
            "/etc/systemd/system/multi-user.target.wants/web.service\n/etc/systemd/system/../secret\n/secret\n",
        );
        let remembered = directory.path().join("d");
        forget(&remembered, "web.service").unwrap();
        let exists = |path: &str| directory.path().join(path).exists();
        assert!(!exists("d/multi-user.target.wants/web.service") && !exists("d/web.service.dsh-also"));
        assert!(exists("d/multi-user.target.wants/db.service") && exists("secret"));
        forget(&remembered, "web.service").unwrap();
    }
}
