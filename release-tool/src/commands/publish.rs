//! `release -m NOTE`: builds and uploads in one go.

use anyhow::Result;
use clap::Args;

use crate::{
    cli::{Options, misuse, wait_for},
    commands::{build::What, upload::upload_all},
    manifest::Manifest,
};

/// Arguments of `release` without a subcommand.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    what: What,
}

impl Publish {
    /// Whether anything was typed that belongs to this and not to a subcommand.
    pub(crate) fn is_given(&self) -> bool {
        self.what.note.is_some() || !self.what.packages.is_empty()
    }

    pub(crate) fn run(self, options: &Options) -> Result<()> {
        if !self.is_given() {
            return Err(misuse(
                "what is to be done? `release -m \"why\"` builds and uploads; see `release --help` for the rest",
            ));
        }
        let manifest = Manifest::read(&options.directory()?)?;
        wait_for(async {
            // Opened first: nobody wants to wait for a build and learn then that the bucket's URL is wrong.
            let bucket = options.open_bucket(Some(&manifest)).await?;
            let built = self.what.build(options, &manifest)?;
            let paths: Vec<_> = built.into_iter().map(|built| built.path).collect();
            upload_all(&bucket, &paths, options.json).await
        })
    }
}
