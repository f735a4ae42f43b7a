//! A `release.toml` to begin with, from what a repository shows: for `release init`.
//!
//! What is found is written as keys, what a person has to decide as comments. It is meant to build as it is.

mod cargo;
mod go;
mod node;
mod python;
mod render;
mod units;
mod web;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bucket::PackageName;

pub(crate) use render::render;

/// What is found of a project, and becomes a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The package.
    pub(crate) name: String,
    /// One line.
    pub(crate) description: String,
    /// What kind of project it is, for people.
    pub(crate) kind: &'static str,
    /// Whether it has machine code.
    pub(crate) is_compiled: bool,
    /// Packages that it needs.
    pub(crate) depends: Vec<&'static str>,
    /// The command that builds it; empty for none.
    pub(crate) build: Vec<String>,
    /// What is installed.
    pub(crate) contents: Vec<Entry>,
    /// What runs it, for the unit that a person may write; `None` if nothing is known to.
    pub(crate) exec_start: Option<String>,
    /// Unit files of the repository.
    pub(crate) units: Vec<UnitFile>,
    /// Directories that the build makes, which git should ignore.
    pub(crate) made: Vec<&'static str>,
}

/// An entry of `contents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Files, with what to leave out.
    Copy {
        /// As in the repository.
        src: String,
        /// On the server.
        dst: String,
        /// Globs.
        exclude: Vec<&'static str>,
        /// Whether it is a program.
        is_program: bool,
    },
    /// A link.
    Link {
        /// On the server.
        link: String,
        /// As it is written into the link.
        to: String,
    },
}

/// A unit file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitFile {
    /// Relative to the repository.
    pub(crate) path: String,
    /// Whether another of the units starts it.
    pub(crate) is_triggered: bool,
}

/// Recognizes a kind of project.
type Kind = fn(&Project) -> Result<Option<Draft>>;

/// What a kind of project is recognized by.
struct Project<'a> {
    directory: &'a Path,
}

impl Draft {
    /// From a directory. Nothing in it is run, and nothing is asked.
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        let project = Project { directory };
        let kinds: [Kind; 4] = [cargo::draft, go::draft, node::draft, python::draft];
        let mut recognized = None;
        for kind in kinds {
            recognized = kind(&project)?;
            if recognized.is_some() {
                break;
            }
        }
        let recognized = recognized.or_else(|| web::draft(&project));
        let mut draft = recognized.unwrap_or_else(|| Self::new(&project, "files", None, None));
        draft.units = units::units(directory);
        if project.has("etc") {
            draft.contents.push(Entry::files("etc/**", "/etc/"));
        }
        Ok(draft)
    }

    /// A package without contents. Its name is that of the directory unless the project has one.
    fn new(project: &Project, kind: &'static str, name: Option<&str>, description: Option<&str>) -> Self {
        let directory = project.directory.file_name().and_then(|name| name.to_str());
        let name = name.or(directory).and_then(package_name).unwrap_or_else(|| "app".to_owned());
        let line = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
        let description =
            description.and_then(line).or_else(|| project.title()).unwrap_or_else(|| format!("The app {name}"));
        let description = description.chars().filter(|c| !c.is_control()).collect();
        Self {
            name,
            description,
            kind,
            is_compiled: false,
            depends: Vec::new(),
            build: Vec::new(),
            contents: Vec::new(),
            exec_start: None,
            units: Vec::new(),
            made: Vec::new(),
        }
    }
}

impl Entry {
    fn files(src: impl Into<String>, dst: impl Into<String>) -> Self {
        Self::Copy { src: src.into(), dst: dst.into(), exclude: Vec::new(), is_program: false }
    }

    fn program(src: impl Into<String>, name: &str) -> Self {
        Self::Copy { src: src.into(), dst: format!("/usr/bin/{name}"), exclude: Vec::new(), is_program: true }
    }
}

impl Project<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The text of a file, if there is such a file.
    fn text(&self, path: &str) -> Result<Option<String>> {
        let path = self.path(path);
        if !path.is_file() {
            return Ok(None);
        }
        fs::read_to_string(&path).map(Some).with_context(|| format!("could not read `{}`", path.display()))
    }

    /// A TOML file of the project, if there is one.
    fn toml(&self, path: &str) -> Result<Option<toml::Table>> {
        let Some(text) = self.text(path)? else { return Ok(None) };
        text.parse().map(Some).with_context(|| format!("`{path}` is not valid TOML"))
    }

    /// The names in a directory of the project, sorted; none if it can't be read.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The first heading of the README.
    fn title(&self) -> Option<String> {
        let text = self.text("README.md").ok()??;
        let heading = text.lines().find_map(|line| line.strip_prefix("# "))?;
        let heading = heading.trim().trim_matches('#').trim();
        (!heading.is_empty()).then(|| heading.to_owned())
    }
}

/// A project's name as the name of a Debian package.
fn package_name(name: &str) -> Option<String> {
    let name = name.rsplit('/').next().unwrap_or_default().to_lowercase();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let name: String = name.chars().map(|c| if good(c) { c } else { '-' }).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    name.parse::<PackageName>().ok().map(|name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_debian_packages() {
        for (name, expected) in [
            ("web", Some("web")),
            ("My_App", Some("my-app")),
            ("@acme/web-front", Some("web-front")),
            ("github.com/acme/tool", Some("tool")),
            ("_x1_", Some("x1")),
            ("x", None),
            ("ä", None),
        ] {
            assert_eq!(package_name(name).as_deref(), expected, "{name}");
        }
    }
}
