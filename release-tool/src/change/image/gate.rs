//! An image of a change in production's registry, under a tag by which nothing is deployed, until it is promoted.

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{Bucket, Commit, Error, Generation, ImageCandidate, ImagePlace, RecordedCandidate};
use console::note;
use registry::{Repository, Writable};

use super::record::{Candidate, OfChange, read};
use crate::change::candidates::ensure_last;

/// Where an image is put that is about to be merged.
pub(crate) struct Gate<'a> {
    /// The bucket of the releases, where that is recorded.
    pub(crate) production: &'a Bucket,
    /// Its repository there.
    pub(crate) to: &'a Writable,
    /// What it is built on.
    pub(crate) base: Commit,
}

impl OfChange<'_> {
    /// The tag that the image has in production's registry until it is promoted.
    pub(crate) fn gated_place(&self) -> ImagePlace {
        let (change, app, tag) = (self.id.clone(), self.named.app.clone(), self.named.tag.clone());
        ImagePlace::Gated { change, app, tag }
    }

    /// Puts a candidate into production's registry, unless it is there. What that has already is mounted, the rest comes once.
    pub(crate) async fn gate(
        &self,
        from: &Repository,
        built: &Candidate,
        gate: &Gate<'_>,
    ) -> Result<RecordedCandidate> {
        let Gate { production, to, .. } = gate;
        let (place, manifest) = (self.gated_place(), &built.manifest);
        let (temporary, repository) = (place.temporary()?, to.repository());
        let there = read(production, &place).await?;
        let is_it = |image: &ImageCandidate| {
            (&image.digest, image.patchset, &image.tree)
                == (manifest.digest().sha256(), self.change.patchset, self.tree)
        };
        let (seen, image) = match there {
            Some((_, image)) if is_it(&image) => (None, Some(image)),
            Some((generation, _)) => (Some(generation), None),
            None => {
                let tagged = self.client.digest(repository, &temporary).await?;
                ensure!(
                    tagged.is_none_or(|tagged| tagged == *manifest.digest()),
                    "`{repository}:{temporary}` is another image, of which nothing is recorded for `{}`: nothing was written; give \
                     yours another tag, or remove that one",
                    self.id
                );
                (None, None)
            }
        };
        if let Some(image) = &image
            && let Some(known) = self.change.candidates.iter().rfind(|known| known.path == place.path().as_str())
            && known.sha256 == image.digest
            && self.client.digest(repository, &temporary).await?.as_ref() == Some(manifest.digest())
        {
            return Ok(known.clone());
        }
        ensure_last(self.id, self.change, self.commit)?;
        let writer = self.client.writer(to);
        writer.copy(from, manifest).await?;
        let image = match image {
            Some(image) => image,
            None => self.record_gated(gate, (&place, seen), built).await?,
        };
        writer.tag(&temporary, manifest).await?;
        // Whoever recorded another image meanwhile may have given it the tag before.
        if read(production, &place).await?.is_none_or(|(_, there)| there.digest != image.digest) {
            bail!(concurrently(&place));
        }
        let recorded = self.tell(&place, &image, built.recorded.size).await?;
        note(format_args!("gated {repository}:{temporary} as {}", manifest.digest()));
        Ok(recorded)
    }

    /// Records which image it is, over what was read.
    async fn record_gated(
        &self,
        Gate { production, to, base }: &Gate<'_>,
        (place, seen): (&ImagePlace, Option<Generation>),
        built: &Candidate,
    ) -> Result<ImageCandidate> {
        let more = (Some(base.clone()), built.base_image.clone());
        let image = self.image(place, to.repository(), &built.manifest, more);
        if let Some(new) = production.mark().await.context("could not mark the bucket")? {
            note(new);
        }
        match production.record_image_candidate(place, &image, seen).await {
            Ok(_) => Ok(image),
            Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => bail!(concurrently(place)),
            Err(error) => Err(error).with_context(|| format!("could not record `{}`", place.path())),
        }
    }
}

fn concurrently(place: &ImagePlace) -> String {
    format!("`{}` was recorded by somebody else at the same time: run the command again", place.path())
}
