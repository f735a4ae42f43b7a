//! What went wrong after an update had failed: its rollback, or what else it had changed.

use std::fmt;

use bucket::ReleaseName;
use serde::{Deserialize, Serialize};

use super::{
    dpkg::DpkgFault,
    fault::{Fault, on_hold},
    others::OtherPackages,
};

/// Something more to know of an update that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aftermath {
    /// There was nothing to go back to.
    CannotRollBack(NoRollbackTarget),
    /// dpkg could not put the previous release back.
    RollbackFailed(Box<DpkgFault>),
    /// The rollback was interrupted again and again.
    RollbackInterrupted {
        /// How often.
        times: u32,
    },
    /// The previous release does not stay up either.
    PreviousUnhealthy(Box<Fault>),
    /// The previous release was put back after all.
    RestoredLater,
    /// What the release left could not be repaired yet.
    NotRepaired {
        /// Why, in the words of that failure.
        why: String,
    },
    /// The previous release is back, and has yet to show that it stays up.
    Restored(ReleaseName),
    /// There was none, and what was installed is removed again.
    Removed,
    /// Other packages than its own changed.
    OtherPackagesChanged(OtherPackages),
}

/// Why an app cannot be rolled back. Written as its sentence, of which alone earlier pullds know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum NoRollbackTarget {
    /// The release that was installed is no longer in the bucket.
    NotInBucket(ReleaseName),
    /// The same of the cache, while nothing else can be asked.
    NotInCache(ReleaseName),
    /// What was installed came from no release.
    NotARelease {
        /// Its package.
        package: String,
    },
    /// What was there before was not in order.
    NotInOrder(ReleaseName),
    /// What the document does not list is not put back.
    Removal,
    /// A package that would change is on hold.
    OnHold {
        /// The package.
        package: String,
    },
    /// As it was written, in a sentence.
    Told(String),
}

impl From<String> for NoRollbackTarget {
    fn from(sentence: String) -> Self {
        Self::Told(sentence)
    }
}

impl From<NoRollbackTarget> for String {
    fn from(target: NoRollbackTarget) -> Self {
        target.to_string()
    }
}

impl fmt::Display for NoRollbackTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInBucket(release) => write!(f, "`{}` is no longer in the bucket", release.stem()),
            Self::NotInCache(release) => write!(f, "`{}` is not in the cache", release.stem()),
            Self::NotARelease { package } => {
                write!(f, "the package `{package}` that was installed before is not a release")
            }
            Self::NotInOrder(release) => write!(f, "`{}`, which was there before, was not in order", release.stem()),
            Self::Removal => f.write_str("removals are not undone"),
            Self::OnHold { package } => on_hold(package).fmt(f),
            Self::Told(sentence) => f.write_str(sentence),
        }
    }
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotRollBack(target) => write!(f, "cannot roll back: {target}"),
            Self::RollbackFailed(fault) => write!(f, "rollback failed: {fault}"),
            Self::RollbackInterrupted { times } => {
                write!(f, "rollback failed: {}", Fault::Interrupted { times: *times })
            }
            Self::PreviousUnhealthy(fault) => write!(f, "the previous release is unhealthy too: {fault}"),
            Self::RestoredLater => f.write_str("the release before was restored later"),
            Self::NotRepaired { why } => {
                write!(f, "what it left could not be repaired, will retry (`pulld pull` does so at once): {why}")
            }
            Self::Restored(release) => {
                write!(f, "`{}` is restored, and has to pass its health gate", release.stem())
            }
            Self::Removed => f.write_str("it is removed again"),
            Self::OtherPackagesChanged(others) => others.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::FailureKind, machine::fake::release};

    #[test]
    fn what_came_after_is_said() {
        let web = release("web", 1);
        let stem = web.stem().to_owned();
        let held = NoRollbackTarget::OnHold { package: "web".to_owned() };
        let no_release = NoRollbackTarget::NotARelease { package: "web".to_owned() };
        let changes = "`nginx` 1 was removed".to_owned();
        for (aftermath, words) in [
            (
                Aftermath::NotRepaired { why: "prerm: no".to_owned() },
                "what it left could not be repaired, will retry (`pulld pull` does so at once): prerm: no".to_owned(),
            ),
            (
                Aftermath::CannotRollBack(NoRollbackTarget::NotInOrder(web.clone())),
                format!("cannot roll back: `{stem}`, which was there before, was not in order"),
            ),
            (
                Aftermath::CannotRollBack(NoRollbackTarget::NotInBucket(web.clone())),
                format!("cannot roll back: `{stem}` is no longer in the bucket"),
            ),
            (
                Aftermath::CannotRollBack(NoRollbackTarget::NotInCache(web.clone())),
                format!("cannot roll back: `{stem}` is not in the cache"),
            ),
            (
                Aftermath::CannotRollBack(no_release),
                "cannot roll back: the package `web` that was installed before is not a release".to_owned(),
            ),
            (
                Aftermath::CannotRollBack(NoRollbackTarget::Removal),
                "cannot roll back: removals are not undone".to_owned(),
            ),
            (Aftermath::CannotRollBack(held.clone()), format!("cannot roll back: {held}")),
            (
                Aftermath::RollbackInterrupted { times: 6 },
                "rollback failed: it was interrupted 6 times".to_owned(),
            ),
            (
                Aftermath::PreviousUnhealthy(Box::new(Fault::told(FailureKind::UnitFailed, "it crashed"))),
                "the previous release is unhealthy too: it crashed".to_owned(),
            ),
            (Aftermath::RestoredLater, "the release before was restored later".to_owned()),
            (Aftermath::Restored(web), format!("`{stem}` is restored, and has to pass its health gate")),
            (Aftermath::Removed, "it is removed again".to_owned()),
            (
                Aftermath::OtherPackagesChanged(OtherPackages { changes, app: Some("web".parse().unwrap()) }),
                "other packages changed with it: `nginx` 1 was removed; `/var/log/dpkg.log` there tells more, and `pulld \
                 retry web` there ends this state when the server is as it should be"
                    .to_owned(),
            ),
        ] {
            assert_eq!(aftermath.to_string(), words);
            let read: Aftermath = serde_json::from_value(serde_json::to_value(&aftermath).unwrap()).unwrap();
            assert_eq!(read.to_string(), words, "as it was written");
        }
    }

    #[test]
    fn a_missing_rollback_target_is_written_as_earlier_pullds_read_it() {
        let written = serde_json::to_string(&NoRollbackTarget::Removal).unwrap();
        assert_eq!(written, "\"removals are not undone\"");
        let read: NoRollbackTarget = serde_json::from_str(&written).unwrap();
        assert_eq!(read, NoRollbackTarget::Told("removals are not undone".to_owned()));
    }
}
