//! `release upload`: from a built `.deb` to the bucket. All it needs to know is inside the package.

use std::path::PathBuf;

use anyhow::Result;
use bucket::{Bucket, ReleaseMetadata, ReleaseName, TopicName};
use clap::Args;
use console::{print_json, print_line};
use serde::Serialize;

use crate::{
    deb::read::DebFile,
    options::{Options, wait_for},
    progress::Progress,
    upload::{announce, describe, upload},
};

const EXAMPLES: &str = "\
Examples:
  release upload dist/web:*.deb
  release upload --bucket file:///srv/push dist/web:dev@build-1:2026-11-20T19:05:02Z:7e0f….deb

Uploading the same file again has no effect; a different file under the same name is refused.";

/// Arguments of `release upload`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Upload {
    /// Packages built by `release build`
    #[arg(value_name = "DEB", required = true)]
    debs: Vec<PathBuf>,
}

/// A package that was uploaded, for `--json`.
#[derive(Debug, Serialize)]
struct Uploaded {
    release: ReleaseName,
    #[serde(flatten)]
    metadata: ReleaseMetadata,
}

impl Upload {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let debs: Vec<PathBuf> = self.debs.iter().map(|deb| options.directory.join(deb)).collect();
        for deb in &debs {
            // Whatever happened to it since it was built: what cannot be unpacked is no release.
            DebFile::open(deb)?.check_data()?;
        }
        wait_for(async {
            let manifest = options.find_manifest()?;
            let bucket = options.open_bucket(manifest.as_ref()).await?;
            upload_all(&bucket, options.announce(manifest.as_ref()), &debs, options.json).await
        })
    }
}

/// Uploads packages one after the other and prints each release name as soon as the release is there. What was uploaded is
/// announced, also when the next one can't be.
pub(crate) async fn upload_all(bucket: &Bucket, topic: Option<&TopicName>, debs: &[PathBuf], json: bool) -> Result<()> {
    let mut uploaded = Vec::new();
    let done = upload_each(bucket, debs, json, &mut uploaded).await;
    if let Some(topic) = topic {
        let apps = uploaded.iter().map(|uploaded| uploaded.release.app().clone()).collect();
        announce(topic, apps).await;
    }
    done?;
    if json { print_json(&uploaded) } else { Ok(()) }
}

async fn upload_each(bucket: &Bucket, debs: &[PathBuf], json: bool, uploaded: &mut Vec<Uploaded>) -> Result<()> {
    for deb in debs {
        let (source, release, metadata) = describe(deb)?;
        let progress = Progress::begin(&format!("uploading {}", release.stem()), metadata.size);
        upload(bucket, &source, &release, &metadata, Some(progress)).await?;
        if !json {
            print_line(&release)?;
        }
        uploaded.push(Uploaded { release, metadata });
    }
    Ok(())
}
