//! Overlays: what a buildset is tried with, as a bucket of its own in a directory of this machine.
//!
//! It is a bucket as every other, which programs use with no change at all. It has a mark besides, by which its directory is
//! known to be one that may be removed, and a bucket to be none that anything is released into.

use std::path::Path;

use futures_util::stream;

use crate::{
    Bucket, Buildset, CandidatePlace, Error, FileBucket, Metadata, ObjectPath, ReleaseMetadata, ReleaseName, Removal,
    ServerDocument, ServerName, Sha256, file, layout,
};

/// A bucket for the time of one try.
#[derive(Debug)]
pub struct Overlay {
    bucket: FileBucket,
}

impl Overlay {
    /// Makes one in a directory that is absent or empty, and marks it. If that fails, [`Overlay::remove`] removes what was made.
    ///
    /// # Errors
    /// [`Error::Unusable`] when there is something in the directory, or it can't be made.
    pub async fn begin(directory: &Path, buildset: &Buildset) -> Result<Self, Error> {
        let at = directory.to_owned();
        let is_new = file::blocking(move || file::overlay::make_empty(&at)).await?;
        let begun = Self::mark(directory, buildset).await;
        if begun.is_err() && is_new {
            // If it has no mark yet it would be nobody's; whatever has one is not empty, and stays.
            let _ = std::fs::remove_dir(directory);
        }
        begun
    }

    /// The overlay that a bucket is, if it is that of this buildset still.
    ///
    /// # Errors
    /// As [`Bucket::overlay`].
    pub async fn of(bucket: &Bucket, buildset: &Buildset) -> Result<Option<Self>, Error> {
        let Bucket::File(file) = bucket else { return Ok(None) };
        let there = bucket.overlay().await?.filter(|there| there.buildset == buildset.buildset);
        Ok(there.map(|_| Self { bucket: file.clone() }))
    }

    async fn mark(directory: &Path, buildset: &Buildset) -> Result<Self, Error> {
        let bucket = FileBucket::open(directory, false).await?;
        // First of all: whoever is killed from here on leaves what can be told from a person's own files.
        bucket.create(&layout::overlay(), buildset.to_json().into(), &Metadata::new()).await?;
        bucket.mark().await?;
        Ok(Self { bucket })
    }

    /// Takes a release of another bucket, with its metadata; its SHA-256, or `None` when it isn't there.
    ///
    /// # Errors
    /// [`Error::Malformed`] when its bytes are not what its metadata says.
    pub async fn take_release(&self, from: &Bucket, release: &ReleaseName) -> Result<Option<Sha256>, Error> {
        self.take(from, &layout::release(release), release, None).await
    }

    /// Takes a candidate as the release that it would be, with its metadata; `None` when it isn't there.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is not of the size and the SHA-256 that were recorded, or its bytes are not what its
    /// metadata says.
    pub async fn take_candidate(
        &self,
        from: &Bucket,
        place: &CandidatePlace,
        recorded: (&Sha256, u64),
    ) -> Result<Option<Sha256>, Error> {
        self.take(from, &place.path(), place.release(), Some(recorded)).await
    }

    async fn take(
        &self,
        from: &Bucket,
        path: &ObjectPath,
        release: &ReleaseName,
        recorded: Option<(&Sha256, u64)>,
    ) -> Result<Option<Sha256>, Error> {
        let Some(found) = from.head(path).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let facts = ReleaseMetadata::from_metadata(release, &found.metadata).map_err(malformed)?;
        let said = [(Some(facts.size), "its metadata says"), (recorded.map(|(_, size)| size), "was recorded")];
        if let Some((Some(size), of)) = said.into_iter().find(|(size, _)| size.is_some_and(|size| size != found.size)) {
            return Err(malformed(format!("it has {} bytes, not {size} as {of}", found.size)));
        }
        if let Some((sha256, _)) = recorded.filter(|(sha256, _)| **sha256 != facts.sha256) {
            return Err(malformed(format!("its SHA-256 is {}, not {sha256} as was recorded", facts.sha256)));
        }
        let to = layout::release(release);
        let to = (&to, &found.metadata);
        match from {
            Bucket::File(from) => self.bucket.take(from, (path, found.generation), to, &facts.sha256).await?,
            Bucket::Gcs(_) => {
                let Some(content) = from.download(path, Some(found.generation), 0).await? else { return Ok(None) };
                let pieces = stream::try_unfold(content, |mut content| async move {
                    Ok(content.chunk().await?.map(|piece| (piece, content)))
                });
                self.bucket.take_streamed(pieces, path, to, &facts.sha256).await?
            }
        };
        Ok(Some(facts.sha256))
    }

    /// Writes what a server should have of it.
    ///
    /// # Errors
    /// As [`Bucket::write_server_document`].
    pub async fn write_document(&self, server: &ServerName, document: &ServerDocument) -> Result<(), Error> {
        let bucket = Bucket::File(self.bucket.clone());
        bucket.write_server_document(server, document, None).await.map(drop)
    }

    /// Removes a directory with all that is in it, if it bears the mark of this buildset. No symbolic link is followed, and what
    /// another mark, or none, says is somebody else's stays.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it can't be told whose it is, or something in it can't be removed: then it keeps its mark.
    pub async fn remove(directory: &Path, buildset: &Buildset) -> Result<Removal, Error> {
        let (directory, id) = (directory.to_owned(), buildset.buildset.clone());
        file::blocking(move || file::overlay::remove(&directory, &id)).await
    }
}
