//! The buildset that a command runs in: what says so to it, and how it finds the overlay.

use anyhow::{Context as _, Result};
use bucket::{Bucket, Buildset, ChangeId};

use super::make::{existing, url};

/// What says to a command that it runs in a buildset, and in which.
const RUNNING: &str = "PUSH_BUILDSET";

/// The buildset that this runs in, if it is one of this change.
pub(crate) async fn running(candidates: &Bucket, change: &ChangeId) -> Result<Option<(Bucket, Buildset)>> {
    let Some(id) = std::env::var(RUNNING).ok().filter(|id| !id.is_empty()) else { return Ok(None) };
    let id = id.parse().with_context(|| format!("{RUNNING} cannot be used"))?;
    let read = candidates.buildset(&id).await.with_context(|| format!("could not read the buildset `{id}`"))?;
    let (_, buildset) = read.with_context(|| format!("the buildset `{id}`, by {RUNNING}, has ended: unset that"))?;
    if buildset.change != *change {
        return Ok(None);
    }
    let overlay = existing(&buildset.directory).await?.filter(|(_, there)| there.buildset == id);
    let (overlay, _) = overlay.with_context(|| format!("the overlay of the buildset `{id}`, by {RUNNING}, is gone"))?;
    // Another try may begin in its place before this one has ended.
    Ok(Some((overlay.of_overlay(&id), buildset)))
}

/// What a command is told of the buildset that it runs in.
pub(crate) fn variables(buildset: &Buildset) -> [(&'static str, String); 2] {
    [("PUSH_BUCKET", url(buildset).to_string()), (RUNNING, buildset.buildset.to_string())]
}
