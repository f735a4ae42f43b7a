//! What dpkg said when a run of it failed.

use std::fmt;

use console::cut;
use serde::{Deserialize, Serialize};

use super::lines::with_lines;

/// Most characters of the sentence, and of each of dpkg's own words in it.
pub(crate) const MAX_DPKG_WORDS: usize = 400;

/// The end of dpkg's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DpkgEnd {
    /// It exited with this status.
    Exited(i32),
    /// It never ran or was killed, and why: who holds the lock, the time limit, a signal.
    Failed(String),
}

/// A dpkg run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DpkgFault {
    /// How it ended.
    pub(crate) end: DpkgEnd,
    /// What dpkg itself said.
    pub(crate) words: DpkgWords,
    /// What was printed before, oldest first, as [`super::last_lines`] has it: the words of the script that failed.
    pub(crate) lines: Vec<String>,
    /// Whether the machine is to blame, and no package.
    pub(crate) machine_at_fault: bool,
}

/// What dpkg said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DpkgWords {
    /// Nothing: it was killed, as a rule.
    None,
    /// Its error.
    Error(String),
    /// That a script of the installed package keeps it from being replaced.
    OldScript(ScriptFault),
}

/// A script of the installed package that keeps it from being replaced: it failed, and what dpkg tried in its place did
/// too (Debian Policy §6.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScriptFault {
    /// The package, as dpkg calls it.
    pub(crate) package: String,
    /// `prerm` or `postrm`.
    pub(crate) script: String,
    /// How it failed.
    pub(crate) how: String,
    /// How that of the new package failed, if there is one.
    pub(crate) new: Option<String>,
    /// The ID of the release that was to be replaced, if it was one.
    pub(crate) replaced: Option<String>,
}

impl fmt::Display for DpkgEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "dpkg exited with {status}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for ScriptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, script, how, new, replaced } = self;
        match replaced {
            Some(id) => write!(f, "cannot replace `{id}`")?,
            None => write!(f, "cannot replace the installed `{package}`")?,
        }
        write!(f, ": its `{script}` {how}, and ")?;
        match new {
            Some(new) => write!(f, "that of the release in its place {new} too")?,
            None => f.write_str("the release in its place has none")?,
        }
        write!(
            f,
            "; correct `/var/lib/dpkg/info/{package}.{script}` on the server, or push a release whose `{script} \
             failed-upgrade` succeeds"
        )
    }
}

impl fmt::Display for DpkgFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match &self.words {
            DpkgWords::None => self.end.to_string(),
            DpkgWords::Error(error) => format!("{}: {error}", self.end),
            DpkgWords::OldScript(script) => script.to_string(),
        };
        f.write_str(&with_lines(&cut(&sentence, MAX_DPKG_WORDS), "dpkg's output", &self.lines))
    }
}
