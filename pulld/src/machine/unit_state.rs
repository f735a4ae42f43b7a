//! How a systemd unit is, in systemd's own words (org.freedesktop.systemd1(5)).
//!
//! Each of its words that pulld acts on is a variant; whatever else this or another version of systemd says is kept.

use std::fmt;

use bucket::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::{ProcessEnd, UnitEnd};

/// An enum of the words that systemd uses for one property.
macro_rules! systemd_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub(crate) enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// Any other word; empty where systemd says nothing.
            Other(String),
        }

        impl $name {
            /// The word as systemd writes it.
            pub(crate) fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        /// The word, safe to show.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.as_str().escape_debug())
            }
        }
    };
}

systemd_words! {
    /// `LoadState`: whether systemd has read the unit's file.
    LoadState {
        /// It has.
        Loaded = "loaded",
        /// There is no such file.
        NotFound = "not-found",
        /// The unit is linked to `/dev/null`: it can't be started.
        Masked = "masked",
    }
}

systemd_words! {
    /// `ActiveState`: whether the unit is started.
    ActiveState {
        /// It is.
        Active = "active",
        /// It is, and is reading its configuration anew.
        Reloading = "reloading",
        /// It is not.
        Inactive = "inactive",
        /// It is not, because it failed.
        Failed = "failed",
        /// It is being started.
        Activating = "activating",
        /// It is being stopped.
        Deactivating = "deactivating",
    }
}

systemd_words! {
    /// `SubState`: the details of the active state, different for each kind of unit.
    SubState {
        /// The service ended, and systemd is about to start it again.
        AutoRestart = "auto-restart",
    }
}

systemd_words! {
    /// `UnitFileState`: whether the unit starts at boot; empty when there is no unit file.
    UnitFileState {
        /// It does not.
        Disabled = "disabled",
    }
}

systemd_words! {
    /// `Result` of a service: how it last ended, as `exit-code` or `start-limit-hit`; empty for other units.
    ServiceResult {
        /// It did not fail.
        Success = "success",
        /// Its main process exited with another status than 0.
        ExitCode = "exit-code",
        /// A signal killed its main process.
        Signal = "signal",
        /// The same, and there is a core dump.
        CoreDump = "core-dump",
    }
}

systemd_words! {
    /// `Type` of a service; empty for other units.
    ServiceType {
        /// It does its work and ends.
        Oneshot = "oneshot",
    }
}

systemd_words! {
    /// How a job on a unit ended.
    JobResult {
        /// It did what it was for.
        Done = "done",
        /// There was nothing to do.
        Skipped = "skipped",
        /// Another job took its place.
        Canceled = "canceled",
        /// It took too long.
        Timeout = "timeout",
        /// The unit failed.
        Failed = "failed",
        /// A unit that this one requires failed.
        Dependency = "dependency",
    }
}

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitState {
    /// Whether its file is read.
    pub(crate) load: LoadState,
    /// Whether it is started.
    pub(crate) active: ActiveState,
    /// The details of that.
    pub(crate) sub: SubState,
    /// Whether it starts at boot.
    pub(crate) file_state: UnitFileState,
    /// How it last ended, of a service.
    pub(crate) result: ServiceResult,
    /// How its main process last ended, of a service; `None` while that runs, or never did.
    #[serde(default)]
    pub(crate) end: Option<ProcessEnd>,
    /// What kind of service it is.
    pub(crate) service_type: ServiceType,
    /// `NRestarts` of a service: restarts by systemd itself since it was last started.
    pub(crate) restarts: u32,
    /// `Triggers`: the units that it starts, of a timer, a socket or a path.
    #[serde(default)]
    pub(crate) triggers: Vec<String>,
    /// `TriggeredBy`: the units that start it, as a timer or a socket does.
    #[serde(default)]
    pub(crate) triggered_by: Vec<String>,
    /// `InvocationID`, 32 hex digits; empty when it is not running.
    pub(crate) invocation: String,
    /// `ActiveEnterTimestamp` or `InactiveEnterTimestamp`, whichever is the later.
    pub(crate) since: Option<Timestamp>,
    /// When its main process started, of a service; when it became active, of another unit. In microseconds on the clock of
    /// this boot (`CLOCK_MONOTONIC`); `None` when it never did.
    #[serde(default)]
    pub(crate) started: Option<u64>,
}

impl ActiveState {
    /// Whether a unit that is so is started, or is being started or stopped.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self, Self::Active | Self::Activating | Self::Deactivating | Self::Reloading)
    }
}

impl UnitState {
    /// Whether it is started, or is being started or stopped.
    pub(crate) fn is_running(&self) -> bool {
        self.active.is_running()
    }

    /// How it failed.
    pub(crate) fn failure(&self) -> UnitEnd {
        match (&self.result, self.end) {
            (ServiceResult::ExitCode | ServiceResult::Signal | ServiceResult::CoreDump, Some(end)) => {
                UnitEnd::Process(end)
            }
            (result, _) => UnitEnd::Result(result.as_str().to_owned()),
        }
    }
}

impl ServiceResult {
    /// Whether the service did not fail, or the unit is none.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Success) || self.as_str().is_empty()
    }
}

impl JobResult {
    /// Whether the job leaves the unit as it was asked for. A job is canceled by whoever queued another one.
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self, Self::Done | Self::Skipped | Self::Canceled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_being_stored_also_one_of_another_systemd() {
        for word in ["active", "failed", "maintenance", "refreshing", ""] {
            let stored = serde_json::to_string(&ActiveState::from(word.to_owned())).unwrap();
            assert_eq!(stored, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<ActiveState>(&stored).unwrap().as_str(), word);
        }
        assert_eq!(ActiveState::from("active".to_owned()), ActiveState::Active);
        assert_eq!(ActiveState::from("new\u{1b}".to_owned()).to_string(), "new\\u{1b}");
    }
}
