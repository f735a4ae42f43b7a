//! How far the update of one app is: a state machine without I/O.
//!
//! ```text
//! Forward ── fail ──> Failed ── start_rollback ──> RollingBack ── rolled_back ──> Ended(RolledBack | Postponed)
//!    │                   └────────── degrade ───────────┴──────────────────────> Ended(Degraded)
//!    └── succeed ──> Ended(Done)
//!
//! Ended(Done | RolledBack | Postponed | Degraded) ── find_unplanned ──> Ended(Degraded)
//! ```
//!
//! pulld's own update needs no [`Progress::start_rollback`]. A transition that the state does not have leaves it as it
//! is: a phase that is resumed begins again, and what it finds decided stays decided.

use serde::{Deserialize, Serialize};

use crate::{decide::reason, state::failure::FailureKind};

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// It is being installed, restarted or watched.
    Forward,
    /// It cannot stay. Nothing of it has been undone yet.
    Failed(Failure),
    /// It is being undone.
    RollingBack {
        /// Why it cannot stay.
        failure: Failure,
        /// Whether dpkg had changed anything of the app when the rollback began.
        replaced: bool,
    },
    /// It ended.
    Ended(Outcome),
}

/// Why an update cannot stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// In a sentence.
    pub(crate) reason: String,
    /// In a word.
    #[serde(default)]
    pub(crate) kind: FailureKind,
    /// Whether the release caused it: then it is quarantined.
    pub(crate) release_at_fault: bool,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The release is installed and healthy, or the package is removed.
    Done,
    /// The previous release runs again; this one is quarantined.
    RolledBack {
        /// Why it could not stay.
        reason: String,
        /// What kind of failure that was.
        #[serde(default)]
        kind: FailureKind,
    },
    /// The machine is as before, through no fault of the release, which will be retried.
    Postponed {
        /// Why it could not be installed.
        reason: String,
        /// What kind of failure that was.
        #[serde(default)]
        kind: FailureKind,
    },
    /// Neither the update nor the rollback worked: manual intervention is required.
    Degraded {
        /// Why the update failed, and why the rollback did.
        reason: String,
        /// What kind of failure that was.
        #[serde(default)]
        kind: FailureKind,
        /// Whether it is tried again all the same: the release did not cause the failure.
        #[serde(default)]
        retried: bool,
    },
}

impl Progress {
    /// Whether nothing has gone wrong, and it has not ended.
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self, Self::Forward)
    }

    /// Why it has to be undone; `None` when it does not, or no longer.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::RollingBack { failure, .. } => Some(failure),
            Self::Forward | Self::Ended(_) => None,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Forward | Self::Failed(_) | Self::RollingBack { .. } => None,
        }
    }

    /// It reached what it was for.
    pub(crate) fn succeed(&mut self) {
        if self.is_forward() {
            *self = Self::Ended(Outcome::Done);
        }
    }

    /// It cannot stay. The first failure counts.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if self.is_forward() {
            *self = Self::Failed(failure);
        }
    }

    /// It is being undone from now on; `replaced` as in [`Progress::RollingBack`].
    pub(crate) fn start_rollback(&mut self, replaced: bool) {
        if let Self::Failed(failure) = self {
            *self = Self::RollingBack { failure: failure.clone(), replaced };
        }
    }

    /// It is undone, and the previous release runs again.
    pub(crate) fn rolled_back(&mut self) {
        if let Some(Failure { reason, kind, release_at_fault }) = self.failure().cloned() {
            let outcome = if release_at_fault {
                Outcome::RolledBack { reason, kind }
            } else {
                Outcome::Postponed { reason, kind }
            };
            *self = Self::Ended(outcome);
        }
    }

    /// However it ended, it changed something on the machine that nobody planned, and that nobody undoes.
    pub(crate) fn find_unplanned(&mut self, what: &str) {
        let (reason, kind) = match self.outcome() {
            Some(Outcome::Done) => (what.to_owned(), FailureKind::OtherPackagesChanged),
            Some(
                Outcome::RolledBack { reason, kind }
                | Outcome::Postponed { reason, kind }
                | Outcome::Degraded { reason, kind, .. },
            ) => (reason::join(reason, what), *kind),
            None => return,
        };
        *self = Self::Ended(Outcome::Degraded { reason, kind, retried: false });
    }

    /// It could not be undone either, because of `why`.
    pub(crate) fn degrade(&mut self, why: &str) {
        if let Some(failure) = self.failure() {
            let (reason, kind) = (reason::join(&failure.reason, why), failure.kind);
            *self = Self::Ended(Outcome::Degraded { reason, kind, retried: !failure.release_at_fault });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: &str, release_at_fault: bool) -> Failure {
        Failure { reason: reason.to_owned(), kind: FailureKind::UnitFailed, release_at_fault }
    }

    /// Every state, and what each transition makes of it.
    #[test]
    fn transitions_lead_only_where_the_drawing_says() {
        let kind = FailureKind::UnitFailed;
        let failed = Progress::Failed(failure("crashed", true));
        let rolling_back = Progress::RollingBack { failure: failure("crashed", true), replaced: true };
        let done = Progress::Ended(Outcome::Done);
        let rolled_back = Progress::Ended(Outcome::RolledBack { reason: "crashed".into(), kind });
        let degraded = Progress::Ended(Outcome::Degraded { reason: "crashed; no".into(), kind, retried: false });
        let degraded_and_more =
            Progress::Ended(Outcome::Degraded { reason: "crashed; no; more".into(), kind, retried: false });
        let refailed = Progress::Failed(failure("again", false));
        let changed = FailureKind::OtherPackagesChanged;
        let unplanned = Progress::Ended(Outcome::Degraded { reason: "more".into(), kind: changed, retried: false });
        let back_and_more = Progress::Ended(Outcome::Degraded { reason: "crashed; more".into(), kind, retried: false });
        let forward = Progress::Forward;
        for (from, succeed, fail, start, back, degrade, find) in [
            (&forward, &done, &refailed, &forward, &forward, &forward, &forward),
            (&failed, &failed, &failed, &rolling_back, &rolled_back, &degraded, &failed),
            (&rolling_back, &rolling_back, &rolling_back, &rolling_back, &rolled_back, &degraded, &rolling_back),
            (&done, &done, &done, &done, &done, &done, &unplanned),
            (&rolled_back, &rolled_back, &rolled_back, &rolled_back, &rolled_back, &rolled_back, &back_and_more),
            (&degraded, &degraded, &degraded, &degraded, &degraded, &degraded, &degraded_and_more),
        ] {
            let after = |transition: &dyn Fn(&mut Progress)| {
                let mut progress = from.clone();
                transition(&mut progress);
                progress
            };
            assert_eq!(after(&Progress::succeed), *succeed, "{from:?} succeeds");
            assert_eq!(after(&|progress| progress.fail(failure("again", false))), *fail, "{from:?} fails");
            assert_eq!(after(&|progress| progress.start_rollback(true)), *start, "{from:?} is to be undone");
            assert_eq!(after(&Progress::rolled_back), *back, "{from:?} is undone");
            assert_eq!(after(&|progress| progress.degrade("no")), *degrade, "{from:?} cannot be undone");
            assert_eq!(after(&|progress| progress.find_unplanned("more")), *find, "{from:?} changed more");
        }
    }

    #[test]
    fn what_the_release_did_not_cause_is_postponed() {
        let mut progress = Progress::Failed(failure("locked", false));
        progress.rolled_back();
        assert_eq!(
            progress.outcome(),
            Some(&Outcome::Postponed { reason: "locked".into(), kind: FailureKind::UnitFailed })
        );
        let mut progress = Progress::Failed(failure("no space", false));
        progress.degrade("no space");
        assert!(matches!(progress.outcome(), Some(Outcome::Degraded { retried: true, .. })), "{progress:?}");
    }
}
