//! `release plan`: what would be in each package, and what that changes. It builds nothing and needs no bucket.

use std::{
    fmt::Write as _,
    fs::{self, DirEntry},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bucket::{Bucket, Release, ReleaseName, Timestamp};
use clap::Args;
use console::{count, one_line, print, print_json, size};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    checkout::choose,
    deb::read::DebFile,
    find::{Extent, Found},
    inventory::{Difference, Inventory, Missing, show_difference, show_inventory},
    manifest::{Manifest, Package, Prebuilt, Source as PackageSource},
    options::{Options, wait_for},
    source::{Source, identity},
    tree::Walk,
};

const EXAMPLES: &str = "\
Examples:
  release plan                          every package of release.toml
  release plan web                      only `web`
  release plan --json | jq '.[].inventory.files | keys'

Each package is compared with its last release, in the output directory or in the bucket.
What is not there yet is listed as made by the build; any other mistake is an error.";

/// How long the bucket may take to say what the last release is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `release plan`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Plan {
    /// Packages of release.toml to show [default: all]
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
}

/// What is planned for a package.
#[derive(Debug, Serialize)]
struct Planned {
    package: String,
    /// Whether a build command runs first.
    build: Vec<String>,
    inventory: Inventory,
    /// What isn't there yet.
    missing: Vec<Missing>,
    /// The release that it is compared with, and where that is; `None` without any.
    against: Option<Against>,
    /// What couldn't be found out, and why.
    remarks: Vec<String>,
}

/// A release that a plan is compared with.
#[derive(Debug, Serialize)]
struct Against {
    release: ReleaseName,
    place: &'static str,
    difference: Difference,
}

impl Plan {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let manifest = Manifest::read(&options.directory()?)?;
        let packages = choose(&manifest, &self.packages)?;
        let walk = Walk::new(manifest.directory.clone(), options.out(&manifest.directory));
        // One for all packages: they are built from the same state of the repository.
        let commit = Source::of(&walk.directory).map(|source| source.commit.short().to_owned());
        let commit = commit.map_err(|error| format!("no commit: {error:#}"));
        let planned = wait_for(async {
            let (bucket, problem) = match options.open_bucket(Some(&manifest)).await {
                Ok(bucket) => (Some(bucket), None),
                Err(error) => (None, Some(format!("not compared with the bucket: {error:#}"))),
            };
            let mut planned = Vec::new();
            for package in packages {
                let mut plan = plan(&walk, package, &commit)?;
                plan.remarks.extend(problem.clone());
                plan.compare(&walk, package, bucket.as_ref()).await;
                planned.push(plan);
            }
            Ok(planned)
        })?;
        if options.json {
            return print_json(&planned);
        }
        print(&planned.iter().map(text).collect::<Vec<_>>().join("\n"))
    }
}

fn plan(walk: &Walk, package: &Package, commit: &Result<String, String>) -> Result<Planned> {
    let mut remarks = Vec::new();
    let (inventory, missing) = match &package.source {
        PackageSource::Recipe(recipe) => {
            let commit = commit.as_deref().unwrap_or_else(|problem| {
                remarks.push(problem.clone());
                "COMMIT"
            });
            let version = format!("{}+TIME.{commit}", recipe.version);
            let maintainer = recipe.maintainer.clone().or_else(|| identity(&walk.directory)).unwrap_or_else(|| {
                remarks.push("no maintainer: release.toml states none, and git knows no name and address".to_owned());
                "unknown".to_owned()
            });
            Inventory::of_recipe(walk, package, recipe, &version, &maintainer)
                .with_context(|| format!("{}: cannot be planned", package.at()))?
        }
        PackageSource::Prebuilt(of) => prebuilt(walk, package, of, &mut remarks)?,
    };
    let (app, build) = (package.app.to_string(), package.build.clone());
    Ok(Planned { package: app, build, inventory, missing, against: None, remarks })
}

/// A package that is released as it is, with the units and the check of `release.toml`.
fn prebuilt(
    walk: &Walk,
    package: &Package,
    Prebuilt { deb, outside }: &Prebuilt,
    remarks: &mut Vec<String>,
) -> Result<(Inventory, Vec<Missing>)> {
    walk.check_inside(deb, *outside).with_context(|| format!("{}: cannot use `deb`", package.at()))?;
    if let Some(real) = walk.outside(deb) {
        remarks.push(format!("`deb` is `{}`, from outside of the repository", real.display()));
    }
    match walk.file(deb) {
        Ok((path, _)) => {
            let mut inventory = Inventory::of_whole(&DebFile::open(&path)?)?;
            inventory.fields.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("push-"));
            inventory.set_units(package);
            Ok((inventory, Vec::new()))
        }
        Err(error) => {
            let missing = Missing::of(&error, deb.display().to_string(), "/".to_owned());
            let Some(missing) = missing else {
                return Err(error.context(format!("{}: cannot use `deb`", package.at())));
            };
            let mut inventory = Inventory::default();
            inventory.set_units(package);
            Ok((inventory, vec![missing]))
        }
    }
}

impl Planned {
    /// Finds the last release and compares with it; what doesn't work becomes a remark.
    async fn compare(&mut self, walk: &Walk, package: &Package, bucket: Option<&Bucket>) {
        let built = built(walk, package);
        let published = match bucket {
            None => None,
            Some(bucket) => match timeout(PATIENCE, bucket.newest_releases(&package.app, 1)).await {
                Ok(Ok(newest)) => newest.into_iter().next(),
                Ok(Err(error)) => {
                    self.remarks.push(format!("not compared with the bucket: {error}"));
                    None
                }
                Err(_) => {
                    let seconds = PATIENCE.as_secs();
                    self.remarks.push(format!("not compared with the bucket: no answer within {seconds} seconds"));
                    None
                }
            },
        };
        let compared = match (last_built(built, published.as_ref()), published, bucket) {
            (Some(Built { name: built, path, .. }), _, _) => {
                let found = Found::file(&path, Extent::Whole).and_then(|found| found.inventory());
                found.map(|inventory| Some((built, "in the output directory", inventory)))
            }
            (_, Some(published), Some(bucket)) => {
                let name = published.name.clone();
                let found = timeout(PATIENCE, Found::release(bucket, published, Extent::Head)).await;
                let found = found.context("no answer from the bucket").and_then(|found| found?.inventory());
                found.map(|inventory| Some((name, "in the bucket", inventory)))
            }
            _ => Ok(None),
        };
        match compared {
            Ok(Some((release, place, before))) => {
                let difference = Difference::between(&before, &self.inventory);
                self.against = Some(Against { release, place, difference });
            }
            Ok(None) => self.remarks.push("nothing to compare with: there is no release yet".to_owned()),
            Err(error) => self.remarks.push(format!("not compared with the last release: {error:#}")),
        }
    }
}

/// A release in the output directory. It is as old as its file: the time in a name is the word of whoever built it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Built {
    time: Timestamp,
    name: ReleaseName,
    path: PathBuf,
}

/// The releases of a package that were built here.
fn built(walk: &Walk, package: &Package) -> Vec<Built> {
    let entries = fs::read_dir(&walk.out).into_iter().flatten().flatten();
    let release = |entry: DirEntry| {
        let name = ReleaseName::from_stem(entry.file_name().to_str()?.strip_suffix(".deb")?).ok()?;
        let time = Timestamp::try_from(entry.metadata().ok()?.modified().ok()?).ok()?;
        (*name.app() == package.app).then(|| Built { time, name, path: entry.path() })
    };
    entries.filter_map(release).collect()
}

/// The one that was built last, unless something else was published since. What was published is here too, as a rule, where
/// all of it can be compared.
fn last_built(built: Vec<Built>, published: Option<&Release>) -> Option<Built> {
    let same = built.iter().find(|built| published.is_some_and(|published| published.name == built.name)).cloned();
    let last = built.into_iter().max()?;
    match published {
        Some(published) if published.uploaded > last.time => same,
        _ => Some(last),
    }
}

fn text(planned: &Planned) -> String {
    let Planned { package, build, inventory, missing, against, remarks } = planned;
    let field =
        |wanted: &str| inventory.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let version = field("Version").map(|version| format!(" {}", one_line(version))).unwrap_or_default();
    let files = count(inventory.count(), "file");
    let mut text = format!("{package}{version}: {files} with {}\n", size(inventory.bytes()));
    let mut add = |heading: &str, lines: &str| {
        let _ = writeln!(text, "{heading}");
        for line in lines.lines() {
            let _ = writeln!(text, "  {line}");
        }
    };
    if !missing.is_empty() {
        let line = |missing: &Missing| {
            let Missing { source, path, reason } = missing;
            format!("{} -> {} ({})\n", one_line(source), one_line(path), one_line(reason))
        };
        let lines: String = missing.iter().map(line).collect();
        if build.is_empty() {
            add("missing", &lines);
        } else {
            add(&format!("made by the build, {}", one_line(&build.join(" "))), &lines);
        }
    }
    if let Some(Against { release, place, difference }) = against {
        add(&format!("against {release}, {place}"), &show_difference(difference));
    }
    for remark in remarks {
        add(&one_line(remark), "");
    }
    let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{head}\n{}{rest}", show_inventory(inventory))
}
