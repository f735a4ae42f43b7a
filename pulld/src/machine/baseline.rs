//! What dpkg had before the first run of something whose changes nobody has noted: a file, so that neither the death of the
//! runner nor that of the machine makes the next run take the damage for what there was.
//!
//! Between an interrupted run and the next one anybody may have used dpkg. What differed already when a run began is told with
//! the time since when it may have changed. Once a run that nobody takes the result of has ended, as the rescue's, the file
//! keeps only what it had changed: what others change before the next attempt is none of its doing.

use std::{fs, path::Path};

use anyhow::Result;
use bucket::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::persist;

use super::package_changes::{AllPackages, MAX_CHANGES, PackageChange, changes, differs, still_holds};

/// Most bytes of it that are read: all of Debian has some 100,000 packages.
const MAX_SIZE: u64 = 16 << 20;

/// A listing, and what it is the baseline of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Baseline {
    of: String,
    packages: AllPackages,
    /// When it was made. The file of an earlier pulld doesn't say so, and was written then.
    #[serde(default)]
    since: Option<Timestamp>,
    /// What runs that ended before had changed.
    #[serde(default)]
    told: Vec<PackageChange>,
    /// Whether they are all that there is to tell: the run that the listing was made for has ended, and it is empty.
    #[serde(default)]
    has_ended: bool,
}

impl Baseline {
    /// What there is `now`, before a run.
    pub(super) fn new(of: &str, now: &AllPackages, told: Vec<PackageChange>) -> Self {
        let since = Some(Timestamp::now());
        Self { of: of.to_owned(), packages: now.clone(), since, told, has_ended: false }
    }

    /// Whether it is that of `of`.
    pub(super) fn is_of(&self, of: &str) -> bool {
        self.of == of
    }

    /// What changed that was not planned, as of `after`, at most 20 packages. `began` is what there was when the last run
    /// began: what differed by then may be somebody else's doing.
    pub(super) fn changes(&self, began: &AllPackages, after: &AllPackages, planned: &[String]) -> Vec<PackageChange> {
        let mut told: Vec<PackageChange> =
            self.told.iter().filter(|change| still_holds(change, after)).cloned().collect();
        if !self.has_ended {
            told.extend(changes(&self.packages, after, planned).into_iter().map(|change| {
                let name = &change.package;
                let may_be_anybodys = differs(self.packages.get(name), began.get(name));
                PackageChange { since: self.since.filter(|_| may_be_anybodys), ..change }
            }));
        }
        told.truncate(MAX_CHANGES);
        told
    }
}

/// What the changes of `of` are compared with: what is in the file, or else what there is `now`, which the file has from now
/// on. Without a name there is nothing to keep it for. That it can't be kept, as on a full disk, is no reason to keep a
/// release from being restored: only an interruption makes it needed.
pub(super) fn begin(file: &Path, of: Option<&str>, now: &AllPackages) -> Baseline {
    let Some(of) = of else { return Baseline::new("", now, vec![]) };
    let told = match load(file, of) {
        Some(earlier) if !earlier.has_ended => return earlier,
        Some(ended) => ended.told,
        None => vec![],
    };
    let baseline = Baseline::new(of, now, told);
    write(file, &baseline).unwrap_or_else(|error| tracing::warn!("{error:#}"));
    baseline
}

/// The run of `of` has ended, and its changes are noted: what others change until its next one is told by nobody.
pub(super) fn end(file: &Path, of: &str, told: &[PackageChange]) -> Result<()> {
    write(file, &Baseline { has_ended: true, ..Baseline::new(of, &AllPackages::new(), told.to_vec()) })
}

fn write(file: &Path, baseline: &Baseline) -> Result<()> {
    persist::write(file, &serde_json::to_vec(baseline)?)
}

/// The baseline in the file, if it is a valid one of `of`: another transaction's is none, nor is one that can't be read. That
/// only costs the words for what else changed, and keeps nothing from being completed or rolled back.
pub(super) fn load(file: &Path, of: &str) -> Option<Baseline> {
    let content = persist::read(file, MAX_SIZE).unwrap_or_else(|error| {
        tracing::warn!("what else dpkg has changed until now will not be told: {error:#}");
        None
    });
    let baseline = content.and_then(|content| serde_json::from_slice::<Baseline>(&content).ok());
    let mut baseline = baseline.filter(|baseline| baseline.is_of(of))?;
    let written = || Timestamp::try_from(fs::metadata(file).ok()?.modified().ok()?).ok();
    baseline.since = baseline.since.or_else(written);
    Some(baseline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::PackageState;

    fn listing(packages: &[(&str, &str)]) -> AllPackages {
        let sound = |version: &str| (version.to_owned(), PackageState::Installed);
        packages.iter().map(|(name, version)| ((*name).to_owned(), sound(version))).collect()
    }

    fn told(baseline: &Baseline, began: &AllPackages, after: &AllPackages) -> Vec<String> {
        let since = baseline.since.map(|since| format!("{since:.0}")).unwrap_or_default();
        let changes = baseline.changes(began, after, &["web".to_owned()]);
        changes.iter().map(|change| change.to_string().replace(&since, "T")).collect()
    }

    #[test]
    fn what_was_there_before_the_first_run_of_a_transaction_counts_for_all_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("before.json");
        let packages = |version: &str| -> AllPackages {
            let state = PackageState::Broken("iF".to_owned());
            [("web".to_owned(), (version.to_owned(), state))].into()
        };
        let begin = |file: &Path, of: Option<&str>, version: &str| begin(file, of, &packages(version)).packages;
        let load = |of: &str| load(&file, of).map(|baseline| baseline.packages);
        assert_eq!(load("a"), None);
        assert_eq!(begin(&file, None, "0"), packages("0"));
        assert!(!file.exists());
        assert_eq!(begin(&file, Some("a"), "1"), packages("1"));
        assert_eq!(begin(&file, Some("a"), "2"), packages("1"));
        assert_eq!(begin(&file, Some("b"), "3"), packages("3"), "another transaction's is none");
        assert_eq!(load("b"), Some(packages("3")));
        fs::write(&file, "torn").unwrap();
        assert_eq!(begin(&file, Some("b"), "4"), packages("4"));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(load("b"), None, "one that can't be read keeps nobody from going on");
        assert_eq!(begin(&file, Some("b"), "4"), packages("4"));
        let nowhere = file.join("below/a/file");
        assert_eq!(begin(&nowhere, Some("b"), "5"), packages("5"));
    }

    #[test]
    fn what_differed_when_a_run_began_may_be_anybodys_doing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("before.json");
        let first = listing(&[("man-db", "1"), ("nginx", "1"), ("web", "1")]);
        let baseline = begin(&file, Some("a"), &first);
        assert_eq!(told(&baseline, &first, &listing(&[("man-db", "1"), ("web", "2")])), ["`nginx` 1 was removed"]);
        let upgraded = listing(&[("man-db", "2"), ("nginx", "1"), ("web", "1")]);
        let baseline = begin(&file, Some("a"), &upgraded);
        let want = ["`man-db` is 2 instead of 1 (since T, by it or by somebody else)", "`nginx` 1 was removed"];
        assert_eq!(told(&baseline, &upgraded, &listing(&[("man-db", "2"), ("web", "2")])), want);
        // As an earlier pulld wrote it.
        fs::write(&file, r#"{"of":"a","packages":{"nginx":["1","installed"]}}"#).unwrap();
        let of_earlier = load(&file, "a").unwrap();
        let nothing = AllPackages::new();
        assert_eq!(
            told(&of_earlier, &nothing, &nothing),
            ["`nginx` 1 was removed (since T, by it or by somebody else)"]
        );
    }

    #[test]
    fn what_others_change_between_two_attempts_is_none_of_theirs_and_what_the_first_changed_is_told_until_it_is_repaired()
     {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("before.json");
        let first = listing(&[("man-db", "1"), ("nginx", "1"), ("sed", "1")]);
        let after_first = listing(&[("man-db", "1"), ("sed", "1")]);
        let changes = begin(&file, Some("a"), &first).changes(&first, &after_first, &[]);
        end(&file, "a", &changes).unwrap();
        assert_eq!(told(&load(&file, "a").unwrap(), &first, &first), [""; 0], "repaired");
        let by_others = listing(&[("man-db", "2"), ("sed", "1")]);
        assert_eq!(told(&load(&file, "a").unwrap(), &by_others, &by_others), ["`nginx` 1 was removed"]);
        let second = begin(&file, Some("a"), &by_others);
        let after_second = listing(&[("man-db", "2")]);
        let want = ["`nginx` 1 was removed", "`sed` 1 was removed"];
        assert_eq!(told(&second, &by_others, &after_second), want);
        // Interrupted: the third goes on from what the second had found.
        assert_eq!(begin(&file, Some("a"), &after_second), second);
    }
}
