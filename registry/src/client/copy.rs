//! An image from one repository to another: its blobs by mounts or over the wire, its manifests with their exact bytes.

use super::{upload::BlobSource, writer::Writer};
use crate::{Descriptor, Error, Manifest, Repository};

/// Most bytes of all manifests of one image: an index and what it lists.
const MAX_BYTES: usize = 16 << 20;

impl Writer<'_> {
    /// Has a manifest of another repository in this one under its digest, with all that it needs: its blobs, and of an index what
    /// it lists. What is there already is left alone; no tag is touched.
    ///
    /// # Errors
    /// When something that it needs is missing there, or one of the registries fails. What was copied stays.
    pub async fn copy(&self, from: &Repository, manifest: &Manifest) -> Result<(), Error> {
        let mut found = vec![manifest.clone()];
        let (mut next, mut bytes) = (0, manifest.bytes().len());
        while let Some(parent) = found.get(next) {
            let children = parent.children().to_vec();
            for child in children {
                // What is listed twice goes behind its last parent: it is copied before all of them.
                if let Some(at) = found.iter().position(|known| *known.digest() == child.digest) {
                    if at > next {
                        let known = found.remove(at);
                        found.push(known);
                    }
                    continue;
                }
                let listed = self.listed(from, &child).await?;
                bytes += listed.bytes().len();
                if bytes > MAX_BYTES {
                    let reason = format!("it and the manifests that it lists have more than {MAX_BYTES} bytes");
                    return Err(Error::Malformed { what: format!("{from}@{}", manifest.digest()), reason });
                }
                found.push(listed);
            }
            next += 1;
        }
        // What lists comes after what it lists.
        for manifest in found.iter().rev() {
            self.copy_one(from, manifest).await?;
        }
        Ok(())
    }

    /// A manifest that an index lists, if it is what that says.
    async fn listed(&self, from: &Repository, child: &Descriptor) -> Result<Manifest, Error> {
        let malformed =
            |reason: &str| Error::Malformed { what: format!("{from}@{}", child.digest), reason: reason.to_owned() };
        let listed = self.client.by_digest(from, &child.digest).await?;
        let listed = listed.ok_or_else(|| malformed("an index lists it, and it is missing"))?;
        if listed.media_type().as_str() != child.media_type.as_str() || listed.bytes().len() as u64 != child.size {
            return Err(malformed("an index lists it with another media type or size"));
        }
        Ok(listed)
    }

    async fn copy_one(&self, from: &Repository, manifest: &Manifest) -> Result<(), Error> {
        if self.client.by_digest(self.repository(), manifest.digest()).await?.is_some() {
            return Ok(());
        }
        for blob in manifest.blobs() {
            // A layer that nobody may distribute need not be in a registry, and is never fetched from elsewhere.
            if blob.media_type.is_not_distributed() && self.client.blob_size(from, &blob.digest).await?.is_none() {
                continue;
            }
            self.put_blob(blob, BlobSource::Repository(from)).await?;
        }
        self.put(manifest).await
    }
}
