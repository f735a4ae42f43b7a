//! An image of a change in production's registry, under a tag by which nothing is deployed, until it is promoted.

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{Bucket, Commit, Error, Generation, ImageCandidate, ImagePlace, RecordedCandidate};
use console::note;
use registry::{Digest, Repository, Writable, is_half_removed};

use super::record::{Candidate, OfChange, read};
use crate::change::{candidates::ensure_last, record::read_known};

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
    /// Puts a candidate into production's registry, unless it is there. What that has already is mounted, the rest comes once.
    ///
    /// What was gated under its tag before keeps its record, so whoever is interrupted leaves a change that can be promoted: with the
    /// image that it names. Where another image has the tag, that is named by the change until this one is, and keeps it until then:
    /// it may be merged meanwhile. Whoever is killed in between gives the same command again, also when it was merged.
    pub(crate) async fn gate(
        &self,
        from: &Repository,
        built: &Candidate,
        gate: &Gate<'_>,
    ) -> Result<RecordedCandidate> {
        let Gate { production, to, .. } = gate;
        let manifest = &built.manifest;
        let place = self.gated_place(manifest.digest());
        let (temporary, repository) = (place.temporary()?, to.repository());
        let is_it = |image: &ImageCandidate| {
            (image.patchset, &image.tree, &image.name) == (self.change.patchset, self.tree, &repository.to_string())
        };
        let (seen, image) = match read(production, &place).await? {
            Some((_, image)) if is_it(&image) => (None, Some(image)),
            there => (there.map(|(generation, _)| generation), None),
        };
        let tagged = self.client.by_tag(repository, &temporary).await?;
        let is_tagged = tagged.as_ref().is_some_and(|tagged| tagged.digest() == manifest.digest());
        let other = tagged.filter(|tagged| !is_tagged && !is_half_removed(tagged));
        if let Some(other) = &other {
            ensure!(
                read(production, &self.gated_place(other.digest())).await?.is_some(),
                "`{repository}:{temporary}` is another image, of which nothing is recorded for `{}`: nothing was written; give yours \
                 another tag, or remove that one",
                self.id
            );
        }
        let is_told =
            |known: &&RecordedCandidate| known.path == place.path().as_str() && known.patchset == self.change.patchset;
        let known = self.change.candidates.iter().find(is_told).filter(|_| image.is_some()).cloned();
        let writer = self.client.writer(to);
        let recorded = match known {
            Some(known) if is_tagged => return Ok(known),
            // All of it is there but its tag.
            Some(known) => known,
            None => {
                ensure_last(self.id, self.change, self.commit)?;
                writer.copy(from, manifest).await?;
                let image = match image {
                    Some(image) => image,
                    None => self.record_gated(gate, (&place, seen), built).await?,
                };
                // A registry may take what has no tag for garbage.
                if other.is_none() {
                    writer.tag(&temporary, manifest).await?;
                }
                self.tell(&place, &image, built.recorded.size).await?
            }
        };
        // Again: somebody else may have given it to theirs before this one was told.
        writer.tag(&temporary, manifest).await?;
        // Whoever gated another image meanwhile may have told that, and given it the tag before.
        ensure!(
            read_known(self.record, self.id).await?.candidates.iter().any(|known| is_told(&known)),
            concurrently(&place)
        );
        note(format_args!("gated {repository}:{temporary} as {}", manifest.digest()));
        Ok(recorded)
    }

    fn gated_place(&self, digest: &Digest) -> ImagePlace {
        let (change, app, tag) = (self.id.clone(), self.named.app.clone(), self.named.tag.clone());
        ImagePlace::Gated { change, app, tag, digest: digest.sha256().clone() }
    }

    /// Records what was built, over what was read.
    async fn record_gated(
        &self,
        Gate { production, to, base }: &Gate<'_>,
        (place, seen): (&ImagePlace, Option<Generation>),
        built: &Candidate,
    ) -> Result<ImageCandidate> {
        let more = (Some(base.clone()), built.base_image.clone());
        let image = self.image(place, to.repository(), (&built.manifest, &built.recorded.build), more);
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
    format!(
        "`{}:{}` of `{}` was gated by somebody else at the same time: run the command again",
        place.app(),
        place.tag(),
        place.change()
    )
}
