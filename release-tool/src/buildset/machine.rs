//! On which machine an overlay is: by its name, and by what tells machines of one name apart.

use std::{fs, path::Path};

use anyhow::Result;
use bucket::Buildset;
use sha2::{Digest as _, Sha256};

use crate::builder::Builder;

/// Identifies a machine (machine-id(5)).
const ID: &str = "/etc/machine-id";

/// Salt of that, as machine-id(5) asks for: the ID itself is confidential.
const SALT: &str = "push buildset 1 ";

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its name.
    pub(crate) host: String,
    /// What is told of its ID, if it has one.
    pub(crate) id: Option<String>,
}

impl Machine {
    /// This one.
    pub(crate) fn find() -> Result<Self> {
        let Builder { host, .. } = Builder::find(|key| std::env::var(key).ok())?;
        let id = fs::read_to_string(ID).ok().filter(|id| !id.trim().is_empty());
        let id = id.map(|id| hex::encode(&Sha256::digest(format!("{SALT}{}", id.trim()))[..16]));
        Ok(Self { host, id })
    }

    /// Whether the overlay of a buildset is on it. Where that isn't known by an ID, it is where there is such a directory.
    pub(crate) fn has(&self, buildset: &Buildset) -> bool {
        self.host == buildset.host
            && match (&self.id, &buildset.machine) {
                (Some(this), Some(that)) => this == that,
                _ => Path::new(&buildset.directory).symlink_metadata().is_ok(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_on_the_machine_of_that_name_and_id_else_where_its_directory_is() {
        let here = tempfile::tempdir().unwrap();
        let (there, gone) = (here.path().display().to_string(), here.path().join("gone").display().to_string());
        for (host, of, said, directory, expected) in [
            ("ci", Some("a"), Some("a"), &there, true),
            ("ci", Some("a"), Some("a"), &gone, true),
            ("ci", Some("a"), Some("b"), &there, false),
            ("ci", None, Some("b"), &there, true),
            ("ci", Some("a"), None, &there, true),
            ("ci", Some("a"), None, &gone, false),
            ("ci", None, None, &gone, false),
            ("dev", Some("a"), Some("a"), &there, false),
        ] {
            let buildset = serde_json::from_value(serde_json::json!({
                "schema": 1, "buildset": "k3v9", "change": "web/12", "host": "ci", "machine": said,
                "directory": directory, "since": "2026-11-20T19:00:00Z",
            }));
            let machine = Machine { host: host.to_owned(), id: of.map(str::to_owned) };
            assert_eq!(machine.has(&buildset.unwrap()), expected, "{machine:?} {said:?} {directory}");
        }
    }
}
