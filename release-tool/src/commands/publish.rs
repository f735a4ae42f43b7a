//! `release -m NOTE`: builds and uploads in one go.

use anyhow::Result;
use clap::Args;
use console::UsageError;

use crate::{
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

    pub(crate) fn run(self, options: &Options) -> Result<()> {
        if !self.is_given() {
            let text = "nothing to do: use `release -m \"why\"` to build and upload, or see `release --help`";
            return Err(UsageError::new(text).into());
        }
        let manifest = Manifest::read(&options.directory()?)?;
        wait_for(async {
            // Opened first: nobody wants to wait for a build and learn then that the bucket's URL is wrong.
            let bucket = options.open_bucket(Some(&manifest)).await?;
            let built = self.build.build(options, &manifest)?;
            let paths: Vec<_> = built.into_iter().map(|built| built.path).collect();
            upload_all(&bucket, &paths, options.json).await
        })
    }
}
