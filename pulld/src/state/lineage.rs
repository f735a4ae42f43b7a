//! The releases of each app that were installed here and stayed up, in the order in which they came: where a person who
//! goes back by hand goes to.
//!
//! Deleting the file does no harm: then the cache alone says what there is to go back to.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use bucket::{AppName, ReleaseName};
use serde::{Deserialize, Serialize};

use super::persist;

/// Most releases of one app that are kept.
const MAX: usize = 20;

/// What was installed here and stayed up, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Lineage {
    apps: BTreeMap<AppName, Vec<ReleaseName>>,
}

impl Lineage {
    /// What is on disk; nothing when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        persist::load(path, "could not read which releases stayed up here")
    }

    /// Writes it to disk.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::save(path, self)
    }

    /// Notes that a release took the place of the one `before` it and stayed up. One that was here already is returned
    /// to: what came after it is no longer before anything.
    pub(crate) fn note(&mut self, release: &ReleaseName, before: Option<&ReleaseName>) {
        let releases = self.apps.entry(release.app().clone()).or_default();
        if releases.is_empty() {
            releases.extend(before.filter(|before| *before != release).cloned());
        }
        match releases.iter().position(|known| known == release) {
            Some(at) => releases.truncate(at + 1),
            None => releases.push(release.clone()),
        }
        let superfluous = releases.len().saturating_sub(MAX);
        releases.drain(..superfluous);
    }

    /// Forgets an app that was removed.
    pub(crate) fn forget(&mut self, app: &AppName) {
        self.apps.remove(app);
    }

    /// The releases that were here before that one, the last of them first.
    pub(crate) fn before(&self, release: &ReleaseName) -> impl Iterator<Item = &ReleaseName> {
        let releases = self.apps.get(release.app()).map(Vec::as_slice).unwrap_or_default();
        let at = releases.iter().position(|known| known == release).unwrap_or(releases.len());
        releases[..at].iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    #[test]
    fn who_goes_back_twice_goes_back_further() {
        let mut lineage = Lineage::default();
        let web = |minute| release("web", minute);
        for (minute, before) in [(2, Some(1)), (3, Some(2)), (4, Some(3))] {
            lineage.note(&web(minute), before.map(web).as_ref());
        }
        let before = |lineage: &Lineage, minute| lineage.before(&web(minute)).cloned().collect::<Vec<_>>();
        assert_eq!(before(&lineage, 4), [web(3), web(2), web(1)]);
        lineage.note(&web(3), Some(&web(4)));
        assert_eq!(before(&lineage, 3), [web(2), web(1)]);
        assert_eq!(before(&lineage, 9), [web(3), web(2), web(1)], "what never stayed up came after all that did");
        lineage.note(&web(9), Some(&web(3)));
        assert_eq!(before(&lineage, 9), [web(3), web(2), web(1)]);
        lineage.forget(web(9).app());
        assert_eq!(before(&lineage, 9), []);
    }

    #[test]
    fn it_is_bounded() {
        let mut lineage = Lineage::default();
        for minute in 0..60 {
            lineage.note(&release("web", minute), None);
        }
        assert_eq!(lineage.before(&release("web", 59)).count(), MAX - 1);
    }
}
