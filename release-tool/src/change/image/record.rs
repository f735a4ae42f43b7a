//! From an image that was built of a change to the registry of candidates, where it gets a tag of its own, and what is recorded of it.

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{
    ArtifactType, Bucket, BuildId, Change, ChangeId, Commit, Error, Generation, ImageCandidate, ImagePlace, ImageTag,
    RecordedCandidate,
};
use console::note;
use registry::{
    Client, Descriptor, Digest, Manifest, Repository, Writable,
    image::{Image, base_of},
};
use serde_json::Map;

use super::name::Named;
use crate::change::{candidates::ensure_last, record::tell};

/// An image of a change.
pub(crate) struct OfChange<'a> {
    /// The change.
    pub(crate) id: &'a ChangeId,
    /// What is recorded of it.
    pub(crate) change: &'a Change,
    /// The commit that is checked out.
    pub(crate) commit: &'a Commit,
    /// The tree of that.
    pub(crate) tree: &'a Commit,
    /// Which image.
    pub(crate) named: &'a Named,
    /// Who makes a candidate of it.
    pub(crate) by: &'a str,
    /// The candidate bucket.
    pub(crate) record: &'a Bucket,
    /// What speaks to registries.
    pub(crate) client: &'a Client,
}

/// A candidate, and its manifest.
pub(crate) struct Candidate {
    /// As it is recorded of the change.
    pub(crate) recorded: RecordedCandidate,
    /// What lies in the registry.
    pub(crate) manifest: Manifest,
    /// The image that it was built on, as far as that is known.
    pub(crate) base_image: Option<String>,
}

impl OfChange<'_> {
    /// The candidate that the image is, or that it was made before: of what is `built` here, else of what the registry of candidates
    /// has, by the tag that is named, or by what was recorded of it.
    pub(crate) async fn candidate(
        &self,
        to: &Writable,
        built: Option<&Image>,
        base_image: Option<String>,
    ) -> Result<Candidate> {
        let (repository, tag) = (to.repository(), &self.named.tag);
        ensure_own_tag(tag, [self.commit])?;
        let found = match (built.and_then(|image| image.manifests.last()), &self.named.digest) {
            (Some(manifest), _) => Some(manifest.clone()),
            (None, Some(digest)) => self.client.by_digest(repository, digest).await?,
            (None, None) => self.client.by_tag(repository, tag).await?,
        };
        if let (Some(expected), Some(found)) = (&self.named.digest, &found) {
            ensure!(
                found.digest() == expected,
                "the image `{repository}:{tag}` is `{}`, and not `{expected}` as was said: nothing was recorded",
                found.digest()
            );
        }
        if let Some(known) = self.known(repository, found.as_ref()).await? {
            return Ok(known);
        }
        let Some(manifest) = found else {
            let what = match &self.named.digest {
                Some(digest) => format!("{repository}@{digest}"),
                None => format!("{repository}:{tag}"),
            };
            bail!("there is no image `{what}`: push it there, or say by --from where it is");
        };
        ensure_last(self.id, self.change, self.commit)?;
        if let Some(image) = built {
            upload(self.client, to, image).await?;
        }
        self.make(to, manifest, base_image).await
    }

    /// What was made of this image of the last patchset before: of what was `found`, or what was recorded last.
    pub(crate) async fn known(&self, repository: &Repository, found: Option<&Manifest>) -> Result<Option<Candidate>> {
        let is_it = |known: &&RecordedCandidate| {
            known.artifact == ArtifactType::Image
                && (&known.app, known.tag.as_ref()) == (&self.named.app, Some(&self.named.tag))
                && (known.gate, known.patchset) == (false, self.change.patchset)
                && found.is_none_or(|found| *found.digest().sha256() == known.sha256)
                && self.named.digest.as_ref().is_none_or(|digest| *digest.sha256() == known.sha256)
        };
        let Some(known) = self.change.candidates.iter().rfind(is_it) else { return Ok(None) };
        let place = known.image_place(self.id).map_err(anyhow::Error::msg)?;
        let Some((_, read)) = read(self.record, &place).await? else { return Ok(None) };
        if (&read.digest, &read.tree, read.name) != (&known.sha256, self.tree, repository.to_string()) {
            return Ok(None);
        }
        let manifest = self.client.by_tag(repository, &place.temporary()?).await?;
        let manifest = manifest.filter(|manifest| *manifest.digest().sha256() == known.sha256);
        Ok(manifest.map(|manifest| Candidate { recorded: known.clone(), manifest, base_image: read.base_image }))
    }

    /// Makes a candidate of what lies in the repository under its digest: records it, gives it its tag, and tells the change.
    async fn make(&self, to: &Writable, manifest: Manifest, base_image: Option<String>) -> Result<Candidate> {
        let (app, tag) = (self.named.app.clone(), self.named.tag.clone());
        let build = BuildId::random();
        let place = ImagePlace::Built { change: self.id.clone(), build: build.clone(), app, tag };
        let temporary = place.temporary()?;
        let base_image = base_image.or_else(|| base_of(&manifest).map(|base| base.to_string()));
        let image = self.image(&place, to.repository(), (&manifest, &build), (None, base_image.clone()));
        let failed = || format!("could not record `{}`", place.path());
        self.record.record_image_candidate(&place, &image, None).await.with_context(failed)?;
        self.client.writer(to).tag(&temporary, &manifest).await?;
        let size = size(self.client, to.repository(), &manifest).await?;
        let recorded = self.tell(&place, &image, size).await?;
        note(format_args!("recorded {}:{temporary} as {}", to.repository(), manifest.digest()));
        Ok(Candidate { recorded, manifest, base_image })
    }

    /// What is recorded of an image in a repository, which was made a candidate by this build.
    pub(super) fn image(
        &self,
        place: &ImagePlace,
        repository: &Repository,
        (manifest, build): (&Manifest, &BuildId),
        (base, base_image): (Option<Commit>, Option<String>),
    ) -> ImageCandidate {
        ImageCandidate {
            schema: 1,
            app: place.app().clone(),
            change: self.id.clone(),
            patchset: self.change.patchset,
            commit: self.commit.clone(),
            tree: self.tree.clone(),
            base,
            build: build.clone(),
            name: repository.to_string(),
            tag: place.tag().clone(),
            digest: manifest.digest().sha256().clone(),
            media_type: manifest.media_type().to_string(),
            base_image,
            time: self.record.now(),
            who: self.by.to_owned(),
            other: Map::new(),
        }
    }

    /// Has the change say that there is this image of it.
    pub(super) async fn tell(
        &self,
        place: &ImagePlace,
        image: &ImageCandidate,
        size: u64,
    ) -> Result<RecordedCandidate> {
        let candidate = RecordedCandidate {
            artifact: ArtifactType::Image,
            app: image.app.clone(),
            release: image.release()?,
            sha256: image.digest.clone(),
            size,
            path: place.path().to_string(),
            image: Some(format!("{}:{}", image.name, place.temporary()?)),
            tag: Some(image.tag.clone()),
            build: image.build.clone(),
            patchset: image.patchset,
            gate: matches!(place, ImagePlace::Gated { .. }),
            at: self.record.now(),
            landed: None,
            other: Map::new(),
        };
        tell(self.record, self.id, std::slice::from_ref(&candidate), (self.commit, self.by)).await?;
        Ok(candidate)
    }
}

/// Refuses a tag under which an image of a change would count as something else once it is promoted: as that of a commit which is
/// none of its own, or as one that is no release yet.
pub(crate) fn ensure_own_tag<'a>(tag: &ImageTag, own: impl IntoIterator<Item = &'a Commit>) -> Result<()> {
    let is_own = |commit: Commit| own.into_iter().any(|own| *own == commit);
    ensure!(
        tag.as_str().parse::<Commit>().map_or(true, is_own),
        "the tag `{tag}` is a commit, and not the one that the image was built of: nothing was done; give it another tag"
    );
    ensure!(
        !tag.as_str().starts_with("change_"),
        "the tag `{tag}` begins with `change_`, as those of changes that are not promoted do: nothing was done; give it another tag"
    );
    Ok(())
}

/// What is recorded of an image of a change, with the generation.
pub(crate) async fn read(bucket: &Bucket, place: &ImagePlace) -> Result<Option<(Generation, ImageCandidate)>> {
    bucket.image_candidate(place).await.with_context(|| format!("could not read the candidate `{}`", place.path()))
}

/// The same; one that nobody can read is none.
pub(crate) async fn understood(bucket: &Bucket, place: &ImagePlace) -> Result<Option<(Generation, ImageCandidate)>> {
    match bucket.image_candidate(place).await {
        Err(Error::Malformed { .. }) => Ok(None),
        read => read.with_context(|| format!("could not read `{}`", place.path())),
    }
}

/// Puts all of an image into its repository, under its digest alone.
pub(crate) async fn upload(client: &Client, to: &Writable, image: &Image) -> Result<()> {
    let writer = client.writer(to);
    for blob in &image.blobs {
        writer.put_blob(&blob.descriptor, (&blob.origin).into()).await?;
    }
    for manifest in &image.manifests {
        writer.put(manifest).await?;
    }
    Ok(())
}

/// How many bytes all parts of an image have; of what an index lists in an index, the index alone.
async fn size(client: &Client, repository: &Repository, manifest: &Manifest) -> Result<u64> {
    let of = |manifest: &Manifest| {
        let blobs = manifest.blobs().into_iter().map(|blob: &Descriptor| blob.size);
        blobs.fold(manifest.bytes().len() as u64, u64::saturating_add)
    };
    let mut size = of(manifest);
    for child in manifest.children() {
        let child: &Digest = &child.digest;
        if let Some(child) = client.by_digest(repository, child).await? {
            size = size.saturating_add(of(&child));
        }
    }
    Ok(size)
}
