//! Why an app is not as its newest document says: the one cause that keeps it from that, what speaks for it, and what to
//! do. Pure.

use bucket::{AppName, AppState};
use serde::{Deserialize, Serialize};

use super::report::{Cause, PlanReport};

/// How every app stands, as the agent last saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Causes {
    /// What kept the newest document from being read, or the last cycle from its end, in a sentence.
    pub(crate) trouble: Option<String>,
    /// The apps that the document lists or that are installed.
    pub(crate) apps: PlanReport,
}

/// Why one app is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Why {
    /// The app.
    pub(crate) app: AppName,
    /// Its state in the report.
    pub(crate) state: AppState,
    /// Whether something keeps it from being as the newest document says.
    pub(crate) blocked: bool,
    /// What kind of cause it is, for programs, in a word that stays as it is: `unit-failed`, `on-hold`; `pull-failed` when it is
    /// nothing of the app's own.
    pub(crate) kind: String,
    /// The cause, for programs; `null` when it is nothing of the app's own.
    pub(crate) cause: Option<Cause>,
    /// The cause in a sentence.
    pub(crate) says: String,
    /// What speaks for it, each perhaps with lines below it.
    pub(crate) evidence: Vec<String>,
    /// What a person can do about it.
    pub(crate) to_do: String,
}

impl Causes {
    /// Why an app is as it is; `None` when nothing is known of it.
    pub(crate) fn why(&self, app: &AppName) -> Option<Why> {
        let cause = self.apps.apps().find(|(name, _)| *name == app)?.1;
        let state = cause.state();
        let waits_for_the_agent = cause.is_plain() || matches!(cause, Cause::Unread | Cause::Unplanned);
        if let Some(trouble) = self.trouble.as_ref().filter(|_| waits_for_the_agent) {
            let says = match cause {
                Cause::InPlace => {
                    "it is as the last server document that could be used says, and newer ones cannot be seen"
                }
                _ => "the last pull failed as a whole, so that nothing is changed",
            };
            return Some(Why {
                app: app.clone(),
                state,
                blocked: true,
                kind: "pull-failed".to_owned(),
                cause: None,
                says: says.to_owned(),
                evidence: vec![trouble.clone()],
                to_do: "mend that: the agent retries by itself, and `pulld pull` does so at once".to_owned(),
            });
        }
        Some(Why {
            app: app.clone(),
            state,
            blocked: !cause.is_plain(),
            kind: cause.kind().to_owned(),
            cause: Some(cause.clone()),
            says: cause.to_string(),
            evidence: cause.evidence().iter().map(ToString::to_string).collect(),
            to_do: cause.advice(app),
        })
    }

    /// Every app that something is known of.
    pub(crate) fn known(&self) -> Vec<&str> {
        self.apps.apps().map(|(app, _)| app.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use bucket::Timestamp;

    use super::*;
    use crate::{
        decide::report::{Reason, Unlisted, Waiting},
        state::failure::FailureKind,
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
        let waiting = Waiting {
            reason: "no space left".into(),
            kind: FailureKind::MachineAtFault,
            failures: 2,
            next: Timestamp::UNIX_EPOCH,
        };
        let waiting = why(Cause::Waiting(waiting), Some("the bucket is unreachable"));
        assert_eq!((waiting.blocked, waiting.state), (true, AppState::Failed));
        assert_eq!(waiting.kind, "machine-at-fault");
        assert_eq!(
            waiting.evidence,
            ["no space left", "2 attempts have failed", "the next attempt is due at 1970-01-01T00:00:00Z"]
        );
        assert!(waiting.to_do.contains("`pulld pull`"));
        for cause in [Cause::InPlace, Cause::Planned(Reason::Document), Cause::Unlisted(Unlisted::Removed)] {
            let fine = why(cause.clone(), None);
            assert_eq!((fine.blocked, fine.cause), (false, Some(cause)));
        }
        assert!(why(Cause::Unlisted(Unlisted::NoPrune), None).blocked);
    }

    #[test]
    fn what_keeps_everything_out_comes_before_what_waits_for_it() {
        for cause in [Cause::InPlace, Cause::Planned(Reason::Document), Cause::Unread, Cause::Unplanned] {
            let blocked = why(cause, Some("the bucket is unreachable: no such directory"));
            assert_eq!((blocked.blocked, blocked.kind.as_str(), blocked.cause), (true, "pull-failed", None));
            assert_eq!(blocked.evidence, ["the bucket is unreachable: no such directory"]);
        }
    }
}
