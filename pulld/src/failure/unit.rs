//! What a unit did that it should not have done.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{lines::with_journal, process_end::ProcessEnd};

/// A unit that did not start, or did not stay up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitFault {
    /// Its name.
    pub(crate) unit: String,
    /// What it did.
    pub(crate) how: Unhealthy,
    /// The last lines that it wrote, oldest first, as [`super::last_lines`] has them.
    pub(crate) lines: Vec<String>,
}

/// What is wrong with a unit. Words of systemd's are as systemd writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unhealthy {
    /// systemd can't use its file.
    NotLoaded {
        /// Its load state.
        load: String,
    },
    /// It failed.
    Failed(UnitEnd),
    /// It ends, and systemd starts it again.
    DoesNotStayUp {
        /// How its main process last ended, if that is known.
        end: Option<ProcessEnd>,
        /// How often systemd has restarted it.
        restarts: u32,
    },
    /// It ended.
    Exited {
        /// How its main process ended, if that is known.
        end: Option<ProcessEnd>,
    },
    /// It neither starts nor fails.
    Stuck {
        /// Its active state.
        active: String,
    },
    /// Something else started it, and it failed.
    FailedWhenStarted(UnitEnd),
    /// It did not start.
    NotStarted(NotStarted),
}

/// Why a unit did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NotStarted {
    /// It failed.
    Failed(UnitEnd),
    /// The job that starts it ended so, and the unit says nothing.
    Job(String),
    /// systemd refused to start it.
    Refused {
        /// Why.
        words: String,
    },
}

/// How a unit failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnitEnd {
    /// Its main process ended so.
    Process(ProcessEnd),
    /// systemd calls it so.
    Result(String),
}

/// What follows a word like `failed`.
impl fmt::Display for UnitEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(end) => write!(f, ": {end}"),
            Self::Result(word) => write!(f, " ({})", word.escape_debug()),
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(end) => end.fmt(f),
            Self::Job(word) => write!(f, " ({})", word.escape_debug()),
            Self::Refused { words } => write!(f, ": {words}"),
        }
    }
}

/// What follows the name of the unit.
impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_brackets = |end: &Option<ProcessEnd>| end.map(|end| format!(" ({end})")).unwrap_or_default();
        match self {
            Self::NotLoaded { load } => write!(f, "cannot run: its load state is `{}`", load.escape_debug()),
            Self::Failed(end) => write!(f, "failed{end}"),
            Self::DoesNotStayUp { end, restarts: 0 | 1 } => {
                write!(f, "does not stay up{}: systemd had to restart it", in_brackets(end))
            }
            Self::DoesNotStayUp { end, restarts } => {
                write!(f, "does not stay up{}: systemd restarted it {restarts} times", in_brackets(end))
            }
            Self::Exited { end } => write!(f, "is not running: it exited on its own{}", in_brackets(end)),
            Self::Stuck { active } => write!(f, "is still `{}`", active.escape_debug()),
            Self::FailedWhenStarted(end) => write!(f, "was started and failed{end}"),
            Self::NotStarted(why) => write!(f, "did not start{why}"),
        }
    }
}

impl fmt::Display for UnitFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, how, lines } = self;
        f.write_str(&with_journal(&format!("`{unit}` {how}"), unit, lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_did_is_said_with_what_it_wrote() {
        let (exited, result) = (ProcessEnd::Exited(203), || UnitEnd::Result("timeout".to_owned()));
        for (how, words) in [
            (Unhealthy::NotLoaded { load: "not-found".to_owned() }, "cannot run: its load state is `not-found`"),
            (Unhealthy::Failed(UnitEnd::Process(exited)), "failed: exit status 203/EXEC"),
            (Unhealthy::Failed(result()), "failed (timeout)"),
            (Unhealthy::DoesNotStayUp { end: None, restarts: 1 }, "does not stay up: systemd had to restart it"),
            (
                Unhealthy::DoesNotStayUp { end: Some(ProcessEnd::Exited(3)), restarts: 2 },
                "does not stay up (exit status 3): systemd restarted it 2 times",
            ),
            (Unhealthy::Exited { end: None }, "is not running: it exited on its own"),
            (
                Unhealthy::Exited { end: Some(ProcessEnd::Killed(9)) },
                "is not running: it exited on its own (killed by SIGKILL)",
            ),
            (Unhealthy::Stuck { active: "activating".to_owned() }, "is still `activating`"),
            (Unhealthy::FailedWhenStarted(result()), "was started and failed (timeout)"),
            (
                Unhealthy::NotStarted(NotStarted::Failed(UnitEnd::Process(exited))),
                "did not start: exit status 203/EXEC",
            ),
            (Unhealthy::NotStarted(NotStarted::Job("dependency".to_owned())), "did not start (dependency)"),
            (
                Unhealthy::NotStarted(NotStarted::Refused { words: "it is masked".to_owned() }),
                "did not start: it is masked",
            ),
        ] {
            let mut fault = UnitFault { unit: "web.service".to_owned(), how, lines: vec![] };
            assert_eq!(fault.to_string(), format!("`web.service` {words}"));
            fault.lines = vec!["no such table".to_owned()];
            let with_lines = format!("`web.service` {words}\nthe journal of `web.service` ends with:\n  no such table");
            assert_eq!(fault.to_string(), with_lines);
            let written = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<UnitFault>(&written).unwrap(), fault);
        }
    }
}
