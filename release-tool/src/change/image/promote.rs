//! An image that was tried becomes that of the merged commit: its manifest gets tags, and no layer moves.
//!
//! Each step may be repeated: it is recorded as the image of the commit as which its change landed, tagged, told to its change, and
//! then what made it a candidate goes. Whoever is killed in between gives the same command again.

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{
    AppName, Bucket, Change, ChangeId, Commit, Error, Image, ImageCandidate, ImagePlace, ImageSummary, PromotedImage,
    RecordedCandidate,
};
use console::note;
use futures_util::TryStreamExt as _;
use registry::{Digest, Manifest, Repository, Tag, Writable};
use serde_json::Map;

use super::{
    judge::{Left, left},
    record::{ensure_own_tag, read},
    remove::{Registries, elsewhere, lies_in, remove},
};
use crate::change::line::Line;

/// How often a tag that several promotions move is brought in line with the newest of them.
const TRIES: usize = 20;

/// An image on its way.
pub(crate) struct Promotion<'a> {
    /// As the change has it.
    pub(crate) recorded: &'a RecordedCandidate,
    /// What is left to do.
    pub(crate) left: Left,
    place: ImagePlace,
    to: Writable,
    /// Its manifest, if something is left to do.
    manifest: Option<Manifest>,
}

/// What promotions of images need.
pub(crate) struct Promoting<'a> {
    /// The change.
    pub(crate) id: &'a ChangeId,
    /// What is recorded of it.
    pub(crate) change: &'a Change,
    /// The bucket of the releases.
    pub(crate) production: &'a Bucket,
    /// The registries.
    pub(crate) registries: &'a Registries,
    /// Who promotes.
    pub(crate) by: &'a str,
}

impl<'a> Promoting<'a> {
    /// Reads what is there of a candidate, and says what is left to do. Nothing is written.
    pub(crate) async fn judge(
        &self,
        recorded: &'a RecordedCandidate,
        line: impl FnOnce() -> Result<&'a Line>,
    ) -> Result<Promotion<'a>> {
        let place = recorded.image_place(self.id).map_err(anyhow::Error::msg)?;
        let to = self.registries.writable(&place)?;
        let candidate = read(self.production, &place).await?;
        let image = match &recorded.landed {
            Some(landed) => self.image(place.app(), landed).await?,
            None => None,
        };
        let left = left((self.id, self.change), recorded, (candidate, image.as_ref()), line)?;
        let manifest = match &left {
            Left::Tag { candidate, landed, .. } => Some(self.found(&to, (candidate, landed)).await?),
            Left::Nothing { .. } => None,
        };
        Ok(Promotion { recorded, left, place, to, manifest })
    }

    /// The manifest of a candidate, where nothing stands in its way.
    async fn found(&self, to: &Writable, (candidate, landed): (&ImageCandidate, &Commit)) -> Result<Manifest> {
        let (repository, client) = (to.repository(), self.registries.client()?);
        ensure!(lies_in(candidate, repository), "{}", elsewhere(candidate, repository));
        let digest = Digest::from(candidate.digest.clone());
        let manifest = client.by_digest(repository, &digest).await?.with_context(|| {
            format!("there is no image `{repository}@{digest}` any more: what is left is an image of the merged commit")
        })?;
        ensure_own_tag(&candidate.tag, [&candidate.commit, landed])?;
        // What a commit's image is, is said once; another tag is only taken from an image that was promoted with it.
        for tag in [landed.into(), candidate.tag.clone()] {
            let Some(found) = client.digest(repository, &tag).await?.filter(|found| *found != digest) else { continue };
            let images = self.images(&candidate.app, repository).await?;
            ensure!(
                with_tag(&images, &tag).any(|image| image.digest == *found.sha256()),
                "`{repository}:{tag}` is another image already, which was not promoted with that tag and is never written over: \
                 nothing was done"
            );
        }
        if let Some(image) = self.image(&candidate.app, landed).await? {
            ensure_same(&image, &self.image_of(candidate, landed))?;
        }
        Ok(manifest)
    }

    /// What is recorded of the image of a commit.
    async fn image(&self, app: &AppName, commit: &Commit) -> Result<Option<Image>> {
        self.production.image(app, commit).await.with_context(unread)
    }

    /// Records the image as that of the commit, and gives it its tags: what these name then.
    pub(crate) async fn tag<'l>(
        &self,
        promotion: &Promotion<'_>,
        line: impl FnOnce() -> Result<&'l Line>,
    ) -> Result<Vec<(Tag, Digest)>> {
        let Promotion { left: Left::Tag { candidate, landed, .. }, manifest: Some(manifest), to, .. } = promotion
        else {
            note(format_args!("{} is promoted already", promotion.called()));
            return Ok(Vec::new());
        };
        let image = self.image_of(candidate, landed);
        match self.production.record_image(&image).await {
            Ok(_) => {}
            // By the same command before, or another one at the same time.
            Err(Error::AlreadyExists { .. }) => {
                let there = self.image(&image.app, landed).await?;
                ensure_same(&there.context("the record of the image is gone")?, &image)?;
            }
            Err(error) => return Err(error).with_context(|| format!("could not record `{}:{landed}`", image.name)),
        }
        let of_commit = Tag::from(landed);
        self.registries.client()?.writer(to).tag(&of_commit, manifest).await?;
        let mut named = vec![(of_commit, manifest.digest().clone())];
        if candidate.tag.as_str() != landed.as_str() {
            named.push((candidate.tag.clone(), self.point(to, candidate, line()?).await?));
        }
        note(format_args!("promoted {}, which landed as {}", promotion.called(), landed.short()));
        Ok(named)
    }

    /// The image that was tagged, as builders announce it: its name, and the commit that is its tag.
    pub(crate) fn announced(promotion: &Promotion<'_>) -> Option<(String, Commit)> {
        let Left::Tag { landed, .. } = &promotion.left else { return None };
        Some((promotion.repository().to_string(), landed.clone()))
    }

    /// Has the tag of a candidate name the image that landed last of those that were promoted with that tag. Each promotion does so
    /// after it is recorded, so that the last one to look sees them all.
    async fn point(&self, to: &Writable, candidate: &ImageCandidate, line: &Line) -> Result<Digest> {
        let (repository, tag) = (to.repository(), &candidate.tag);
        let mut put = None;
        for _ in 0..TRIES {
            let images = self.images(&candidate.app, repository).await?;
            // It was promoted after ours was gated, so it may have landed after it.
            let unknown = |image: &&Image| line.age(&image.commit).is_none() && image.time > candidate.time;
            if let Some(later) = with_tag(&images, tag).find(unknown) {
                bail!(
                    "`{repository}:{tag}` stays as it is: commit {}, whose image has that tag too, is not on {} as it is known here; \
                     fetch it and run the command again",
                    later.commit.short(),
                    line.branch
                );
            }
            let wanted = newest(&images, tag, line).map_or(&candidate.digest, |image| &image.digest);
            let digest = Digest::from(wanted.clone());
            if put.as_ref() == Some(&digest) {
                return Ok(digest);
            }
            let manifest = self.registries.client()?.by_digest(repository, &digest).await?;
            let manifest = manifest.with_context(|| format!("there is no image `{repository}@{digest}` any more"))?;
            match self.registries.client()?.writer(to).tag(tag, &manifest).await {
                // Another promotion put it at the same time: who was right is seen by looking again.
                Ok(()) | Err(registry::Error::Changed { .. }) => put = Some(digest),
                Err(error) => return Err(error.into()),
            }
        }
        bail!("`{repository}:{tag}` was moved by others {TRIES} times meanwhile: run the command again")
    }

    /// The images of an app that are recorded in a repository.
    async fn images(&self, app: &AppName, repository: &Repository) -> Result<Vec<Image>> {
        let listed: Vec<ImageSummary> = self.production.images(app).try_collect().await.with_context(unread)?;
        let name = repository.to_string();
        Ok(listed.into_iter().filter_map(|listed| listed.image.ok()).filter(|image| image.name == name).collect())
    }

    /// Removes what made it a candidate; its tags name what they named.
    pub(crate) async fn clear(&self, promotion: &Promotion<'_>, tags: &[(Tag, Digest)]) -> Result<()> {
        let Promotion { left: Left::Tag { generation, .. }, place, .. } = promotion else { return Ok(()) };
        let gone = remove(self.registries, (self.production, place, *generation), tags).await;
        gone.with_context(|| format!("{} is promoted, but its candidate could not be removed", promotion.called()))
    }

    /// What is recorded of the image that a candidate becomes.
    fn image_of(&self, candidate: &ImageCandidate, landed: &Commit) -> Image {
        let ImageCandidate { app, name, tag, digest, media_type, base_image, patchset, .. } = candidate.clone();
        Image {
            schema: 1,
            app,
            commit: landed.clone(),
            name,
            tag: landed.to_string(),
            digest,
            media_type,
            base: base_image,
            time: self.production.now(),
            landed: Some(landed.clone()),
            promoted: Some(PromotedImage { change: self.id.clone(), patchset, tag }),
            who: self.by.to_owned(),
            other: Map::new(),
        }
    }
}

impl Promotion<'_> {
    /// Its repository.
    fn repository(&self) -> &Repository {
        self.to.repository()
    }

    /// What it is called once it is promoted.
    pub(crate) fn called(&self) -> String {
        format!("{}:{}", self.repository(), self.place.tag())
    }
}

/// The images that were promoted with a tag.
fn with_tag<'a>(images: &'a [Image], tag: &Tag) -> impl Iterator<Item = &'a Image> {
    images.iter().filter(move |image| image.promoted.as_ref().is_some_and(|promoted| promoted.tag == *tag))
}

/// Of the images that were promoted with a tag, that whose change landed last on the line.
fn newest<'a>(images: &'a [Image], tag: &Tag, line: &Line) -> Option<&'a Image> {
    let placed = with_tag(images, tag).filter_map(|image| Some((line.age(&image.commit)?, image)));
    placed.min_by_key(|(age, _)| *age).map(|(_, image)| image)
}

/// Refuses a commit of which another image is recorded.
fn ensure_same(there: &Image, image: &Image) -> Result<()> {
    ensure!(
        (&there.digest, &there.name) == (&image.digest, &image.name),
        "another image is recorded of commit {} of `{}`: it is `{}@sha256:{}`, and nothing was written over",
        image.commit.short(),
        image.app,
        console::cut(&there.name, 200),
        there.digest
    );
    Ok(())
}

fn unread() -> String {
    "could not read which images are recorded".to_owned()
}
