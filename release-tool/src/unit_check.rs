//! What must hold of the unit files in a package, for `build` and `check` alike.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use console::safe;

use crate::{
    manifest::Recipe,
    tree::{Entry, Kind, Tree, UNITS},
    unit_file::{Command, UnitFile},
};

/// Directories in which systemd looks for unit files, as packages name them.
const DIRECTORIES: [&str; 3] = [UNITS, "lib/systemd/system", "etc/systemd/system"];

/// Kinds of units whose files are read.
const KINDS: [&str; 8] = ["service", "timer", "socket", "path", "target", "mount", "automount", "slice"];

/// Directories that many packages have files in: what is missing there may come from another package.
const SHARED: [&str; 12] = [
    "bin",
    "sbin",
    "lib",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/libexec",
    "usr/share",
    "usr/games",
    "etc",
    "var/lib",
    "srv",
];

/// Where Debian's own packages have nothing.
const LOCAL: [&str; 2] = ["usr/local/", "opt/"];

/// Checks all unit files and drop-ins in a package. What may be wrong, but depends on other packages, comes as warnings.
///
/// # Errors
/// What is wrong with which file.
pub(crate) fn check(tree: &Tree, recipe: &Recipe) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (path, entry) in tree.iter() {
        let (Some((name, is_whole)), Kind::File { source, .. }) = (unit_of(path), &entry.kind) else { continue };
        let kind = name.rsplit('.').next().unwrap_or_default();
        let at = || format!("the unit file `/{path}` is invalid");
        let text = read(source)?;
        let file = UnitFile::parse(kind, &text).with_context(at)?;
        if is_whole {
            file.check_complete(kind).with_context(at)?;
        }
        for command in file.commands() {
            warnings.extend(check_command(&command, tree, recipe).with_context(|| format!("`/{path}`"))?);
        }
    }
    Ok(warnings)
}

/// Reads a unit file, which is text.
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => bail!("`{}` is not a text: a unit file must be UTF-8", path.display()),
    }
}

/// The unit that a file in a package is about, and whether it is the unit's own file and no drop-in.
pub(crate) fn unit_of(path: &str) -> Option<(&str, bool)> {
    let below = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(directory)?.strip_prefix('/'))?;
    let is_unit = |name: &str| KINDS.contains(&name.rsplit_once('.').map_or("", |(_, kind)| kind));
    match below.split_once('/') {
        None => is_unit(below).then_some((below, true)),
        Some((directory, file)) => {
            let unit = directory.strip_suffix(".d").filter(|unit| is_unit(unit))?;
            file.strip_suffix(".conf").map(|_| (unit, false))
        }
    }
}

/// Whether the package has the program, if that can be known.
fn check_command(command: &Command<'_>, tree: &Tree, recipe: &Recipe) -> Result<Option<String>> {
    let Command { key, program, may_fail } = *command;
    // What systemd looks up or fills in isn't known here.
    let Some(path) = program.strip_prefix('/').filter(|path| !path.contains(['%', '$', '\\'])) else { return Ok(None) };
    match find(tree, path) {
        Some(Entry { kind: Kind::File { .. }, mode, .. }) if mode & 0o111 == 0 => bail!(
            "{key}= runs `{}`, which is not executable (mode {mode:04o}): add mode = \"0755\" to its entry of `contents`",
            safe(program)
        ),
        Some(Entry { kind: Kind::Directory, .. }) => bail!("{key}= runs `{}`, which is a directory", safe(program)),
        Some(_) => return Ok(None),
        None => {}
    }
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let is_ours = !SHARED.contains(&parent) && !parent.is_empty() && tree.get(parent).is_some();
    if may_fail || !(is_ours || LOCAL.iter().any(|local| path.starts_with(local))) {
        return Ok(None);
    }
    let text = format!("{key}= runs `{}`, which is not in the package", safe(program));
    let brought = ["Depends", "Pre-Depends"].iter().any(|of| recipe.relations.iter().any(|(field, _)| field == of));
    let made = !recipe.scripts.preinst.is_empty() || !recipe.scripts.postinst.is_empty();
    if made || (brought && !is_ours) {
        return Ok(Some(format!("{text}: a package that it depends on, or its own script, must bring the program")));
    }
    bail!("{text}: add the program to `contents`, or correct the path")
}

/// What a path on the server leads to in the package: `/bin`, `/sbin` and `/lib` are links there.
fn find<'a>(tree: &'a Tree, path: &str) -> Option<&'a Entry> {
    let merged = ["bin/", "sbin/", "lib/"].iter().any(|top| path.starts_with(top));
    let below_usr = || tree.get(&format!("usr/{path}")).filter(|_| merged);
    tree.get(path).or_else(below_usr).or_else(|| tree.get(path.strip_prefix("usr/")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::test_recipe;

    fn checked(unit: &str, mode: u32, lines: &str) -> Result<Vec<String>> {
        let directory = tempfile::tempdir()?;
        let source = directory.path().join("web.service");
        fs::write(&source, format!("[Service]\n{unit}\n"))?;
        let mut tree = Tree::default();
        tree.add_file(&format!("{UNITS}/web.service"), source, 1);
        tree.add_file("usr/lib/web/other", "/x".into(), 1);
        tree.add_file("usr/bin/web", "/x".into(), 1);
        tree.set_mode("usr/bin/web", mode);
        check(&tree, &test_recipe(lines))
    }

    #[test]
    fn a_program_that_nobody_ships_is_an_error() {
        for (unit, mode, expected) in [
            (
                "ExecStart=/usr/bin/web",
                0o644,
                "`/usr/bin/web`, which is not executable (mode 0644): add mode = \"0755\"",
            ),
            ("ExecStart=/usr/lib/web", 0o755, "`/usr/lib/web`, which is a directory"),
            (
                "ExecStart=/usr/lib/web/wep",
                0o755,
                "ExecStart= runs `/usr/lib/web/wep`, which is not in the package: add",
            ),
            ("ExecStart=/usr/bin/web\nExecReload=/opt/web/reload", 0o755, "ExecReload= runs `/opt/web/reload`, which"),
            ("ExecStart=/usr/local/bin/web", 0o755, "which is not in the package"),
        ] {
            let error = format!("{:#}", checked(unit, mode, "").unwrap_err());
            assert!(error.contains(expected) && error.contains("web.service`"), "{unit}\ngave: {error}");
        }
    }

    #[test]
    fn a_program_that_may_come_from_elsewhere_is_no_error() {
        for good in ["/usr/bin/web", "/bin/web", "-/opt/x", "/usr/bin/perl /opt/x", "/opt/%i/x", "web", "/usr/lib/x"] {
            assert_eq!(checked(&format!("ExecStart={good}"), 0o755, "").unwrap(), [""; 0], "{good}");
        }
        for (unit, lines) in [
            ("ExecStart=/opt/google/chrome", "depends = [\"google-chrome-stable\"]\n"),
            ("ExecStart=/usr/lib/web/venv", "scripts = { postinst = \"python3 -m venv /usr/lib/web\" }\n"),
        ] {
            let warnings = checked(unit, 0o755, lines).unwrap();
            assert!(warnings[0].contains("must bring the program"), "{warnings:?}");
        }
        let ours = checked("ExecStart=/usr/lib/web/wep", 0o755, "depends = [\"python3\"]\n");
        assert!(ours.unwrap_err().to_string().contains("web.service"));
    }

    #[test]
    fn units_and_drop_ins_are_known_by_their_place() {
        for (path, unit) in [
            ("usr/lib/systemd/system/web.service", Some(("web.service", true))),
            ("etc/systemd/system/nginx.service.d/web.conf", Some(("nginx.service", false))),
            ("lib/systemd/system/web@.timer", Some(("web@.timer", true))),
            ("usr/lib/systemd/system/web.conf", None),
            ("usr/lib/systemd/system/multi-user.target.wants/web.service", None),
            ("usr/share/web.service", None),
        ] {
            assert_eq!(unit_of(path), unit, "{path}");
        }
    }
}
