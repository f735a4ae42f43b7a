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
    /// The waves that are asked for on some servers of a push are not those of the others.
    #[error(
        "{policy} asks for different waves, {one} and {other}: push to one of them at a time, or say the waves of this push"
    )]
    DifferentWaves {
        /// The policy file.
        policy: String,
        /// Waves, and of what they are asked.
        one: String,
        /// Other ones.
        other: String,
    },
    /// Only an admin sets waves aside that are asked for.
    #[error(
        "`{who}` may not push all at once where {policy} asks for waves, {waves}: that takes the role `admin` for the app on \
         all servers of the push"
    )]
    AtOnce {
        /// The operator.
        who: String,
        /// The policy file.
        policy: String,
        /// The waves, and of what they are asked.
        waves: String,
    },
    /// Waves that are asked for were set aside without a reason.
    #[error("a push all at once where {policy} asks for waves, {waves}, requires a reason: add one")]
    NoReasonAtOnce {
        /// The policy file.
        policy: String,
        /// The waves, and of what they are asked.
        waves: String,
    },
    /// Something was said of the waves of a push that has none.
    #[error("`waves` is missing: it says which servers come when, and what else is said is about a push in waves")]
    NoWaves,
}

fn quoted(allowed: &[Pattern]) -> String {
    allowed.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

fn given_by(policy: Option<&str>) -> String {
    policy.map_or(String::new(), |policy| format!("; `Roles` in {policy} says who may"))
}
