//! The units of a release, and what happens to them when it is installed.

use serde::{Deserialize, Serialize};

/// A systemd unit that a release owns, as one element of `Push-Units:`, written `web.service=restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnedUnit {
    /// Its name, as in `web.service`.
    pub(crate) name: String,
    /// What happens to it when its release is installed.
    pub(crate) action: UnitAction,
}

/// What happens to a unit after its release was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnitAction {
    /// `restart`: started on the first install, restarted on every other.
    Restart,
    /// `reload`: started on the first install, reloaded (or restarted, if it can't reload) on every other.
    Reload,
    /// `start`: started on the first install and if it isn't running, else left alone.
    Start,
    /// `none`: never touched; something else starts it, as a timer does.
    None,
}
