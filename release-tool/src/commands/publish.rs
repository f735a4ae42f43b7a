//! `release -m NOTE`: builds and uploads in one go.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use console::{UsageError, nearest, one_line};

use crate::{
    checkout::choose,
    commands::{build::BuildOptions, upload::upload_all},
    manifest::Manifest,
    options::{Options, wait_for},
};

/// Arguments of `release` without a subcommand.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    build: BuildOptions,
}

impl Publish {
    /// Whether anything was typed that belongs to this and not to a subcommand.
    pub(crate) fn is_given(&self) -> bool {
        self.build.note.is_some() || !self.build.packages.is_empty()
    }

    /// Builds and uploads. `commands` are the names that are no packages.
    pub(crate) fn run(self, options: &Options, commands: &[String]) -> Result<()> {
        if !self.is_given() {
            let text = "nothing to do: use `release -m \"why\"` to build and upload, or see `release --help`";
            return Err(UsageError::new(text).into());
        }
        let directory = options.directory()?;
        let manifest = Manifest::read_if_there(&directory)?;
        self.refuse_mistyped_command(manifest.as_ref(), commands)?;
        let manifest = manifest.map_or_else(|| Manifest::read(&directory), Ok)?;
        choose(&manifest, &self.build.packages)?;
        wait_for(async {
            // Opened first: nobody wants to wait for a build and learn then that the bucket's URL is wrong.
            let bucket = options.open_bucket(Some(&manifest)).await?;
            let built = self.build.build(options, &manifest)?;
            let paths: Vec<_> = built.into_iter().map(|built| built.path).collect();
            upload_all(&bucket, options.announce(Some(&manifest)), &paths, options.json)
                .await
                .with_context(|| kept(&paths))
        })
    }

    /// A word that is no package, but nearly a command, is meant as that.
    fn refuse_mistyped_command(&self, manifest: Option<&Manifest>, commands: &[String]) -> Result<()> {
        let Some(word) = self.build.packages.first() else { return Ok(()) };
        let packages = manifest.iter().flat_map(|manifest| &manifest.packages);
        match nearest(word, commands) {
            Some(near) if !packages.map(|package| package.app.as_str()).any(|app| app == word) => {
                let text = format!("no command or package `{}`; did you mean `release {near}`?", one_line(word));
                Err(UsageError::new(text).into())
            }
            _ => Ok(()),
        }
    }
}

/// What becomes of packages that were built and not all uploaded.
fn kept(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| format!("'{}'", path.display())).collect();
    format!(
        "built, but could not upload everything: the packages are kept, and `release upload {}` tries again",
        shown.join(" ")
    )
}
