//! Changes that are not merged yet, in the candidate bucket, and how much was built from changes: listings, and what has changed
//! is read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use bucket::{
    Ahead, Bucket, Candidate, Change, ChangeId, ChangeState, ChangeSummary, Error, ImagePlace, ObjectInfo, Timestamp,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::channels::{KnownObject, object};

/// Open changes that are kept, and bytes of their objects together.
const KEPT: (usize, u64) = (1000, 32 << 20);
/// Changes of which candidates are counted apart.
const COUNTED: usize = 100_000;

/// What is known of changes and of what was built from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Those that are open, the one first that was written last; a bounded number.
    pub open: Vec<OpenChange>,
    /// How many more are open.
    pub more: usize,
    /// What was built from changes and is not promoted.
    pub built: Built,
}

/// A change that is open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenChange {
    /// The change.
    pub id: ChangeId,
    /// Its object.
    pub change: KnownObject<Change>,
    /// What is ahead of it, or why that can't be said.
    pub ahead: Result<AheadNames, String>,
}

/// What a change needs, as far as it is known, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AheadNames {
    /// The open ones, nearest first.
    pub open: Vec<ChangeId>,
    /// Those that are no longer open, with what became of them.
    pub ended: Vec<(ChangeId, ChangeState)>,
    /// Those of which nothing is known.
    pub unknown: Vec<ChangeId>,
}

impl From<Ahead> for AheadNames {
    fn from(Ahead { open, ended, unknown }: Ahead) -> Self {
        Self { open: open.into_iter().map(|(id, ..)| id).collect(), ended, unknown }
    }
}

/// Candidates in both buckets, packages and images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Built {
    /// How many there are, by what became of their change, and whether they are gated.
    pub count: BTreeMap<(Became, bool), u64>,
    /// The bytes of the packages: those of an image are in its registry.
    pub bytes: u64,
    /// When the oldest was uploaded or recorded, by the bucket's clock.
    pub oldest: Option<Timestamp>,
}

/// What became of the change that a candidate was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Became {
    /// It may be merged yet.
    Open,
    /// It was merged.
    Merged,
    /// It will not be merged.
    Abandoned,
    /// Nothing is known of it.
    Unknown,
}

impl Became {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Open, Self::Merged, Self::Abandoned, Self::Unknown];

    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => ChangeState::Open.as_str(),
            Self::Merged => ChangeState::Merged.as_str(),
            Self::Abandoned => ChangeState::Abandoned.as_str(),
            Self::Unknown => "unknown",
        }
    }
}

impl From<Option<ChangeState>> for Became {
    fn from(state: Option<ChangeState>) -> Self {
        match state {
            Some(ChangeState::Open) => Self::Open,
            Some(ChangeState::Merged) => Self::Merged,
            Some(ChangeState::Abandoned) => Self::Abandoned,
            None => Self::Unknown,
        }
    }
}

/// Candidates of one change, those that are not gated first.
type OfChange = [u64; 2];

/// Reads the open changes and counts what was built; what is `known` of the same generation isn't read again.
pub(super) async fn read(releases: &Bucket, candidates: &Bucket, known: &Changes) -> Result<Changes> {
    let (mut built, mut of_changes) = (Built::default(), BTreeMap::new());
    count(&mut built, &mut of_changes, candidates.built_objects(), false).await.context("could not list builds")?;
    count(&mut built, &mut of_changes, releases.gated_objects(), true).await.context("could not list candidates")?;
    let mut open: Vec<ChangeSummary> = Vec::new();
    let (mut more, mut listed) = (0, std::pin::pin!(candidates.changes(None)));
    while let Some(found) = listed.try_next().await.context("could not list changes")? {
        if let Some(of_change) = of_changes.remove(&found.id) {
            add(&mut built, found.state.into(), of_change);
        }
        if found.state.is_none_or(|state| state == ChangeState::Open) {
            open.push(found);
        }
        if open.len() >= 2 * KEPT.0 {
            more += keep(&mut open);
        }
    }
    more += keep(&mut open);
    for (_, of_change) in of_changes {
        add(&mut built, Became::Unknown, of_change);
    }
    let open = read_open(candidates, open, known).await;
    Ok(Changes { open, more, built })
}

async fn count(
    built: &mut Built,
    of_changes: &mut BTreeMap<ChangeId, OfChange>,
    objects: impl Stream<Item = Result<ObjectInfo, Error>>,
    gated: bool,
) -> Result<(), Error> {
    let mut objects = std::pin::pin!(objects);
    while let Some(info) = objects.try_next().await? {
        let package = Candidate::at(&info).map(|package| (package.place.change().clone(), package.size));
        let candidate = package.or_else(|| ImagePlace::at(&info.path).map(|image| (image.change().clone(), 0)));
        let Some((change, bytes)) = candidate else { continue };
        built.bytes = built.bytes.saturating_add(bytes);
        built.oldest = [built.oldest, Some(info.updated)].into_iter().flatten().min();
        if of_changes.len() < COUNTED || of_changes.contains_key(&change) {
            of_changes.entry(change).or_default()[usize::from(gated)] += 1;
        } else {
            add(built, Became::Unknown, if gated { [0, 1] } else { [1, 0] });
        }
    }
    Ok(())
}

fn add(built: &mut Built, became: Became, of_change: OfChange) {
    for (gated, count) in [false, true].into_iter().zip(of_change) {
        *built.count.entry((became, gated)).or_default() += count;
    }
}

/// Keeps those that were written last, and says how many it dropped.
fn keep(open: &mut Vec<ChangeSummary>) -> usize {
    let before = open.len();
    open.sort_by(|a, b| (b.updated, &a.id).cmp(&(a.updated, &b.id)));
    let mut bytes = 0_u64;
    let fits = |found: &&ChangeSummary| {
        bytes = bytes.saturating_add(found.size);
        bytes <= KEPT.1
    };
    let kept = open.iter().take(KEPT.0).take_while(fits).count();
    open.truncate(kept);
    before - kept
}

async fn read_open(bucket: &Bucket, open: Vec<ChangeSummary>, known: &Changes) -> Vec<OpenChange> {
    let known: BTreeMap<&ChangeId, &KnownObject<Change>> =
        known.open.iter().map(|open| (&open.id, &open.change)).collect();
    let reading = stream::iter(open).map(|ChangeSummary { id, generation, .. }| {
        let known = known.get(&id).copied();
        async move {
            let change = object(generation, known, bucket.change(&id)).await?;
            Some((id, change))
        }
    });
    let read: Vec<(ChangeId, KnownObject<Change>)> =
        reading.buffered(Ahead::AT_ONCE).filter_map(async |found| found).collect().await;
    let kept: BTreeMap<&ChangeId, Arc<Change>> =
        read.iter().filter_map(|(id, change)| Some((id, change.read.known()?.clone()))).collect();
    // Of what is not kept, each is read once in a round.
    let others: Mutex<BTreeMap<ChangeId, Option<Change>>> = Mutex::default();
    let others = || others.lock().unwrap_or_else(PoisonError::into_inner);
    let look_up = |id: ChangeId| {
        let known = kept.get(&id).map(|change| Some((**change).clone())).or_else(|| others().get(&id).cloned());
        async move {
            if let Some(known) = known {
                return Ok(known);
            }
            let change = bucket.change(&id).await?.map(|(_, change)| change);
            others().insert(id, change.clone());
            Ok(change)
        }
    };
    let mut found = Vec::new();
    for (id, change) in &read {
        let needs = change.read.known().map(|change| change.needs.clone()).unwrap_or_default();
        let ahead = Ahead::of(id, &needs, &look_up).await.map(AheadNames::from).map_err(|error| error.to_string());
        if change.read.known().is_none_or(|change| change.state == ChangeState::Open) {
            found.push(OpenChange { id: id.clone(), change: change.clone(), ahead });
        }
    }
    found
}
