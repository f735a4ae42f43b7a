//! What a person can do about what keeps an app from its document. Pure.

use std::fmt;

use bucket::AppName;
use serde::Serialize;

/// What a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Remedy {
    /// Nothing has to be done.
    Nothing,
    /// Nothing: the agent works on it.
    Wait,
    /// Pull now instead of waiting for the next attempt.
    PullNow,
    /// See why the pull failed as a whole.
    MendPull,
    /// Push another release, or have this one tried again.
    PushOrRetry {
        /// The app.
        app: AppName,
    },
    /// The same, after looking at the machine: what runs is unknown.
    RepairAndRetry {
        /// The app.
        app: AppName,
    },
    /// End the pause.
    Resume {
        /// The app.
        app: AppName,
    },
    /// End the hold.
    Unhold {
        /// The package.
        package: String,
    },
    /// Allow the app.
    Allow,
    /// Push it, remove it, or let the agent remove it.
    ListOrRemove,
    /// Repair the entries of the document.
    RepairDocument,
    /// See why the unit dies, or push another release.
    SeeJournal {
        /// The unit.
        unit: String,
    },
    /// Undo what was changed, or have it installed again.
    UndoDrift,
    /// Make the bucket reachable.
    ReachBucket,
    /// Repair dpkg.
    RepairDpkg,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Wait => f.write_str("nothing: the agent works on it; `pulld status` shows how far it is"),
            Self::PullNow => f.write_str("mend the cause; `pulld pull` tries at once instead of at the next attempt"),
            Self::MendPull => f.write_str("mend that: the agent retries by itself, and `pulld pull` does so at once"),
            Self::PushOrRetry { app } => {
                write!(f, "push another release; or mend what kept this one from working, and run `pulld retry {app}`")
            }
            Self::RepairAndRetry { app } => write!(
                f,
                "see what runs (`systemctl status`, `dpkg --audit`), then push another release or run `pulld retry {app}`"
            ),
            Self::Resume { app } => {
                write!(f, "`pulld resume {app}` installs what the document says; so does a push of another release")
            }
            Self::Unhold { package } => {
                write!(f, "`apt-mark unhold {package}` lets the agent do what the document says")
            }
            Self::Allow => {
                f.write_str("add the app to `allowed_apps` in the pulld configuration, or take it out of the document")
            }
            Self::ListOrRemove => f.write_str("push a release of it, or remove it with `dpkg --remove`"),
            Self::RepairDocument => {
                f.write_str("correct the invalid entries of the server document (`pulld status` lists them)")
            }
            Self::SeeJournal { unit } => write!(
                f,
                "see why it dies (`systemctl status {unit}`, `journalctl -u {unit}`), then mend that or push another \
                 release"
            ),
            Self::UndoDrift => {
                f.write_str("undo the change, or have the release installed again: `dpkg --remove`, then `pulld pull`")
            }
            Self::ReachBucket => {
                f.write_str("see why the bucket is not read: `pulld status` says it; the agent retries by itself")
            }
            Self::RepairDpkg => f.write_str("see `dpkg --audit`, and what `dpkg-query --list` says"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_said_with_the_names_to_type() {
        let app = || "web".parse().unwrap();
        for (remedy, words) in [
            (Remedy::Nothing, "nothing"),
            (Remedy::Wait, "nothing: the agent works on it; `pulld status` shows how far it is"),
            (Remedy::PullNow, "mend the cause; `pulld pull` tries at once instead of at the next attempt"),
            (Remedy::MendPull, "mend that: the agent retries by itself, and `pulld pull` does so at once"),
            (
                Remedy::PushOrRetry { app: app() },
                "push another release; or mend what kept this one from working, and run `pulld retry web`",
            ),
            (
                Remedy::RepairAndRetry { app: app() },
                "see what runs (`systemctl status`, `dpkg --audit`), then push another release or run `pulld retry web`",
            ),
            (
                Remedy::Resume { app: app() },
                "`pulld resume web` installs what the document says; so does a push of another release",
            ),
            (
                Remedy::Unhold { package: "web-2".into() },
                "`apt-mark unhold web-2` lets the agent do what the document says",
            ),
            (Remedy::Allow, "add the app to `allowed_apps` in the pulld configuration, or take it out of the document"),
            (Remedy::ListOrRemove, "push a release of it, or remove it with `dpkg --remove`"),
            (Remedy::RepairDocument, "correct the invalid entries of the server document (`pulld status` lists them)"),
            (
                Remedy::SeeJournal { unit: "web.service".into() },
                "see why it dies (`systemctl status web.service`, `journalctl -u web.service`), then mend that or push \
                 another release",
            ),
            (
                Remedy::UndoDrift,
                "undo the change, or have the release installed again: `dpkg --remove`, then `pulld pull`",
            ),
            (
                Remedy::ReachBucket,
                "see why the bucket is not read: `pulld status` says it; the agent retries by itself",
            ),
            (Remedy::RepairDpkg, "see `dpkg --audit`, and what `dpkg-query --list` says"),
        ] {
            assert_eq!(remedy.to_string(), words);
        }
    }

    #[test]
    fn programs_get_the_names_too() {
        let written = |remedy| serde_json::to_value(remedy).unwrap();
        assert_eq!(written(Remedy::PullNow), serde_json::json!("pull-now"));
        let unit = "web.service".to_owned();
        assert_eq!(written(Remedy::SeeJournal { unit }), serde_json::json!({"see-journal": {"unit": "web.service"}}));
    }
}
