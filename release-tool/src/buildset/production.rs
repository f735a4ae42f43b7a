//! What of production an overlay takes, before anything of a change replaces it.

use std::{collections::BTreeSet, pin::pin};

use anyhow::{Context as _, Result, ensure};
use bucket::{AppName, Bucket, ChannelName, Release, ReleaseName, ServerDocument, ServerName};
use console::nearest;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// The channel that points to what runs in production, where there is one.
const PRODUCTION: &str = "prod";

/// Apps that are looked at at the same time.
const AT_ONCE: usize = 16;

/// Of what somebody wants an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What a server should have.
    Server(ServerName),
    /// These apps.
    Apps(BTreeSet<AppName>),
    /// All apps that have releases.
    All,
}

/// What production has of that.
#[derive(Debug, Default)]
pub(crate) struct Production {
    /// The server document that was asked for.
    pub(crate) document: Option<(ServerName, ServerDocument)>,
    /// At most one release of each app, in order.
    pub(crate) releases: Vec<ReleaseName>,
    /// The apps that were asked for, of which it has nothing that may be chosen.
    pub(crate) lacking: Vec<AppName>,
}

/// Reads what production has.
///
/// # Errors
/// When it can't be read, or there is no such server document.
pub(crate) async fn read(bucket: &Bucket, scope: &Scope) -> Result<Production> {
    let apps: Vec<AppName> = match scope {
        Scope::Server(server) => {
            let read = bucket.server_document(server).await;
            let read = read.with_context(|| format!("could not read the server document `{server}`"))?;
            let Some((_, document)) = read else { return Err(no_document(bucket, server).await) };
            ensure!(
                document.unread() == 0,
                "the server document `{server}` has more than {} entries, and not all of them would be in the overlay",
                ServerDocument::MAX_ENTRIES
            );
            let releases = document.releases().cloned().collect();
            // What the last pushes were, and what the agent is told of holds, is no business of a try.
            let document = document.with_metadata(<_>::default());
            return Ok(Production { document: Some((server.clone(), document)), releases, lacking: Vec::new() });
        }
        Scope::Apps(apps) => apps.iter().cloned().collect(),
        Scope::All => bucket.apps().try_collect().await.context("could not list the apps")?,
    };
    let chosen = stream::iter(&apps).map(async |app| {
        let chosen = release_of(bucket, app).await;
        chosen.with_context(|| format!("could not find out which release of `{app}` is in production"))
    });
    let chosen: Vec<Option<ReleaseName>> = chosen.buffered(AT_ONCE).try_collect().await?;
    let mut production = Production::default();
    for (app, chosen) in apps.into_iter().zip(chosen) {
        match chosen {
            Some(release) => production.releases.push(release),
            None => production.lacking.push(app),
        }
    }
    Ok(production)
}

/// What the channel of production points to, else the newest release that nothing speaks against.
async fn release_of(bucket: &Bucket, app: &AppName) -> Result<Option<ReleaseName>> {
    let channel: ChannelName = PRODUCTION.parse()?;
    if let Some(release) = bucket.channel(app, &channel).await?.and_then(|(_, channel)| channel.release) {
        return Ok(Some(release));
    }
    let rejected = bucket.rejected(app).await?;
    let mut newest: Option<Release> = None;
    let mut releases = pin!(bucket.releases(app));
    while let Some(release) = releases.try_next().await? {
        let is_newer = newest.as_ref().is_none_or(|newest| newest.uploaded <= release.uploaded);
        if is_newer && release.passed_over().is_none() && !rejected.contains(&release.name) {
            newest = Some(release);
        }
    }
    Ok(newest.map(|release| release.name))
}

async fn no_document(bucket: &Bucket, server: &ServerName) -> anyhow::Error {
    let servers: Vec<String> = match bucket.servers().map_ok(|found| found.server.to_string()).try_collect().await {
        Ok(servers) => servers,
        Err(error) => return anyhow::Error::new(error).context("could not list the server documents"),
    };
    match nearest(server.as_str(), &servers) {
        Some(near) => anyhow::anyhow!("no server document `{server}` in the bucket; did you mean `{near}`?"),
        None => anyhow::anyhow!("no server document `{server}` in the bucket: check the name"),
    }
}
