//! An image from one repository to another: its blobs by mounts or over the wire, its manifests with their exact bytes.

use std::collections::HashSet;

use super::{Client, upload::BlobSource, writer::Writer};
use crate::{Descriptor, Error, Manifest, Repository};

/// Most bytes of all manifests of one image: an index and what it lists.
const MAX_BYTES: usize = 16 << 20;

/// Most manifests of one image.
const MAX_MANIFESTS: usize = 2000;

/// How deep indices may list indices.
const MAX_DEPTH: usize = 8;

impl Writer<'_> {
    /// Has a manifest of another repository in this one under its digest, with all that it needs: its blobs, and of an index what
    /// it lists. What is there already is left alone; no tag is touched.
    ///
    /// # Errors
    /// When something that it needs is missing there, or one of the registries fails. What was copied stays.
    pub async fn copy(&self, from: &Repository, manifest: &Manifest) -> Result<(), Error> {
        for manifest in self.client.with_listed(from, manifest).await? {
            self.copy_one(from, &manifest).await?;
        }
        Ok(())
    }

    async fn copy_one(&self, from: &Repository, manifest: &Manifest) -> Result<(), Error> {
        if self.client.by_digest(self.repository(), manifest.digest()).await?.is_some() {
            return Ok(());
        }
        for blob in self.client.blobs_to_copy(from, manifest).await? {
            self.put_blob(blob, BlobSource::Repository(from)).await?;
        }
        self.put(manifest).await
    }
}

impl Client {
    /// A manifest of a repository with all that it lists, each once, and what lists after what it lists: it is itself the last.
    ///
    /// # Errors
    /// When something that is listed is missing there, is not what the list says, or is too much.
    pub async fn with_listed(&self, from: &Repository, manifest: &Manifest) -> Result<Vec<Manifest>, Error> {
        let too_much = |reason: String| {
            let reason = format!("it and the manifests that it lists {reason}");
            Err(Error::Malformed { what: format!("{from}@{}", manifest.digest()), reason })
        };
        let (mut needed, mut bytes) = (Vec::new(), manifest.bytes().len());
        let mut seen = HashSet::from([manifest.digest().clone()]);
        // From the image down to where it is read, each with how many of its children were looked at.
        let mut path = vec![(manifest.clone(), 0)];
        while let Some((parent, next)) = path.last_mut() {
            let Some(child) = parent.children().get(*next).cloned() else {
                needed.extend(path.pop().map(|(complete, _)| complete));
                continue;
            };
            *next += 1;
            if !seen.insert(child.digest.clone()) {
                continue;
            }
            if path.len() >= MAX_DEPTH {
                return too_much(format!("are nested more than {MAX_DEPTH} deep"));
            }
            if seen.len() > MAX_MANIFESTS {
                return too_much(format!("are more than {MAX_MANIFESTS}"));
            }
            let listed = self.listed(from, &child).await?;
            bytes += listed.bytes().len();
            if bytes > MAX_BYTES {
                return too_much(format!("have more than {MAX_BYTES} bytes"));
            }
            path.push((listed, 0));
        }
        Ok(needed)
    }

    /// A manifest that an index lists, if it is what that says.
    async fn listed(&self, from: &Repository, child: &Descriptor) -> Result<Manifest, Error> {
        let malformed =
            |reason: &str| Error::Malformed { what: format!("{from}@{}", child.digest), reason: reason.to_owned() };
        let listed = self.by_digest(from, &child.digest).await?;
        let listed = listed.ok_or_else(|| malformed("an index lists it, and it is missing"))?;
        if listed.media_type().as_str() != child.media_type.as_str() || listed.bytes().len() as u64 != child.size {
            return Err(malformed("an index lists it with another media type or size"));
        }
        Ok(listed)
    }

    /// The blobs that whoever copies a manifest from a repository needs. A layer that nobody may distribute need not be there, and
    /// is never fetched from elsewhere.
    ///
    /// # Errors
    /// When the registry fails.
    pub async fn blobs_to_copy<'m>(
        &self,
        from: &Repository,
        manifest: &'m Manifest,
    ) -> Result<Vec<&'m Descriptor>, Error> {
        let mut blobs = Vec::new();
        for blob in manifest.blobs() {
            if !blob.media_type.is_not_distributed() || self.blob_size(from, &blob.digest).await?.is_some() {
                blobs.push(blob);
            }
        }
        Ok(blobs)
    }
}
