//! The unit files that a repository has.

use std::{fs, path::Path};

use bucket::UnitName;

use super::UnitFile;

/// Where they may lie, in the repository.
const PLACES: [&str; 6] = ["", "systemd", "units", "deploy", "packaging", "contrib/systemd"];

/// What starts a service of its own name.
const TRIGGERS: [&str; 3] = ["timer", "socket", "path"];

/// The units in the usual places, each once.
pub(super) fn units(directory: &Path) -> Vec<UnitFile> {
    let mut found: Vec<(String, UnitName)> = Vec::new();
    for place in PLACES {
        let entries = fs::read_dir(directory.join(place)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            let path = if place.is_empty() { name.clone() } else { format!("{place}/{name}") };
            let Ok(unit) = name.parse::<UnitName>() else { continue };
            let is_new = !found.iter().any(|(_, other)| *other == unit);
            if directory.join(&path).is_file() && is_new {
                found.push((path, unit));
            }
        }
    }
    let is_triggered = |unit: &UnitName| {
        let starts = |other: &UnitName| TRIGGERS.contains(&other.kind()) && other.stem() == unit.stem();
        unit.kind() == "service" && found.iter().any(|(_, other)| starts(other))
    };
    found.iter().map(|(path, unit)| UnitFile { path: path.clone(), is_triggered: is_triggered(unit) }).collect()
}
