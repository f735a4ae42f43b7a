//! A release from a stage's copy of the commit, after what the stage has built there.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use bucket::{AppName, ArtifactType, Bucket, BuildId, Change, Commit, MadeBy, Note, ReleaseName};
use console::note;
use futures_util::FutureExt as _;
use pipeline::Publish;
use tokio::sync::Mutex as Turn;

use crate::{
    change::{
        candidates::ensure_last,
        record::{read_known, tell},
        upload::Building,
    },
    checkout::{Checkout, Dirty, Packing, make_directory},
    manifest::Manifest,
    pack::parse_note,
    run::{
        Shared,
        limits::Unfinished,
        running::{Made, Running},
        target::OfChange,
    },
    source::Source,
    upload::{announce, describe, upload},
};

/// How many of an app's newest releases are looked at for one that was made before.
const LOOKED_AT: usize = 50;

/// What a run has released, by app. Of one app one stage publishes at a time, so that the next finds what it made.
#[derive(Debug, Default)]
pub(crate) struct Published {
    apps: Mutex<BTreeMap<String, Arc<Turn<Option<Made>>>>>,
}

impl Published {
    fn of(&self, app: &str) -> Arc<Turn<Option<Made>>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).entry(app.to_owned()).or_default().clone()
    }

    /// What was released of an app.
    pub(super) async fn made(&self, app: &str) -> Option<Made> {
        self.of(app).lock().await.clone()
    }
}

/// Builds, packs and uploads the package, unless it is there already: the name of its release.
///
/// It is there if another stage of this run has released the app, or if the same stage of an earlier run of the same commit
/// did, with the same note: that run was killed, or something after it failed, or the same is asked for again.
pub(super) async fn publish(running: &mut Running, publish: &Publish) -> Result<Made, Unfinished> {
    let shared = running.shared.clone();
    let release_note = parse_note(&running.fill(&publish.note))
        .map_err(|error| Unfinished::Failed(format!("the release note: {error}")))?;
    let turn = shared.published.of(&publish.package);
    let mut published = running.limits().within(async { Ok(turn.lock().await) }).await?;
    if let Some(made) = &*published {
        note(format_args!("`{}` was released by this run already", made.release));
        return Ok(made.clone());
    }
    let made = match &shared.of_change {
        Some(of_change) => candidate(running, publish, release_note, of_change).await?,
        None => Made { release: release(running, publish, release_note).await?, candidate: None },
    };
    Ok(published.insert(made).clone())
}

/// A release in the bucket of the releases.
async fn release(running: &mut Running, publish: &Publish, release_note: Note) -> Result<ReleaseName, Unfinished> {
    let (shared, made_by) = (running.shared.clone(), running.made_by()?);
    if !shared.is_dirty {
        let app: AppName = publish.package.parse().map_err(anyhow::Error::new)?;
        let looking = async {
            let bucket = shared.bucket().await?;
            Ok(made_before(bucket, &app, shared.commit(), &made_by, &release_note).await?)
        };
        if let Some(release) = running.limits().within(looking.boxed()).await? {
            tell_taken(&release);
            return Ok(release);
        }
    }
    let deb = pack(running, publish, release_note).await?;
    let (source, release, mut metadata) = running.blocking(move || describe(&deb)).await?;
    metadata.made_by = Some(made_by);
    metadata.check_size(&release).map_err(Unfinished::Failed)?;
    let uploading = async {
        let bucket = shared.bucket().await?;
        Ok(upload(bucket, &source, &release, &metadata, None).await?)
    };
    running.limits().within(uploading.boxed()).await?;
    if let Some(topic) = shared.announce() {
        announce(topic, [release.app().clone()].into()).boxed().await;
    }
    Ok(release)
}

/// A candidate of the change in the candidate bucket, which is recorded with it: the name of the release that it would be.
async fn candidate(
    running: &mut Running,
    publish: &Publish,
    note: Note,
    of_change: &OfChange,
) -> Result<Made, Unfinished> {
    let (shared, made_by, id) = (running.shared.clone(), running.made_by()?, &of_change.id);
    let commit = shared.commit();
    let looking = async {
        let bucket = shared.bucket().await?;
        let change = read_known(bucket, id).await?;
        ensure_last(id, &change, commit)?;
        let there = candidate_made_before(bucket, &change, of_change, (&publish.package, &made_by, &note)).await?;
        Ok((change.patchset, there))
    };
    let (patchset, there) = running.limits().within(looking.boxed()).await?;
    if let Some(made) = there {
        tell_taken(&made.release);
        return Ok(made);
    }
    let deb = pack(running, publish, note).await?;
    let uploading = async {
        let bucket = shared.bucket().await?;
        let building = Building {
            change: id,
            patchset,
            tree: of_change.tree.clone(),
            base: None,
            id: BuildId::random(),
            gate: false,
            made_by: Some(made_by),
        };
        let candidate = building.upload(bucket, &deb, bucket.now()).await?;
        tell(bucket, id, std::slice::from_ref(&candidate), (commit, &of_change.by)).await?;
        Ok(Made { release: candidate.release, candidate: Some(candidate.path) })
    };
    running.limits().within(uploading.boxed()).await
}

fn tell_taken(release: &ReleaseName) {
    note(format_args!("`{release}` is of an earlier run of this commit, with the same note: it is taken"));
}

/// The candidate of what is built that the same stage made before with the same note, if there is one.
async fn candidate_made_before(
    bucket: &Bucket,
    change: &Change,
    of_change: &OfChange,
    (app, made_by, note): (&str, &MadeBy, &Note),
) -> Result<Option<Made>> {
    for known in change.candidates.iter().rev() {
        let is_package = known.artifact == ArtifactType::Deb && known.app.as_str() == app;
        if known.gate || known.patchset != change.patchset || !is_package {
            continue;
        }
        let place = known.place(&of_change.id).map_err(anyhow::Error::msg)?;
        let there = bucket.candidate(&place).await;
        let there = there.with_context(|| format!("could not read the candidate `{}`", known.release.stem()))?;
        let facts = there.and_then(|there| there.metadata.ok());
        let is_it = facts.is_some_and(|facts| {
            let is_same = facts.release.made_by.as_ref().is_some_and(|by| is_same_stage(by, made_by));
            is_same && facts.release.note == note.as_str() && facts.tree == of_change.tree
        });
        if is_it {
            return Ok(Some(Made { release: known.release.clone(), candidate: Some(known.path.clone()) }));
        }
    }
    Ok(None)
}

fn is_same_stage(one: &MadeBy, other: &MadeBy) -> bool {
    (&one.pipeline, &one.stage, one.run.project()) == (&other.pipeline, &other.stage, other.run.project())
}

/// The newest release of a commit that the same stage made before with the same note, if there is one that may be used.
async fn made_before(
    bucket: &Bucket,
    app: &AppName,
    commit: &Commit,
    made_by: &MadeBy,
    note: &Note,
) -> Result<Option<ReleaseName>> {
    let newest = bucket.newest_releases(app, LOOKED_AT).await;
    for release in newest.with_context(|| format!("could not list the releases of `{app}`"))? {
        let is_it = release.metadata.is_ok_and(|facts| {
            let is_same = facts.made_by.as_ref().is_some_and(|by| is_same_stage(by, made_by));
            is_same && !facts.dirty && facts.note == note.as_str()
        });
        if !is_it || release.name.commit() != commit {
            continue;
        }
        let rejected = bucket.rejection(&release.name).await;
        if rejected.with_context(|| format!("could not read whether `{}` is rejected", release.name))?.is_none() {
            return Ok(Some(release.name));
        }
    }
    Ok(None)
}

/// Builds and packs the package; where it is then.
async fn pack(running: &mut Running, publish: &Publish, note: Note) -> Result<PathBuf, Unfinished> {
    let shared = running.shared.clone();
    let directory = shared.original.project(&running.copy());
    // As it was when the run began, and not what the build may have made of the file.
    let build = &package(&shared.manifest, &publish.package)?.build;
    if !build.is_empty() {
        running.commands.run(build, &BTreeMap::new(), &directory, &mut running.output).await?;
    }
    let packing = Package {
        directory,
        app: publish.package.clone(),
        note,
        copy: running.copy(),
        afresh: shared.directory_of(&running.pipeline, &running.stage.name).join("afresh"),
    };
    running.blocking(move || packing.pack(&shared)).await
}

/// What is packed, of what.
struct Package {
    directory: PathBuf,
    app: String,
    note: Note,
    /// The stage's copy.
    copy: PathBuf,
    /// Where it is looked at whether the copy is as it was committed.
    afresh: PathBuf,
}

impl Package {
    /// Whatever the stage has made of its copy's repository: the release is of the commit that the run is of.
    fn pack(self, shared: &Shared) -> Result<PathBuf> {
        let package = package(&shared.manifest, &self.app)?;
        let source = Source { top: self.copy.clone(), ..shared.source.clone() };
        let changes = shared.original.changes_in(&self.copy, &self.afresh)?;
        let out = make_directory(&shared.out, &shared.source)?;
        let checkout = Checkout::of_copy(source, self.directory, package, out);
        let packing = Packing::new(&checkout, &shared.directory, self.note, None)?;
        let dirty = if shared.is_dirty { Dirty::Recorded } else { Dirty::Refused };
        let built = packing.pack(&checkout, &changes, dirty)?;
        built.into_iter().next().map(|built| built.path).context("nothing was packed")
    }
}

fn package<'a>(manifest: &'a Manifest, app: &str) -> Result<&'a crate::manifest::Package> {
    let Some(package) = manifest.packages.iter().find(|package| package.app.as_str() == app) else {
        bail!("release.toml has no package `{app}`: add it there, or publish another");
    };
    Ok(package)
}
