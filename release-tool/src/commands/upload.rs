//! `release upload`: from a built `.deb` to the bucket. All it needs to know is inside the package.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use bucket::{
    Announcement, AppName, Bucket, Error, PubSubOptions, ReleaseMetadata, ReleaseName, SourceFile, Topic, TopicName,
};
use clap::Args;
use console::{print_json, print_line, size, warning};
use serde::Serialize;

use crate::{
    deb::{read::DebFile, release::Described},
    options::{Options, wait_for},
    progress::Progress,
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

/// Has watchers of channels look at once. That it failed is a warning: the releases are there, and watchers poll.
pub(crate) async fn announce(name: &TopicName, apps: BTreeSet<AppName>) {
    if apps.is_empty() {
        return;
    }
    let announced = async {
        let options = PubSubOptions::from_env(|key| std::env::var(key).ok())?;
        let topic = Topic::open(name.clone(), &options).map_err(|reason| anyhow!(reason))?;
        let messages: Vec<Vec<u8>> = apps.iter().map(Announcement::of_upload).collect();
        anyhow::Ok(topic.publish(&messages).await?)
    };
    if let Err(error) = announced.await {
        let later = "the release is there, and watchers of channels find it at their next poll";
        warning(format_args!("could not announce the upload to `{name}`: {error:#}; {later}"));
    }
}

async fn upload_each(bucket: &Bucket, debs: &[PathBuf], json: bool, uploaded: &mut Vec<Uploaded>) -> Result<()> {
    for deb in debs {
        let (source, release, metadata) = describe(deb)?;
        upload(bucket, &source, &release, &metadata).await?;
        if !json {
            print_line(&release)?;
        }
        uploaded.push(Uploaded { release, metadata });
    }
    Ok(())
}

async fn upload(bucket: &Bucket, deb: &SourceFile, release: &ReleaseName, metadata: &ReleaseMetadata) -> Result<()> {
    if let Some(new) = bucket.mark().await.context("could not mark the bucket")? {
        console::note(new);
    }
    let uploaded = {
        let progress = Progress::begin(&format!("uploading {}", release.stem()), metadata.size);
        bucket.upload_release(release, deb, metadata, &|done| progress.at(done)).await
    };
    let shown = deb.path.display();
    match uploaded {
        Ok(_) => console::note(format_args!("uploaded {release} ({})", size(metadata.size))),
        Err(Error::AlreadyExists { .. }) => {
            // An upload whose answer was lost looks like this when it is tried again.
            let there = bucket.release(release).await.with_context(|| format!("could not read `{release}`"))?;
            let Some(there) = there else {
                bail!("`{release}` was in the bucket a moment ago and is gone: retry with `release upload '{shown}'`");
            };
            if !there.metadata.is_ok_and(|facts| facts.sha256 == metadata.sha256) {
                bail!(
                    "`{release}` already exists in the bucket with different content, and releases are immutable: \
                     build again to get a new name"
                );
            }
            console::note(format_args!("{release} is already in the bucket, with the same content"));
        }
        Err(error @ Error::Unavailable { .. }) => {
            return Err(error)
                .with_context(|| format!("could not upload `{release}`: retry with `release upload '{shown}'`"));
        }
        Err(error) => return Err(error).with_context(|| format!("could not upload `{release}`")),
    }
    Ok(())
}

/// What is said of a release: read from inside the package, and its size and hash; and the file that this is said of.
pub(crate) fn describe(deb: &Path) -> Result<(SourceFile, ReleaseName, ReleaseMetadata)> {
    let opened = DebFile::open(deb)?;
    let described = Described::read(&opened.control).with_context(|| format!("cannot upload `{}`", deb.display()))?;
    let source = SourceFile::read(deb).with_context(|| format!("could not read `{}`", deb.display()))?;
    let (release, metadata) = described.into_metadata(source.sha256.clone(), source.size);
    Ok((source, release, metadata))
}
