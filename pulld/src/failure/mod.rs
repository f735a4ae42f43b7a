//! Why an app is not, or did not stay, as its document says: what went wrong as data, and its words in one place.
//!
//! A [`Fault`] is one thing that went wrong, and shows itself in a sentence, perhaps with lines below it: what a
//! [`mod@unit`] did, how a [`check`] ended, what [`dpkg`] said, what a [`package`] lacks, how a [`download`] ended. A
//! [`Failure`] is the first fault of an update and what came after it. Whoever finds a fault names it; nobody else makes
//! sentences of it. Pure.

mod aftermath;
mod check;
mod download;
mod dpkg;
mod fault;
mod kind;
mod lines;
mod others;
mod package;
mod process_end;
mod unit;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::{
    aftermath::{Aftermath, NoRollbackTarget},
    check::{CheckEnd, CheckFault, Limit},
    download::{Content, DownloadFault, Place},
    dpkg::{DpkgEnd, DpkgFault, DpkgWords, MAX_DPKG_WORDS, ScriptFault},
    fault::{Fault, on_hold},
    kind::FailureKind,
    lines::{join, last_lines, some_of, with_journal},
    others::OtherPackages,
    package::{Obstacle, PackageFault},
    process_end::ProcessEnd,
    unit::{NotStarted, Unhealthy, UnitEnd, UnitFault},
};

/// Why an update failed: what went wrong first, and what did after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Failure {
    first: Fault,
    then: Vec<Aftermath>,
}

/// A failure as it is written: its words, which earlier pullds know alone, and beside them what they are made from. What
/// another version of pulld wrote that has other faults keeps its words and its kind.
#[derive(Serialize, Deserialize)]
struct Written {
    reason: String,
    #[serde(default)]
    kind: FailureKind,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    fault: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    then: Vec<Value>,
}

impl Failure {
    /// What kind of failure it is: that of what went wrong first.
    pub(crate) fn kind(&self) -> FailureKind {
        self.first.kind()
    }

    /// What went wrong first.
    pub(crate) fn first(&self) -> &Fault {
        &self.first
    }

    /// Whether the last that is known is that the machine, and no package, kept a rollback from working.
    pub(crate) fn awaits_rollback(&self) -> bool {
        matches!(self.then.last(), Some(Aftermath::RollbackFailed(fault)) if fault.machine_at_fault)
    }

    /// The same with something more.
    pub(crate) fn and(mut self, aftermath: Aftermath) -> Self {
        self.then.push(aftermath);
        self
    }
}

impl From<Fault> for Failure {
    fn from(first: Fault) -> Self {
        Self { first, then: vec![] }
    }
}

/// The sentences of all that went wrong, and below them what each has below its own.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.then.iter().map(ToString::to_string);
        f.write_str(&words.fold(self.first.to_string(), |before, after| join(&before, &after)))
    }
}

impl From<Failure> for Written {
    fn from(failure: Failure) -> Self {
        let (reason, kind) = (failure.to_string(), failure.kind());
        let of = |value: Result<Value, _>| value.unwrap_or_default();
        // Of what was told in words there is nothing more to say.
        let fault = match &failure.first {
            Fault::Told { .. } if failure.then.is_empty() => Value::Null,
            fault => of(serde_json::to_value(fault)),
        };
        let then = failure.then.iter().map(|aftermath| of(serde_json::to_value(aftermath))).collect();
        Self { reason, kind, fault, then }
    }
}

impl From<Written> for Failure {
    fn from(Written { reason, kind, fault, then }: Written) -> Self {
        let first = serde_json::from_value(fault);
        let then = then.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
        match (first, then) {
            (Ok(first), Ok(then)) => Self { first, then },
            _ => Fault::told(kind, reason).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(failure: &Failure) -> Failure {
        serde_json::from_str(&serde_json::to_string(failure).unwrap()).unwrap()
    }

    fn crashed() -> Fault {
        let how = Unhealthy::Failed(UnitEnd::Process(ProcessEnd::Exited(3)));
        Fault::UnitFailed(UnitFault { unit: "web.service".to_owned(), how, lines: vec!["no config".to_owned()] })
    }

    #[test]
    fn what_went_wrong_is_written_as_data_and_in_the_words_that_earlier_pullds_read() {
        let failure = Failure::from(crashed()).and(Aftermath::RollbackInterrupted { times: 6 });
        assert_eq!(
            serde_json::to_value(&failure).unwrap(),
            serde_json::json!({
                "reason": "`web.service` failed: exit status 3; rollback failed: it was interrupted 6 times\nthe journal of \
                           `web.service` ends with:\n  no config",
                "kind": "unit-failed",
                "fault": {"unit-failed": {
                    "unit": "web.service",
                    "how": {"failed": {"process": {"exited": 3}}},
                    "lines": ["no config"],
                }},
                "then": [{"rollback-interrupted": {"times": 6}}],
            })
        );
        assert_eq!(stored(&failure), failure);
    }

    #[test]
    fn the_words_and_the_kind_of_another_version_are_kept() {
        for (written, kind) in [
            (r#"{"reason": "it crashed; twice"}"#, FailureKind::Unknown),
            (r#"{"reason": "it crashed; twice", "kind": "unit-failed"}"#, FailureKind::UnitFailed),
            (
                r#"{"reason": "it crashed; twice", "kind": "of-a-later-pulld", "fault": {"crash": 2}}"#,
                FailureKind::Unknown,
            ),
            (
                r#"{"reason": "it crashed; twice", "kind": "interrupted", "fault": {"interrupted": {"times": 1}},
                    "then": ["of-a-later-pulld"]}"#,
                FailureKind::Interrupted,
            ),
        ] {
            let failure: Failure = serde_json::from_str(written).unwrap();
            assert_eq!((failure.to_string().as_str(), failure.kind()), ("it crashed; twice", kind), "{written}");
            assert_eq!(stored(&failure), failure);
            let more = failure.and(Aftermath::RestoredLater);
            assert_eq!(stored(&more), more);
        }
    }
}
