//! How a machine differs from what a release brought. Pure: no I/O, no clock.

use std::fmt;

use bucket::{OwnedUnit, UnitAction};
use serde::{Deserialize, Serialize};

use crate::{
    failure::UnitEnd,
    machine::{ActiveState, LoadState, ServiceType, SubState, UnitFileState, UnitState},
};

/// One thing that differs. Written as its sentence, as it always was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Drift {
    /// dpkg calls a package broken.
    Broken {
        /// The package.
        package: String,
        /// Its state, in dpkg's letters.
        state: String,
    },
    /// A unit is not as its release wants it.
    Unit {
        /// The unit.
        unit: String,
        /// What is wrong with it.
        how: UnitDrift,
    },
    /// A file differs from the one that was shipped, in the words of [`crate::machine::PackageManager::changed_files`].
    ChangedFile(String),
    /// Others, so many that they are left out.
    More(usize),
    /// As it was written, in a sentence.
    Told(String),
}

/// What is wrong with a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnitDrift {
    /// It is masked.
    Masked,
    /// There is no such unit.
    Missing,
    /// systemd can't load it, and calls it so.
    NotLoaded(LoadState),
    /// It failed.
    Failed(UnitEnd),
    /// It ends, and systemd starts it again.
    Restarting,
    /// It is stopped.
    Stopped,
    /// It does not start at the next boot.
    Disabled,
}

/// How a unit differs from what its release wants.
pub(crate) fn unit_drift(unit: &OwnedUnit, state: &UnitState) -> Option<Drift> {
    if unit.action == UnitAction::None || unit.name.is_template() {
        return None;
    }
    let how = match &state.load {
        LoadState::Masked => UnitDrift::Masked,
        LoadState::NotFound => UnitDrift::Missing,
        other @ LoadState::Other(_) => UnitDrift::NotLoaded(other.clone()),
        LoadState::Loaded if state.active == ActiveState::Failed => UnitDrift::Failed(state.failure()),
        LoadState::Loaded if state.sub == SubState::AutoRestart => UnitDrift::Restarting,
        LoadState::Loaded if state.active == ActiveState::Inactive && state.service_type != ServiceType::Oneshot => {
            UnitDrift::Stopped
        }
        LoadState::Loaded if state.file_state == UnitFileState::Disabled && !unit.disabled => UnitDrift::Disabled,
        LoadState::Loaded => return None,
    };
    Some(Drift::Unit { unit: unit.name.to_string(), how })
}

impl From<String> for Drift {
    fn from(sentence: String) -> Self {
        Self::Told(sentence)
    }
}

impl From<Drift> for String {
    fn from(drift: Drift) -> Self {
        drift.to_string()
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { package, state } => {
                write!(f, "dpkg says that `{package}` is broken (`{}`)", state.escape_debug())
            }
            Self::Unit { unit, how } => write!(f, "`{unit}` {how}"),
            Self::ChangedFile(words) | Self::Told(words) => f.write_str(words),
            Self::More(more) => write!(f, "and {more} more"),
        }
    }
}

/// What follows the name of the unit.
impl fmt::Display for UnitDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masked => f.write_str("is masked"),
            Self::Missing => f.write_str("does not exist"),
            Self::NotLoaded(load) => write!(f, "cannot be loaded ({load})"),
            Self::Failed(end) => write!(f, "failed{end}"),
            Self::Restarting => f.write_str("keeps restarting"),
            Self::Stopped => f.write_str("is stopped"),
            Self::Disabled => f.write_str("is disabled: it won't start at the next boot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{exited, running, unit_state};

    #[test]
    fn what_is_wrong_with_a_unit_is_found_and_said() {
        let unit = OwnedUnit::new("web.service".parse().unwrap(), UnitAction::Restart);
        let loaded = |load: &str| UnitState { load: load.to_owned().into(), ..running("a") };
        let disabled = UnitState { file_state: UnitFileState::Disabled, ..running("a") };
        for (state, how, words) in [
            (loaded("masked"), UnitDrift::Masked, "is masked"),
            (loaded("not-found"), UnitDrift::Missing, "does not exist"),
            (loaded("error"), UnitDrift::NotLoaded("error".to_owned().into()), "cannot be loaded (error)"),
            (exited(3), UnitDrift::Failed(exited(3).failure()), "failed: exit status 3"),
            (unit_state("activating", "auto-restart"), UnitDrift::Restarting, "keeps restarting"),
            (unit_state("inactive", "dead"), UnitDrift::Stopped, "is stopped"),
            (disabled.clone(), UnitDrift::Disabled, "is disabled: it won't start at the next boot"),
        ] {
            let drift = unit_drift(&unit, &state).unwrap();
            assert_eq!(drift.to_string(), format!("`web.service` {words}"));
            assert_eq!(drift, Drift::Unit { unit: "web.service".to_owned(), how });
        }
        assert_eq!(unit_drift(&unit, &running("a")), None);
        let as_wished = OwnedUnit { disabled: true, ..unit };
        assert_eq!(unit_drift(&as_wished, &disabled), None, "its release leaves it so");
    }

    #[test]
    fn a_difference_is_written_as_its_sentence() {
        let broken = Drift::Broken { package: "web".to_owned(), state: "iHR".to_owned() };
        let sentence = "dpkg says that `web` is broken (`iHR`)";
        assert_eq!(serde_json::to_value(&broken).unwrap(), sentence);
        assert_eq!(serde_json::from_value::<Drift>(sentence.into()).unwrap(), Drift::Told(sentence.to_owned()));
        assert_eq!(Drift::More(3).to_string(), "and 3 more");
    }
}
