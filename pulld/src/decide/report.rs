//! The report of a plan: how each app stands, and what keeps the agent from making it as the document says. Pure.
//!
//! It isn't the plan: nothing acts on it. What people read of an app, anywhere, is one of these, shown.

use std::{collections::BTreeMap, fmt};

use bucket::{AppName, AppState, ReleaseName, Timestamp};
use console::count;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Aftermath, Failure, ProcessEnd, on_hold, with_journal},
    state::{pauses::Pause, quarantine::Quarantined},
};

use super::{drift::Drift, remedy::Remedy};

/// How each app of a plan stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use = "whoever plans has to say why"]
pub(crate) struct PlanReport {
    apps: BTreeMap<AppName, Cause>,
}

/// Why a release is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// The document asks for another release than is installed.
    Document,
    /// The document's release was installed, and was changed by hand since.
    Drift,
    /// The document's release is installed, but dpkg calls a package of the app broken.
    Repair,
    /// A person goes back to it.
    Rollback,
    /// The document's release is quarantined, and the machine kept it from being rolled back.
    RollbackAgain,
}

/// How an app stands against its document, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// The desired release is installed, or the document leaves the app as it is.
    InPlace,
    /// The desired release is installed, and this differs on the machine.
    Drifted(Vec<Drift>),
    /// The desired release is installed, and one of its units keeps dying.
    Unstable(Unstable),
    /// A step of the plan makes it as the document says.
    Planned(Reason),
    /// A step of the plan would, and waits since its last attempt failed.
    Waiting(Waiting),
    /// The configuration does not allow the app here.
    NotAllowed,
    /// The desired release did not stay up here, and is not tried again.
    Quarantined(Quarantined),
    /// A person rolled it back here.
    Paused(Pause),
    /// A person put its package on hold.
    OnHold(OnHold),
    /// The document does not list it.
    Unlisted(Unlisted),
    /// No document was read yet, so nobody knows whether one lists it.
    Unread,
    /// No plan could be made: dpkg does not say what is installed.
    Unplanned,
}

/// An update that failed and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Why the last attempt failed.
    #[serde(flatten)]
    pub(crate) failure: Failure,
    /// How many attempts have failed.
    pub(crate) failures: u32,
    /// When the next one is due, by this machine's clock.
    pub(crate) next: Timestamp,
}

/// A unit that systemd restarts again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unstable {
    /// The unit.
    pub(crate) unit: String,
    /// How often systemd restarted it by itself in the last hour.
    pub(crate) restarts: u32,
    /// How its main process last ended, if the journal says so.
    pub(crate) end: Option<ProcessEnd>,
    /// The last lines that it wrote, oldest first, as it wrote them.
    pub(crate) lines: Vec<String>,
}

/// An app whose package is on hold (`apt-mark hold`): it stays as it is, whatever the document says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnHold {
    /// The package.
    pub(crate) package: String,
    /// The release that the document lists; the installed one, if it lists none of the app.
    pub(crate) release: ReleaseName,
    /// What that keeps the agent from.
    pub(crate) kept_from: KeptFrom,
}

/// What a hold keeps the agent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeptFrom {
    /// Nothing yet: the document's release is installed.
    Nothing,
    /// Installing the document's release.
    Installing,
    /// Repairing the app, of which dpkg calls a package broken.
    Repairing,
    /// Removing what the document doesn't list.
    Removing,
}

/// What happens to an installed app that the document does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unlisted {
    /// It is removed.
    Removed,
    /// It stays: the document lists it without a release.
    NoRelease,
    /// It stays: there is no document.
    NoDocument,
    /// It stays: the document is empty, which is more likely a mistake than a wish.
    EmptyDocument,
    /// It stays: an entry that cannot be used may be the app's.
    InvalidEntry,
    /// It stays: the configuration does not allow the app, so it is not the document's.
    NotAllowed,
    /// It stays: the configuration does not let the agent remove apps.
    NoPrune,
}

/// What speaks for a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// What kept everything from being done, in words, perhaps with lines below the first.
    Trouble(String),
    /// What went wrong.
    Failed(Failure),
    /// What differs on the machine.
    Differs(Drift),
    /// A unit that keeps dying.
    Dies(Unstable),
    /// Since when the release is quarantined.
    QuarantinedSince(Timestamp),
    /// How many attempts failed.
    Failures(u32),
    /// When the next attempt is due.
    NextAttempt(Timestamp),
}

impl PlanReport {
    /// Notes how an app stands.
    pub(crate) fn note(&mut self, app: &AppName, cause: Cause) {
        self.apps.insert(app.clone(), cause);
    }

    /// The same while some apps are worked on, whatever was known of them before.
    pub(crate) fn with_under_way<'a>(mut self, apps: impl IntoIterator<Item = &'a AppName>) -> Self {
        apps.into_iter().for_each(|app| self.note(app, Cause::Planned(Reason::Document)));
        self
    }

    /// The same before a document was read: there may be one that lists every app.
    pub(crate) fn before_reading(mut self) -> Self {
        let unlisted = |cause: &&mut Cause| **cause == Cause::Unlisted(Unlisted::NoDocument);
        self.apps.values_mut().filter(unlisted).for_each(|cause| *cause = Cause::Unread);
        self
    }

    /// How an app stands, as far as the plan knows.
    pub(crate) fn of(&self, app: &AppName) -> Cause {
        self.apps.get(app).cloned().unwrap_or(Cause::Unplanned)
    }

    /// Every app with how it stands.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&AppName, &Cause)> {
        self.apps.iter()
    }
}

impl Cause {
    /// What counts when the last attempt failed, when a unit keeps dying, or when the machine differs from what the release
    /// brought.
    pub(crate) fn considering(self, waiting: Option<Waiting>, unstable: Option<&Unstable>, drift: &[Drift]) -> Self {
        match (self, waiting) {
            (Self::Planned(_) | Self::InPlace | Self::Unplanned, Some(waiting)) => Self::Waiting(waiting),
            // The first attempt failed as the rollback did.
            (Self::Quarantined(held), Some(waiting)) if waiting.failure != held.failure => {
                let failure = held.failure.clone().and(Aftermath::NotRepaired { why: waiting.failure.to_string() });
                Self::Quarantined(Quarantined { failure, degraded: true, ..held })
            }
            (Self::InPlace, None) if unstable.is_some() => unstable.cloned().map_or(Self::InPlace, Self::Unstable),
            (Self::InPlace, None) if !drift.is_empty() => Self::Drifted(drift.to_vec()),
            (cause, _) => cause,
        }
    }

    /// Whether the plan says all about it: nothing has to be done, or a step does it.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::InPlace | Self::Planned(_) | Self::Unlisted(Unlisted::Removed))
    }

    /// What kind of cause it is, for programs: in a word that stays as it is. Of what failed it says what did.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::InPlace => "in-place",
            Self::Drifted(_) => "drifted",
            Self::Unstable(_) => "unstable",
            Self::Planned(_) => "planned",
            Self::Waiting(Waiting { failure, .. }) | Self::Quarantined(Quarantined { failure, .. }) => {
                failure.kind().word()
            }
            Self::NotAllowed => "not-allowed",
            Self::Paused(_) => "paused",
            Self::OnHold(_) => "on-hold",
            Self::Unlisted(_) => "unlisted",
            Self::Unread => "document-not-read",
            Self::Unplanned => "dpkg-not-read",
        }
    }

    /// The state of the app in a report.
    pub(crate) fn state(&self) -> AppState {
        match self {
            Self::InPlace => AppState::Converged,
            Self::Drifted(_) => AppState::Drifted,
            Self::Unstable(_) => AppState::Unstable,
            Self::Planned(_) | Self::Unread | Self::Unplanned => AppState::Pending,
            Self::Waiting(_) => AppState::Failed,
            Self::NotAllowed => AppState::Refused,
            Self::Quarantined(held) if held.degraded => AppState::Degraded,
            Self::Quarantined(_) => AppState::Quarantined,
            Self::Paused(_) => AppState::Paused,
            Self::OnHold(_) => AppState::AptHeld,
            Self::Unlisted(_) => AppState::Orphan,
        }
    }

    /// The reason in a report, where the state alone does not say it.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::InPlace | Self::Drifted(_) | Self::Planned(_) | Self::Unplanned => None,
            Self::Waiting(Waiting { failure, .. }) | Self::Quarantined(Quarantined { failure, .. }) => {
                Some(failure.to_string())
            }
            Self::Unstable(unstable) => Some(unstable.reason()),
            Self::NotAllowed | Self::Paused(_) | Self::OnHold(_) | Self::Unlisted(_) | Self::Unread => {
                Some(self.to_string())
            }
        }
    }

    /// What speaks for it.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        match self {
            Self::InPlace
            | Self::Planned(_)
            | Self::NotAllowed
            | Self::Paused(_)
            | Self::OnHold(_)
            | Self::Unlisted(_)
            | Self::Unread
            | Self::Unplanned => vec![],
            Self::Drifted(drift) => drift.iter().cloned().map(Evidence::Differs).collect(),
            Self::Unstable(unstable) => vec![Evidence::Dies(unstable.clone())],
            Self::Waiting(Waiting { failure, failures, next }) => {
                vec![Evidence::Failed(failure.clone()), Evidence::Failures(*failures), Evidence::NextAttempt(*next)]
            }
            Self::Quarantined(held) => {
                vec![Evidence::Failed(held.failure.clone()), Evidence::QuarantinedSince(held.since)]
            }
        }
    }

    /// What a person can do about it, for that app.
    pub(crate) fn remedy(&self, app: &AppName) -> Remedy {
        let app = || app.clone();
        match self {
            Self::InPlace => Remedy::Nothing,
            Self::Drifted(_) => Remedy::UndoDrift,
            Self::Unstable(unstable) => Remedy::SeeJournal { unit: unstable.unit.clone() },
            Self::Planned(_) | Self::Unlisted(Unlisted::Removed) => Remedy::Wait,
            Self::Waiting(_) => Remedy::PullNow,
            Self::NotAllowed | Self::Unlisted(Unlisted::NotAllowed) => Remedy::Allow,
            Self::Quarantined(held) if held.degraded => Remedy::RepairAndRetry { app: app() },
            Self::Quarantined(_) => Remedy::PushOrRetry { app: app() },
            Self::Paused(_) => Remedy::Resume { app: app() },
            Self::OnHold(on_hold) => Remedy::Unhold { package: on_hold.package.clone() },
            Self::Unlisted(Unlisted::InvalidEntry) => Remedy::RepairDocument,
            Self::Unlisted(
                Unlisted::NoRelease | Unlisted::NoDocument | Unlisted::EmptyDocument | Unlisted::NoPrune,
            ) => Remedy::ListOrRemove,
            Self::Unread => Remedy::ReachBucket,
            Self::Unplanned => Remedy::RepairDpkg,
        }
    }
}

/// The cause in a sentence, without what was seen to go wrong: that is [`Cause::evidence`].
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace => f.write_str("it is as the server document says"),
            Self::Drifted(_) => f.write_str("the desired release is installed, and the machine differs from it"),
            Self::Unstable(_) => f.write_str("the desired release is installed, and does not stay up"),
            Self::Planned(reason) => reason.fmt(f),
            Self::Waiting(_) => {
                f.write_str("the last attempt to make it as the server document says failed; it will be retried")
            }
            Self::NotAllowed => f.write_str("blocked by `allowed_apps` in the pulld configuration"),
            Self::Quarantined(held) if held.degraded => {
                write!(f, "`{}` failed, and the rollback failed too or was not possible", held.release.stem())
            }
            Self::Quarantined(held) => {
                write!(f, "`{}` was rolled back here, and is not tried again by itself", held.release.stem())
            }
            Self::Paused(pause) => pause.fmt(f),
            Self::OnHold(on_hold) => on_hold.fmt(f),
            Self::Unlisted(unlisted) => write!(f, "installed, but not listed in the server document{unlisted}"),
            Self::Unread => f.write_str("installed, and the server document could not be read yet"),
            Self::Unplanned => f.write_str("dpkg does not say what is installed, so nothing can be planned"),
        }
    }
}

impl Unstable {
    /// What was seen, in a sentence and with what the unit wrote.
    pub(crate) fn reason(&self) -> String {
        with_journal(&self.to_string(), &self.unit, &self.lines)
    }
}

/// What was seen, in a sentence.
impl fmt::Display for Unstable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = count(usize::try_from(self.restarts).unwrap_or(usize::MAX), "time");
        write!(f, "`{}` does not stay up: systemd restarted it {times} in the last hour", self.unit)?;
        match self.end {
            Some(end) => write!(f, " (last: {end})"),
            None => Ok(()),
        }
    }
}

/// What a hold is for the app, and who can end it, in a sentence.
impl fmt::Display for OnHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (release, on_hold) = (self.release.stem(), on_hold(&self.package));
        match self.kept_from {
            KeptFrom::Nothing => write!(f, "`{release}` stays, and no other release is installed: {on_hold}"),
            KeptFrom::Installing => write!(f, "`{release}` is not installed: {on_hold}"),
            KeptFrom::Repairing => {
                write!(f, "what dpkg calls broken of the app is not repaired by `{release}`: {on_hold}")
            }
            KeptFrom::Removing => {
                write!(f, "`{release}` is not listed in the server document, and not removed: {on_hold}")
            }
        }
    }
}

/// What is added to saying that an app is not listed.
impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "; it is removed",
            Self::NoPrune => "",
            Self::NoRelease => " with a release: it stays",
            Self::NoDocument => ": there is none",
            Self::EmptyDocument => ", which is empty: it stays",
            Self::InvalidEntry => ", unless one of its invalid entries is meant to be it: it stays",
            Self::NotAllowed => ", and blocked by `allowed_apps` in the pulld configuration: it stays",
        })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trouble(text) => f.write_str(text),
            Self::Failed(failure) => failure.fmt(f),
            Self::Differs(drift) => drift.fmt(f),
            Self::Dies(unstable) => f.write_str(&unstable.reason()),
            Self::QuarantinedSince(time) => write!(f, "quarantined since {time:.0}"),
            Self::Failures(1) => f.write_str("1 attempt has failed"),
            Self::Failures(failures) => write!(f, "{failures} attempts have failed"),
            Self::NextAttempt(time) => write!(f, "the next attempt is due at {time:.0}"),
        }
    }
}
