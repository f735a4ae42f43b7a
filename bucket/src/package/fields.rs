//! The fields that make a package a release: `Push-Release` and those beside it.

use super::{
    check::Check,
    control::{Control, ControlError},
    escape::{escape, unescape},
    note::Note,
    unit::{OwnedUnit, UNITS},
};
use crate::ReleaseName;

const RELEASE: &str = "Push-Release";
const CHECK: &str = "Push-Check";
const DIRTY: &str = "Push-Dirty";
const NOTE: &str = "Push-Note";
const REPO: &str = "Push-Repo";
const BRANCH: &str = "Push-Branch";

/// What a machine obeys of a release: who it is, and what to do with its units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFields {
    /// `Push-Release`: the release that the package is.
    pub release: ReleaseName,
    /// `Push-Units`: the units that it owns.
    pub units: Vec<OwnedUnit>,
    /// `Push-Check`: what must succeed before the release counts as healthy.
    pub check: Option<Check>,
}

impl ReleaseFields {
    /// The name of the field with the release's name, for asking dpkg.
    pub const RELEASE: &str = RELEASE;

    /// The name of the field with the release's units, for asking dpkg.
    pub const UNITS: &str = UNITS;

    /// Reads them from a control file; `None` if the package isn't a release.
    ///
    /// # Errors
    /// Which field is invalid, and why.
    pub fn read(control: &Control) -> Result<Option<Self>, ControlError> {
        let Some(stem) = control.get(RELEASE) else { return Ok(None) };
        let release = ReleaseName::from_stem(stem).map_err(|error| ControlError::of(RELEASE, error))?;
        let units = OwnedUnit::parse_all(control.get(UNITS).unwrap_or_default())?;
        let check = control.get(CHECK).filter(|check| !check.is_empty()).map(str::parse).transpose();
        Ok(Some(Self { release, units, check: check.map_err(|error| ControlError::of(CHECK, error))? }))
    }

    /// Makes a control file that of this release; whatever it said of another one is taken away.
    ///
    /// # Errors
    /// When a value doesn't fit into a control file.
    pub fn write(&self, provenance: &Provenance, control: &mut Control) -> Result<(), ControlError> {
        control.remove_all("Push-");
        control.push(RELEASE, self.release.stem())?;
        control.push(UNITS, &OwnedUnit::write_all(&self.units))?;
        control.push(CHECK, &self.check.as_ref().map(ToString::to_string).unwrap_or_default())?;
        control.push(DIRTY, if provenance.dirty { "true" } else { "false" })?;
        control.push(NOTE, &escape(provenance.note.as_str()))?;
        control.push(REPO, &escape(&provenance.repo))?;
        control.push(BRANCH, &escape(&provenance.branch))
    }
}

/// What people want to know of a release and no machine obeys: it becomes the object's metadata at the upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// `Push-Dirty`: built with uncommitted changes.
    pub dirty: bool,
    /// `Push-Note`: why it was built.
    pub note: Note,
    /// `Push-Repo`: URL of the repository's origin, without credentials; empty when it has none.
    pub repo: String,
    /// `Push-Branch`: the branch checked out; empty when none was.
    pub branch: String,
}

impl Provenance {
    /// Reads it from a release's control file.
    ///
    /// # Errors
    /// Which field is missing or invalid, and why.
    pub fn read(control: &Control) -> Result<Self, ControlError> {
        let text = |field: &str| {
            unescape(control.get(field).unwrap_or_default())
                .ok_or_else(|| ControlError::of(field, "it has a wrong escape"))
        };
        let dirty = match control.get(DIRTY) {
            Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(ControlError::of(DIRTY, "it is neither true nor false")),
            None => return Err(ControlError::new(format!("control file has no field `{DIRTY}`"))),
        };
        let note = text(NOTE)?.parse().map_err(|error| ControlError::of(NOTE, error))?;
        Ok(Self { dirty, note, repo: text(REPO)?, branch: text(BRANCH)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn control(fields: &str) -> Control {
        Control::parse(format!("Package: web\n{fields}").as_bytes()).unwrap()
    }

    #[test]
    fn a_package_is_a_release_by_one_field() {
        assert_eq!(ReleaseFields::read(&control("Push-Units: x.service=none\n")).unwrap(), None);
        let fields = ReleaseFields::read(&control(&format!("Push-Check:\npush-release: {STEM}\n"))).unwrap().unwrap();
        assert_eq!((fields.release.stem(), fields.units.len(), fields.check), (STEM, 0, None));
    }

    #[test]
    fn invalid_fields_are_refused() {
        for bad in ["Push-Release: nonsense\n", "Push-Release: ../x:a@b\n"] {
            assert!(ReleaseFields::read(&control(bad)).is_err(), "{bad}");
        }
        for bad in ["Push-Units: ../x.service=restart\n", "Push-Check: rm -rf\n", "Push-Check: http://10.0.0.1/\n"] {
            assert!(ReleaseFields::read(&control(&format!("Push-Release: {STEM}\n{bad}"))).is_err(), "{bad}");
        }
        for bad in [
            "",
            "Push-Dirty: maybe\nPush-Note: x\n",
            "Push-Dirty: true\n",
            "Push-Dirty: true\nPush-Note: \\x\n",
            "Push-Note: x\n",
        ] {
            assert!(Provenance::read(&control(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn writing_replaces_what_another_release_said() {
        let mut control = control("Push-Release: old\nPUSH-CHECK: old\nPush-Other: old\nHomepage: h\n");
        let release = ReleaseName::from_stem(STEM).unwrap();
        let fields = ReleaseFields { release, units: Vec::new(), check: None };
        let note = "a\nEssential: yes".parse().unwrap();
        let provenance = Provenance { dirty: true, note, repo: String::new(), branch: "main".to_owned() };
        fields.write(&provenance, &mut control).unwrap();
        let want = format!(
            "Package: web\nHomepage: h\nPush-Release: {STEM}\nPush-Dirty: true\nPush-Note: a\\nEssential: yes\n\
             Push-Branch: main\n"
        );
        assert_eq!(control.to_string(), want);
        assert_eq!(ReleaseFields::read(&control).unwrap(), Some(fields));
        assert_eq!(Provenance::read(&control).unwrap(), provenance);
    }
}
