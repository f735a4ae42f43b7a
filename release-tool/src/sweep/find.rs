//! Finding what may be swept away, in both buckets, and what became of its changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use anyhow::{Context as _, Result};
use bucket::{Buildset, BuildsetSummary, Candidate, ChangeId, Error, Overlay, ReleaseName, Timestamp};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;

use super::decide::{ByAge, Kind, Why, by_age, ended, promotable};
use crate::{buildset::make::Buckets, change::record::read};

/// Requests that are made at the same time.
pub(crate) const AT_ONCE: usize = 16;

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
    /// A buildset that was not ended, and what was read of it.
    Buildset(Kind, BuildsetSummary, Box<Buildset>),
}

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What goes.
    pub(crate) swept: Vec<Swept>,
    /// How much was looked at.
    pub(crate) seen: usize,
    /// What could not be found out.
    pub(crate) failed: Vec<anyhow::Error>,
}

impl What {
    fn change(&self) -> &ChangeId {
        match self {
            Self::Candidate(_, candidate) => candidate.place.change(),
            Self::Buildset(_, _, buildset) => &buildset.change,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Candidate(kind, _) | Self::Buildset(kind, _, _) => *kind,
        }
    }

    fn since(&self) -> Timestamp {
        match self {
            Self::Candidate(_, candidate) => candidate.uploaded,
            Self::Buildset(_, summary, _) => summary.updated,
        }
    }

    /// Deletes it, as it was found. That it is gone is fine.
    pub(crate) async fn delete(&self, buckets: &Buckets) -> Result<()> {
        let deleted = match self {
            Self::Candidate(Kind::Gated, candidate) => buckets.production.delete_candidate(candidate).await,
            Self::Candidate(_, candidate) => buckets.candidates.delete_candidate(candidate).await,
            Self::Buildset(kind, BuildsetSummary { id, generation, .. }, buildset) => {
                if *kind == Kind::Overlay {
                    Overlay::remove(Path::new(&buildset.directory), buildset).await?;
                }
                buckets.candidates.delete_buildset(id, *generation).await
            }
        };
        deleted.with_context(|| format!("could not delete {self}"))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candidate(_, candidate) => candidate.place.path().fmt(f),
            Self::Buildset(Kind::Overlay, _, buildset) => {
                write!(f, "the overlay {}", console::safe(&buildset.directory))
            }
            Self::Buildset(_, summary, buildset) => {
                write!(f, "the record of the buildset {} on {}", summary.id, console::safe(&buildset.host))
            }
        }
    }
}

/// Finds what goes. What can't be read is told, and keeps nothing else from being found.
pub(crate) async fn find(buckets: &Buckets, host: &str, older_than: SignedDuration) -> Findings {
    let mut findings = Findings::default();
    let mut found = Vec::new();
    // Listed first: from the answers is known what time it is there.
    let built = listed(&mut findings, buckets.candidates.built_candidates(), "the candidates").await;
    let gated = listed(&mut findings, buckets.production.gated_candidates(), "the gated candidates").await;
    let begun = listed(&mut findings, buckets.candidates.buildsets(), "the buildsets").await;
    found.extend(built.into_iter().map(|candidate| What::Candidate(Kind::Built, Box::new(candidate))));
    found.extend(gated.into_iter().map(|candidate| What::Candidate(Kind::Gated, Box::new(candidate))));
    let read = stream::iter(begun).map(async |summary| {
        let read = buckets.candidates.buildset(&summary.id).await;
        (read.with_context(|| format!("could not read the buildset `{}`", summary.id)), summary)
    });
    let mut read = std::pin::pin!(read.buffered(AT_ONCE));
    while let Some((read, summary)) = read.next().await {
        match read {
            Ok(Some((generation, buildset))) if generation == summary.generation => {
                let kind = if buildset.host == host { Kind::Overlay } else { Kind::Elsewhere };
                found.push(What::Buildset(kind, summary, Box::new(buildset)));
            }
            // It has ended meanwhile.
            Ok(_) => {}
            Err(error) => findings.failed.push(error),
        }
    }
    findings.seen = found.len();

    let mut depends = Vec::new();
    for what in found {
        let bucket = if what.kind() == Kind::Gated { &buckets.production } else { &buckets.candidates };
        let age = bucket.now().duration_since(what.since());
        match by_age(what.kind(), age, older_than) {
            ByAge::Stays => {}
            ByAge::Goes => findings.swept.push(Swept { what, why: Why::Old(age) }),
            ByAge::Depends => depends.push(what),
        }
    }
    let ended = changes_ended(buckets, &mut findings, &depends).await;
    for what in depends {
        if let Some(why) = ended.get(what.change()) {
            findings.swept.push(Swept { why: why.clone(), what });
        }
    }
    findings
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
async fn changes_ended(buckets: &Buckets, findings: &mut Findings, of: &[What]) -> BTreeMap<ChangeId, Why> {
    let changes: BTreeSet<&ChangeId> = of.iter().map(What::change).collect();
    let read = stream::iter(changes).map(async |id| (id, change_ended(buckets, id).await)).buffered(AT_ONCE);
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

async fn change_ended(buckets: &Buckets, id: &ChangeId) -> Result<Option<Why>> {
    // Of a change that nobody knows any more, age alone decides.
    let Some((_, change)) = read(&buckets.candidates, id).await? else { return Ok(None) };
    let mut released = BTreeSet::<ReleaseName>::new();
    if change.state == bucket::ChangeState::Merged {
        for release in promotable(&change) {
            let found = buckets.production.release(release).await;
            if found.with_context(|| format!("could not read `{release}`"))?.is_some() {
                released.insert(release.clone());
            }
        }
    }
    Ok(ended(&change, &released))
}
