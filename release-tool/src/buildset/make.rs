//! Making the overlay of a buildset, and ending that. Production is only read.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{
    AppName, ArtifactType, Bucket, BucketOptions, BucketUrl, BuildId, Buildset, CandidatePlace, ChangeId, Error,
    ImagePlace, Overlay, Release, ReleaseName, Removal, ServerDocument, ServerName, Sha256,
};
use console::{note, warning};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    choose::{Artifact, Chosen, PickedImage, Tried, choose},
    machine::Machine,
    production::{self, Production, Scope},
};
use crate::{
    change::{
        image::{record, remove::Registries},
        record::{ahead, read_known},
    },
    images::take::{has, note_taken, take, taken},
};

/// Packages that are copied at the same time.
const COPIES_AT_ONCE: usize = 4;

/// Releases that are looked at at the same time.
const READS_AT_ONCE: usize = 16;

/// The two buckets that a try reads.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// What is released.
    pub(crate) production: Bucket,
    /// What is not merged yet.
    pub(crate) candidates: Bucket,
    /// Where images are.
    pub(crate) registries: Registries,
}

/// What somebody wants to try.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The change.
    pub(crate) change: ChangeId,
    /// Of what.
    pub(crate) scope: Scope,
    /// Which types of artifacts are taken from the changes ahead.
    pub(crate) requires: Vec<ArtifactType>,
    /// Whether production counts where a change ahead has nothing to give.
    pub(crate) missing_ok: bool,
}

/// What an overlay is to have, as it was decided.
#[derive(Debug)]
pub(crate) struct Decided {
    /// The artifacts, and what is to be said of them.
    pub(crate) chosen: Chosen,
    /// The server document that it is to have.
    pub(crate) document: Option<(ServerName, ServerDocument)>,
}

impl Wanted {
    /// Reads the change, what is ahead of it and production, and decides what the overlay has. Nothing is written.
    pub(crate) async fn decide(&self, buckets: &Buckets) -> Result<Decided> {
        let Self { change: id, scope, requires, missing_ok } = self;
        let change = read_known(&buckets.candidates, id).await?;
        let ahead = ahead(&buckets.candidates, id, &change).await?;
        let Production { document, releases, lacking } = production::read(&buckets.production, scope).await?;
        let tried = Tried { id, change: &change, ahead: &ahead, requires, missing_ok: *missing_ok };
        let mut chosen = choose(&tried, &releases)?;
        let is_chosen = |app: &AppName| chosen.artifacts.iter().any(|artifact| artifact.release().app() == app);
        let lacking: Vec<String> = lacking.iter().filter(|app| !is_chosen(app)).map(|app| format!("`{app}`")).collect();
        if !lacking.is_empty() {
            let lacks = format!("production has no clean release of {}", lacking.join(", "));
            ensure!(
                !matches!(scope, Scope::Apps(_)),
                "{lacks}, and neither has a change: nothing could be tried of it"
            );
            chosen.notes.push(format!("{lacks}: it is left out"));
        }
        let document = document.map(|(server, document)| (server, with(document, &chosen.artifacts)));
        Ok(Decided { chosen, document })
    }
}

/// A server document with these artifacts in the places of the releases that they replace; those that it lacks are added.
fn with(mut document: ServerDocument, artifacts: &[Artifact]) -> ServerDocument {
    for artifact in artifacts {
        document.set(artifact.release().clone());
    }
    document
}

/// A buildset that is about to begin, in this directory, else in one below the temporary one.
pub(crate) fn new(
    change: &ChangeId,
    Machine { host, id: machine }: Machine,
    directory: Option<PathBuf>,
    candidates: &Bucket,
) -> Result<Buildset> {
    let buildset = BuildId::random();
    let directory = directory.unwrap_or_else(|| std::env::temp_dir().join(format!("push-buildset-{buildset}")));
    let (directory, since) = (locate(&directory)?, candidates.now());
    Ok(Buildset { schema: 1, buildset, change: change.clone(), host, machine, directory, since, other: <_>::default() })
}

/// Makes the overlay of a buildset, which is recorded before. If that fails, nothing is left of either.
pub(crate) async fn make(buckets: &Buckets, decided: &Decided, buildset: &Buildset) -> Result<Vec<Sha256>> {
    let recorded = buckets.candidates.record_buildset(buildset).await;
    recorded.with_context(|| format!("could not record the buildset `{}`", buildset.buildset))?;
    let made = match Overlay::begin(Path::new(&buildset.directory), buildset).await {
        Ok(overlay) => fill(buckets, decided, &overlay, Path::new(&buildset.directory)).await,
        Err(error) => Err(error).context("could not begin the overlay"),
    };
    let Err(error) = made else { return made };
    Err(match end(&buckets.candidates, buildset).await {
        // A directory that was not taken for it was never its own.
        Ok(_) => error,
        Err(left) => error.context(format!("{left:#}, and it is of no use")),
    })
}

async fn fill(
    buckets: &Buckets,
    Decided { chosen, document }: &Decided,
    overlay: &Overlay,
    directory: &Path,
) -> Result<Vec<Sha256>> {
    let copies = stream::iter(&chosen.artifacts).map(async |artifact| {
        let release = artifact.release();
        let (taken, gone) = match artifact {
            Artifact::Production(release) => {
                (overlay.take_release(&buckets.production, release).await, "the bucket of the releases has it no more")
            }
            Artifact::Candidate(picked) => {
                let from = match picked.place {
                    CandidatePlace::Built { .. } => &buckets.candidates,
                    CandidatePlace::Gated { .. } => &buckets.production,
                };
                let taken = overlay.take_candidate(from, &picked.place, (&picked.sha256, picked.size)).await;
                (taken, "the candidate is gone, by `release sweep` or with its bucket: build it again")
            }
        };
        let failed = || format!("could not take `{}` into the overlay", release.stem());
        taken.with_context(failed)?.with_context(|| gone.to_owned()).with_context(failed)
    });
    let mut sums: Vec<Sha256> = copies.buffered(COPIES_AT_ONCE).try_collect().await?;
    for image in &chosen.images {
        let taken = take_image(buckets, image, directory).await;
        taken.with_context(|| format!("could not take {image} into the overlay"))?;
        sums.push(image.sha256.clone());
    }
    note_taken(directory, &chosen.taken())?;
    if let Some((server, document)) = document {
        let written = overlay.write_document(server, document).await;
        written.with_context(|| format!("could not write the server document `{server}` into the overlay"))?;
    }
    Ok(sums)
}

/// Puts an image of a change into an overlay, under the name and the tag that it is to have in production.
async fn take_image(buckets: &Buckets, image: &PickedImage, directory: &Path) -> Result<()> {
    let (registries, place) = (&buckets.registries, &image.place);
    let record = match place {
        ImagePlace::Built { .. } => &buckets.candidates,
        ImagePlace::Gated { .. } => &buckets.production,
    };
    let gone = "the candidate is gone, by `release sweep` or with its bucket: make it one again";
    let (_, there) = record::read(record, place).await?.context(gone)?;
    ensure!(there.digest == image.sha256, "it is recorded as `sha256:{}`, and not as the change says", there.digest);
    let (at, name, client) = (registries.writable(place)?, registries.production(place)?, registries.client()?);
    let manifest = client.by_digest(at.repository(), &image.sha256.clone().into()).await?.context(gone)?;
    take(client, (at.repository(), &manifest), (directory, &name, place.tag())).await
}

/// Ends a buildset: removes its overlay, then what is recorded of it. What of that is gone already is fine.
pub(crate) async fn end(candidates: &Bucket, buildset: &Buildset) -> Result<Removal> {
    let Buildset { buildset: id, directory, .. } = buildset;
    let removed = Overlay::remove(Path::new(directory), buildset).await;
    let removed = removed.with_context(|| format!("could not remove the overlay of the buildset `{id}`"))?;
    let forgotten = async {
        match candidates.buildset(id).await? {
            Some((generation, _)) => candidates.delete_buildset(id, generation).await,
            None => Ok(()),
        }
    };
    forgotten.await.with_context(|| format!("could not record that the buildset `{id}` has ended"))?;
    Ok(removed)
}

/// Says what of an overlay's directory is left, and why.
pub(crate) fn tell_left(directory: &str, removed: &Removal) {
    match removed {
        Removal::Gone => {}
        Removal::Emptied(reason) => {
            note(format_args!("note: {directory} stays, without what was in it: {reason}"));
        }
        Removal::NotOurs(reason) => warning(format_args!("{directory} stays as it is: {reason}")),
    }
}

/// A directory as a buildset records it: absolute, and without links above it.
pub(crate) fn locate(directory: &Path) -> Result<String> {
    let shown = directory.display();
    let unusable = || format!("no overlay can be in `{shown}`");
    let absolute = std::path::absolute(directory).with_context(unusable)?;
    let (Some(above), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        bail!("no overlay can be in `{shown}`: name a directory that is its own");
    };
    let located: PathBuf = canonical(above).with_context(unusable)?.join(name);
    located.into_os_string().into_string().ok().with_context(|| format!("`{shown}` is not UTF-8"))
}

/// A directory without links, as far as it is there.
fn canonical(directory: &Path) -> io::Result<PathBuf> {
    match (directory.canonicalize(), directory.parent(), directory.file_name()) {
        (Err(error), Some(above), Some(name)) if error.kind() == ErrorKind::NotFound => {
            Ok(canonical(above)?.join(name))
        }
        (found, ..) => found,
    }
}

/// The bucket that an overlay is.
pub(crate) fn url(buildset: &Buildset) -> BucketUrl {
    BucketUrl::File(PathBuf::from(&buildset.directory))
}

/// The overlay in a directory, if there is one, with the buildset whose it is.
pub(crate) async fn existing(directory: &str) -> Result<Option<(Bucket, Buildset)>> {
    let url = BucketUrl::File(PathBuf::from(directory));
    let bucket = match Bucket::open(&url, &BucketOptions::default()).await {
        Ok(bucket) => bucket,
        Err(Error::Unusable { .. }) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("could not look into `{directory}`")),
    };
    let mark = bucket.overlay().await.with_context(|| format!("could not read whose overlay `{directory}` is"))?;
    Ok(mark.map(|buildset| (bucket, buildset)))
}

/// What is in an overlay.
pub(crate) async fn releases(overlay: &Bucket) -> Result<Vec<Release>> {
    let releases = bucket::items(async |after| overlay.all_releases(after.as_ref()).await);
    releases.try_collect().await.context("could not list what is in the overlay")
}

impl Decided {
    /// Whether an overlay is what was decided, to the byte: then there is nothing to do.
    pub(crate) async fn is_in(
        &self,
        (overlay, directory): (&Bucket, &Path),
        Buckets { production, registries, .. }: &Buckets,
    ) -> Result<bool> {
        // Also one that no change gives any more would be served in production's place.
        if taken(directory).ok() != Some(self.chosen.taken()) {
            return Ok(false);
        }
        for image in &self.chosen.images {
            let name = registries.production(&image.place)?;
            if !has(directory, (&name, image.place.tag()), &image.sha256.clone().into())? {
                return Ok(false);
            }
        }
        if let Some((server, document)) = &self.document {
            let read = overlay.server_document(server).await.context("could not read the overlay")?;
            if read.as_ref().map(|(_, read)| read) != Some(document) {
                return Ok(false);
            }
        }
        let sums = stream::iter(&self.chosen.artifacts).map(async |artifact| {
            let sum = match artifact {
                Artifact::Candidate(picked) => Some(picked.sha256.clone()),
                Artifact::Production(release) => {
                    let found = production.release(release).await;
                    sum(found.with_context(|| format!("could not read `{release}`"))?)
                }
            };
            anyhow::Ok((artifact.release().clone(), sum))
        });
        let decided: BTreeMap<ReleaseName, Option<Sha256>> = sums.buffered(READS_AT_ONCE).try_collect().await?;
        let there = releases(overlay).await?.into_iter().map(|release| (release.name.clone(), sum(Some(release))));
        Ok(there.collect::<BTreeMap<_, _>>() == decided && decided.values().all(Option::is_some))
    }
}

/// What is said of the bytes of a release.
fn sum(release: Option<Release>) -> Option<Sha256> {
    Some(release?.metadata.ok()?.sha256)
}
