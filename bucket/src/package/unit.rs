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
        self.stem().split_once('@').is_some_and(|(_, instance)| instance.is_empty())
    }

    /// The template that it is an instance of: `web@.service` for `web@a.service`; `None` when it is no instance.
    pub fn template(&self) -> Option<Self> {
        let (name, instance) = self.stem().split_once('@')?;
        (!instance.is_empty()).then(|| Self(format!("{name}@.{}", self.kind())))
    }

    /// An instance of this template: `web@a.service` for `a`.
    ///
    /// # Errors
    /// When this is no template, or the instance is empty or makes no good unit name.
    pub fn instance(&self, instance: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("instance", instance, reason));
        if !self.is_template() {
            return wrong(&format!("`{self}` is no template, whose name ends in `@`"));
        }
        if instance.is_empty() {
            return wrong("it is empty");
        }
        format!("{}{instance}.{}", self.stem(), self.kind()).parse()
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

/// A systemd unit that a release owns, as one word of `Push-Units:`, written `web.service=restart`, or
/// `web.service=restart,disabled`.
///
/// A template's action is that of the instances that the machine has besides those that the release owns by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedUnit {
    /// Its name.
    pub name: UnitName,
    /// What happens to it when its release is installed.
    pub action: UnitAction,
    /// Whether its release doesn't want it enabled: that it won't start at boot is no difference then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
}

/// What a unit is that its release doesn't want enabled: the word after its action.
const DISABLED: &str = "disabled";

impl OwnedUnit {
    /// Most units that a release may own.
    pub const MAX: usize = 200;

    /// A unit that its release wants enabled, if its file says what that means.
    pub fn new(name: UnitName, action: UnitAction) -> Self {
        Self { name, action, disabled: false }
    }

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
        write!(f, "{}={}", self.name, self.action)?;
        if self.disabled { write!(f, ",{DISABLED}") } else { Ok(()) }
    }
}

impl FromStr for OwnedUnit {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((name, action)) = text.split_once('=') else {
            return Err(NameError::new("unit with its action", text, "it has no `=`"));
        };
        let (action, disabled) = match action.split_once(',') {
            None => (action, false),
            Some((action, DISABLED)) => (action, true),
            Some((_, other)) => {
                let reason = format!("after its action comes `{}`, not `{DISABLED}`", other.escape_debug());
                return Err(NameError::new("unit with its action", text, reason));
            }
        };
        Ok(Self { name: name.parse()?, action: action.parse()?, disabled })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
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
            "x.service=none,",
            "x.service=none,enabled",
            "x.service=none,disabled,disabled",
            "x.service,disabled",
            &many,
        ] {
            assert!(OwnedUnit::parse_all(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_unit_that_its_release_leaves_disabled_says_so() {
        let value = "web.service=restart,disabled web@.service=none web@a.service=start";
        let units = OwnedUnit::parse_all(value).unwrap();
        assert_eq!(units.iter().map(|unit| unit.disabled).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(OwnedUnit::write_all(&units), value);
    }

    #[test]
    fn templates_and_instances_are_told_apart() {
        let name = |name: &str| name.parse::<UnitName>().unwrap();
        for (text, is_template, template) in [
            ("web@.service", true, None),
            ("web@1.service", false, Some("web@.service")),
            ("web@a@.service", false, Some("web@.service")),
            ("web.service", false, None),
        ] {
            assert_eq!(name(text).is_template(), is_template, "{text}");
            assert_eq!(name(text).template(), template.map(name), "{text}");
        }
        assert_eq!(name("web@.service").instance("eu-1").unwrap(), name("web@eu-1.service"));
        assert!(name("web.service").instance("a").is_err());
        for bad in ["", "a b", "a/b", "ä", "$(x)", &"x".repeat(300)] {
            assert!(name("web@.service").instance(bad).is_err(), "{bad}");
        }
    }
}
