//! Images of changes on their way into an overlay, whose registry serves them under the names that production has for them.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use registry::{Client, Descriptor, Digest, Manifest, Repository, Tag};
use tempfile::NamedTempFile;

use super::layout::Layout;

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
