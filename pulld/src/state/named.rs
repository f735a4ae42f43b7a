//! What a server document names for one app, as far as that can be told.

use bucket::{AppName, ReleaseName, ServerDocument};
use serde::{Deserialize, Serialize};

/// The entry of one app in a server document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Named {
    /// This release.
    Release(ReleaseName),
    /// The document does not list the app.
    Nothing,
    /// No document was read, or it has an entry that was not read or cannot be used, and may be the app's.
    Unknown,
}

impl Named {
    /// The entry of `app`.
    pub(crate) fn of(app: &AppName, document: Option<&ServerDocument>) -> Self {
        let Some(document) = document else { return Self::Unknown };
        match document.release_of(app) {
            Some(release) => Self::Release(release.clone()),
            None if document.bad_entries().next().is_some() || document.unread() > 0 => Self::Unknown,
            None => Self::Nothing,
        }
    }

    /// Whether this is certainly another entry than `before`.
    pub(crate) fn differs_from(&self, before: &Self) -> bool {
        self != before && *self != Self::Unknown && *before != Self::Unknown
    }
}
