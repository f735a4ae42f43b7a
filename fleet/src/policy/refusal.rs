//! Why a push may not be.

use bucket::{AppName, ServerName};
use thiserror::Error;

use super::pattern::Pattern;

/// The rule that refuses a push.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No app at all may go to the server.
    #[error("{policy} allows no app on `{server}`: add the server there, or check the spelling")]
    NoApps {
        /// The policy file.
        policy: String,
        /// The server to push to.
        server: ServerName,
    },
    /// The app isn't one of those that may go to the server.
    #[error("{policy} does not allow `{app}` on `{server}`; allowed: {}", quoted(.allowed))]
    OtherApps {
        /// The policy file.
        policy: String,
        /// The app that was to go there.
        app: AppName,
        /// The server to push to.
        server: ServerName,
        /// What may go there.
        allowed: Vec<Pattern>,
    },
    /// The operator's role doesn't include it.
    #[error("`{who}` may not push `{app}` to `{server}`{}", given_by(.policy.as_deref()))]
    Role {
        /// The operator.
        who: String,
        /// The app to push.
        app: AppName,
        /// The server to push to.
        server: ServerName,
        /// The policy file, if it has roles.
        policy: Option<String>,
    },
    /// Only an admin retires a server.
    #[error("`{who}` may not retire `{server}`: that takes the role `admin` for all of its apps{}", given_by(.policy.as_deref()))]
    NotAdmin {
        /// The operator.
        who: String,
        /// The server to retire.
        server: ServerName,
        /// The policy file, if it has roles.
        policy: Option<String>,
    },
    /// The release is dirty, and a group of the server takes only clean ones.
    #[error(
        "group `{group}` of `{server}` does not allow dirty releases, and this one was built with uncommitted changes: \
         commit them and release again"
    )]
    Dirty {
        /// The group that forbids it.
        group: String,
        /// The server to push to.
        server: ServerName,
    },
    /// No reason was given, and a group of the server requires one.
    #[error("group `{group}` of `{server}` requires a reason for every push: add one")]
    NoReason {
        /// The group that requires it.
        group: String,
        /// The server to push to.
        server: ServerName,
    },
}

fn quoted(allowed: &[Pattern]) -> String {
    allowed.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

fn given_by(policy: Option<&str>) -> String {
    policy.map_or(String::new(), |policy| format!("; `Roles` in {policy} says who may"))
}
