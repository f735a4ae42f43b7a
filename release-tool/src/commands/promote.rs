//! `release promote`: the very bytes that were tried become a release, or the image of the merged commit.

use std::{cell::OnceCell, collections::BTreeMap};

use anyhow::{Context as _, Result, anyhow};
use bucket::{
    Ahead, AppName, ArtifactType, Bucket, Change, ChangeId, ChangeState, Commit, Error, RecordedCandidate, Release,
    TopicName,
};
use clap::Args;
use console::{UsageError, note, print_json, print_line, warning};
use serde_json::json;

use crate::{
    change::{
        candidates::{gated, promoted},
        image::{self, judge::called, promote::Promoting, remove::Registries},
        line::{Line, target_branch},
        promotion::{Left, ensure_merged, ensure_same, is_tried, left},
        record::{ahead, by, read_known, update},
    },
    git::Git,
    options::{Options, wait_for},
    source::{Source, without_credentials},
    upload::{announce, announce_image},
};

const EXAMPLES: &str = "\
Examples:
  release promote --change web/12                        all gated candidates of change 12 of web
  release promote web --change web/12                    only that of the app web
  release promote --change web/12 --repo https://git.example/acme/web.git

The change must be merged, with the very tree that was built, however that was done: by a merge commit, squashed or rebased.
No byte of a package and no layer of an image is sent again. Whoever was interrupted runs the same command again.";

/// Make releases of the gated candidates of a change that was merged
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Promote {
    /// Apps whose candidates to promote [default: all]
    #[arg(value_name = "APP")]
    apps: Vec<AppName>,
    /// Change, as in web/12
    #[arg(long, value_name = "PROJECT/ID")]
    change: ChangeId,
    /// Repository to read the branch from, which is fetched [default: the checkout, as it is]
    #[arg(long, value_name = "URL")]
    repo: Option<String>,
    /// Branch that it was merged into [default: `[candidates] branch`, else that of `origin`, else main]
    #[arg(long)]
    branch: Option<String>,
}

/// Packages and images on their way.
type Both<'a> = (&'a [Promotion<'a>], &'a [image::promote::Promotion<'a>]);

/// A package on its way.
struct Promotion<'a> {
    recorded: &'a RecordedCandidate,
    left: Left,
}

impl Promote {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let (id, by) = (&self.change, by()?);
        let candidates = options.candidates()?;
        let manifest = options.find_manifest()?;
        let git = Git::at(&options.directory()?);
        let branch = target_branch(&git, self.branch.clone().or(candidates.branch.clone()))?;
        if self.repo.as_ref().is_some_and(|url| url.is_empty() || url.starts_with('-')) {
            return Err(UsageError::new(
                "--repo takes the address of a repository, as https://git.example/acme/web.git",
            )
            .into());
        }
        wait_for(async {
            let recorded_in = candidates.open().await?;
            let production = options.production().await?;
            let change = read_known(&recorded_in, id).await?;
            ensure_merged(id, &change)?;
            let line = OnceCell::new();
            let read = || {
                if let Some(line) = line.get() {
                    return Ok(line);
                }
                let read = match &self.repo {
                    Some(url) => Line::of_repository(url, &branch)?,
                    None => Line::of_checkout(&git, &branch)?,
                };
                Ok(line.get_or_init(|| read))
            };
            let (mut promotions, mut images) = (Vec::new(), Vec::new());
            let images_of = manifest.as_ref().map(|manifest| manifest.images.clone()).unwrap_or_default();
            let registries = Registries::new(images_of, Some(candidates.clone()));
            let promoting =
                Promoting { id, change: &change, production: &production, registries: &registries, by: &by };
            // All are judged before the first is written.
            for recorded in gated(id, &change, &self.apps)? {
                if recorded.artifact == ArtifactType::Image {
                    images.push(promoting.judge(recorded, read).await?);
                    continue;
                }
                let place = recorded.place(id).map_err(|reason| anyhow!("{reason}; nothing was promoted"))?;
                let unread = || format!("could not read the candidate `{}`", recorded.release.stem());
                let candidate = production.candidate(&place).await.with_context(unread)?;
                let release = released(&production, recorded).await?;
                let left = left((id, &change), recorded, (candidate, release.as_ref()), read)?;
                promotions.push(Promotion { recorded, left });
            }
            self.warn(&recorded_in, &change, (&promotions, &images)).await;
            let (mut landed, mut tagged) = (BTreeMap::new(), Vec::new());
            for promotion in &promotions {
                landed.insert(promotion.recorded.path.clone(), promotion.copy(&production).await?);
            }
            for image in &images {
                tagged.push(promoting.tag(image, read).await?);
                landed.insert(image.recorded.path.clone(), image.left.landed().clone());
            }
            update(&recorded_in, id, async |before| {
                let before = before.with_context(|| format!("the record of `{id}` is gone"))?;
                Ok(promoted(before, &landed, (&by, recorded_in.now())))
            })
            .await?;
            // What was promoted is told, and what can be cleared is, whatever becomes of the rest.
            let mut ended = match options.announce(manifest.as_ref()) {
                Some(topic) => self.announce(options, topic, (&promotions, &images)).await,
                None => Ok(()),
            };
            for promotion in &promotions {
                ended = ended.and(promotion.clear(&production).await);
            }
            for (image, tags) in images.iter().zip(&tagged) {
                ended = ended.and(promoting.clear(image, tags).await);
            }
            ended.and_then(|()| self.print(options, (&promotions, &images), &landed))
        })
    }

    /// Sends the messages of what is promoted.
    async fn announce(&self, options: &Options, topic: &TopicName, (packages, images): Both<'_>) -> Result<()> {
        let copied = packages.iter().filter(|promotion| matches!(promotion.left, Left::Copy { .. }));
        announce(topic, copied.map(|promotion| promotion.recorded.app.clone()).collect()).await;
        let announced: Vec<_> = images.iter().filter_map(Promoting::announced).collect();
        if !announced.is_empty() {
            let repo = match &self.repo {
                Some(url) => without_credentials(url),
                None => Source::of(&options.directory()?)?.repo,
            };
            for (image, commit) in announced {
                announce_image(topic, &image, commit.as_str(), &repo).await;
            }
        }
        Ok(())
    }

    /// What speaks against the promotion, and doesn't forbid it.
    async fn warn(&self, bucket: &Bucket, change: &Change, (packages, images): Both<'_>) {
        let id = &self.change;
        match ahead(bucket, id, change).await {
            Ok(Ahead { ended, .. }) => {
                for (need, _) in ended.iter().filter(|(_, state)| *state == ChangeState::Abandoned) {
                    warning(format_args!("`{need}`, which `{id}` needs, was abandoned"));
                }
            }
            Err(error) => warning(format_args!("could not read what `{id}` needs: {error:#}")),
        }
        for Promotion { recorded, left } in packages {
            if matches!(left, Left::Copy { .. }) && !is_tried(change, recorded) {
                warning(format_args!("no try with exactly the bytes of `{}` has passed", recorded.release.stem()));
            }
        }
        for image in images.iter().filter(|image| image.recorded.landed.is_none()) {
            if !is_tried(change, image.recorded) {
                warning(format_args!("no try with exactly the image `{}` has passed", called(image.recorded)));
            }
        }
    }

    fn print(&self, options: &Options, (packages, images): Both<'_>, landed: &BTreeMap<String, Commit>) -> Result<()> {
        if options.json {
            let shown = |recorded: &RecordedCandidate| {
                json!({
                    "type": recorded.artifact, "app": recorded.app, "release": recorded.release, "sha256": recorded.sha256,
                    "size": recorded.size, "change": self.change, "patchset": recorded.patchset,
                    "landed": landed.get(&recorded.path),
                })
            };
            let packages = packages.iter().map(|package| shown(package.recorded));
            let images = images.iter().map(|image| {
                let mut shown = shown(image.recorded);
                shown["image"] = json!(image.called());
                shown
            });
            return print_json(&packages.chain(images).collect::<Vec<_>>());
        }
        packages.iter().try_for_each(|package| print_line(&package.recorded.release))?;
        images.iter().try_for_each(|image| print_line(image.called()))
    }
}

impl Promotion<'_> {
    /// Sees to it that the release is there; the commit as which it counts.
    async fn copy(&self, production: &Bucket) -> Result<Commit> {
        let (candidate, facts, landed) = match &self.left {
            Left::Copy { candidate, facts, landed } => (candidate, facts, landed),
            Left::Clear { landed, .. } => {
                note(format_args!("{} is a release already", self.recorded.release));
                return Ok(landed.clone());
            }
        };
        let name = &self.recorded.release;
        match production.promote(candidate, facts, landed).await {
            // Somebody else has promoted it meanwhile, as what is there then shows.
            Ok(_) | Err(Error::AlreadyExists { .. } | Error::Gone { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("could not promote `{}`", name.stem())),
        }
        let release = released(production, self.recorded).await?;
        let release = release
            .with_context(|| format!("the candidate `{}` is gone meanwhile: run the command again", name.stem()))?;
        ensure_same(&release, &facts.release.sha256, facts.release.size)?;
        note(format_args!("promoted {name}, which landed as {}", release.commit().short()));
        Ok(release.commit().clone())
    }

    /// Deletes the candidate.
    async fn clear(&self, production: &Bucket) -> Result<()> {
        let candidate = match &self.left {
            Left::Copy { candidate, .. } => Some(candidate),
            Left::Clear { candidate, .. } => candidate.as_ref(),
        };
        let Some(candidate) = candidate else { return Ok(()) };
        let deleted = production.delete_candidate(candidate).await;
        deleted.with_context(|| {
            format!("`{}` is a release, but its candidate could not be deleted", self.recorded.release)
        })
    }
}

/// The release that a candidate would be, if it is there.
async fn released(production: &Bucket, recorded: &RecordedCandidate) -> Result<Option<Release>> {
    let name = &recorded.release;
    production.release(name).await.with_context(|| format!("could not read the release `{name}`"))
}
