//! The configuration files: which ones are read, in which order, and merging what they say.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use console::Keys;

use crate::state::persist;

/// Maximum bytes of a configuration file that are read.
const LIMIT: u64 = 1 << 20;

/// The drop-ins that are read, in order.
pub(super) fn drop_ins(directories: &[PathBuf], warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let mut chosen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                warnings.push(format!("ignoring `{}`: {error}", directory.display()));
                continue;
            }
        };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.extension().is_none_or(|extension| extension != "toml") || name.starts_with('.') {
                warnings.push(format!("ignoring `{}`: its name does not end in `.toml`", path.display()));
                continue;
            }
            chosen.insert(name.to_owned(), path.clone());
        }
    }
    chosen.into_values().filter(|path| !is_mask(path)).collect()
}

/// Whether a file exists only to hide others of its name.
fn is_mask(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// Reads a file that may have the keys `known`; `None` when it does not exist. Unknown keys are warnings.
pub(super) fn read(path: &Path, known: &[&str], warnings: &mut Vec<String>) -> Result<Option<Keys>> {
    let Some(content) = persist::read(path, LIMIT)? else { return Ok(None) };
    let text = String::from_utf8(content).map_err(|_| anyhow!("`{}` is not UTF-8", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("`{}` is not valid TOML", path.display()))?;
    let (keys, unknown) = Keys::with_unknown(format!("`{}`", path.display()), table, known);
    warnings.extend(unknown.iter().map(|key| format!("{key} (ignored)")));
    Ok(Some(keys))
}
