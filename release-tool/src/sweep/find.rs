//! Finding what may be swept away, in both buckets, and what became of its changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use anyhow::{Context as _, Result};
use bucket::{
    AppName, ArtifactType, Bucket, Buildset, BuildsetSummary, Candidate, ChangeId, Commit, Error, Image, ImagePlace,
    ObjectInfo, Overlay, RecordedCandidate, Release, ReleaseName, Removal, Sha256, Timestamp,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;

use super::decide::{ByAge, Kind, Why, by_age, ended, gated_ended};
use crate::{
    buildset::machine::Machine,
    change::{
        candidates::promotable,
        image::{
            judge::is_promoted,
            record::understood,
            remove::{Registries, lies_in, remove},
        },
        record::read,
    },
};

/// Requests that are made at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// Where is swept.
#[derive(Debug)]
pub(crate) struct Places {
    /// What is released.
    pub(crate) production: Bucket,
    /// What is not merged yet, where there is a bucket for that. Without it only files of runs are looked for.
    pub(crate) candidates: Option<Bucket>,
    /// Where images of changes are.
    pub(crate) registries: Registries,
}

/// What goes, and why.
#[derive(Debug)]
pub(crate) struct Swept {
    pub(crate) what: What,
    pub(crate) why: Why,
}

/// Something that may go, as it was found.
#[derive(Debug)]
pub(crate) enum What {
    /// A candidate, in either bucket.
    Candidate(Kind, Box<Candidate>),
    /// The record of an image of a change, whose tag goes with it, and what it, or another one of its change, was promoted as.
    Image(Kind, ImagePlace, Box<ObjectInfo>, Option<Promoted>),
    /// What lies among candidates of this kind and is none.
    Stray(Kind, Box<ObjectInfo>),
    /// A file that is kept of a run, and whether that is beside the candidates.
    Artifact { of_change: bool, info: Box<ObjectInfo> },
    /// A buildset that was not ended, and what was read of it.
    Buildset(Kind, BuildsetSummary, Box<Buildset>),
    /// What is recorded of a buildset and can't be read.
    Unread(BuildsetSummary),
}

/// The commit that an image became that of, and the digest of that image.
type Promoted = (Commit, Sha256);

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What goes.
    pub(crate) swept: Vec<Swept>,
    /// What is no candidate, lies where candidates do, and stays until it is old enough.
    pub(crate) strays: Vec<What>,
    /// How much was looked at.
    pub(crate) seen: usize,
    /// What is recorded and makes no sense: it goes by its age.
    pub(crate) unread: Vec<anyhow::Error>,
    /// What could not be found out.
    pub(crate) failed: Vec<anyhow::Error>,
}

impl What {
    /// What an object is that lies among candidates of this kind.
    fn at(kind: Kind, info: ObjectInfo) -> Self {
        match (Candidate::at(&info), ImagePlace::at(&info.path)) {
            (Some(candidate), _) => Self::Candidate(kind, Box::new(candidate)),
            (None, Some(place)) => Self::Image(kind, place, Box::new(info), None),
            (None, None) => Self::Stray(kind, Box::new(info)),
        }
    }

    /// The bucket that has it.
    fn bucket<'a>(&self, places: &'a Places) -> Option<&'a Bucket> {
        match self {
            Self::Candidate(Kind::Gated, _)
            | Self::Image(Kind::Gated, ..)
            | Self::Stray(Kind::Gated, _)
            | Self::Artifact { of_change: false, .. } => Some(&places.production),
            _ => places.candidates.as_ref(),
        }
    }

    fn change(&self) -> Option<&ChangeId> {
        match self {
            Self::Candidate(_, candidate) => Some(candidate.place.change()),
            Self::Image(_, place, ..) => Some(place.change()),
            Self::Buildset(_, _, buildset) => Some(&buildset.change),
            Self::Stray(..) | Self::Artifact { .. } | Self::Unread(_) => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Candidate(kind, _) | Self::Image(kind, ..) | Self::Buildset(kind, _, _) => *kind,
            Self::Stray(..) => Kind::Stray,
            Self::Artifact { .. } => Kind::Artifact,
            Self::Unread(_) => Kind::Elsewhere,
        }
    }

    fn since(&self) -> Timestamp {
        match self {
            Self::Candidate(_, candidate) => candidate.uploaded,
            Self::Image(_, _, info, _) | Self::Stray(_, info) | Self::Artifact { info, .. } => info.updated,
            Self::Buildset(_, summary, _) | Self::Unread(summary) => summary.updated,
        }
    }

    /// Deletes it, as it was found; what is left of an overlay. That it is gone is fine.
    pub(crate) async fn delete(&self, places: &Places) -> Result<Removal> {
        self.delete_from(places).await.with_context(|| format!("could not delete {self}"))
    }

    async fn delete_from(&self, places: &Places) -> Result<Removal> {
        let mut removed = Removal::Gone;
        let Some(bucket) = self.bucket(places) else { return Ok(removed) };
        match self {
            Self::Candidate(_, candidate) => bucket.delete_candidate(candidate).await?,
            Self::Image(_, place, info, promoted) => {
                // What was promoted is as it was, whatever becomes of the tag that it had before.
                let kept: Vec<_> =
                    promoted.iter().map(|(commit, digest)| (commit.into(), digest.clone().into())).collect();
                remove(&places.registries, (bucket, place, info.generation), &kept).await?;
            }
            Self::Stray(_, info) | Self::Artifact { info, .. } => bucket.delete(&info.path, info.generation).await?,
            Self::Buildset(kind, BuildsetSummary { id, generation, .. }, buildset) => {
                if *kind == Kind::Overlay {
                    removed = Overlay::remove(Path::new(&buildset.directory), buildset).await?;
                }
                bucket.delete_buildset(id, *generation).await?;
            }
            Self::Unread(BuildsetSummary { id, generation, .. }) => bucket.delete_buildset(id, *generation).await?,
        }
        Ok(removed)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candidate(_, candidate) => candidate.place.path().fmt(f),
            Self::Image(_, place, info, _) => match place.temporary() {
                Ok(tag) => write!(f, "the image {}:{tag} ({})", place.app(), info.path),
                Err(_) => info.path.fmt(f),
            },
            Self::Stray(_, info) => write!(f, "{} (no candidate)", console::safe(info.path.as_str())),
            Self::Artifact { info, .. } => f.write_str(&console::safe(info.path.as_str())),
            Self::Buildset(Kind::Overlay, _, buildset) => {
                write!(f, "the overlay {}", console::safe(&buildset.directory))
            }
            Self::Buildset(_, summary, buildset) => {
                write!(f, "the record of the buildset {} on {}", summary.id, console::safe(&buildset.host))
            }
            Self::Unread(summary) => write!(f, "the unreadable record of the buildset {}", summary.id),
        }
    }
}

/// Finds what goes. What can't be read is told, and keeps nothing else from being found.
pub(crate) async fn find(places: &Places, here: &Machine, older_than: SignedDuration) -> Findings {
    let Places { production, candidates, .. } = places;
    let (mut findings, mut found) = (Findings::default(), Vec::new());
    for (bucket, of_change) in [(candidates.as_ref(), true), (Some(production), false)] {
        let Some(bucket) = bucket else { continue };
        let kept = listed(&mut findings, bucket.artifact_objects(), "the artifacts of runs").await;
        found.extend(kept.into_iter().map(|info| What::Artifact { of_change, info: Box::new(info) }));
    }
    if let Some(candidates) = candidates {
        let built = listed(&mut findings, candidates.built_objects(), "the candidates").await;
        let gated = listed(&mut findings, production.gated_objects(), "the gated candidates").await;
        found.extend(built.into_iter().map(|info| What::at(Kind::Built, info)));
        found.extend(gated.into_iter().map(|info| What::at(Kind::Gated, info)));
        find_buildsets(candidates, here, &mut findings, &mut found).await;
    }
    findings.seen = found.len();

    let (mut old, mut depends) = (Vec::new(), Vec::new());
    for what in found {
        // From the answers to the listings is known what time it is there.
        let Some(bucket) = what.bucket(places) else { continue };
        let age = bucket.now().duration_since(what.since());
        match by_age(what.kind(), age, older_than) {
            ByAge::Stays if what.kind() == Kind::Stray => findings.strays.push(what),
            ByAge::Stays => {}
            ByAge::Goes => old.push((what, age)),
            ByAge::Depends => depends.push((what, age)),
        }
    }
    place_images(production, [&mut old, &mut depends], &mut findings).await;
    findings.swept.extend(old.into_iter().map(|(what, age)| Swept { what, why: Why::Old(age) }));
    judge(places, depends, older_than, &mut findings).await;
    let swept = stream::iter(std::mem::take(&mut findings.swept)).map(async |swept| {
        let is_ours = lies_elsewhere(places, &swept.what).await.map(|elsewhere| !elsewhere);
        (swept, is_ours)
    });
    let mut swept = std::pin::pin!(swept.buffered(AT_ONCE));
    while let Some((swept, is_ours)) = swept.next().await {
        match is_ours {
            Ok(true) => findings.swept.push(swept),
            Ok(false) => {}
            Err(error) => findings.failed.push(error),
        }
    }
    findings
}

/// Whether something is an image in another repository than the release.toml here names: whoever sweeps where that is named removes
/// it.
async fn lies_elsewhere(places: &Places, what: &What) -> Result<bool> {
    let (What::Image(_, place, ..), Some(bucket)) = (what, what.bucket(places)) else { return Ok(false) };
    let Some((_, image)) = understood(bucket, place).await? else { return Ok(false) };
    Ok(!places.registries.writable(place).is_ok_and(|to| lies_in(&image, to.repository())))
}

/// Finds buildsets that were not ended.
async fn find_buildsets(candidates: &Bucket, here: &Machine, findings: &mut Findings, found: &mut Vec<What>) {
    let begun = listed(findings, candidates.buildsets(), "the buildsets").await;
    let read = stream::iter(begun).map(async |summary| (candidates.buildset(&summary.id).await, summary));
    let mut read = std::pin::pin!(read.buffered(AT_ONCE));
    while let Some((read, summary)) = read.next().await {
        match read {
            Ok(Some((generation, buildset))) if generation == summary.generation => {
                let kind = if here.has(&buildset) { Kind::Overlay } else { Kind::Elsewhere };
                found.push(What::Buildset(kind, summary, Box::new(buildset)));
            }
            // It has ended meanwhile.
            Ok(_) => {}
            Err(error) => {
                let is_malformed = matches!(error, Error::Malformed { .. });
                let error = anyhow::Error::new(error).context(format!("could not read the buildset `{}`", summary.id));
                if is_malformed {
                    findings.unread.push(error);
                    found.push(What::Unread(summary));
                } else {
                    findings.failed.push(error);
                }
            }
        }
    }
}

/// What becomes of that whose age, which is told with it, says nothing: it goes if it, or its change, has ended.
async fn judge(
    places: &Places,
    depends: Vec<(What, SignedDuration)>,
    older_than: SignedDuration,
    findings: &mut Findings,
) {
    let ended = changes_ended(places, findings, depends.iter().filter_map(|(what, _)| what.change())).await;
    let judged = stream::iter(depends).map(async |(what, age)| {
        let change = what.change().and_then(|id| ended.get(id));
        let why = match &what {
            What::Candidate(Kind::Gated, candidate) => is_released(&places.production, candidate)
                .await
                .map(|is_released| gated_ended(is_released, change, age, older_than)),
            What::Image(Kind::Gated, .., promoted) => {
                // What promotes it puts its tags before the change says so: it may have been killed in between.
                let is_told = change == Some(&Why::Promoted) || age > older_than;
                Ok(gated_ended(promoted.is_some() && is_told, change, age, older_than))
            }
            _ => Ok(change.cloned()),
        };
        (what, why)
    });
    let mut judged = std::pin::pin!(judged.buffered(AT_ONCE));
    while let Some((what, why)) = judged.next().await {
        match why {
            Ok(why) => findings.swept.extend(why.map(|why| Swept { what, why })),
            Err(error) => findings.failed.push(error),
        }
    }
}

async fn listed<T>(findings: &mut Findings, listing: impl Stream<Item = Result<T, Error>>, what: &str) -> Vec<T> {
    match listing.try_collect().await {
        Ok(listed) => listed,
        Err(error) => {
            findings.failed.push(anyhow::Error::new(error).context(format!("could not list {what}")));
            Vec::new()
        }
    }
}

/// Of which changes nothing is of use any more, and why.
async fn changes_ended<'a>(
    places: &Places,
    findings: &mut Findings,
    changes: impl Iterator<Item = &'a ChangeId>,
) -> BTreeMap<ChangeId, Why> {
    let changes: BTreeSet<&ChangeId> = changes.collect();
    let read = stream::iter(changes).map(async |id| (id, change_ended(places, id).await)).buffered(AT_ONCE);
    let mut read = std::pin::pin!(read);
    let mut all = BTreeMap::new();
    while let Some((id, read)) = read.next().await {
        match read {
            Ok(why) => all.extend(why.map(|why| (id.clone(), why))),
            Err(error) => findings.failed.push(error),
        }
    }
    all
}

async fn change_ended(Places { production, candidates, .. }: &Places, id: &ChangeId) -> Result<Option<Why>> {
    let Some(candidates) = candidates else { return Ok(None) };
    // Of a change that nobody knows any more, age alone decides.
    let Some((_, change)) = read(candidates, id).await? else { return Ok(None) };
    let mut released = BTreeSet::<String>::new();
    if change.state == bucket::ChangeState::Merged {
        for recorded in promotable(&change) {
            let RecordedCandidate { app, release, sha256, size, landed, .. } = recorded;
            let is_released = match (&recorded.artifact, landed) {
                (ArtifactType::Image, Some(landed)) => {
                    let image = production.image(app, landed).await;
                    let image = image.with_context(|| format!("could not read the image of {landed} of `{app}`"))?;
                    image.is_some_and(|image| is_promoted(&image, id, sha256))
                }
                (ArtifactType::Image, None) => false,
                _ => has_release(production, release, sha256, *size).await?,
            };
            if is_released {
                released.insert(recorded.path.clone());
            }
        }
    }
    Ok(ended(&change, &released))
}

/// Says of gated images as what they are promoted by now, or another one that was gated of their change after them: the images of an
/// app are listed once, however many there are of it. Where that can't be done none of the app goes.
async fn place_images(production: &Bucket, found: [&mut Vec<(What, SignedDuration)>; 2], findings: &mut Findings) {
    let gated = found.iter().flat_map(|found| found.iter()).filter_map(|(what, _)| match what {
        What::Image(_, ImagePlace::Gated { app, .. }, ..) => Some(app.clone()),
        _ => None,
    });
    let (apps, mut images) = (gated.collect::<BTreeSet<AppName>>(), BTreeMap::<AppName, Vec<Image>>::new());
    let listed = stream::iter(apps).map(async |app| {
        let is_promoted = |image: &Image| image.promoted.is_some();
        let promoted = production.images(&app).try_filter_map(async |listed| Ok(listed.image.ok().filter(is_promoted)));
        (promoted.try_collect::<Vec<_>>().await, app)
    });
    let mut listed = std::pin::pin!(listed.buffered(AT_ONCE));
    while let Some((listed, app)) = listed.next().await {
        match listed {
            Ok(promoted) => drop(images.insert(app, promoted)),
            Err(error) => {
                let told = format!("could not list which images of `{app}` are recorded");
                findings.failed.push(anyhow::Error::new(error).context(told));
            }
        }
    }
    for found in found {
        found.retain_mut(|(what, _)| {
            let What::Image(_, ImagePlace::Gated { change, app, tag, digest }, _, promoted) = what else { return true };
            let Some(images) = images.get(app) else { return false };
            let is_instead = |image: &&Image| {
                image.promoted.as_ref().is_some_and(|promoted| promoted.change == *change && promoted.tag == *tag)
            };
            let itself = images.iter().find(|image| is_promoted(image, change, digest));
            let image = itself.or_else(|| images.iter().find(is_instead));
            *promoted = image.map(|image| (image.commit.clone(), image.digest.clone()));
            true
        });
    }
}

/// Whether a gated candidate is a release by now. One of which nobody knows the bytes is none.
async fn is_released(production: &Bucket, candidate: &Candidate) -> Result<bool> {
    let Ok(facts) = &candidate.metadata else { return Ok(false) };
    has_release(production, candidate.place.release(), &facts.release.sha256, candidate.size).await
}

/// Whether production has a release with these bytes.
async fn has_release(production: &Bucket, release: &ReleaseName, sha256: &Sha256, size: u64) -> Result<bool> {
    let found = production.release(release).await;
    let found = found.with_context(|| format!("could not read `{release}`"))?;
    let is_same = |found: Release| found.size == size && found.metadata.is_ok_and(|facts| facts.sha256 == *sha256);
    Ok(found.is_some_and(is_same))
}
