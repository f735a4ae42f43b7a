//! The systemd units of a package.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use bucket::{OwnedUnit, UnitAction, UnitName};
use toml::Table;

use console::{Keys, nearest, quoted, safe};

use super::keys::{Place, known};

/// `[[package.NAME.unit]]`
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// As in `web.service`.
    pub(crate) name: UnitName,
    /// The unit file in the project; `None` for a unit that another package, or the prebuilt one, brings.
    pub(crate) file: Option<PathBuf>,
    /// Whether that file may lie outside of the repository.
    pub(crate) outside: bool,
    /// Of a template, the instances that the release brings. The keys below are theirs, and those of the instances that
    /// a machine has besides.
    pub(crate) instances: Vec<UnitName>,
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
    /// The unit and its instances, with their actions, as pulld reads them from `Push-Units`.
    pub(crate) fn owned(&self) -> Vec<OwnedUnit> {
        let action = match (self.start, self.restart) {
            (false, _) => UnitAction::None,
            (true, Restart::OnUpgrade) => UnitAction::Restart,
            (true, Restart::Reload) => UnitAction::Reload,
            (true, Restart::Never) => UnitAction::Start,
        };
        // Of what pulld never looks at, it needs no wish; agents that know no wishes read such a word as ever.
        let wish = |unit: &UnitName| self.enable == Some(false) && action != UnitAction::None && !unit.is_template();
        let units = std::iter::once(&self.name).chain(&self.instances);
        units.map(|unit| OwnedUnit { disabled: wish(unit), ..OwnedUnit::new(unit.clone(), action) }).collect()
    }

    fn parse(at: &str, table: Table, prebuilt: bool) -> Result<Self> {
        let mut keys = Keys::new(at, table, &known(Place::Unit))?;
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
        let outside = keys.flag("outside")?;
        if outside.is_some() && file.is_none() {
            bail!("{at}: `outside` has no effect on `{name}`, of which there is no `file`: remove the key");
        }
        let name: UnitName = name.parse().map_err(|error| anyhow!("{at}: {error}"))?;
        let enable = keys.flag("enable")?;
        if enable.is_some() && file.is_none() {
            bail!("{at}: `enable` has no effect on `{name}`, which its own package enables: remove the key");
        }
        let instances = instances(at, &name, keys.texts("instances")?)?;
        let only_template = name.is_template() && instances.is_empty();
        let start = keys.flag("start")?;
        if only_template && start == Some(true) {
            bail!(
                "{at}: `{name}` is a template and cannot be started, only its instances can: name them, as in \
                 instances = [\"a\", \"b\"], or remove `start = true`"
            );
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
        let enable = if only_template { Some(enable.unwrap_or(false)) } else { enable };
        Ok(Self {
            name,
            file,
            outside: outside.unwrap_or(false),
            instances,
            enable,
            start: start.unwrap_or(true),
            restart,
        })
    }
}

/// The units that the key `instances` means.
fn instances(at: &str, template: &UnitName, instances: Vec<String>) -> Result<Vec<UnitName>> {
    if !instances.is_empty() && !template.is_template() {
        bail!("{at}: `instances` has no effect on `{template}`, which is no template: remove the key");
    }
    let mut units: Vec<UnitName> = Vec::new();
    for instance in instances {
        let unit = template.instance(&instance).map_err(|error| anyhow!("{at}: invalid `instances`: {error}"))?;
        if units.contains(&unit) {
            bail!("{at}: `instances` has `{}` twice", safe(&instance));
        }
        units.push(unit);
    }
    Ok(units)
}

pub(super) fn parse_all(package: &str, tables: Vec<Table>, prebuilt: bool) -> Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    for (i, table) in tables.into_iter().enumerate() {
        let unit = Unit::parse(&format!("{package} unit[{i}]"), table, prebuilt)?;
        let names = |unit: &Unit| std::iter::once(&unit.name).chain(&unit.instances).cloned().collect::<Vec<_>>();
        let known: Vec<UnitName> = units.iter().flat_map(names).collect();
        if let Some(twice) = names(&unit).into_iter().find(|name| known.contains(name)) {
            bail!("{package} unit[{i}]: duplicate unit `{twice}`: merge the two entries");
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
            ("file = \"web.service\"\nenable = false", "web.service", "restart,disabled"),
            ("file = \"web.service\"\nenable = false\nstart = false", "web.service", "none"),
            ("file = \"web@.service\"", "web@.service", "restart"),
            ("file = \"web@.service\"\nstart = false", "web@.service", "none"),
            ("name = \"nginx.service\"\nrestart = \"reload\"", "nginx.service", "reload"),
        ];
        for (text, name, action) in table {
            assert_eq!(words(text), format!("{name}={action}"), "{text}");
        }
    }

    fn words(text: &str) -> String {
        unit(text).unwrap().owned().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn templates_are_never_enabled_or_started_without_instances() {
        assert_eq!(unit("file = \"web@.service\"").unwrap().enable, Some(false));
        assert!(unit("file = \"web@.service\"\nstart = true").is_err());
    }

    #[test]
    fn instances_are_units_beside_their_template() {
        let two = "file = \"web@.service\"\ninstances = [\"a\", \"b\"]\n";
        assert_eq!(words(two), "web@.service=restart web@a.service=restart web@b.service=restart");
        let reload = format!("{two}restart = \"reload\"\nenable = false\nstart = true");
        assert_eq!(words(&reload), "web@.service=reload web@a.service=reload,disabled web@b.service=reload,disabled");
        let twice = ["file = \"web@.service\"\ninstances = [\"a\"]", "name = \"web@a.service\""];
        let tables = twice.map(|text| text.parse().unwrap()).to_vec();
        assert!(parse_all("[p]", tables, false).unwrap_err().to_string().contains("duplicate unit `web@a.service`"));
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
            "file = \"web.service\"\ninstances = [\"a\"]",
            "file = \"web@.service\"\ninstances = [\"a\", \"a\"]",
            "file = \"web@.service\"\ninstances = [\"a b\"]",
            "file = \"web@.service\"\ninstances = [\"\"]",
            "file = \"web@.service\"\ninstances = [\"a/b\"]",
            "file = \"web@.service\"\ninstances = \"a\"",
        ];
        for text in bad {
            assert!(unit(text).is_err(), "{text}");
        }
    }
}
