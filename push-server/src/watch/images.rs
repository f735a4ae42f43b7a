//! Channels of images: what a registry has under the tag of a commit is recorded once, and one tag is moved to where the channel
//! points.
//!
//! A registry takes every write and keeps no time. So the channel's document decides, and each round brings the tag in line with
//! it; which image a commit has is what was recorded when that was first seen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{Channel, Commit, Error, Image, ImageSummary, ReleaseName};
use console::safe;
use fleet::{
    channel::{build::Build, line::Line},
    follow::{self, Raced},
    policy::{ChannelRules, ImageRules},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry::{Digest, Manifest, Reference, Rule, image::base_of};

use super::{
    outcome::{LastBuilt, Stands},
    watcher::{AT_ONCE, Watcher},
};

/// Images that a round records at most; those of older commits come in the rounds after it.
const MAX_RECORDED: usize = 100;

/// Newer images than a channel points to, on which others may be built, that are looked at.
const MAX_NEWER: usize = 20;

/// What is known of the image of one commit.
enum Seen {
    /// It is recorded.
    Recorded(Box<Image>),
    /// It can't be read: which it is, why, and what to do.
    Unread(String),
    /// It has gone while it was looked for.
    Gone,
}

impl From<ImageSummary> for Seen {
    fn from(listed: ImageSummary) -> Self {
        match listed.image {
            Ok(image) => Self::Recorded(Box::new(image)),
            Err(error) => Self::Unread(format!(
                "{error}; if no newer program wrote that, delete it, and the next round records the image of commit {} anew",
                listed.commit.short()
            )),
        }
    }
}

/// What is known of a channel's images in a round.
#[derive(Debug)]
pub(super) struct Images<'a> {
    rules: &'a ChannelRules,
    pub(super) image: &'a ImageRules,
    /// Those that are recorded, by the names of their releases.
    recorded: BTreeMap<ReleaseName, Image>,
    /// What of it can't be read, as sentences that say which, why, and what to do.
    pub(super) unread: Vec<String>,
    /// What images of commits that have a tag here were recorded as, if that is another name.
    elsewhere: Option<String>,
    /// What the tag was when the round began.
    tagged: Option<Digest>,
}

impl Images<'_> {
    /// All that the channel may point to.
    pub(super) fn builds(&self) -> Vec<Build> {
        self.recorded.values().filter_map(|image| Build::try_from(image).ok()).collect()
    }

    /// The channel's rules.
    pub(super) fn rules(&self) -> &ChannelRules {
        self.rules
    }

    /// The image that is recorded as a release.
    pub(super) fn recorded(&self, release: &ReleaseName) -> Option<&Image> {
        self.recorded.get(release)
    }

    /// What is known of the image that the channel points to, for those that are built on it.
    pub(super) fn stands(&self, channel: &Channel) -> Option<Stands> {
        let now = self.recorded(channel.release.as_ref()?)?;
        let digest = Digest::from(now.digest.clone());
        let newer = self.recorded.values().filter(|image| image.time > now.time).take(MAX_NEWER);
        let newer = newer.map(|image| image.digest.clone().into()).collect();
        let last = self.recorded.values().max_by_key(|image| image.time)?;
        let base = last.base.as_ref().and_then(|base| base.parse().ok());
        Some(Stands {
            name: self.image.name.clone(),
            digest,
            newer,
            last: LastBuilt { commit: last.commit.clone(), base },
        })
    }

    /// Whether the tag is the image of the channel's release.
    pub(super) fn are_in_line(&self, channel: &Channel) -> bool {
        let image = channel.release.as_ref().and_then(|release| self.recorded(release));
        image.is_some_and(|image| self.tagged.as_ref().map(Digest::sha256) == Some(&image.digest))
    }

    /// That a commit still has the image that was recorded.
    fn ensure_recorded(&self, image: &Image, found: Option<&Digest>) -> Result<()> {
        let (name, commit) = (&self.image.name, &image.commit);
        let found = found.with_context(|| format!("`{name}` no longer has the tag `{commit}`"))?;
        ensure!(
            found.sha256() == &image.digest,
            "somebody put another image under the tag `{commit}` of `{name}`, so nothing moves: it is `{found}` and was recorded as \
             `sha256:{}`; put that back, or pass it over by `push reject {}`",
            image.digest,
            image.release()?.stem()
        );
        Ok(())
    }
}

impl Watcher {
    /// Records what is new in the registry, and reads what the tag is.
    ///
    /// # Errors
    /// When the registry or the records can't be read.
    pub(super) async fn images<'a>(
        &self,
        rules: &'a ChannelRules,
        image: &'a ImageRules,
        line: &Line,
    ) -> Result<Images<'a>> {
        let unlisted = || format!("could not list which images of `{}` are recorded", rules.app);
        let listed: Vec<_> = self.bucket.images(&rules.app).try_collect().await.with_context(unlisted)?;
        let tags = self.registry.tags(&image.name).await?;
        let known: BTreeSet<&Commit> = listed.iter().map(|listed: &ImageSummary| &listed.commit).collect();
        let commits = tags.iter().filter_map(|tag| tag.as_str().parse::<Commit>().ok());
        let mut new: Vec<(usize, Commit)> = commits
            .filter(|commit| !known.contains(commit))
            .filter_map(|commit| Some((line.place(&commit)?, commit)))
            .collect();
        new.sort_unstable_by_key(|(place, _)| Reverse(*place));
        new.truncate(MAX_RECORDED);
        let recorded = stream::iter(new).map(|(_, commit)| self.record_image(rules, image, commit));
        let recorded: Vec<Seen> = recorded.buffered(AT_ONCE).try_collect().await?;
        let (mut unread, mut all) = (Vec::new(), Vec::new());
        for seen in listed.into_iter().map(Seen::from).chain(recorded) {
            match seen {
                Seen::Recorded(image) => all.push(*image),
                Seen::Unread(why) => unread.push(why),
                Seen::Gone => {}
            }
        }
        let name = image.name.to_string();
        let (of_it, others): (Vec<Image>, Vec<Image>) = all.into_iter().partition(|of_it| of_it.name == name);
        let has_tag = |other: &Image| tags.iter().any(|tag| tag.as_str() == other.commit.as_str());
        let elsewhere = others.into_iter().find(has_tag).map(|other| other.name);
        let recorded = of_it.into_iter().filter_map(|image| Some((image.release().ok()?, image))).collect();
        let tagged = self.registry.digest(&image.name, &image.tag).await?;
        Ok(Images { rules, image, recorded, unread, elsewhere, tagged })
    }

    /// Records the image of a commit that none is recorded of, if its tag is one.
    async fn record_image(&self, rules: &ChannelRules, image: &ImageRules, commit: Commit) -> Result<Seen> {
        let manifest = match self.registry.by_tag(&image.name, &(&commit).into()).await {
            Ok(None) => return Ok(Seen::Gone),
            Ok(Some(manifest)) => manifest,
            Err(error @ registry::Error::Malformed { .. }) => {
                return Ok(Seen::Unread(format!("{error}; push the image of that commit again")));
            }
            Err(error) => return Err(error.into()),
        };
        let image = Image {
            schema: 1,
            app: rules.app.clone(),
            name: image.name.to_string(),
            tag: commit.to_string(),
            landed: Some(commit.clone()),
            commit,
            digest: manifest.digest().sha256().clone(),
            media_type: manifest.media_type().to_string(),
            base: base_of(&manifest).map(|base| base.to_string()),
            time: self.bucket.now(),
            promoted: None,
            who: self.who.name.clone(),
            other: serde_json::Map::new(),
        };
        match self.bucket.record_image(&image).await {
            Ok(_) => Ok(Seen::Recorded(Box::new(image))),
            // Another watcher was faster.
            Err(Error::AlreadyExists { .. }) => {
                let read = self.bucket.image(&rules.app, &image.commit).await;
                let read =
                    read.with_context(|| format!("could not read the record of `{}:{}`", image.name, image.commit));
                Ok(read?.map_or(Seen::Gone, |image| Seen::Recorded(Box::new(image))))
            }
            Err(error) => Err(error).with_context(|| format!("could not record `{}:{}`", image.name, image.commit)),
        }
    }

    /// That nobody put another image under the tag of the commit that a channel points to. One that is gone was tidied up.
    pub(super) async fn ensure_unchanged(
        &self,
        images: Option<&Images<'_>>,
        channel: &Channel,
        rejected: &BTreeSet<ReleaseName>,
    ) -> Result<()> {
        let release = channel.release.as_ref().filter(|release| !rejected.contains(release));
        let Some((images, release)) = images.zip(release) else { return Ok(()) };
        let Some(image) = images.recorded.get(release) else { return Ok(()) };
        match self.registry.digest(&images.image.name, &(&image.commit).into()).await? {
            None => Ok(()),
            found => images.ensure_recorded(image, found.as_ref()),
        }
    }

    /// That the image which a channel is about to move to, if it moves images, is the one that was recorded.
    pub(super) async fn ensure_recorded(&self, images: Option<&Images<'_>>, release: &ReleaseName) -> Result<()> {
        let Some(images) = images else { return Ok(()) };
        let image = images.recorded.get(release).with_context(|| format!("`{}` is not recorded", release.stem()))?;
        let found = self.registry.digest(&images.image.name, &(&image.commit).into()).await?;
        images.ensure_recorded(image, found.as_ref())
    }

    /// Has the tag be the image of the channel's release: the same bytes under another name, and read back. Gives the tag if it was
    /// moved.
    ///
    /// # Errors
    /// When that can't be done, or somebody changed the channel meanwhile ([`Raced`]).
    pub(super) async fn point(&self, images: &Images<'_>, channel: &Channel) -> Result<Option<Reference>> {
        let Some(release) = channel.release.as_ref().filter(|_| !images.are_in_line(channel)) else { return Ok(None) };
        let unrecorded = || {
            let stays = format!("the tag stays, because `{}` is not recorded as an image", release.stem());
            match &images.elsewhere {
                None => stays,
                Some(name) => format!(
                    "{stays} of `{}`: commits of before were recorded as `{}`, so land a new one",
                    images.image.name,
                    safe(name)
                ),
            }
        };
        let image = images.recorded.get(release).with_context(unrecorded)?;
        let ImageRules { name, tag } = images.image;
        let found = self.registry.by_tag(name, &(&image.commit).into()).await?;
        images.ensure_recorded(image, found.as_ref().map(Manifest::digest))?;
        let Some(manifest) = found else { return Ok(None) };
        let writable = Rule::permit(Some(&Rule::only(name)), name)?;
        self.registry.writer(&writable).tag(tag, &manifest).await?;
        // Whoever pointed the channel elsewhere meanwhile may have moved the tag before.
        if follow::read(&self.bucket, images.rules).await?.channel.release.as_ref() != Some(release) {
            bail!(Raced::over(images.rules));
        }
        Ok(Some(images.image.reference()))
    }
}
