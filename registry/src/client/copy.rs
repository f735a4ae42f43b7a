//! An image from one repository to another: its blobs by mounts or over the wire, its manifests with their exact bytes.

use super::{upload::BlobSource, writer::Writer};
use crate::{Error, Manifest, Repository};

/// Most manifests of one image: an index and what it lists.
const MAX_MANIFESTS: usize = 1000;

impl Writer<'_> {
    /// Has a manifest of another repository in this one under its digest, with all that it needs: its blobs, and of an index what
    /// it lists. What is there already is left alone; no tag is touched.
    ///
    /// # Errors
    /// When something that it needs is missing there, or one of the registries fails. What was copied stays.
    pub async fn copy(&self, from: &Repository, manifest: &Manifest) -> Result<(), Error> {
        let malformed = |what: String, reason: &str| Error::Malformed { what, reason: reason.to_owned() };
        let mut found = vec![manifest.clone()];
        let mut next = 0;
        while let Some(parent) = found.get(next) {
            let children = parent.children().to_vec();
            for child in children {
                if found.len() >= MAX_MANIFESTS {
                    return Err(malformed(
                        format!("{from}@{}", manifest.digest()),
                        "it lists more than 1000 manifests",
                    ));
                }
                let listed = self.client.by_digest(from, &child.digest).await?;
                let missing = || malformed(format!("{from}@{}", child.digest), "an index lists it, and it is missing");
                found.push(listed.ok_or_else(missing)?);
            }
            next += 1;
        }
        // What lists comes after what it lists.
        for manifest in found.iter().rev() {
            self.copy_one(from, manifest).await?;
        }
        Ok(())
    }

    async fn copy_one(&self, from: &Repository, manifest: &Manifest) -> Result<(), Error> {
        if self.client.by_digest(self.repository(), manifest.digest()).await?.is_some() {
            return Ok(());
        }
        // A layer that is to be had elsewhere need not be in a registry, and is never fetched from there.
        for blob in manifest.blobs().into_iter().filter(|blob| blob.urls.is_empty()) {
            self.put_blob(blob, BlobSource::Repository(from)).await?;
        }
        self.put(manifest).await
    }
}
