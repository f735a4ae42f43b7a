//! Which release of each package was installed when the agent last looked: what differs since, and was not its own work,
//! was changed by hand.
//!
//! Deleting the file does no harm: the next change by hand is not told.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use bucket::ReleaseName;
use serde::{Deserialize, Serialize};

use super::persist;

/// The packages that are there, each with the release that it came from; `None` for one that came from none.
pub(crate) type Packages = BTreeMap<String, Option<ReleaseName>>;

/// The packages as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seen {
    packages: Packages,
}

/// A package that is another than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The package.
    pub(crate) package: String,
    /// The release it was, if it was one.
    pub(crate) from: Option<ReleaseName>,
    /// The release it is, if it is one; `None` also when it is gone.
    pub(crate) to: Option<ReleaseName>,
}

impl Seen {
    /// What is on disk; nothing when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        persist::load(path, "could not read what was installed before, what was changed by hand since is not told")
    }

    /// Writes it to disk.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::save(path, self)
    }

    /// The packages that are another than they were seen. One that was never seen is not among them: it may have come
    /// with the image.
    pub(crate) fn changes(&self, now: &Packages) -> Vec<Change> {
        let change = |(package, from): (&String, &Option<ReleaseName>)| {
            let to = now.get(package).cloned().flatten();
            (to != *from).then(|| Change { package: package.clone(), from: from.clone(), to })
        };
        self.packages.iter().filter_map(change).collect()
    }

    /// Takes over what is there now. Returns whether that is another than it was.
    pub(crate) fn take_over(&mut self, now: Packages) -> bool {
        let has_changed = self.packages != now;
        self.packages = now;
        has_changed
    }

    /// Expects a package as the agent itself has installed it.
    pub(crate) fn expect(&mut self, package: &str, release: &ReleaseName) {
        self.packages.insert(package.to_owned(), Some(release.clone()));
    }

    /// Forgets a package that the agent itself has changed, or may have.
    pub(crate) fn forget(&mut self, package: &str) {
        self.packages.remove(package);
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&mut self) {
        self.packages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    #[test]
    fn what_is_another_than_it_was_has_changed_and_what_is_new_has_not() {
        let packages = |release: Option<ReleaseName>| Packages::from([("web".to_owned(), release)]);
        let web = |minute| packages(Some(release("web", minute)));
        let mut seen = Seen::default();
        assert_eq!(seen.changes(&web(1)), [], "the image may have it");
        assert!(seen.take_over(web(1)));
        assert!(!seen.take_over(web(1)));
        for (now, to) in [
            (web(1), None),
            (web(2), Some(Some(release("web", 2)))),
            (Packages::new(), Some(None)),
            (packages(None), Some(None)),
        ] {
            let changes = seen.changes(&now);
            assert_eq!(changes.first().map(|change| change.to.clone()), to, "{now:?}");
            assert!(changes.iter().all(|change| change.from == Some(release("web", 1))));
        }
        seen.forget("web");
        assert_eq!(seen.changes(&web(2)), [], "the agent did that");
        seen.expect("web", &release("web", 2));
        assert_eq!(seen.changes(&web(2)), []);
        assert_eq!(seen.changes(&web(3)).len(), 1, "and that somebody else");
    }
}
