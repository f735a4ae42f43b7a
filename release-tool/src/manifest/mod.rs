//! `release.toml`: what a repository releases.
//!
//! Read and checked whole, before anything is built: what comes out has only good names, paths that stay where they
//! belong, and relations that dpkg understands. Whether the files it names exist is checked by [`crate::tree`].

mod candidates;
mod check;
mod contents;
mod fields;
mod images;
pub(crate) mod keys;
mod mode;
mod pipeline;
mod unit;
mod user;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bucket::{AppName, Architecture, ArtifactType, BucketUrl, Check, PackageName, TopicName};
use toml::Table;

pub(crate) use candidates::Candidates;
pub(crate) use contents::{Content, Id, Owner, Target};
pub(crate) use fields::depend;
pub(crate) use images::Images;
pub(crate) use mode::Mode;
pub(crate) use pipeline::PipelineRules;
pub(crate) use unit::{Restart, Unit};
pub(crate) use user::{MadeUser, User};

use console::{Keys, Mismatch, safe};
use keys::{Place, known};

/// Name of the file that a project is released by.
pub(crate) const FILE: &str = "release.toml";

/// A whole `release.toml`.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The directory it lies in: sources are relative to it, and build commands run in it.
    pub(crate) directory: PathBuf,
    /// `[bucket] url`
    pub(crate) bucket: Option<BucketUrl>,
    /// `[bucket] announce`: where uploads to that bucket are announced.
    pub(crate) announce: Option<TopicName>,
    /// `[candidates]`
    pub(crate) candidates: Option<Candidates>,
    /// `[images]`
    pub(crate) images: Images,
    /// `[pipeline]`
    pub(crate) pipeline: PipelineRules,
    /// The packages, sorted by name.
    pub(crate) packages: Vec<Package>,
}

/// `[package.NAME]`
#[derive(Debug)]
pub(crate) struct Package {
    /// The table's name: the app, and the Debian package unless that is prebuilt.
    pub(crate) app: AppName,
    /// Whether it is built here or prebuilt.
    pub(crate) source: Source,
    /// Run first, in the manifest's directory, if not empty.
    pub(crate) build: Vec<String>,
    /// The systemd units that the release owns or touches.
    pub(crate) units: Vec<Unit>,
    /// `Push-Check:`
    pub(crate) check: Option<Check>,
    /// Which types of artifacts a try takes from the changes ahead.
    pub(crate) requires: Vec<ArtifactType>,
}

/// Origin of a package.
#[derive(Debug)]
pub(crate) enum Source {
    /// Built from a recipe.
    Recipe(Box<Recipe>),
    /// Built elsewhere.
    Prebuilt(Prebuilt),
}

/// A package that was built elsewhere.
#[derive(Debug)]
pub(crate) struct Prebuilt {
    /// The `.deb`, relative to the manifest's directory.
    pub(crate) deb: PathBuf,
    /// Whether it may lie outside of the repository.
    pub(crate) outside: bool,
}

/// The recipe of a package that is built here.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Synopsis, and after the first line end the long description.
    pub(crate) description: String,
    /// `Maintainer:`; whoever builds, by what git knows of them, if it isn't stated.
    pub(crate) maintainer: Option<String>,
    /// `Architecture:`
    pub(crate) architecture: Architecture,
    /// Beginning of `Version:`; build time and commit follow.
    pub(crate) version: String,
    /// `Section:`
    pub(crate) section: String,
    /// `Priority:`
    pub(crate) priority: String,
    /// `Depends:` and the like, field name and value.
    pub(crate) relations: Vec<(&'static str, String)>,
    /// What is installed, besides the units.
    pub(crate) contents: Vec<Content>,
    /// The users that own files of it, besides those of every Debian.
    pub(crate) users: Vec<User>,
    /// Lines added to the maintainer scripts.
    pub(crate) scripts: ScriptLines,
    /// How the data member is compressed.
    pub(crate) compression: Compression,
}

/// A person's own lines for each maintainer script.
#[derive(Debug, Default, Clone)]
pub(crate) struct ScriptLines {
    pub(crate) preinst: Vec<String>,
    pub(crate) postinst: Vec<String>,
    pub(crate) prerm: Vec<String>,
    pub(crate) postrm: Vec<String>,
}

/// How a data member is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Level 3 on all cores: Debian 12, Ubuntu 18.04 and later.
    Zstd,
    /// Level 6 on all cores, for older servers.
    Xz,
}

/// Keys that speak of other packages, and their control fields.
const RELATIONS: [(&str, &str); 9] = [
    ("pre_depends", "Pre-Depends"),
    ("depends", "Depends"),
    ("recommends", "Recommends"),
    ("suggests", "Suggests"),
    ("breaks", "Breaks"),
    ("conflicts", "Conflicts"),
    ("replaces", "Replaces"),
    ("provides", "Provides"),
    ("enhances", "Enhances"),
];

impl Manifest {
    /// Reads `release.toml` in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        match Self::read_if_there(directory)? {
            Some(manifest) => Ok(manifest),
            None => bail!("no `{FILE}` in `{}`: create one, or use -C DIR", directory.display()),
        }
    }

    /// Like [`Manifest::read`], but it may be absent.
    pub(crate) fn read_if_there(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read `{}`", path.display())),
        };
        let manifest = Self::parse(directory, &text)
            .with_context(|| format!("invalid `{}` (`release reference` explains every key)", path.display()))?;
        Ok(Some(manifest))
    }

    /// Reads what a `release.toml` says that is at hand, as that of another commit; files are relative to `directory`.
    pub(crate) fn of_text(directory: &Path, text: &str) -> Result<Self> {
        Self::parse(directory, text)
    }

    /// Which types of artifacts a try of it takes from the changes ahead: what any of its packages requires.
    pub(crate) fn requires(&self) -> Vec<ArtifactType> {
        let mut types = Vec::new();
        for required in self.packages.iter().flat_map(|package| &package.requires) {
            if !types.contains(required) {
                types.push(required.clone());
            }
        }
        types
    }

    fn parse(directory: &Path, text: &str) -> Result<Self> {
        let table: Table = text.parse().map_err(|error| anyhow::anyhow!("not valid TOML: {error}"))?;
        let mut keys = Keys::new("top level", table, &known(Place::Top))?;
        let schema = keys.take("schema", "a whole number, as in schema = 1", |value| {
            value.as_integer().ok_or(Mismatch::Unexpected)
        })?;
        match schema {
            Some(1) => {}
            Some(other) => bail!(
                "top level: `schema` is {other}, but this version of `release` supports only 1: upgrade `release`"
            ),
            None => bail!("top level: `schema` is missing; add schema = 1 as the first line"),
        }
        let (bucket, announce) = match keys.table("bucket")? {
            None => (None, None),
            Some(table) => {
                let mut keys = Keys::new("[bucket]", table, &known(Place::Bucket))?;
                let (url, topic) = (keys.required_text("url", "\"gs://acme-push\"")?, keys.text("announce")?);
                let topic = topic.map(|topic| topic.parse()).transpose().context("[bucket]: invalid `announce`")?;
                (Some(url.parse().context("[bucket]: invalid `url`")?), topic)
            }
        };
        let candidates = match keys.table("candidates")? {
            None => None,
            Some(table) => Some(Candidates::parse(table, bucket.as_ref())?),
        };
        let images = keys.table("images")?.map(Images::parse).transpose()?;
        let registry = |of: &String| of.trim_end_matches('/').to_owned();
        let of_candidates = candidates.as_ref().and_then(|candidates| candidates.registry.as_ref()).map(registry);
        let of_images = images.as_ref().and_then(|images| images.registry.as_ref()).map(registry);
        if of_candidates.is_some() && of_candidates == of_images {
            bail!("[candidates]: `registry` is that of `[images]`: what is not merged has names of its own");
        }
        let pipeline = keys.table("pipeline")?.map(PipelineRules::parse).transpose()?.unwrap_or_default();
        let maintainer = match keys.table("defaults")? {
            None => None,
            Some(table) => Keys::new("[defaults]", table, &known(Place::Defaults))?.text("maintainer")?,
        };
        let mut packages = Vec::new();
        for (name, value) in keys.table("package")?.unwrap_or_default() {
            let at = format!("[package.{}]", safe(&name));
            let toml::Value::Table(table) = value else { bail!("{at}: a package must be a table, written {at}") };
            packages.push(Package::parse(&at, &name, table, maintainer.as_deref())?);
        }
        if packages.is_empty() && images.is_none() {
            bail!("no packages defined: add a table [package.NAME], or [images] if there are only images");
        }
        let images = images.unwrap_or_default();
        Ok(Self { directory: directory.to_owned(), bucket, announce, candidates, images, pipeline, packages })
    }
}

/// `requires`: the types of artifacts by name.
fn requires(at: &str, keys: &mut Keys) -> Result<Vec<ArtifactType>> {
    if !keys.has("requires") {
        return Ok(vec![ArtifactType::Deb]);
    }
    let named = keys.texts("requires")?.into_iter().map(|name| match name.as_str() {
        "deb" => Ok(ArtifactType::Deb),
        "image" => Ok(ArtifactType::Image),
        other => bail!(
            "{at}: invalid `requires`: `{}` is no type of artifacts that is known, as \"deb\" and \"image\" are",
            safe(other)
        ),
    });
    named.collect()
}

impl Package {
    fn parse(at: &str, name: &str, table: Table, maintainer: Option<&str>) -> Result<Self> {
        let of_recipe = known(Place::Recipe);
        let mut keys = Keys::new(at, table, &[known(Place::Package), of_recipe.clone()].concat())?;
        let app: AppName = name.parse().with_context(|| format!("{at}: the table name must be a valid app name"))?;
        let check = check::parse(at, &mut keys)?;
        let requires = requires(at, &mut keys)?;
        let prebuilt = keys.text("deb")?;
        let outside = keys.flag("outside")?;
        let units = unit::parse_all(at, keys.tables("unit")?, prebuilt.is_some())?;
        let build = keys.texts("build")?;
        if build.first().is_some_and(String::is_empty) || build.iter().any(|argument| argument.contains('\0')) {
            bail!("{at}: `build` must begin with a program, as in build = [\"make\", \"all\"]");
        }
        if let Some(deb) = prebuilt {
            if let Some(key) = of_recipe.into_iter().find(|key| keys.has(key)) {
                bail!(
                    "{at}: `{key}` has no effect on a prebuilt package (`deb`), which contains its own: remove the key"
                );
            }
            let prebuilt = Prebuilt { deb: deb.into(), outside: outside.unwrap_or(false) };
            return Ok(Self { app, source: Source::Prebuilt(prebuilt), build, units, check, requires });
        }
        if outside.is_some() {
            bail!(
                "{at}: `outside` has no effect without `deb`: move it to the entry of `contents`, or the unit, that it is about"
            );
        }
        name.parse::<PackageName>()
            .with_context(|| format!("{at}: the table name must also be a valid Debian package name"))?;
        let recipe = Recipe::parse(at, &mut keys, maintainer)?;
        Ok(Self { app, source: Source::Recipe(Box::new(recipe)), build, units, check, requires })
    }

    /// Whether it is built here and says nothing of its maintainer.
    pub(crate) fn lacks_maintainer(&self) -> bool {
        matches!(&self.source, Source::Recipe(recipe) if recipe.maintainer.is_none())
    }

    /// The table of the file that it is read from, for messages.
    pub(crate) fn at(&self) -> String {
        format!("[package.{}]", self.app)
    }
}

impl Recipe {
    fn parse(at: &str, keys: &mut Keys, default_maintainer: Option<&str>) -> Result<Self> {
        let wrong = |key: &'static str| move || format!("{at}: invalid `{key}`");
        let description = keys.required_text("description", "\"Public web front end\"")?;
        let maintainer = keys.text("maintainer")?.or_else(|| default_maintainer.map(str::to_owned));
        let architecture = match keys.text("arch")? {
            Some(arch) => arch.parse(),
            None => fields::this_architecture().with_context(wrong("arch"))?.parse(),
        };
        let architecture = architecture.with_context(wrong("arch"))?;
        let version = keys.text("version")?.unwrap_or_else(|| "0".to_owned());
        let section = keys.text("section")?.unwrap_or_else(|| "misc".to_owned());
        let priority = keys.text("priority")?.unwrap_or_else(|| "optional".to_owned());
        let mut relations = Vec::new();
        for (key, field) in RELATIONS {
            let listed = keys.texts(key)?;
            if !listed.is_empty() {
                relations.push((field, fields::relation(&listed).with_context(wrong(key))?));
            }
        }
        let contents = contents::parse_all(at, keys.tables("contents")?)?;
        let users = user::parse_all(at, keys.tables("user")?, &contents)?;
        if users.iter().any(|user| matches!(user, User::Made(_))) {
            fields::depend(&mut relations, "Pre-Depends", "passwd", "passwd".to_owned());
        }
        let scripts = match keys.table("scripts")? {
            None => ScriptLines::default(),
            Some(table) => ScriptLines::parse(&format!("{at} scripts"), table)?,
        };
        let compression = match keys.text("compression")?.as_deref() {
            None | Some("zstd") => Compression::Zstd,
            Some("xz") => Compression::Xz,
            Some(other) => bail!("{at}: invalid `compression` `{}`: use \"zstd\" or \"xz\"", safe(other)),
        };
        fields::description(&description).with_context(wrong("description"))?;
        maintainer.as_deref().map(fields::maintainer).transpose().with_context(wrong("maintainer"))?;
        fields::version(&version).with_context(wrong("version"))?;
        fields::word(&section).with_context(wrong("section"))?;
        fields::word(&priority).with_context(wrong("priority"))?;
        Ok(Self {
            description,
            maintainer,
            architecture,
            version,
            section,
            priority,
            relations,
            contents,
            users,
            scripts,
            compression,
        })
    }
}

impl ScriptLines {
    fn parse(at: &str, table: Table) -> Result<Self> {
        let mut keys = Keys::new(at, table, &known(Place::Scripts))?;
        let mut lines = |key: &str| -> Result<Vec<String>> {
            let lines = keys.lines(key)?;
            if lines.iter().any(|line| line.contains('\0')) {
                bail!("{at}: `{key}` has a NUL character");
            }
            Ok(lines)
        };
        Ok(Self {
            preinst: lines("preinst")?,
            postinst: lines("postinst")?,
            prerm: lines("prerm")?,
            postrm: lines("postrm")?,
        })
    }
}

/// The recipe of a package `web` with these lines after the needed ones, for tests.
#[cfg(test)]
pub(crate) fn test_recipe(lines: &str) -> Recipe {
    let head = "schema = 1\n[package.web]\ndescription = \"Web\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"\n";
    let manifest = Manifest::parse(Path::new("/project"), &format!("{head}{lines}")).expect("a valid manifest");
    match manifest.packages.into_iter().next().map(|package| package.source) {
        Some(Source::Recipe(recipe)) => *recipe,
        other => panic!("no recipe: {other:?}"),
    }
}

#[cfg(test)]
mod tests;
