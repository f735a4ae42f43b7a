//! The systemd units that a release owns, and what happens to them: the value of `Push-Units:`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::control::ControlError;
use crate::NameError;

/// The name of a systemd unit (systemd.unit(5)) of a kind that a release may own, as in `web.service`.
///
/// At most 255 of `A-Z a-z 0-9 : - _ . \ @`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

text_name!(UnitName);

impl UnitName {
    /// Longest unit name, in bytes (systemd.unit(5)).
    const MAX: usize = 255;

    /// The kinds of units that a release may own.
    const KINDS: [&str; 8] = ["service", "timer", "socket", "path", "target", "mount", "automount", "slice"];

    /// What comes before the kind: `web` of `web.service`.
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }

    /// The kind of unit: `service` of `web.service`.
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    /// Whether it is a template such as `web@.service`, of which only instances run.
    pub fn is_template(&self) -> bool {
        self.stem().ends_with('@')
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let wrong = |reason: String| Err(NameError::new("unit name", name, reason));
        let good = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        if name.len() > Self::MAX {
            return wrong(format!("it is longer than {} bytes", Self::MAX));
        }
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.bytes().all(good) {
            return wrong(
                "it must have only letters, digits and : - _ . \\ @ and begin with a letter or a digit".into(),
            );
        }
        if !name.rsplit_once('.').is_some_and(|(_, kind)| Self::KINDS.contains(&kind)) {
            return wrong(format!("it must end in one of .{}", Self::KINDS.join(" .")));
        }
        Ok(Self(name.to_owned()))
    }
}

/// What happens to a unit after its release was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitAction {
    /// `restart`: started on the first install, restarted on every other.
    Restart,
    /// `reload`: started on the first install, reloaded (or restarted, if it can't reload) on every other.
    Reload,
    /// `start`: started on the first install and if it isn't running, else left alone.
    Start,
    /// `none`: never touched; something else starts it, as a timer does.
    None,
}

impl UnitAction {
    const ALL: [Self; 4] = [Self::Restart, Self::Reload, Self::Start, Self::None];
}

impl fmt::Display for UnitAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Start => "start",
            Self::None => "none",
        })
    }
}

impl FromStr for UnitAction {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|action| action.to_string() == text)
            .ok_or_else(|| NameError::new("unit action", text, "it must be restart, reload, start or none"))
    }
}

/// A systemd unit that a release owns, as one word of `Push-Units:`, written `web.service=restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedUnit {
    /// Its name.
    pub name: UnitName,
    /// What happens to it when its release is installed.
    pub action: UnitAction,
}

impl OwnedUnit {
    /// Most units that a release may own.
    pub const MAX: usize = 200;

    /// Parses the value of `Push-Units:`, as in `web.service=restart web.timer=start`.
    ///
    /// # Errors
    /// When one of the words is no unit with an action, or there are more than [`OwnedUnit::MAX`].
    pub fn parse_all(value: &str) -> Result<Vec<Self>, ControlError> {
        let words = value.split_ascii_whitespace().map(str::parse);
        let units: Vec<Self> = words.collect::<Result<_, NameError>>().map_err(|e| ControlError::of(UNITS, e))?;
        if units.len() > Self::MAX {
            return Err(ControlError::of(UNITS, format!("it has more than {} units", Self::MAX)));
        }
        Ok(units)
    }

    /// The value of `Push-Units:` for these.
    pub(super) fn write_all(units: &[Self]) -> String {
        units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// The field that this file is about.
pub(super) const UNITS: &str = "Push-Units";

impl fmt::Display for OwnedUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.action)
    }
}

impl FromStr for OwnedUnit {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((name, action)) = text.split_once('=') else {
            return Err(NameError::new("unit with its action", text, "it has no `=`"));
        };
        Ok(Self { name: name.parse()?, action: action.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_with_their_actions() {
        let units = OwnedUnit::parse_all(" web.service=restart\n web@1.timer=none srv-www.automount=start").unwrap();
        let words: Vec<_> = units.iter().map(|unit| (unit.name.as_str(), unit.action)).collect();
        let want = [
            ("web.service", UnitAction::Restart),
            ("web@1.timer", UnitAction::None),
            ("srv-www.automount", UnitAction::Start),
        ];
        assert_eq!(words, want);
        assert_eq!(OwnedUnit::write_all(&units), "web.service=restart web@1.timer=none srv-www.automount=start");
        assert_eq!(OwnedUnit::parse_all("").unwrap(), []);
    }

    #[test]
    fn what_is_no_unit_with_an_action_is_refused() {
        let many = "a.service=none ".repeat(OwnedUnit::MAX + 1);
        for bad in [
            "../x.service=restart",
            "-x.service=restart",
            ".service=restart",
            "x.service",
            "x.service=poweroff",
            "x.service=Restart",
            "x.service=",
            "x.exe=restart",
            "service=restart",
            "$(x).service=none",
            "x.service=none=none",
            &many,
        ] {
            assert!(OwnedUnit::parse_all(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn templates_end_in_an_at_sign() {
        let is_template = |name: &str| name.parse::<UnitName>().unwrap().is_template();
        assert!(is_template("web@.service"));
        assert!(!is_template("web@1.service") && !is_template("web.service"));
    }
}
