//! The checks of `release check`: mistakes that build without an error and cause harm on a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::Path,
    process::Command,
};

use anyhow::Result;
use bucket::ReleaseFields;
use md5::{Digest as _, Md5};
use serde::Serialize;

use crate::{
    deb::{read::DebFile, release::Described, scripts::scripts},
    elf,
    manifest::{Package, Prebuilt, Recipe, Source, Unit},
    pack::{BuildContext, EMPTY, check_syntax, emptiness, plan_units},
    tree::{Kind, Tree, Walk, sources},
    unit_check,
};

/// A problem in a manifest or a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether it is an error or a warning.
    pub(crate) level: Level,
    /// The package of `release.toml`, or the file, that has it.
    pub(crate) of: String,
    /// The problem in one sentence, and the remedy where there is one.
    pub(crate) text: String,
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// The package cannot be built or installed.
    Error,
    /// The package works, but probably not as intended.
    Warning,
    /// There is nothing to repair, but a reviewer wants to know.
    Note,
}

/// Checks a package of `release.toml`; with a context also what only whoever builds it knows.
pub(crate) fn package(walk: &Walk, package: &Package, context: Option<&BuildContext>, findings: &mut Vec<Finding>) {
    let of = package.at();
    for text in units_started_twice(&package.units) {
        findings.push(Finding { level: Level::Warning, of: of.clone(), text });
    }
    let mut is_refused = false;
    for source in sources(package) {
        let Some(real) = walk.outside(source.path) else { continue };
        let finding = match walk.check_inside(source.path, source.outside) {
            Ok(()) => {
                let text = format!("{} takes `{}` from outside of the repository", source.at, real.display());
                Finding { level: Level::Note, of: of.clone(), text }
            }
            Err(error) => {
                is_refused = true;
                Finding { level: Level::Error, of: of.clone(), text: format!("{}: {error:#}", source.at) }
            }
        };
        findings.push(finding);
    }
    // No build makes it better.
    if is_refused {
        return;
    }
    let checked = match &package.source {
        Source::Recipe(recipe) => self::recipe(walk, package, recipe, context),
        Source::Prebuilt(prebuilt) => self::prebuilt(walk, package, prebuilt, context),
    };
    match checked {
        Ok(texts) => {
            findings.extend(texts.into_iter().map(|text| Finding { level: Level::Warning, of: of.clone(), text }));
        }
        Err(error) if package.build.is_empty() => {
            findings.push(Finding { level: Level::Error, of, text: format!("{error:#}") });
        }
        Err(error) => {
            let text = format!("some checks were skipped, the package is not built yet: {error:#}");
            findings.push(Finding { level: Level::Warning, of, text });
        }
    }
}

fn recipe(walk: &Walk, package: &Package, recipe: &Recipe, context: Option<&BuildContext>) -> Result<Vec<String>> {
    let tree = Tree::lay_out(walk, recipe, &package.units)?;
    if let Some(context) = context {
        context.control(package, recipe, &tree, &context.name(package)?)?;
    }
    let units = plan_units(walk, &package.units)?;
    for (name, text) in scripts(&units, recipe, &tree) {
        check_syntax(name, &text)?;
    }
    let mut texts = unit_check::check(&tree, recipe)?;
    texts.extend(emptiness(&tree));
    texts.extend(
        package
            .units
            .iter()
            .filter_map(|unit| walk.file(unit.file.as_ref()?).ok())
            .flat_map(|(path, _)| ignored(&path)),
    );
    for (path, entry) in tree.iter() {
        let top = path.split('/').next().unwrap_or_default();
        if ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].contains(&top) && path == top {
            texts.push(format!("`/{top}` is a link to `/usr/{top}` on servers: use paths below `/usr/{top}`"));
        }
        if matches!(entry.kind, Kind::Link { .. }) {
            continue;
        }
        if entry.mode & 0o002 != 0 && entry.mode & 0o1000 == 0 {
            texts.push(format!("`/{path}` is world-writable (mode {:04o})", entry.mode));
        }
        if entry.mode & 0o6000 != 0 {
            texts.push(format!("`/{path}` is setuid or setgid (mode {:04o})", entry.mode));
        }
        if let Kind::File { source, .. } = &entry.kind
            && let Some(arch) = elf::architecture(source)?
            && arch != recipe.architecture.as_str()
        {
            texts.push(format!("`/{path}` is compiled for {arch}, but the package is for {}", recipe.architecture));
        }
    }
    Ok(texts)
}

fn prebuilt(
    walk: &Walk,
    package: &Package,
    prebuilt: &Prebuilt,
    context: Option<&BuildContext>,
) -> Result<Vec<String>> {
    let (path, _) = walk.file(&prebuilt.deb)?;
    let deb = DebFile::open(&path)?;
    if let Some(context) = context {
        context.write_fields(&mut deb.control.clone(), package, &context.name(package)?)?;
    }
    let (mut texts, mut is_empty) = (Vec::new(), true);
    for entry in tar::Archive::new(deb.data()?).entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        is_empty &= kind.is_dir();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./");
        texts.extend(unlisted_unit(path, &package.units));
        if kind.is_file() && unit_check::unit_of(path).is_some() {
            let mut beginning = Vec::new();
            (&mut entry).take(unit_check::LARGEST + 1).read_to_end(&mut beginning)?;
            texts.extend(unit_check::check_shipped(path, beginning).err().map(|wrong| format!("{wrong:#}")));
        }
    }
    texts.extend(is_empty.then(|| EMPTY.to_owned()));
    Ok(texts)
}

/// What systemd itself says of a unit file, where it is there: it knows every key, and this program none.
fn ignored(path: &Path) -> Vec<String> {
    let verify = Command::new("systemd-analyze").args(["--man=no", "verify"]).arg(path).env("LC_ALL", "C").output();
    let said = verify.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    // Lines about the file have its path and their number; others are about what isn't installed here.
    let place = format!("{}:", path.display());
    let about_it = said.lines().filter_map(|line| line.strip_prefix(&place));
    about_it
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .map(|rest| format!("systemd says of `{}`, line {rest}", path.display()))
        .collect()
}

/// A unit that a prebuilt package has and that `release.toml` doesn't list, so that nobody would restart or watch it.
fn unlisted_unit(path: &str, units: &[Unit]) -> Option<String> {
    let (name, _) = unit_check::unit_of(path).filter(|(_, is_whole)| *is_whole)?;
    let is_listed = units.iter().any(|unit| unit.name.as_str() == name);
    (!is_listed).then(|| {
        format!(
            "the package has the unit `{name}`, which is not listed, so that it is neither restarted nor watched: add \
             a unit with name = \"{name}\", and start = false if something else starts it"
        )
    })
}

/// Services that their timer or socket starts, and that would be started at the installation too.
fn units_started_twice(units: &[Unit]) -> Vec<String> {
    let triggers: BTreeMap<&str, &Unit> = units
        .iter()
        .filter(|unit| ["timer", "socket", "path"].contains(&unit.name.kind()))
        .map(|unit| (unit.name.stem(), unit))
        .collect();
    let services = units.iter().filter(|unit| unit.start && unit.name.kind() == "service");
    services
        .filter_map(|unit| Some((unit, triggers.get(unit.name.stem())?)))
        .map(|(unit, trigger)| {
            format!(
                "`{}` is started both by `{}` and on installation: set enable = false and start = false for it",
                unit.name, trigger.name
            )
        })
        .collect()
}

/// Checks a built package, its whole content included.
pub(crate) fn deb(path: &Path, findings: &mut Vec<Finding>) {
    let of = path.display().to_string();
    let mut find = |level, text: String| findings.push(Finding { level, of: of.clone(), text });
    let mut error = |text: String| find(Level::Error, text);
    let deb = match DebFile::open(path) {
        Ok(deb) => deb,
        Err(unreadable) => return error(format!("{unreadable:#}")),
    };
    if let Err(wrong) = Described::read(&deb.control) {
        error(format!("{wrong:#}"));
    }
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let text = deb.files.get(script).map(|text| String::from_utf8_lossy(text));
        // Scripts in other languages are fine, and not for sh to judge.
        if let Some(text) = text.filter(|text| text.starts_with("#!/bin/sh"))
            && let Err(wrong) = check_syntax(script, &text)
        {
            error(format!("{wrong:#}"));
        }
    }
    match contents(&deb) {
        Ok(Contents { errors, warnings, is_empty }) => {
            errors.into_iter().for_each(error);
            let empty = is_empty.then(|| EMPTY.to_owned());
            warnings.into_iter().chain(empty).for_each(|text| find(Level::Warning, text));
        }
        Err(damaged) => error(format!("damaged data member: {damaged:#}")),
    }
}

/// What was found in a data member.
struct Contents {
    errors: Vec<String>,
    warnings: Vec<String>,
    /// Whether it has nothing but directories.
    is_empty: bool,
}

/// Compares the data member with what the control member says of it, and reads the unit files in it.
fn contents(deb: &DebFile) -> Result<Contents> {
    let mut sums = lines(deb, "md5sums");
    let (mut texts, mut warnings, mut is_empty) = (Vec::new(), Vec::new(), true);
    let owned = ReleaseFields::read(&deb.control).ok().flatten().map(|fields| fields.units).unwrap_or_default();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeMap::new());
    let mut archive = tar::Archive::new(deb.data()?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        if path.split('/').any(|segment| segment == "..") || path.starts_with('/') {
            texts.push(format!("path `{path}` escapes the package root"));
        }
        let kind = entry.header().entry_type();
        is_empty &= kind.is_dir();
        let mut sum = None;
        if kind.is_file() {
            let unit = unit_check::unit_of(&path).map(|(name, _)| name);
            let mut beginning = Vec::new();
            if unit.is_some() {
                (&mut entry).take(unit_check::LARGEST + 1).read_to_end(&mut beginning)?;
            }
            let mut hasher = Md5::new();
            hasher.update(&beginning);
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match entry.read(&mut buffer)? {
                    0 => break,
                    read => hasher.update(&buffer[..read]),
                }
            }
            sum = Some(hex::encode(hasher.finalize()));
            if let Some(name) = unit
                && let Err(wrong) = unit_check::check_shipped(&path, beginning)
            {
                // The agent restarts what the release says is its own.
                let is_owned = owned.iter().any(|unit| unit.name.as_str() == name);
                let level = if is_owned { &mut texts } else { &mut warnings };
                level.push(format!("{wrong:#}"));
            }
        } else if kind.is_hard_link() {
            let to = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
            sum = found.get(to.trim_start_matches("./")).cloned();
            if sum.is_none() {
                texts.push(format!("`/{path}` is a hard link to `{to}`, which is no file before it in the package"));
            }
        }
        if let Some(sum) = sum {
            if sums.remove(&path).is_some_and(|expected| expected != sum) {
                texts.push(format!("MD5 sum mismatch for `/{path}`"));
            }
            found.insert(path.clone(), sum);
        }
        if !seen.insert(path.clone()) {
            texts.push(format!("duplicate path `/{path}`"));
        }
    }
    // The tar ended before its compressed stream did, whose checksum comes last.
    archive.into_inner().finish()?;
    texts.extend(sums.into_keys().map(|path| format!("`/{path}` has an MD5 sum, but is missing from the package")));
    let conffiles = deb.files.get("conffiles").map(|text| String::from_utf8_lossy(text).into_owned());
    for conffile in conffiles.iter().flat_map(|text| text.lines()).map(|line| line.trim_start_matches('/')) {
        if !seen.contains(conffile) {
            texts.push(format!("conffile `/{conffile}` is missing from the package"));
        }
    }
    Ok(Contents { errors: texts, warnings, is_empty })
}

/// `md5sums` as path and sum.
fn lines(deb: &DebFile, file: &str) -> BTreeMap<String, String> {
    let text = deb.files.get(file).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    let pair = |line: &str| line.split_once("  ").map(|(sum, path)| (path.to_owned(), sum.to_owned()));
    text.lines().filter_map(pair).collect()
}
