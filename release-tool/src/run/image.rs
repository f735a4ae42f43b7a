//! An image from a stage's copy of the commit, after what the stage has built there, in its registry.
//!
//! Nothing is asked of the registry before it is known that the image may be written there, and under which names. Then its
//! blobs come, its manifests, the record of the tag that is a commit, and the tags: whoever is killed in between does what is
//! left when the same is run again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{AppName, Bucket, Error, Image as Recorded, PublishedImage, Timestamp};
use console::note;
use futures_util::FutureExt as _;
use pipeline::{Variant, check_image_name, image_name};
use registry::{
    Client, Digest, Manifest, Reference, Tag, Writable,
    image::{Built, Image, Layer, Process, base_of},
};

use crate::{
    builder::Builder,
    change::{
        candidates::ensure_last,
        image::{
            name,
            record::{self, upload},
        },
        record::read_known,
    },
    checkout::not_committed,
    run::{Shared, base, files, limits::Unfinished, running::Running, target::OfChange},
    upload::announce_image,
};

/// What the tags of an image end with that has what is not committed: nothing takes such an image for that of a commit.
const DIRTY: &str = "-dirty";

/// Which stage puts which tags: of a run, nothing is put under one name by two.
#[derive(Debug, Default)]
pub(crate) struct Claimed(Mutex<BTreeMap<Reference, String>>);

impl Claimed {
    /// Notes that a stage puts this.
    fn take(&self, reference: Reference, stage: &str) -> Result<()> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = taken.get(&reference) {
            bail!(
                "`{reference}` is published by `{other}` of this run already: give one of them another `name`, `tag` or `tags`"
            );
        }
        taken.insert(reference, stage.to_owned());
        Ok(())
    }
}

/// What an image of a run is called, and may be.
#[derive(Debug)]
struct Named {
    to: Writable,
    /// Its name alone, which is the app where images are recorded.
    name: String,
    tag: Tag,
    tags: Vec<Tag>,
    /// Whether its tag says that it is the image of the commit.
    is_of_commit: bool,
}

/// Makes the image, or takes what another builder made, and puts it under all its tags.
pub(super) async fn image(running: &mut Running, wanted: &pipeline::Image) -> Result<(), Unfinished> {
    let shared = running.shared.clone();
    let named = named(running, wanted)?;
    if let Some(of_change) = &shared.of_change {
        return candidate(running, wanted, &named, of_change).await;
    }
    let client = shared.manifest.images.client()?;
    let of_commit = OfCommit { shared: &shared, client: &client, named: &named };
    let before = running.limits().within(async { Ok(of_commit.find().await?) }.boxed()).await?;
    let (manifest, base) = match before {
        Some(Before { manifest: Some(manifest), .. }) => {
            note(format_args!("`{}:{}` is there already: it is taken", named.to.repository(), named.tag));
            (manifest, None)
        }
        before => {
            let recorded = before.and_then(|before| before.recorded);
            let made = make(running, wanted, &client).await?;
            let digest = made.image.manifest().digest();
            if let Some(recorded) = recorded.filter(|recorded| recorded != digest) {
                return Err(Unfinished::Failed(format!(
                    "another image is recorded of this commit, `{recorded}`, and this one is `{digest}`: nothing was written, \
                     because what a commit's image is, is said once; build another commit"
                )));
            }
            running.limits().within(async { Ok(upload(&client, &named.to, &made.image).await?) }.boxed()).await?;
            (made.image.manifest().clone(), made.base)
        }
    };
    let base = base.or_else(|| base_of(&manifest));
    let telling = async {
        let writer = client.writer(&named.to);
        // Of two runs at once one is refused, before its image is anywhere.
        of_commit.record(&manifest, base.as_ref()).await?;
        for tag in [&named.tag].into_iter().chain(&named.tags) {
            writer.tag(tag, &manifest).await.map_err(anyhow::Error::new)?;
        }
        Ok(())
    };
    running.limits().within(telling.boxed()).await?;
    let (name, tag) = (named.to.repository().to_string(), named.tag.to_string());
    note(format_args!("published {name}:{tag} as {}", manifest.digest()));
    if let Some(topic) = shared.announce().filter(|_| !shared.is_dirty) {
        announce_image(topic, &name, &tag, &shared.source.repo).boxed().await;
    }
    give(running, (name, tag), manifest.digest(), base)
}

/// A candidate of the change in the registry of candidates, which is recorded with it. Of its tags only the first counts: it is what
/// the image is called once it is promoted.
async fn candidate(
    running: &mut Running,
    wanted: &pipeline::Image,
    named: &Named,
    of_change: &OfChange,
) -> Result<(), Unfinished> {
    let (shared, client, by) = (running.shared.clone(), of_change.images.client()?, &of_change.by);
    let image =
        name::Named { app: named.name.parse().map_err(anyhow::Error::new)?, tag: named.tag.clone(), digest: None };
    let (id, tree, commit, to) = (&of_change.id, &of_change.tree, shared.commit(), &named.to);
    let looking = async {
        let record = shared.bucket().await?;
        let change = read_known(record, id).await?;
        ensure_last(id, &change, commit)?;
        Ok((record, change))
    };
    let (record, change) = running.limits().within(looking.boxed()).await?;
    let of_it = record::OfChange { id, change: &change, commit, tree, named: &image, by, record, client: &client };
    let known = if named.is_of_commit {
        running.limits().within(async { Ok(of_it.known(to.repository(), None).await?) }.boxed()).await?
    } else {
        None
    };
    let made = if let Some(known) = known {
        note(format_args!("`{}:{}` is a candidate already: it is taken", image.app, image.tag));
        known
    } else {
        let Made { image, base } = make(running, wanted, &client).await?;
        let base = base.map(|base| base.to_string());
        let uploading = async { Ok(of_it.candidate(to, Some(&image), base).await?) };
        running.limits().within(uploading.boxed()).await?
    };
    let place = made.recorded.image_place(id).map_err(anyhow::Error::msg)?;
    let temporary = place.temporary().map_err(anyhow::Error::new)?;
    let reference = (to.repository().to_string(), temporary.to_string());
    give(running, reference, made.manifest.digest(), base_of(&made.manifest))
}

/// Gives what the image is called and is to the stages that follow, and has it recorded.
fn give(
    running: &mut Running,
    (name, tag): (String, String),
    digest: &Digest,
    base: Option<Reference>,
) -> Result<(), Unfinished> {
    for (value, given) in [("imageName", &name), ("imageTag", &tag), ("imageDigest", &digest.to_string())] {
        running.give(value, given);
    }
    let stage = running.made_by()?.stage;
    let base = base.map(|base| base.to_string());
    running.image = Some(PublishedImage { stage, name, tag, digest: digest.sha256().clone(), base });
    Ok(())
}

/// What the image is called, with all values put into that, if it may be written there.
fn named(running: &Running, wanted: &pipeline::Image) -> Result<Named> {
    let shared = &running.shared;
    let name = image_name(&running.fill(&wanted.name));
    let named = check_image_name(&name, shared.place.project());
    named.map_err(|reason| anyhow::anyhow!("an image cannot be called `{}`: {reason}", console::cut(&name, 80)))?;
    let to = match &shared.of_change {
        Some(of_change) => of_change.writable(&name)?,
        None => shared.manifest.images.writable(&name)?,
    };
    let suffix = if shared.is_dirty { DIRTY } else { "" };
    let tag = |text: String| Ok(format!("{text}{suffix}").parse::<Tag>()?);
    let own = running.fill(&wanted.tag);
    ensure!(!own.is_empty(), "the tag of the image is empty: `{}` gave nothing", wanted.tag);
    let is_of_commit = own == shared.commit().as_str() && !shared.is_dirty;
    let own = tag(own)?;
    let more = wanted.tags.iter().map(|more| running.fill(more)).filter(|more| !more.is_empty());
    let mut tags = Vec::new();
    for more in more.map(tag).collect::<Result<Vec<Tag>>>()? {
        if more != own && !tags.contains(&more) {
            tags.push(more);
        }
    }
    let label = format!("{}/{}", running.pipeline.name, running.stage.name);
    for tag in [&own].into_iter().chain(&tags) {
        let reference = Reference { repository: to.repository().clone(), tag: Some(tag.clone()), digest: None };
        shared.images.take(reference, &label)?;
    }
    Ok(Named { to, name, tag: own, tags, is_of_commit })
}

/// What is known of the image of a commit: what was recorded of it, and what its tag names.
struct OfCommit<'a> {
    shared: &'a Shared,
    client: &'a Client,
    named: &'a Named,
}

/// The image of a commit that was published before, or recorded.
struct Before {
    /// What was recorded.
    recorded: Option<Digest>,
    /// Itself, if it is in the registry.
    manifest: Option<Manifest>,
}

impl OfCommit<'_> {
    /// The image that this commit has already, by its record or by its tag; `None` if the image is not that of a commit.
    async fn find(&self) -> Result<Option<Before>> {
        let Named { to, tag, is_of_commit: true, .. } = self.named else { return Ok(None) };
        let repository = to.repository();
        let tagged = self.client.by_tag(repository, tag).await?;
        let Some((bucket, app)) = self.records().await? else {
            return Ok(Some(Before { recorded: None, manifest: tagged }));
        };
        let read = bucket.image(&app, self.shared.commit()).await;
        let Some(recorded) = read.with_context(|| format!("could not read which image of `{app}` is recorded"))? else {
            return Ok(Some(Before { recorded: None, manifest: tagged }));
        };
        self.ensure_same_name(&recorded)?;
        let digest = Digest::from(recorded.digest);
        let manifest = match tagged {
            Some(tagged) if *tagged.digest() == digest => Some(tagged),
            Some(tagged) => bail!(
                "somebody put another image under `{repository}:{tag}`, so nothing is written: it is `{}` and was recorded as \
                 `{digest}`; put that back",
                tagged.digest()
            ),
            None => self.client.by_digest(repository, &digest).await?,
        };
        Ok(Some(Before { recorded: Some(digest), manifest }))
    }

    /// Records which image the commit has, once.
    async fn record(&self, manifest: &Manifest, base: Option<&Reference>) -> Result<()> {
        let Named { to, tag, is_of_commit: true, .. } = self.named else { return Ok(()) };
        let Some((bucket, app)) = self.records().await? else {
            note("no bucket is specified: the image is not recorded");
            return Ok(());
        };
        let Builder { user, host } = Builder::find(|key| std::env::var(key).ok())?;
        let image = Recorded {
            schema: 1,
            app,
            name: to.repository().to_string(),
            tag: tag.to_string(),
            commit: self.shared.commit().clone(),
            digest: manifest.digest().sha256().clone(),
            media_type: manifest.media_type().to_string(),
            base: base.map(ToString::to_string),
            time: bucket.now(),
            landed: None,
            promoted: None,
            who: format!("{user}@{host}"),
            other: serde_json::Map::new(),
        };
        let failed = || format!("could not record `{}:{tag}`", to.repository());
        match bucket.record_image(&image).await {
            Ok(_) => Ok(()),
            // By an earlier run, or by a watcher that saw the tag.
            Err(Error::AlreadyExists { .. }) => {
                let read = bucket.image(&image.app, &image.commit).await.with_context(failed)?;
                let there = read.with_context(|| format!("the record of `{}:{tag}` is gone", to.repository()))?;
                self.ensure_same_name(&there)?;
                ensure!(there.digest == image.digest, "another image is recorded as `{}:{tag}`", to.repository());
                Ok(())
            }
            Err(error) => Err(error).with_context(failed),
        }
    }

    /// Where it is recorded, if it is at all: in a bucket, as an app.
    async fn records(&self) -> Result<Option<(&Bucket, AppName)>> {
        if !self.shared.has_bucket() {
            return Ok(None);
        }
        let app = self.named.name.parse().context("images are recorded as those of an app")?;
        Ok(Some((self.shared.bucket().await?, app)))
    }

    fn ensure_same_name(&self, recorded: &Recorded) -> Result<()> {
        let name = self.named.to.repository().to_string();
        ensure!(
            recorded.name == name,
            "the image of this commit of `{}` is recorded as `{}`, and not as `{name}`: give one of them another `name`",
            recorded.app,
            console::cut(&recorded.name, 200)
        );
        Ok(())
    }
}

/// An image that is not in its registry yet.
struct Made {
    image: Image,
    base: Option<Reference>,
}

/// Makes it of what the variant says, or reads what another builder made.
async fn make(running: &mut Running, wanted: &pipeline::Image, client: &Client) -> Result<Made, Unfinished> {
    let shared = running.shared.clone();
    let (copy, directory) = (running.copy(), running.directory()?);
    let own = shared.directory_of(&running.pipeline, &running.stage.name);
    if !shared.is_dirty {
        let (shared, copy, afresh) = (shared.clone(), copy.clone(), own.join("afresh-image"));
        running.blocking(move || not_committed(&shared.original.changes_in(&copy, &afresh)?)).await?;
    }
    if let Some(built) = wanted.from.clone() {
        let reading = move || {
            let path = directory.join(built.path());
            let path = match built {
                Built::DockerArchive(_) => files::inside(&copy, &path)?,
                Built::Layout(_) => files::inside_directory(&copy, &path)?,
            };
            Image::read(&built.at(path)).with_context(|| format!("`{built}` is no image that can be published"))
        };
        return Ok(Made { image: running.blocking(reading).await?, base: None });
    }
    let Variant { root, base, entrypoint, env, user, labels, .. } = running.variant()?;
    let root = root.context("its variant has no `root`")?;
    let base = match base {
        Some(base) => Some(running.limits().within(async { Ok(base::read(client, &base).await?) }.boxed()).await?),
        None => None,
    };
    let (base, named) = base.unzip();
    let making = move || {
        let root = files::inside_directory(&copy, &directory.join(root))?;
        let file = tempfile::tempfile_in(&own).context("could not create a file for the layer")?;
        let layer = Layer::write(&root, base.is_some(), shared.source.commit_time, file)?;
        let created = Timestamp::from_second(i64::try_from(shared.source.commit_time)?)?.to_string();
        Image::make(base.as_ref(), layer, &Process { entrypoint, env, user, labels }, &created)
    };
    Ok(Made { image: running.blocking(making).await?, base: named })
}
