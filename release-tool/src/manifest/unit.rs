//! The systemd units of a package.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use bucket::{OwnedUnit, UnitAction, UnitName};
use toml::Table;

use console::{Keys, nearest, quoted, safe};

/// `[[package.NAME.unit]]`
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// As in `web.service`.
    pub(crate) name: UnitName,
    /// The unit file in the project; `None` for a unit that another package, or the prebuilt one, brings.
    pub(crate) file: Option<PathBuf>,
    /// Whether it is enabled; `None` is: if its file has an `[Install]` section.
    pub(crate) enable: Option<bool>,
    /// Whether it is ever started by us.
    pub(crate) start: bool,
    /// What happens to it when another release is installed.
    pub(crate) restart: Restart,
}

/// What happens to a running unit on an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// `on-upgrade`
    OnUpgrade,
    /// `reload`
    Reload,
    /// `never`
    Never,
}

impl Unit {
    /// The unit and its action as pulld reads them from `Push-Units`.
    pub(crate) fn owned(&self) -> OwnedUnit {
        let action = match (self.start, self.restart) {
            (false, _) => UnitAction::None,
            (true, Restart::OnUpgrade) => UnitAction::Restart,
            (true, Restart::Reload) => UnitAction::Reload,
            (true, Restart::Never) => UnitAction::Start,
        };
        OwnedUnit { name: self.name.clone(), action }
    }

    fn parse(at: &str, table: Table, prebuilt: bool) -> Result<Self> {
        let mut keys = Keys::new(at, table, &["file", "name", "enable", "start", "restart"])?;
        let (name, file) = match (keys.text("file")?, keys.text("name")?) {
            (Some(_), Some(_)) => {
                bail!("{at}: `file` and `name` are mutually exclusive: with `file`, the unit has the name of the file")
            }
            (None, None) if prebuilt => bail!("{at}: `name` is missing; write for example name = \"grafana.service\""),
            (None, None) => bail!("{at}: `file` is missing; write for example file = \"systemd/web.service\""),
            (Some(_), None) if prebuilt => {
                bail!("{at}: a prebuilt package contains its unit files: use `name` in place of `file`")
            }
            (Some(file), None) => {
                let file = PathBuf::from(file);
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                (name, Some(file))
            }
            (None, Some(name)) => (name, None),
        };
        let name: UnitName = name.parse().map_err(|error| anyhow!("{at}: {error}"))?;
        let enable = keys.flag("enable")?;
        if enable.is_some() && file.is_none() {
            bail!("{at}: `enable` has no effect on `{name}`, which its own package enables: remove the key");
        }
        let template = name.is_template();
        let start = keys.flag("start")?;
        if template && start == Some(true) {
            bail!("{at}: `{name}` is a template and cannot be started, only its instances can: remove `start = true`");
        }
        let restart = match keys.text("restart")?.as_deref() {
            None | Some("on-upgrade") => Restart::OnUpgrade,
            Some("reload") => Restart::Reload,
            Some("never") => Restart::Never,
            Some(other) => {
                let known = ["on-upgrade", "reload", "never"];
                let hint = nearest(other, &known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                bail!("{at}: invalid `restart` `{}`{hint}; valid values: {}", safe(other), quoted(&known));
            }
        };
        let enable = if template { Some(enable.unwrap_or(false)) } else { enable };
        Ok(Self { name, file, enable, start: start.unwrap_or(!template), restart })
    }
}

pub(super) fn parse_all(package: &str, tables: Vec<Table>, prebuilt: bool) -> Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    for (i, table) in tables.into_iter().enumerate() {
        let unit = Unit::parse(&format!("{package} unit[{i}]"), table, prebuilt)?;
        if units.iter().any(|other| other.name == unit.name) {
            bail!("{package} unit[{i}]: duplicate unit `{}`: merge the two entries", unit.name);
        }
        units.push(unit);
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Result<Unit> {
        Unit::parse("[u]", text.parse()?, false)
    }

    #[test]
    fn actions_are_those_of_the_agent() {
        let table = [
            ("file = \"d/web.service\"", "web.service", "restart"),
            ("file = \"web.service\"\nrestart = \"reload\"", "web.service", "reload"),
            ("file = \"web.service\"\nrestart = \"never\"", "web.service", "start"),
            ("file = \"web.service\"\nstart = false", "web.service", "none"),
            ("file = \"web@.service\"", "web@.service", "none"),
            ("name = \"nginx.service\"\nrestart = \"reload\"", "nginx.service", "reload"),
        ];
        for (text, name, action) in table {
            let unit = unit(text).unwrap();
            assert_eq!(unit.owned().to_string(), format!("{name}={action}"), "{text}");
        }
    }

    #[test]
    fn templates_are_installed_and_never_started() {
        let template = unit("file = \"web@.service\"").unwrap();
        assert_eq!((template.enable, template.start), (Some(false), false));
        assert!(unit("file = \"web@.service\"\nstart = true").is_err());
    }

    #[test]
    fn bad_units_are_refused() {
        let bad = [
            "",
            "file = \"web\"",
            "file = \"web.conf\"",
            "name = \"a b.service\"",
            "name = \"$(x).service\"",
            "name = \"web.service=none\"",
            "name = \"x.service\"\nenable = true",
            "file = \"web.service\"\nrestart = \"always\"",
        ];
        for text in bad {
            assert!(unit(text).is_err(), "{text}");
        }
    }
}
