//! What a push was for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ascii::cut;

/// What a push was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum PushKind {
    /// An operator chose the release.
    Deploy,
    /// An operator rolled back to what each server had before.
    Rollback,
    /// The same release was tried again.
    Retry,
    /// What an earlier push changed was restored.
    Undo,
    /// An app was taken off servers.
    Remove,
    /// Servers were retired.
    Retire,
    /// A release was tried for a while.
    Trial,
    /// What a trial replaced was put back.
    TrialEnd,
    /// What a newer program calls it; at most 40 bytes, foreign text.
    Other(String),
}

impl PushKind {
    /// Most bytes of a kind that this program doesn't know.
    const MAX_OTHER: usize = 40;

    /// As objects and programs spell it. Of a kind that this program doesn't know it is foreign text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Retry => "retry",
            Self::Undo => "undo",
            Self::Remove => "remove",
            Self::Retire => "retire",
            Self::Trial => "trial",
            Self::TrialEnd => "trial-end",
            Self::Other(kind) => kind,
        }
    }
}

impl From<String> for PushKind {
    fn from(kind: String) -> Self {
        let known = [
            Self::Deploy,
            Self::Rollback,
            Self::Retry,
            Self::Undo,
            Self::Remove,
            Self::Retire,
            Self::Trial,
            Self::TrialEnd,
        ];
        let found = known.into_iter().find(|known| known.as_str() == kind);
        found.unwrap_or_else(|| Self::Other(cut(&kind, Self::MAX_OTHER)))
    }
}

impl From<PushKind> for String {
    fn from(kind: PushKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for PushKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
