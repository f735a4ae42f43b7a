//! From a package of `release.toml` to its `.deb`: what the control file says, and what goes in.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use bucket::{Control, Note, PackageFacts, Provenance, ReleaseFields, ReleaseName, ReleaseParts, Timestamp, UnitName};

use crate::{
    builder::Builder,
    deb::{
        self, Deb,
        read::DebFile,
        release::Described,
        scripts::{PlannedUnit, scripts},
    },
    elf::{self, Glibc},
    manifest::{Manifest, Package, Prebuilt, Recipe, Source as PackageSource, Unit, depend},
    progress::Progress,
    source::Source,
    tree::{Kind, Tree, Walk},
    unit_check,
    unit_file::UnitFile,
};

/// What all packages of one build have in common.
#[derive(Debug)]
pub(crate) struct BuildContext {
    /// The state of the repository it is built from.
    pub(crate) source: Source,
    /// Built with changes that aren't committed.
    pub(crate) dirty: bool,
    /// Who maintains packages that don't say it themselves; those are built with one only.
    pub(crate) maintainer: Option<String>,
    /// Who builds, for the release name.
    pub(crate) builder: Builder,
    /// Build time in whole seconds, for the release name and the version.
    pub(crate) time: Timestamp,
    /// The time of the files inside, in seconds since 1970.
    pub(crate) file_time: u64,
    /// The release note of the person who builds.
    pub(crate) note: Note,
}

/// Reads a note as it was given on the command line.
pub(crate) fn parse_note(note: &str) -> Result<Note> {
    if note.trim().is_empty() {
        bail!("empty release note: describe the release in a few words, as in -m \"fix the login\"");
    }
    note.parse().map_err(|_| {
        anyhow!("the release note is longer than {} bytes: shorten it, details belong in the commit message", Note::MAX)
    })
}

/// Runs a package's build command, if it has one, in the manifest's directory. What it prints goes to stderr.
pub(crate) fn run_build(manifest: &Manifest, package: &Package, file_time: u64) -> Result<()> {
    let Some((program, arguments)) = package.build.split_first() else { return Ok(()) };
    let command = package.build.join(" ");
    console::note(format_args!("building {}: {command}", package.app));
    let status = Command::new(program)
        .args(arguments)
        .current_dir(&manifest.directory)
        .env("SOURCE_DATE_EPOCH", file_time.to_string())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .with_context(|| format!("{}: could not run the build command `{program}`", package.at()))?;
    if !status.success() {
        bail!("{}: build command `{command}` failed: {status}", package.at());
    }
    Ok(())
}

impl BuildContext {
    /// The name of a package's release.
    pub(crate) fn name(&self, package: &Package) -> Result<ReleaseName> {
        let Builder { user, host } = self.builder.clone();
        let commit = self.source.commit.clone();
        Ok(ReleaseName::new(&ReleaseParts { app: package.app.clone(), user, host, time: self.time, commit })?)
    }

    /// Where its `.deb` goes.
    pub(crate) fn path(&self, walk: &Walk, package: &Package) -> Result<PathBuf> {
        Ok(walk.out.join(format!("{}.deb", self.name(package)?.stem())))
    }

    /// `{version or 0}+{YYYYMMDDHHMMSS}.{12 hex of commit}`, which grows with time.
    fn version(&self, version: &str) -> String {
        let time = self.time.strftime("%Y%m%d%H%M%S");
        let dirty = if self.dirty { ".dirty" } else { "" };
        format!("{version}+{time}.{}{dirty}", self.source.commit.short())
    }

    /// Builds a package's `.deb` into the directory `out`.
    pub(crate) fn pack(&self, walk: &Walk, package: &Package) -> Result<(ReleaseName, PathBuf)> {
        let (name, path) = (self.name(package)?, self.path(walk, package)?);
        match &package.source {
            PackageSource::Recipe(recipe) => self.pack_recipe(walk, package, recipe, &name, &path),
            PackageSource::Prebuilt(prebuilt) => self.pack_prebuilt(walk, package, prebuilt, &name, &path),
        }
        .with_context(|| format!("{}: could not build the package", package.at()))?;
        Ok((name, path))
    }

    fn pack_recipe(
        &self,
        walk: &Walk,
        package: &Package,
        recipe: &Recipe,
        name: &ReleaseName,
        path: &Path,
    ) -> Result<()> {
        let tree = Tree::lay_out(walk, recipe, &package.units)?;
        let units = plan_units(walk, &package.units)?;
        for text in unit_check::check(&tree, recipe)?.into_iter().chain(emptiness(&tree)) {
            console::warning(format_args!("{}: {text}", package.at()));
        }
        let scripts = scripts(&units, recipe, &tree);
        for (script, text) in &scripts {
            check_syntax(script, text)?;
        }
        let control = self.control(package, recipe, &tree, name)?;
        let deb = Deb {
            control: &control,
            scripts: &scripts,
            tree: &tree,
            time: self.file_time,
            compression: recipe.compression,
        };
        let progress = Progress::begin(&format!("packing {}", package.app), tree.bytes());
        deb.write(path, &|done| progress.at(done))?;
        // Its many small parts are given back beside what comes next.
        let _ = thread::Builder::new().spawn(move || drop(tree));
        Ok(())
    }

    fn pack_prebuilt(
        &self,
        walk: &Walk,
        package: &Package,
        prebuilt: &Prebuilt,
        name: &ReleaseName,
        path: &Path,
    ) -> Result<()> {
        let (deb, metadata) = walk.file(&prebuilt.deb).context("cannot use `deb`")?;
        walk.check_inside(&prebuilt.deb, prebuilt.outside).context("cannot use `deb`")?;
        let original = DebFile::open(&deb)?;
        let mut control = original.control.clone();
        PackageFacts::read(&control).with_context(|| format!("`{}` is not a binary package", deb.display()))?;
        self.write_fields(&mut control, package, name)?;
        let progress = Progress::begin(&format!("packing {}", package.app), metadata.len());
        deb::prebuilt::write(&original, &control, path, &|done| progress.at(done))
    }

    /// The control file of a package that is built here.
    pub(crate) fn control(
        &self,
        package: &Package,
        recipe: &Recipe,
        tree: &Tree,
        name: &ReleaseName,
    ) -> Result<Control> {
        let maintainer = recipe.maintainer.as_ref().or(self.maintainer.as_ref()).context("`maintainer` is missing")?;
        let mut control = control_fields(package, recipe, tree, &self.version(&recipe.version), maintainer)?;
        self.write_fields(&mut control, package, name)?;
        Ok(control)
    }

    /// Writes the control fields that make a package a release, and checks that it could be uploaded.
    pub(crate) fn write_fields(&self, control: &mut Control, package: &Package, name: &ReleaseName) -> Result<()> {
        let fields = ReleaseFields {
            release: name.clone(),
            units: package.units.iter().flat_map(Unit::owned).collect(),
            check: package.check.clone(),
        };
        let Source { repo, branch, .. } = &self.source;
        let provenance =
            Provenance { dirty: self.dirty, note: self.note.clone(), repo: repo.clone(), branch: branch.clone() };
        fields.write(&provenance, control)?;
        // What can't be uploaded isn't built.
        Described::read(&Control::parse(control.to_string().as_bytes())?).map(drop)
    }
}

/// The control fields of a package that is built here, but for those that make it a release.
pub(crate) fn control_fields(
    package: &Package,
    recipe: &Recipe,
    tree: &Tree,
    version: &str,
    maintainer: &str,
) -> Result<Control> {
    let mut control = Control::default();
    control.push("Package", package.app.as_str())?;
    control.push("Version", version)?;
    control.push("Architecture", recipe.architecture.as_str())?;
    control.push("Maintainer", maintainer)?;
    control.push("Installed-Size", &tree.installed_kib().to_string())?;
    let mut relations = recipe.relations.clone();
    if let Some(glibc) = needed_glibc(tree)? {
        depend_on_libc(&mut relations, glibc);
    }
    for (field, value) in &relations {
        control.push(field, value)?;
    }
    control.push("Section", &recipe.section)?;
    control.push("Priority", &recipe.priority)?;
    control.push_description(&recipe.description)?;
    Ok(control)
}

/// What to say of a package with nothing in it but directories.
pub(crate) const EMPTY: &str = "empty package: it installs no file; list what it should install in `contents`";

/// [`EMPTY`], if a package is.
pub(crate) fn emptiness(tree: &Tree) -> Option<String> {
    let has_files = tree.iter().any(|(_, entry)| entry.kind != Kind::Directory);
    (!has_files).then(|| EMPTY.to_owned())
}

/// The oldest glibc that all programs and libraries of a package run with; `None` when none of them needs it.
fn needed_glibc(tree: &Tree) -> Result<Option<Glibc>> {
    let mut newest = None;
    for (path, entry) in tree.iter() {
        if let Kind::File { source, .. } = &entry.kind
            && (entry.mode & 0o111 != 0 || path.contains(".so"))
        {
            newest = newest.max(elf::glibc(source)?);
        }
    }
    Ok(newest)
}

/// Adds to `Depends` the libc6 that has a glibc, unless the manifest names one: a program that was built on a newer
/// system then doesn't reach a server on which it can't start. `libgcc_s` comes with libc6; other libraries are the
/// manifest's to name.
fn depend_on_libc(relations: &mut Vec<(&'static str, String)>, glibc: Glibc) {
    depend(relations, "Depends", "libc6", format!("libc6 (>= {glibc})"));
}

/// Decides what the manifest leaves open: a unit is enabled if its file has an `[Install]` section.
pub(crate) fn plan_units(walk: &Walk, units: &[Unit]) -> Result<Vec<PlannedUnit>> {
    let plan = |unit: &Unit| {
        let mut enable = false;
        if let Some(file) = &unit.file {
            let (path, _) = walk.file(file).with_context(|| format!("unit `{}`: cannot use `file`", unit.name))?;
            let parse = || UnitFile::parse(unit.name.kind(), &unit_check::read(&path)?);
            let invalid = || format!("unit `{}`: the file `{}` is invalid", unit.name, path.display());
            let installable = parse().with_context(invalid)?.is_installable();
            if unit.enable == Some(true) && !installable {
                bail!(
                    "unit `{}` cannot be enabled, because its file has no section `[Install]`: \
                     add one with `WantedBy=multi-user.target`, or remove `enable = true`",
                    unit.name
                );
            }
            enable = unit.enable.unwrap_or(installable);
        }
        let planned = |name: &UnitName| {
            // Of a template that has instances, the keys are theirs. It is never started itself.
            let (template, own) = (name.is_template(), unit.instances.is_empty());
            let (enable, start) = (enable && (own || !template), unit.start && !template);
            PlannedUnit { name: name.clone(), ours: unit.file.is_some(), enable, start, restart: unit.restart }
        };
        Ok(std::iter::once(&unit.name).chain(&unit.instances).map(planned).collect::<Vec<_>>())
    };
    Ok(units.iter().map(plan).collect::<Result<Vec<_>>>()?.concat())
}

/// Lets `sh` read a script without running it, so that a syntax error is found here and not on a server.
pub(crate) fn check_syntax(name: &str, text: &str) -> Result<()> {
    let mut sh = Command::new("sh");
    sh.arg("-n").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut sh = sh.spawn().context("could not run `sh`")?;
    let written = sh.stdin.take().context("`sh` has no input")?.write_all(text.as_bytes());
    let output = sh.wait_with_output().context("could not run `sh`")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = words.trim();
        bail!("script {name} is not valid shell: {}", words.strip_prefix("sh: ").unwrap_or(words));
    }
    // It ends early only where something is wrong.
    written.context("could not hand a script to `sh`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(dirty: bool) -> BuildContext {
        let source = Source {
            top: PathBuf::from("/project"),
            commit: "7e0ff6059e653eb75a36efb621d0fd66d1ced433".parse().unwrap(),
            commit_time: 0,
            branch: String::new(),
            repo: String::new(),
        };
        let builder = Builder { user: "dev".to_owned(), host: "build-1".to_owned() };
        let time = "2026-11-20T19:05:02Z".parse().unwrap();
        BuildContext { source, dirty, maintainer: None, builder, time, file_time: 0, note: "why".parse().unwrap() }
    }

    #[test]
    fn versions_grow_with_time_and_tell_dirt() {
        assert_eq!(context(false).version("0"), "0+20261120190502.7e0ff6059e65");
        assert_eq!(context(true).version("2:1.0"), "2:1.0+20261120190502.7e0ff6059e65.dirty");
    }

    #[test]
    fn notes_are_needed_and_bounded() {
        assert!(parse_note(" \n").is_err());
        assert!(parse_note(&"x".repeat(3000)).is_err());
        assert_eq!(parse_note(" why \n").unwrap().as_str(), "why");
    }

    #[test]
    fn libc_is_added_unless_it_is_named() {
        let glibc = elf::glibc(Path::new("/bin/true")).unwrap().unwrap();
        let depends = |relations: &[(&'static str, &str)]| {
            let mut relations: Vec<_> = relations.iter().map(|(field, value)| (*field, (*value).to_owned())).collect();
            depend_on_libc(&mut relations, glibc);
            relations
        };
        let libc = format!("libc6 (>= {glibc})");
        assert_eq!(depends(&[]), [("Depends", libc.clone())]);
        assert_eq!(depends(&[("Depends", "git")]), [("Depends", format!("git, {libc}"))]);
        assert_eq!(depends(&[("Breaks", "libc6 (<< 2)")]).len(), 2);
        for named in ["git, libc6", "libc6 (>= 2.28)", "musl | libc6:any"] {
            assert_eq!(depends(&[("Depends", named)]), [("Depends", named.to_owned())]);
        }
    }

    #[test]
    fn scripts_must_be_shell() {
        check_syntax("postinst", "if true; then :; fi\n").unwrap();
        assert!(check_syntax("postinst", "if true; then\n").unwrap_err().to_string().contains("postinst"));
    }
}
