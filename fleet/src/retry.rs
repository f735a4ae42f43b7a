//! Trying a release again which a server's agent has given up.

use anyhow::{Result, bail};
use bucket::{AppName, Bucket, Release};

use crate::{
    lookup::ensure_app,
    rollback::{existing, find_or_cached},
    server::Server,
};

/// The release of `app` that is tried again on a server, which was read just now: the one that its document names.
///
/// # Errors
/// When it names none, it can't be had, or the server could not be read.
pub async fn current_on(bucket: &Bucket, app: &AppName, read: &Server) -> Result<Release> {
    let (_, document) = existing(bucket, read, app).await?;
    let Some(current) = document.release_of(app) else {
        ensure_app(bucket, app).await?;
        bail!("`{}` does not have `{app}`: nothing to retry", read.name);
    };
    find_or_cached(bucket, current, read.status()).await
}
