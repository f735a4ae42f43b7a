//! What must hold of the unit files in a package, for `build` and `check` alike.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use console::{nearest, safe};

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

/// Programs that every server has: those of Debian's essential packages and of systemd, without `usr/`.
const EVERYWHERE: &str = include_str!("everywhere.txt");

/// Largest unit file of a built package that is read.
pub(crate) const LARGEST: u64 = 1 << 20;

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
        let file = parse(path, name, is_whole, &read(source)?)?;
        for command in file.commands() {
            warnings.extend(check_command(&command, tree, recipe).with_context(|| format!("`/{path}`"))?);
        }
    }
    Ok(warnings)
}

/// Checks one of a built package by its path there and its content, or the first [`LARGEST`] bytes and one more of it.
pub(crate) fn check_shipped(path: &str, content: Vec<u8>) -> Result<()> {
    let Some((name, is_whole)) = unit_of(path) else { return Ok(()) };
    if content.len() as u64 > LARGEST {
        bail!("the unit file `/{path}` is invalid: it has more than {LARGEST} bytes");
    }
    parse(path, name, is_whole, &text(&format!("/{path}"), content)?).map(drop)
}

fn parse(path: &str, name: &str, is_whole: bool, text: &str) -> Result<UnitFile> {
    let kind = name.rsplit('.').next().unwrap_or_default();
    let at = || format!("the unit file `/{path}` is invalid");
    let file = UnitFile::parse(kind, text).with_context(at)?;
    if is_whole {
        file.check_complete(kind).with_context(at)?;
    }
    Ok(file)
}

/// Reads a unit file, which is text.
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
    text(&path.display().to_string(), bytes)
}

fn text(shown: &str, bytes: Vec<u8>) -> Result<String> {
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => bail!("`{}` is not a text: a unit file must be UTF-8", safe(shown)),
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
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_shared = SHARED.contains(&parent);
    let is_ours = !is_shared && !parent.is_empty() && tree.get(parent).is_some();
    let is_local = LOCAL.iter().any(|local| path.starts_with(local));
    if may_fail || !(is_ours || is_local || is_shared) || is_everywhere(path) {
        return Ok(None);
    }
    let text = format!("{key}= runs `{}`, which is not in the package", safe(program));
    let brought = ["Depends", "Pre-Depends"].iter().any(|of| recipe.relations.iter().any(|(field, _)| field == of));
    if is_shared {
        let near = neighbor(tree, parent, name).map(|near| format!("; did you mean `/{near}`?"));
        let unknown = || "; if another package brings it, add that to `depends`".to_owned();
        let remedy = near.or_else(|| (!brought).then(unknown));
        return Ok(remedy.map(|remedy| text + &remedy));
    }
    let made = !recipe.scripts.preinst.is_empty() || !recipe.scripts.postinst.is_empty();
    if made || (brought && !is_ours) {
        return Ok(Some(format!("{text}: a package that it depends on, or its own script, must bring the program")));
    }
    bail!("{text}: add the program to `contents`, or correct the path")
}

/// Whether every server has the program, whatever is installed there.
fn is_everywhere(path: &str) -> bool {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    EVERYWHERE.lines().any(|known| known == path)
}

/// A program of the package in the same directory with a name that is nearly the same.
fn neighbor(tree: &Tree, parent: &str, name: &str) -> Option<String> {
    let below = |path: &str| path.strip_prefix(parent)?.strip_prefix('/').map(str::to_owned);
    let programs = tree.iter().filter(|(_, entry)| entry.kind != Kind::Directory && entry.mode & 0o111 != 0);
    let names: Vec<String> = programs.filter_map(|(path, _)| below(path)).filter(|name| !name.contains('/')).collect();
    nearest(name, &names).map(|near| format!("{parent}/{near}"))
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
        for good in [
            "/usr/bin/web",
            "/bin/web",
            "-/opt/x",
            "-/usr/bin/wep",
            "/usr/bin/perl /opt/x",
            "/bin/kill -HUP $MAINPID",
            "/usr/lib/systemd/systemd-socket-proxyd",
            "/opt/%i/x",
            "web",
        ] {
            assert_eq!(checked(&format!("ExecStart={good}"), 0o755, "").unwrap(), [""; 0], "{good}");
        }
        for program in ["/usr/bin/python3", "/usr/lib/nginx"] {
            let checked = checked(&format!("ExecStart={program}"), 0o755, "depends = [\"other\"]\n");
            assert_eq!(checked.unwrap(), [""; 0], "{program}");
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
    fn a_program_that_nothing_seems_to_bring_is_a_warning() {
        for (program, lines, expected) in [
            (
                "/usr/bin/python3 /x",
                "",
                "ExecStart= runs `/usr/bin/python3`, which is not in the package; if another package brings it, add that \
                 to `depends`",
            ),
            (
                "/usr/lib/x",
                "",
                "ExecStart= runs `/usr/lib/x`, which is not in the package; if another package brings it",
            ),
            ("/usr/bin/wbe", "", "which is not in the package; did you mean `/usr/bin/web`?"),
            ("/usr/bin/wbe", "depends = [\"other\"]\n", "did you mean `/usr/bin/web`?"),
        ] {
            let warnings = checked(&format!("ExecStart={program}"), 0o755, lines).unwrap();
            assert!(warnings.len() == 1 && warnings[0].contains(expected), "{program}: {warnings:?}");
        }
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
