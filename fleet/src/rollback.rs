//! What a server goes back to: what ran there decides, not what was chosen.

use anyhow::{Context, Result, bail};
use bucket::{AppName, Bucket, Generation, HistoryEntry, Release, ReleaseName, ServerDocument, ServerName, Status};

use crate::{
    history::way_back,
    lookup::{ensure_app, ensure_server},
    operation::find,
    server::{Reading, Server},
};

/// As far back as anyone rolls back, in pushes.
const MAX_DEPTH: usize = 500;

/// The release of `app` that a rollback of a server, which was read just now, restores.
///
/// # Errors
/// When there is none, it can't be had, or what decides it can't be read.
pub async fn previous_on(bucket: &Bucket, app: &AppName, read: &Server) -> Result<Release> {
    let server = &read.name;
    let (generation, document) = existing(bucket, read, app).await?;
    let Some(current) = document.release_of(app) else {
        ensure_app(bucket, app).await?;
        bail!("`{server}` does not have `{app}`: nothing to roll back");
    };
    let history = bucket.newest_history(server, MAX_DEPTH).await;
    let history = history.with_context(|| format!("could not read the history of `{server}`"))?;
    let mut pushes = with_told(history, server, *generation, document);
    // By the bucket's order and not by the clocks of those who pushed.
    pushes.sort_by_key(|push| push.generation);
    let before = way_back(&pushes, app, current, read.reported(app.as_str())).with_context(|| {
        format!(
            "no earlier release of this app that stayed up is known of `{server}` (current: `{}`): deploy a release by name \
             instead",
            current.stem()
        )
    })?;
    find_or_cached(bucket, before, read.status()).await.context("could not roll back")
}

/// The document of a server that was read, which must exist.
pub(crate) async fn existing<'a>(
    bucket: &Bucket,
    server: &'a Server,
    app: &AppName,
) -> Result<(&'a Generation, &'a ServerDocument)> {
    match &server.document {
        Reading::Known((generation, document)) => Ok((generation, document)),
        Reading::Unreadable(error) => {
            bail!("could not read the document of `{}`; nothing was written: {error}", server.name)
        }
        Reading::Absent => {
            ensure_server(bucket, &server.name).await?;
            ensure_app(bucket, app).await?;
            bail!("`{}` does not have `{app}`", server.name)
        }
    }
}

/// A server's history, newest first, with those pushes that only its document tells of: whoever wrote it was interrupted,
/// or is just about to record them.
pub fn with_told(
    mut history: Vec<HistoryEntry>,
    server: &ServerName,
    generation: Generation,
    document: &ServerDocument,
) -> Vec<HistoryEntry> {
    let told = document.metadata().pushes().into_iter().filter(|push| !push.recorded);
    let entries = told.map(|push| push.entry(server, push.generation.unwrap_or(generation)));
    let missing: Vec<HistoryEntry> =
        entries.filter(|told| !history.iter().any(|entry| entry.push == told.push && entry.app == told.app)).collect();
    history.extend(missing);
    history.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
    history
}

/// A release by name; one that is gone from the bucket if the server's agent says that it is cached there.
pub(crate) async fn find_or_cached(bucket: &Bucket, name: &ReleaseName, status: Option<&Status>) -> Result<Release> {
    match find(bucket, name).await {
        Err(_)
            if status.is_some_and(|status| status.has_cached(name))
                && matches!(bucket.release(name).await, Ok(None)) =>
        {
            Ok(Release::gone(name.clone()))
        }
        found => found,
    }
}
