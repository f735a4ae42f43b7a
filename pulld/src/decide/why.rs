//! Why an app is not as its newest document says: the one cause that keeps it from that, what speaks for it, and what to
//! do. Pure.

use std::fmt;

use bucket::{AppName, AppState};
use serde::{Deserialize, Serialize};

use super::{
    remedy::Remedy,
    report::{Cause, Evidence, PlanReport},
};

/// How every app stands, as the agent last saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Causes {
    /// What kept the newest document from being read, or the last cycle from its end, in a sentence.
    pub(crate) trouble: Option<String>,
    /// The apps that the document lists or that are installed.
    pub(crate) apps: PlanReport,
}

/// Why one app is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why {
    /// The app.
    pub(crate) app: AppName,
    /// How it stands.
    cause: Cause,
    /// What keeps the agent from what the app waits for, and from everything else.
    trouble: Option<String>,
}

impl Causes {
    /// Why an app is as it is; `None` when nothing is known of it.
    pub(crate) fn why(&self, app: &AppName) -> Option<Why> {
        let cause = self.apps.apps().find(|(name, _)| *name == app)?.1.clone();
        let waits_for_the_agent = cause.is_plain() || matches!(cause, Cause::Unread | Cause::Unplanned);
        let trouble = self.trouble.clone().filter(|_| waits_for_the_agent);
        Some(Why { app: app.clone(), cause, trouble })
    }

    /// Every app that something is known of.
    pub(crate) fn known(&self) -> Vec<&str> {
        self.apps.apps().map(|(app, _)| app.as_str()).collect()
    }
}

impl Why {
    /// The state of the app in the report.
    pub(crate) fn state(&self) -> AppState {
        self.cause.state()
    }

    /// Whether something keeps it from being as the newest document says.
    pub(crate) fn is_blocked(&self) -> bool {
        self.trouble.is_some() || !self.cause.is_plain()
    }

    /// What kind of cause it is, for programs, in a word that stays as it is: `unit-failed`, `on-hold`; `pull-failed` when it
    /// is nothing of the app's own.
    pub(crate) fn kind(&self) -> &'static str {
        if self.trouble.is_some() { "pull-failed" } else { self.cause.kind() }
    }

    /// The cause; `None` when it is nothing of the app's own.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        Some(&self.cause).filter(|_| self.trouble.is_none())
    }

    /// What speaks for it.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        match &self.trouble {
            Some(trouble) => vec![Evidence::Trouble(trouble.clone())],
            None => self.cause.evidence(),
        }
    }

    /// What a person can do about it.
    pub(crate) fn remedy(&self) -> Remedy {
        if self.trouble.is_some() { Remedy::MendPull } else { self.cause.remedy(&self.app) }
    }
}

/// The cause in a sentence.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.trouble, &self.cause) {
            (None, cause) => cause.fmt(f),
            (Some(_), Cause::InPlace) => {
                f.write_str("it is as the last server document that could be used says, and newer ones cannot be seen")
            }
            (Some(_), _) => f.write_str("the last pull failed as a whole, so that nothing is changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bucket::Timestamp;

    use super::*;
    use crate::{
        decide::report::{Reason, Unlisted, Waiting},
        failure::{FailureKind, Fault},
    };

    fn why(cause: Cause, trouble: Option<&str>) -> Why {
        let app: AppName = "web".parse().unwrap();
        let mut apps = PlanReport::default();
        apps.note(&app, cause);
        let causes = Causes { trouble: trouble.map(str::to_owned), apps };
        assert_eq!(causes.why(&"db".parse().unwrap()), None);
        // As another process reads it.
        let causes: Causes = serde_json::from_slice(&serde_json::to_vec(&causes).unwrap()).unwrap();
        causes.why(&app).unwrap()
    }

    #[test]
    fn one_cause_is_named_with_what_speaks_for_it_and_what_to_do() {
        let failure = Fault::NoSpace { directory: "/var".into(), needed: 0, reserve: 0, free: 0 };
        let waiting = Waiting { failure: failure.into(), failures: 2, next: Timestamp::UNIX_EPOCH };
        let cause = Cause::Waiting(waiting.clone());
        let why_waiting = why(cause.clone(), Some("the bucket is unreachable"));
        assert_eq!((why_waiting.is_blocked(), why_waiting.state()), (true, AppState::Failed));
        assert_eq!((why_waiting.kind(), why_waiting.cause()), (FailureKind::MachineAtFault.word(), Some(&cause)));
        assert_eq!(
            why_waiting.evidence(),
            [Evidence::Failed(waiting.failure), Evidence::Failures(2), Evidence::NextAttempt(Timestamp::UNIX_EPOCH)]
        );
        assert_eq!(why_waiting.remedy(), Remedy::PullNow);
        for cause in [Cause::InPlace, Cause::Planned(Reason::Document), Cause::Unlisted(Unlisted::Removed)] {
            let fine = why(cause.clone(), None);
            assert_eq!((fine.is_blocked(), fine.cause()), (false, Some(&cause)));
        }
        assert!(why(Cause::Unlisted(Unlisted::NoPrune), None).is_blocked());
    }

    #[test]
    fn what_keeps_everything_out_comes_before_what_waits_for_it() {
        for cause in [Cause::InPlace, Cause::Planned(Reason::Document), Cause::Unread, Cause::Unplanned] {
            let in_place = cause == Cause::InPlace;
            let blocked = why(cause, Some("the bucket is unreachable: no such directory"));
            assert_eq!((blocked.is_blocked(), blocked.kind(), blocked.cause()), (true, "pull-failed", None));
            let trouble = "the bucket is unreachable: no such directory".to_owned();
            assert_eq!((blocked.evidence(), blocked.remedy()), (vec![Evidence::Trouble(trouble)], Remedy::MendPull));
            let says = if in_place {
                "it is as the last server document that could be used says, and newer ones cannot be seen"
            } else {
                "the last pull failed as a whole, so that nothing is changed"
            };
            assert_eq!(blocked.to_string(), says);
        }
    }

    #[test]
    fn what_speaks_for_a_cause_is_said() {
        let evidence = |evidence: Evidence| evidence.to_string();
        assert_eq!(evidence(Evidence::Failures(1)), "1 attempt has failed");
        assert_eq!(evidence(Evidence::Failures(2)), "2 attempts have failed");
        let (next, since) = (Evidence::NextAttempt(Timestamp::UNIX_EPOCH), Timestamp::UNIX_EPOCH);
        assert_eq!(evidence(next), "the next attempt is due at 1970-01-01T00:00:00Z");
        assert_eq!(evidence(Evidence::QuarantinedSince(since)), "quarantined since 1970-01-01T00:00:00Z");
    }
}
