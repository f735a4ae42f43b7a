//! Reading and writing what is recorded of a change.

use anyhow::{Context as _, Result};
use bucket::{Ahead, Bucket, Change, ChangeId, Commit, Error, Generation, RecordedCandidate};
use console::{nearest, note};
use futures_util::TryStreamExt as _;

use super::candidates::recorded;
use crate::builder::Builder;

/// How often a change is read again that somebody else has just written.
const TRIES: usize = 20;

/// What is recorded of a change, if it is known.
pub(crate) async fn read(bucket: &Bucket, id: &ChangeId) -> Result<Option<(Generation, Change)>> {
    bucket.change(id).await.with_context(|| format!("could not read the change `{id}`"))
}

/// What is recorded of a change.
///
/// # Errors
/// Also that nothing is known of it.
pub(crate) async fn read_known(bucket: &Bucket, id: &ChangeId) -> Result<Change> {
    match read(bucket, id).await? {
        Some((_, change)) => Ok(change),
        None => Err(unknown(bucket, id).await),
    }
}

/// What is ahead of a change.
pub(crate) async fn ahead(bucket: &Bucket, id: &ChangeId, change: &Change) -> Result<Ahead> {
    let read = |need| async move { Ok(bucket.change(&need).await?.map(|(_, change)| change)) };
    Ok(Ahead::of(id, &change.needs, read).await?)
}

/// Writes what becomes of a change, over what was read, once more whenever somebody else was faster.
pub(crate) async fn update(
    bucket: &Bucket,
    id: &ChangeId,
    becomes: impl AsyncFn(Option<&Change>) -> Result<Change>,
) -> Result<Change> {
    for _ in 0..TRIES {
        let before = read(bucket, id).await?;
        let change = becomes(before.as_ref().map(|(_, change)| change)).await?;
        if write(bucket, id, before, &change).await? {
            return Ok(change);
        }
    }
    Err(always_late(id))
}

/// Has a change say what was made of a commit, if that is its last patchset still.
pub(crate) async fn tell(
    bucket: &Bucket,
    id: &ChangeId,
    made: &[RecordedCandidate],
    (commit, by): (&Commit, &str),
) -> Result<()> {
    let told = update_at_once(bucket, id, |before| {
        let before = before.with_context(|| format!("the record of `{id}` is gone"))?.clone();
        made.iter().try_fold(before, |change, candidate| recorded(id, &change, candidate, commit, by))
    });
    told.await.map(drop)
}

/// Like [`update`], where nothing has to be read to know what becomes of it.
pub(crate) async fn update_at_once(
    bucket: &Bucket,
    id: &ChangeId,
    becomes: impl Fn(Option<&Change>) -> Result<Change>,
) -> Result<Change> {
    for _ in 0..TRIES {
        let before = read(bucket, id).await?;
        let change = becomes(before.as_ref().map(|(_, change)| change))?;
        if write(bucket, id, before, &change).await? {
            return Ok(change);
        }
    }
    Err(always_late(id))
}

/// Writes what becomes of a change over what was read, unless that is the same; `false` if somebody else was faster.
async fn write(bucket: &Bucket, id: &ChangeId, before: Option<(Generation, Change)>, change: &Change) -> Result<bool> {
    if before.as_ref().is_some_and(|(_, before)| before == change) {
        return Ok(true);
    }
    if let Some(new) = bucket.mark().await.context("could not mark the bucket")? {
        note(new);
    }
    match bucket.write_change(id, change, before.map(|(generation, _)| generation)).await {
        Ok(_) => Ok(true),
        Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("could not record the change `{id}`")),
    }
}

fn always_late(id: &ChangeId) -> anyhow::Error {
    anyhow::anyhow!("could not record the change `{id}`: others wrote it {TRIES} times meanwhile; try again")
}

/// That nothing is known of a change, with the nearest one that there is.
pub(crate) async fn unknown(bucket: &Bucket, id: &ChangeId) -> anyhow::Error {
    let known: Vec<String> = match bucket.changes(None).map_ok(|found| found.id.to_string()).try_collect().await {
        Ok(known) => known,
        Err(error) => return anyhow::Error::new(error).context("could not list the changes"),
    };
    let hint = match nearest(&id.to_string(), &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`release change open {id}` records it"),
    };
    anyhow::anyhow!("nothing is known of the change `{id}`: {hint}")
}

/// As whom somebody records.
pub(crate) fn by() -> Result<String> {
    let Builder { user, host } = Builder::find(|key| std::env::var(key).ok())?;
    Ok(format!("{user}@{host}"))
}
