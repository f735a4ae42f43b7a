//! What any Debian package says of itself, release or not.

use super::{
    control::{Control, ControlError},
    name::{Architecture, PackageName},
};
use crate::NameError;

/// The fields of a binary package that Push uses (Debian Policy §5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFacts {
    /// `Package`
    pub package: PackageName,
    /// `Version`, as written.
    pub version: String,
    /// `Architecture`
    pub architecture: Architecture,
    /// `Installed-Size`, in bytes; 0 when the package doesn't say.
    pub installed_size: u64,
    /// `Pre-Depends` and `Depends`, as written but each on one line.
    pub depends: Vec<String>,
}

impl PackageFacts {
    /// Reads them from a control file.
    ///
    /// # Errors
    /// Which field is missing or invalid.
    pub fn read(control: &Control) -> Result<Self, ControlError> {
        let need = |field: &str| match control.get(field) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(ControlError::new(format!("control file has no field `{field}`"))),
        };
        let invalid = |field: &'static str| move |error: NameError| ControlError::of(field, error);
        let version = need("Version")?;
        if !version.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ControlError::of("Version", "a version has no spaces and only ASCII characters"));
        }
        let kibibytes: u64 = match control.get("Installed-Size") {
            None => 0,
            Some(text) => text.parse().map_err(|_| ControlError::of("Installed-Size", "it is not a number"))?,
        };
        Ok(Self {
            package: need("Package")?.parse().map_err(invalid("Package"))?,
            version: version.to_owned(),
            architecture: need("Architecture")?.parse().map_err(invalid("Architecture"))?,
            installed_size: kibibytes.saturating_mul(1024),
            depends: ["Pre-Depends", "Depends"].iter().filter_map(|field| control.unfolded(field)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PackageFacts, ControlError> {
        PackageFacts::read(&Control::parse(text.as_bytes())?)
    }

    #[test]
    fn facts_are_read_by_their_fields() {
        let facts = read(
            "Package: web\nVersion: 0+1\nArchitecture: all\nInstalled-Size: 7\nDepends: a,\n b (>= 2)\n\
             Pre-Depends: c\nDescription: x\n .\n more\n",
        );
        let facts = facts.unwrap();
        assert_eq!((facts.package.as_str(), facts.version.as_str()), ("web", "0+1"));
        assert_eq!((facts.architecture.is_all(), facts.installed_size), (true, 7 * 1024));
        assert_eq!(facts.depends, ["c", "a, b (>= 2)"]);
    }

    #[test]
    fn missing_and_invalid_facts_are_named() {
        for (bad, field) in [
            ("Version: 1\nArchitecture: all\n", "Package"),
            ("Package: -rf\nVersion: 1\nArchitecture: all\n", "Package"),
            ("Package: ../x\nVersion: 1\nArchitecture: all\n", "Package"),
            ("Package: web\nVersion:\nArchitecture: all\n", "Version"),
            ("Package: web\nVersion: 1\n 2\nArchitecture: all\n", "Version"),
            ("Package: web\nVersion: 1\nArchitecture: any\n", "Architecture"),
            ("Package: web\nVersion: 1\nArchitecture: all\nInstalled-Size: many\n", "Installed-Size"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
    }
}
