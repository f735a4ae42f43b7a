//! The requests that write one repository. There is none without a [`Writable`].
//!
//! What registries do not do is made up for here. They ignore preconditions on a put, so what was written is read back. Docker's
//! refuses to delete by tag, and to delete by digest takes away every tag with that digest: see [`Writer::remove_tag`].

use std::hash::{BuildHasher as _, RandomState};

use reqwest::{StatusCode, header::CONTENT_TYPE};

use super::{Client, blob::longest, failure::Failure, http::expect, session::Scope, upload::BlobSource};
use crate::{Descriptor, Digest, Error, Manifest, Repository, Tag, Writable};

/// The annotation by which a tag that is to go gets a digest that no other tag has. Its value is the tag and a random number.
const REMOVED: &str = "dev.push.removed";

/// Why a registry deletes nothing, and what to do.
const DELETION_IS_OFF: &str = "deletion is switched off in the registry: switch it on there (`storage.delete.enabled` of Docker's) and run the command again";

/// Whether a manifest is one by which somebody began to remove a tag, and was killed before it was gone.
pub fn is_half_removed(manifest: &Manifest) -> bool {
    manifest.annotations().contains_key(REMOVED)
}

/// What writes one repository.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    pub(super) client: &'a Client,
    to: &'a Writable,
}

impl<'a> Writer<'a> {
    pub(super) fn new(client: &'a Client, to: &'a Writable) -> Self {
        Self { client, to }
    }

    /// Which one it writes.
    pub fn repository(&self) -> &'a Repository {
        self.to.repository()
    }

    /// Has a blob in the repository, however it gets there. One that is there is not sent again.
    pub async fn put_blob(&self, blob: &Descriptor, source: BlobSource<'_>) -> Result<(), Error> {
        let repository = self.repository();
        if self.client.blob_size(repository, &blob.digest).await? == Some(blob.size) {
            return Ok(());
        }
        let timeout = self.client.options.timeout;
        // Each part of an attempt has a limit of its own.
        let longest = longest(blob.size, timeout * 20);
        let put = self.client.patiently(longest, || self.client.upload(repository, blob, source)).await;
        put.map_err(|failure| failure.into_error("upload", &format_args!("{repository}@{}", blob.digest)))
    }

    /// Puts a manifest under its digest alone.
    pub async fn put(&self, manifest: &Manifest) -> Result<(), Error> {
        let (repository, digest) = (self.repository(), manifest.digest());
        let put = self.put_as(&digest.to_string(), manifest).await;
        put.map_err(|failure| failure.into_error("write", &format_args!("{repository}@{digest}")))
    }

    /// Puts a manifest under a tag, whatever that named before, and reads it back.
    ///
    /// # Errors
    /// [`Error::Changed`] when the tag has another digest afterwards: somebody else put it at the same time.
    pub async fn tag(&self, tag: &Tag, manifest: &Manifest) -> Result<(), Error> {
        let repository = self.repository();
        let put = self.put_as(tag.as_str(), manifest).await;
        put.map_err(|failure| failure.into_error("write", &format_args!("{repository}:{tag}")))?;
        self.ensure(tag, Some(manifest.digest())).await
    }

    /// Removes a tag that names this manifest, and no other: those in `kept` have the digests given, before and after. One that
    /// somebody else gave another image stays.
    ///
    /// Where a registry does not delete by tag, the tag first gets a manifest that differs in one annotation, and that is deleted by
    /// its digest, which no other tag has. Whoever is killed in between does it again.
    ///
    /// # Errors
    /// Nothing is removed when a tag in `kept` has another digest, which is [`Error::Changed`], or when the registry deletes nothing:
    /// then the tag names what it named.
    pub async fn remove_tag(&self, tag: &Tag, of: &Digest, kept: &[(Tag, Digest)]) -> Result<(), Error> {
        self.ensure_kept(kept).await?;
        let repository = self.repository();
        let Some(current) = self.client.by_tag(repository, tag).await? else { return Ok(()) };
        if current.digest() != of && !is_half_removed(&current) {
            return self.ensure_kept(kept).await;
        }
        let what = || format!("{repository}:{tag}");
        match self.delete(tag.as_str()).await {
            Err(failure) if failure.is_unsupported() => self.remove_by_digest(tag, &current, kept).await?,
            deleted => deleted.map_err(|failure| failure.into_error("delete", &what()))?,
        }
        self.ensure(tag, None).await?;
        self.ensure_kept(kept).await
    }

    /// Removes a tag by a digest that it alone has: of a manifest that is made here and now. What is under the tag already may be
    /// anybody's, whatever its annotations say, and under other tags too.
    async fn remove_by_digest(&self, tag: &Tag, current: &Manifest, kept: &[(Tag, Digest)]) -> Result<(), Error> {
        let what = || format!("{}:{tag}", self.repository());
        let malformed = |reason: String| Error::Malformed { what: what(), reason };
        let nonce = RandomState::new().hash_one(tag);
        let alone = current.annotated(REMOVED, &format!("{tag} {nonce:016x}"));
        let alone = alone.map_err(|error| malformed(error.to_string()))?;
        if alone.digest() == current.digest() || kept.iter().any(|(_, digest)| digest == alone.digest()) {
            return Err(malformed("no manifest could be made that no other tag has".to_owned()));
        }
        let digest = alone.digest().to_string();
        // Nothing has this digest yet: where nothing is ever deleted, as Docker's registry is if nobody says otherwise, that is
        // found out while the tag still names what it should.
        if let Err(failure) = self.delete(&digest).await {
            let is_off = failure.is_unsupported();
            let failure = if is_off { failure.said_by(DELETION_IS_OFF) } else { failure };
            return Err(failure.into_error("delete", &what()));
        }
        self.tag(tag, &alone).await?;
        self.delete(&digest).await.map_err(|failure| failure.into_error("delete", &what()))
    }

    async fn ensure_kept(&self, kept: &[(Tag, Digest)]) -> Result<(), Error> {
        for (tag, digest) in kept {
            self.ensure(tag, Some(digest)).await?;
        }
        Ok(())
    }

    /// Makes sure that a tag names this, or nothing.
    async fn ensure(&self, tag: &Tag, expected: Option<&Digest>) -> Result<(), Error> {
        let repository = self.repository();
        let found = self.client.by_tag(repository, tag).await?;
        let found = found.as_ref().map(Manifest::digest);
        if found == expected {
            return Ok(());
        }
        let shown =
            |digest: Option<&Digest>| digest.map_or_else(|| "nothing".to_owned(), |digest| format!("`{digest}`"));
        let reason = format!("the tag names {} and should name {}", shown(found), shown(expected));
        Err(Error::Changed { what: format!("{repository}:{tag}"), reason })
    }

    async fn put_as(&self, name: &str, manifest: &Manifest) -> Result<(), Failure> {
        let repository = self.repository();
        let attempt = || async {
            let session = self.client.session(repository.host())?;
            let url = session.url(&format!("{}/manifests/{name}", repository.path()))?;
            let request = |http: &reqwest::Client| {
                let request = http.put(url.clone()).header(CONTENT_TYPE, manifest.media_type().as_str());
                request.body(manifest.bytes().clone())
            };
            let answer = session.send(&self.client.http, &Scope::push(repository.path()), request).await?;
            expect(answer, StatusCode::CREATED).await.map(drop)
        };
        self.client.patiently(self.client.options.timeout, attempt).await
    }

    /// Deletes what has this name. Gone already is fine.
    async fn delete(&self, name: &str) -> Result<(), Failure> {
        let repository = self.repository();
        let attempt = || async {
            let session = self.client.session(repository.host())?;
            let url = session.url(&format!("{}/manifests/{name}", repository.path()))?;
            let scope = Scope::delete(repository.path());
            let answer = session.send(&self.client.http, &scope, |http| http.delete(url.clone())).await?;
            match expect(answer, StatusCode::ACCEPTED).await {
                Err(failure) if failure.is_absent() => Ok(()),
                deleted => deleted.map(drop),
            }
        };
        self.client.patiently(self.client.options.timeout, attempt).await
    }
}
