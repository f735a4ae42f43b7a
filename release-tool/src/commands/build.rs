//! `release build`: from `release.toml` and a git repository to `.deb`s in `dist/`.

use anyhow::Result;
use bucket::{Note, Timestamp};
use clap::Args;
use console::{UsageError, print_json, print_line};

use crate::{
    checkout::{Built, Checkout, Dirty, Packing},
    manifest::Manifest,
    options::Options,
    pack::{parse_note, run_build},
};

const EXAMPLES: &str = "\
Examples:
  release build -m \"try the new parser\"
  release build -m \"try it\" --out /tmp/debs web
  release build -m \"rebuild\" --time 2026-11-20T19:05:02Z web     reproduce the same bytes";

/// Arguments of `release build`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    #[command(flatten)]
    build: BuildOptions,
}

/// What to build, and how to record it.
#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// Release note: what this release changes, kept with it permanently
    #[arg(short = 'm', long, value_name = "NOTE")]
    pub(crate) note: Option<String>,
    /// Build time, as in 2026-11-20T19:05:02Z [default: now]
    #[arg(long, value_name = "TIME", env = "PUSH_TIME", hide_env = true)]
    pub(crate) time: Option<Timestamp>,
    /// Packages of release.toml to build [default: all]
    #[arg(value_name = "PACKAGE")]
    pub(crate) packages: Vec<String>,
}

impl Build {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let manifest = Manifest::read(&options.directory()?)?;
        let built = self.build.build(options, &manifest)?;
        if options.json {
            return print_json(&built);
        }
        built.iter().try_for_each(|built| print_line(built.path.display()))
    }
}

impl BuildOptions {
    /// Builds everything that is asked for, or fails before anything is uploaded.
    pub(crate) fn build(&self, options: &Options, manifest: &Manifest) -> Result<Vec<Built>> {
        // What is typed wrong is said before anything is looked at.
        self.note()?;
        self.build_in(&Checkout::of(options, manifest, &self.packages)?, manifest, Dirty::Recorded)
    }

    /// The release note.
    pub(crate) fn note(&self) -> Result<Note> {
        let Some(note) = &self.note else {
            return Err(UsageError::new("missing release note: add one, as in -m \"fix the login\"").into());
        };
        parse_note(note).map_err(|error| UsageError::new(error.to_string()).into())
    }

    /// Builds what is chosen of a checkout.
    pub(crate) fn build_in(&self, checkout: &Checkout<'_>, manifest: &Manifest, dirty: Dirty) -> Result<Vec<Built>> {
        let packing = Packing::new(checkout, &manifest.directory, self.note()?, self.time)?;
        let mut changes = checkout.changes()?;
        for package in &checkout.packages {
            run_build(manifest, package, packing.file_time)?;
        }
        if checkout.packages.iter().any(|package| !package.build.is_empty()) {
            checkout.ensure_same_commit()?;
            // Outputs of a build are ignored files. If they aren't, git and we agree: it isn't what was committed.
            if changes.is_empty() {
                changes = checkout.changes()?;
            }
        }
        packing.pack(checkout, &changes, dirty)
    }
}
