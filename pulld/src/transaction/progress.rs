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

use crate::failure::{Aftermath, Failure, Fault, OtherPackages};

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// It is being installed, restarted or watched.
    Forward,
    /// It cannot stay. Nothing of it has been undone yet.
    Failed(Failed),
    /// It is being undone.
    RollingBack {
        /// Why it cannot stay.
        failure: Failed,
        /// Whether dpkg had changed anything of the app when the rollback began.
        replaced: bool,
    },
    /// It ended.
    Ended(Outcome),
}

/// Why an update cannot stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// What went wrong.
    #[serde(flatten)]
    pub(crate) failure: Failure,
    /// Whether the release caused it: then it is quarantined.
    pub(crate) release_at_fault: bool,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The release is installed and healthy, or the package is removed.
    Done,
    /// The previous release runs again; this one is quarantined, because of this.
    RolledBack(Failure),
    /// The machine is as before, through no fault of the release, which will be retried. This is why.
    Postponed(Failure),
    /// Neither the update nor the rollback worked: manual intervention is required.
    Degraded {
        /// Why the update failed, and why the rollback did.
        #[serde(flatten)]
        failure: Failure,
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
    pub(crate) fn failure(&self) -> Option<&Failed> {
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
    pub(crate) fn fail(&mut self, failure: Failed) {
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
        if let Some(Failed { failure, release_at_fault }) = self.failure().cloned() {
            let outcome = if release_at_fault { Outcome::RolledBack(failure) } else { Outcome::Postponed(failure) };
            *self = Self::Ended(outcome);
        }
    }

    /// However it ended, it changed something on the machine that nobody planned, and that nobody undoes.
    pub(crate) fn find_unplanned(&mut self, others: OtherPackages) {
        let failure = match self.outcome() {
            Some(Outcome::Done) => Fault::OtherPackagesChanged(others).into(),
            Some(Outcome::RolledBack(failure) | Outcome::Postponed(failure) | Outcome::Degraded { failure, .. }) => {
                failure.clone().and(Aftermath::OtherPackagesChanged(others))
            }
            None => return,
        };
        *self = Self::Ended(Outcome::Degraded { failure, retried: false });
    }

    /// It could not be undone either, because of that.
    pub(crate) fn degrade(&mut self, aftermath: Aftermath) {
        if let Some(Failed { failure, release_at_fault }) = self.failure().cloned() {
            let failure = failure.and(aftermath);
            *self = Self::Ended(Outcome::Degraded { failure, retried: !release_at_fault });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn told(words: &str) -> Failure {
        Fault::told(FailureKind::UnitFailed, words).into()
    }

    fn failed(words: &str, release_at_fault: bool) -> Failed {
        Failed { failure: told(words), release_at_fault }
    }

    /// Every state, and what each transition makes of it.
    #[test]
    fn transitions_lead_only_where_the_drawing_says() {
        let no = Aftermath::RollbackInterrupted { times: 6 };
        let more = OtherPackages { changes: "`nginx` 1 was removed".into(), app: None };
        let others = || Aftermath::OtherPackagesChanged(more.clone());
        let degraded_by = |failure| Progress::Ended(Outcome::Degraded { failure, retried: false });
        let failed_first = Progress::Failed(failed("crashed", true));
        let rolling_back = Progress::RollingBack { failure: failed("crashed", true), replaced: true };
        let done = Progress::Ended(Outcome::Done);
        let rolled_back = Progress::Ended(Outcome::RolledBack(told("crashed")));
        let degraded = degraded_by(told("crashed").and(no.clone()));
        let degraded_and_more = degraded_by(told("crashed").and(no.clone()).and(others()));
        let refailed = Progress::Failed(failed("again", false));
        let unplanned = degraded_by(Fault::OtherPackagesChanged(more.clone()).into());
        let back_and_more = degraded_by(told("crashed").and(others()));
        let forward = Progress::Forward;
        let first = &failed_first;
        for (from, succeed, fail, start, back, degrade, find) in [
            (&forward, &done, &refailed, &forward, &forward, &forward, &forward),
            (first, first, first, &rolling_back, &rolled_back, &degraded, first),
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
            assert_eq!(after(&|progress| progress.fail(failed("again", false))), *fail, "{from:?} fails");
            assert_eq!(after(&|progress| progress.start_rollback(true)), *start, "{from:?} is to be undone");
            assert_eq!(after(&Progress::rolled_back), *back, "{from:?} is undone");
            assert_eq!(after(&|progress| progress.degrade(no.clone())), *degrade, "{from:?} cannot be undone");
            assert_eq!(after(&|progress| progress.find_unplanned(more.clone())), *find, "{from:?} changed more");
        }
    }

    #[test]
    fn what_the_release_did_not_cause_is_postponed() {
        let mut progress = Progress::Failed(failed("locked", false));
        progress.rolled_back();
        assert_eq!(progress.outcome(), Some(&Outcome::Postponed(told("locked"))));
        let mut progress = Progress::Failed(failed("no space", false));
        progress.degrade(Aftermath::RollbackInterrupted { times: 6 });
        assert!(matches!(progress.outcome(), Some(Outcome::Degraded { retried: true, .. })), "{progress:?}");
    }

    /// As a pulld wrote it that knew words alone.
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Before {
        Forward,
        Failed { reason: String, release_at_fault: bool },
        RollingBack { failure: FailedBefore, replaced: bool },
        Ended(EndedBefore),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct FailedBefore {
        reason: String,
        release_at_fault: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum EndedBefore {
        Done,
        RolledBack { reason: String },
        Postponed { reason: String },
        Degraded { reason: String, retried: bool },
    }

    #[test]
    fn what_is_written_is_read_by_earlier_pullds_and_what_they_wrote_is_read() {
        let (reason, release_at_fault) = ("crashed", true);
        let failed = || failed(reason, release_at_fault);
        for (progress, before) in [
            (Progress::Forward, r#""forward""#),
            (Progress::Failed(failed()), r#"{"failed":{"reason":"crashed","release_at_fault":true}}"#),
            (
                Progress::RollingBack { failure: failed(), replaced: true },
                r#"{"rolling-back":{"failure":{"reason":"crashed","release_at_fault":true},"replaced":true}}"#,
            ),
            (Progress::Ended(Outcome::Done), r#"{"ended":"done"}"#),
            (Progress::Ended(Outcome::RolledBack(told(reason))), r#"{"ended":{"rolled-back":{"reason":"crashed"}}}"#),
            (Progress::Ended(Outcome::Postponed(told(reason))), r#"{"ended":{"postponed":{"reason":"crashed"}}}"#),
            (
                Progress::Ended(Outcome::Degraded { failure: told(reason), retried: true }),
                r#"{"ended":{"degraded":{"reason":"crashed","retried":true}}}"#,
            ),
        ] {
            let written = serde_json::to_string(&progress).unwrap();
            assert_eq!(serde_json::from_str::<Progress>(&written).unwrap(), progress);
            let as_before: Before = serde_json::from_str(&written).unwrap();
            assert_eq!(as_before, serde_json::from_str(before).unwrap(), "{written}");
            let read: Progress = serde_json::from_str(before).unwrap();
            let words = |progress: &Progress| progress.failure().map(|failed| failed.failure.to_string());
            assert_eq!(words(&read), words(&progress), "{before}");
        }
    }
}
