//! Reading images that are elsewhere. Nothing is kept of them, and nothing is ever written there.
//!
//! Whoever has not sent the password reads as nobody: what a registry gives to a credential alone can't reach them, whatever they
//! ask for.

use anyhow::{Result, anyhow};
use axum::body::Body;
use futures_util::stream;
use registry::{Client, ClientOptions, Descriptor, Digest, Error, Manifest, MediaType, Repository, Tag};

use super::caller::Caller;

/// Those who read other registries.
pub(super) struct Through {
    /// With no credential at all.
    nobody: Client,
    /// With those of whoever runs this.
    owner: Client,
}

/// What is asked of another registry.
pub(super) enum Wanted {
    /// What a tag names.
    Tag(Tag),
    /// What has this digest.
    Digest(Digest),
}

impl Through {
    /// As `owner` it reads for those with the password.
    pub(super) fn new(owner: Client) -> Result<Self> {
        let nobody = Client::new(ClientOptions::default()).map_err(|reason| anyhow!(reason))?;
        Ok(Self { nobody, owner })
    }

    fn of(&self, caller: Caller) -> &Client {
        if caller == Caller::Owner { &self.owner } else { &self.nobody }
    }

    /// A manifest.
    pub(super) async fn manifest(
        &self,
        caller: Caller,
        from: &Repository,
        wanted: &Wanted,
    ) -> Result<Option<Manifest>, Error> {
        match wanted {
            Wanted::Tag(tag) => self.of(caller).by_tag(from, tag).await,
            Wanted::Digest(digest) => self.of(caller).by_digest(from, digest).await,
        }
    }

    /// The tags of a repository.
    pub(super) async fn tags(&self, caller: Caller, from: &Repository) -> Result<Vec<Tag>, Error> {
        self.of(caller).tags(from).await
    }

    /// How many bytes a blob has.
    pub(super) async fn size(&self, caller: Caller, from: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        self.of(caller).blob_size(from, digest).await
    }

    /// A blob as it comes. If it has another digest, it is cut off before its end.
    pub(super) async fn blob(
        &self,
        caller: Caller,
        from: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<Body, Error> {
        let media_type: MediaType = MediaType::LAYER.parse().expect("a media type");
        let blob = self.of(caller).blob(from, &Descriptor::new(media_type, digest.clone(), size)).await?;
        let parts = stream::try_unfold((Some(blob), None), |(mut blob, mut held)| async move {
            // One part is held back, so that the last comes only once all of them were summed.
            while let Some(coming) = &mut blob {
                match (coming.chunk().await?, held.take()) {
                    (Some(next), None) => held = Some(next),
                    (Some(next), Some(before)) => return Ok::<_, Error>(Some((before, (blob, Some(next))))),
                    (None, last) => return Ok(last.map(|last| (last, (None, None)))),
                }
            }
            Ok(None)
        });
        Ok(Body::from_stream(parts))
    }
}
