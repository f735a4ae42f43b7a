//! What dpkg had before the first run of a transaction whose changes nobody has noted: a file, so that neither the death
//! of the runner nor that of the machine makes the next run take the damage for what there was.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::state::persist;

use super::package_changes::AllPackages;

/// Most bytes of it that are read: all of Debian has some 100,000 packages.
const MAX_SIZE: u64 = 16 << 20;

/// A listing, and what it is the baseline of.
#[derive(Serialize, Deserialize)]
struct Baseline {
    of: String,
    packages: AllPackages,
}

/// The listing that the changes of `of` are compared with: the one in the file, or else `now`, which the file has from now
/// on. Without a name there is nothing to keep it for. That it can't be kept, as on a full disk, is no reason to keep a
/// release from being restored: only an interruption makes it needed.
pub(super) fn begin(file: &Path, of: Option<&str>, now: AllPackages) -> AllPackages {
    let Some(of) = of else { return now };
    if let Some(earlier) = load(file, of) {
        return earlier;
    }
    let baseline = Baseline { of: of.to_owned(), packages: now };
    let written =
        serde_json::to_vec(&baseline).map_err(anyhow::Error::from).and_then(|content| persist::write(file, &content));
    if let Err(error) = written {
        tracing::warn!("{error:#}");
    }
    baseline.packages
}

/// The listing in the file, if it is a valid one of `of`: another transaction's is none, nor is one that can't be read. That
/// only costs the words for what else changed, and keeps nothing from being completed or rolled back.
pub(super) fn load(file: &Path, of: &str) -> Option<AllPackages> {
    let content = persist::read(file, MAX_SIZE).unwrap_or_else(|error| {
        tracing::warn!("what else dpkg has changed until now will not be told: {error:#}");
        None
    });
    let baseline = content.and_then(|content| serde_json::from_slice::<Baseline>(&content).ok());
    baseline.filter(|baseline| baseline.of == of).map(|baseline| baseline.packages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::PackageState;

    #[test]
    fn what_was_there_before_the_first_run_of_a_transaction_counts_for_all_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("before.json");
        let listing = |version: &str| -> AllPackages {
            let state = PackageState::Broken("iF".to_owned());
            [("web".to_owned(), (version.to_owned(), state))].into()
        };
        assert_eq!(load(&file, "a"), None);
        assert_eq!(begin(&file, None, listing("0")), listing("0"));
        assert!(!file.exists());
        assert_eq!(begin(&file, Some("a"), listing("1")), listing("1"));
        assert_eq!(begin(&file, Some("a"), listing("2")), listing("1"));
        assert_eq!(begin(&file, Some("b"), listing("3")), listing("3"), "another transaction's is none");
        assert_eq!(load(&file, "b"), Some(listing("3")));
        std::fs::write(&file, "torn").unwrap();
        assert_eq!(begin(&file, Some("b"), listing("4")), listing("4"));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(load(&file, "b"), None, "one that can't be read keeps nobody from going on");
        assert_eq!(begin(&file, Some("b"), listing("4")), listing("4"));
        let nowhere = file.join("below/a/file");
        assert_eq!(begin(&nowhere, Some("b"), listing("5")), listing("5"));
    }
}
