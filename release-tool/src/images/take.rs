//! Images of changes on their way into an overlay, whose registry serves them under the names that production has for them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bucket::{ChangeId, Sha256};
use registry::{Client, Descriptor, Digest, Manifest, Repository, Tag};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::layout::Layout;
use crate::shared_files::{open_to_read, write_public};

/// Beside the images of an overlay, those that were taken when it was made: all others there are the try's own.
const TAKEN: &str = "registry/taken.json";

/// Most bytes of that.
const MAX_TAKEN: u64 = 1 << 20;

/// An image that was taken into an overlay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The app and the tag that it is to have: `web:1234`.
    pub(crate) image: String,
    /// The sum of its manifest.
    pub(crate) sha256: Sha256,
    /// The change that it was built from.
    pub(crate) change: ChangeId,
    /// Which version of it.
    pub(crate) patchset: u32,
}

/// Where the images of an overlay are.
fn images(overlay: &Path) -> PathBuf {
    overlay.join("registry").join("images")
}

/// Puts an image of a repository into an overlay, with all that it needs.
pub(crate) async fn take(
    client: &Client,
    (from, manifest): (&Repository, &Manifest),
    (overlay, name, tag): (&Path, &Repository, &Tag),
) -> Result<()> {
    let directory = images(overlay);
    let layout = Layout::open(&directory)?;
    // What it lists first: whoever is killed leaves nothing that lacks a part.
    for part in client.with_listed(from, manifest).await? {
        for blob in client.blobs_to_copy(from, &part).await? {
            if layout.blob(&blob.digest)?.is_none_or(|(_, size)| size != blob.size) {
                let file = fetched(client, from, blob, &directory).await?;
                layout.keep(file, &blob.digest)?;
            }
        }
        let tag = (part.digest() == manifest.digest()).then_some(tag);
        layout.put(&name.to_string(), tag, &part)?;
    }
    Ok(())
}

/// Notes which images were taken into an overlay, once they are there.
pub(crate) fn note_taken(overlay: &Path, taken: &[Taken]) -> Result<()> {
    if taken.is_empty() {
        return Ok(());
    }
    write_public(&overlay.join(TAKEN), &serde_json::to_string_pretty(taken)?)
}

/// The images that were taken into an overlay.
pub(crate) fn taken(overlay: &Path) -> Result<Vec<Taken>> {
    let read = || {
        let file = match open_to_read(&overlay.join(TAKEN)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut content = Vec::new();
        file.take(MAX_TAKEN).read_to_end(&mut content)?;
        anyhow::Ok(serde_json::from_slice(&content)?)
    };
    read().with_context(|| format!("could not read which images were taken into the overlay `{}`", overlay.display()))
}

/// Whether an overlay has an image under a name.
pub(crate) fn has(overlay: &Path, (name, tag): (&Repository, &Tag), digest: &Digest) -> Result<bool> {
    let directory = images(overlay);
    if !directory.is_dir() {
        return Ok(false);
    }
    let found = Layout::open(&directory)?.by_tag(&name.to_string(), tag)?;
    Ok(found.is_some_and(|found| found.digest() == digest))
}

/// A blob in a file, with the digest that it should have.
async fn fetched(client: &Client, from: &Repository, blob: &Descriptor, directory: &Path) -> Result<NamedTempFile> {
    let failed = || format!("could not write the blob `{}`", blob.digest);
    let mut file = NamedTempFile::new_in(directory).with_context(failed)?;
    let mut opened = client.blob(from, blob).await?;
    while let Some(chunk) = opened.chunk().await? {
        file.write_all(&chunk).with_context(failed)?;
    }
    Ok(file)
}
