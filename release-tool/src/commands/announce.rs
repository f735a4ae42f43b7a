//! `release announce`: has watchers of channels look at an image that something else built.

use anyhow::{Context, Result, anyhow, bail};
use bucket::{Announcement, PubSubOptions, Topic};
use clap::Args;
use console::{UsageError, safe};
use registry::{Reference, Tag};

use crate::{
    manifest::{Images, Manifest},
    options::{Options, wait_for},
    source::{Source, without_credentials},
};

const EXAMPLES: &str = "\
Examples:
  release announce images.example/acme/web:7e0ff6059e653eb75a36efb621d0fd66d1ced433

The image must be in its registry; credentials are those of `docker login`. The topic is `[bucket] announce` of release.toml.
Without an announcement, watchers find the image at their next poll.";

/// Arguments of `release announce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Announce {
    /// The image that was built, with its tag
    #[arg(value_name = "IMAGE:TAG")]
    image: Reference,
    /// Address of the repository that it was built from [default: that of `origin`]
    #[arg(long, value_name = "ADDRESS")]
    repo: Option<String>,
}

impl Announce {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let Reference { tag: Some(tag), digest: None, .. } = &self.image else {
            return Err(
                UsageError::new("an announcement names a tag and no digest, as `images.example/acme/web:TAG`").into()
            );
        };
        let directory = options.directory()?;
        let manifest = Manifest::read(&directory)?;
        let Some(topic) = &manifest.announce else {
            let none =
                "no topic to announce to: add to release.toml: [bucket] announce = \"projects/acme-prod/topics/push\"";
            return Err(UsageError::new(none).into());
        };
        let repo = match &self.repo {
            Some(repo) => without_credentials(repo),
            None => Source::of(&directory)?.repo,
        };
        if repo.is_empty() {
            return Err(UsageError::new("the repository has no `origin`: give its address by --repo").into());
        }
        wait_for(async {
            self.ensure_there(&manifest.images, tag).await?;
            let pubsub = PubSubOptions::from_env(|key| std::env::var(key).ok())?;
            let opened = Topic::open(topic.clone(), &pubsub).map_err(|reason| anyhow!(reason))?;
            let message = Announcement::of_build(&self.image.repository.to_string(), tag.as_str(), &repo);
            let published = opened.publish(&[message]).await;
            published.with_context(|| format!("could not announce `{}` to `{topic}`", self.image))
        })?;
        console::note(format_args!("announced {} of {} to {topic}", self.image, safe(&repo)));
        Ok(())
    }

    /// Makes sure that it is an image of this repository, and that it is there: a misspelt one would never be looked for again.
    async fn ensure_there(&self, images: &Images, tag: &Tag) -> Result<()> {
        let Reference { repository, .. } = &self.image;
        if let Some(rule) = images.repository.as_ref().filter(|rule| !rule.matches(repository)) {
            bail!(
                "`{repository}` is no image of this repository: `repository = '{rule}'` in `[images]` of release.toml does not match it"
            );
        }
        match images.client()?.digest(repository, tag).await? {
            Some(_) => Ok(()),
            None => bail!("there is no image `{}` in its registry: push it before it is announced", self.image),
        }
    }
}
