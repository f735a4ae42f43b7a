//! From a built `.deb` to the bucket. All there is to know is inside the package.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use bucket::{
    Announcement, AppName, Bucket, Error, PubSubOptions, ReleaseMetadata, ReleaseName, SourceFile, Topic, TopicName,
};
use console::{size, warning};

use crate::{
    deb::{read::DebFile, release::Described},
    progress::Progress,
};

/// Has watchers of channels look at once. That it failed is a warning: the releases are there, and watchers poll.
pub(crate) async fn announce(name: &TopicName, apps: BTreeSet<AppName>) {
    if apps.is_empty() {
        return;
    }
    if let Err(error) = send(name, apps.iter().map(Announcement::of_upload).collect()).await {
        let later = "the release is there, and watchers of channels find it at their next poll";
        warning(format_args!("could not announce the upload to `{name}`: {error:#}; {later}"));
    }
}

/// The same of an image of a repository of git, which is in its registry.
pub(crate) async fn announce_image(name: &TopicName, image: &str, tag: &str, repo: &str) {
    let announced = async {
        if repo.is_empty() {
            bail!("the repository has no `origin`");
        }
        send(name, vec![Announcement::of_build(image, tag, repo)]).await
    };
    if let Err(error) = announced.await {
        let later = "the image is there, and watchers of channels find it at their next poll";
        warning(format_args!("could not announce the image to `{name}`: {error:#}; {later}"));
    }
}

async fn send(name: &TopicName, messages: Vec<Vec<u8>>) -> Result<()> {
    let options = PubSubOptions::from_env(|key| std::env::var(key).ok())?;
    let topic = Topic::open(name.clone(), &options).map_err(|reason| anyhow!(reason))?;
    Ok(topic.publish(&messages).await?)
}

/// Uploads a release, unless it is there.
pub(crate) async fn upload(
    bucket: &Bucket,
    deb: &SourceFile,
    release: &ReleaseName,
    metadata: &ReleaseMetadata,
    progress: Option<Progress>,
) -> Result<()> {
    if let Some(new) = bucket.mark().await.context("could not mark the bucket")? {
        console::note(new);
    }
    let show = |done| progress.iter().for_each(|progress| progress.at(done));
    let uploaded = bucket.upload_release(release, deb, metadata, &show).await;
    drop(progress);
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
