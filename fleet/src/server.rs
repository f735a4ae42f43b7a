//! Reading what servers should run and do run.

use std::{borrow::Borrow, collections::BTreeMap, fmt};

use anyhow::Context;
use bucket::{
    AppName, AppStatus, Bucket, Generation, ReleaseName, ServerDocument, ServerName, SharedNames, Status, Timestamp,
};
use futures_util::TryStreamExt as _;

/// One object of a server, as reading it ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Reading<T> {
    /// There is none.
    #[default]
    Absent,
    /// It was read.
    Known(T),
    /// There may be one, but it could not be read, and why.
    Unreadable(String),
}

impl<T> Reading<T> {
    /// What was read.
    pub fn known(&self) -> Option<&T> {
        if let Self::Known(content) = self { Some(content) } else { None }
    }

    /// Why it could not be read.
    pub fn error(&self) -> Option<&str> {
        if let Self::Unreadable(reason) = self { Some(reason) } else { None }
    }
}

impl<T> From<Result<Option<T>, bucket::Error>> for Reading<T> {
    fn from(read: Result<Option<T>, bucket::Error>) -> Self {
        match read {
            Ok(Some(content)) => Self::Known(content),
            Ok(None) => Self::Absent,
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// One server: what it should run, and what its agent last said.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its document, and which generation of it.
    pub document: Reading<(Generation, ServerDocument)>,
    /// What its agent last reported.
    pub status: Reading<Status>,
    /// Whether it was retired, and has no document since.
    pub is_retired: bool,
}

impl Server {
    /// Its document, if it has one that can be read.
    pub fn document(&self) -> Option<&ServerDocument> {
        self.document.known().map(|(_, document)| document)
    }

    /// Its agent's last report, if there is one that can be read.
    pub fn status(&self) -> Option<&Status> {
        self.status.known()
    }

    /// Takes as little memory as it can: has its names of releases in memory once with equal ones, and lists no longer than
    /// what is in them. A fleet has ten thousand, and JSON is read into lists with room for more.
    pub fn compact(&mut self, names: &mut SharedNames) {
        if let Reading::Known((_, document)) = &mut self.document {
            document.share_names(names);
        }
        if let Reading::Known(status) = &mut self.status {
            status.apps.shrink_to_fit();
            for app in &mut status.apps {
                app.units.shrink_to_fit();
                app.rolled_back.shrink_to_fit();
                app.cached.shrink_to_fit();
                let one = [&mut app.desired, &mut app.installed].into_iter().flatten();
                one.chain(&mut app.rolled_back).chain(&mut app.cached).for_each(|name| names.share(name));
            }
        }
    }

    /// With its report dated by the bucket's clock, if it is known when it was written there.
    fn dated(mut self, written: Option<Timestamp>) -> Self {
        if let (Reading::Known(status), Some(written)) = (&mut self.status, written) {
            status.date(written);
        }
        self
    }

    /// Why its document or its report could not be read.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        self.document.error().into_iter().chain(self.status.error())
    }

    /// The releases that its document names.
    pub fn releases(&self) -> impl Iterator<Item = &ReleaseName> {
        self.document().into_iter().flat_map(ServerDocument::releases)
    }

    /// What its agent last reported about each of its apps.
    pub fn reported_apps(&self) -> &[AppStatus] {
        self.status().map(|status| status.apps.as_slice()).unwrap_or_default()
    }

    /// The release of the app that its document names.
    pub fn desired(&self, app: &AppName) -> Option<&ReleaseName> {
        self.document()?.release_of(app)
    }

    /// What its agent last said of the app.
    pub fn reported(&self, app: &str) -> Option<&AppStatus> {
        self.reported_apps().iter().find(|found| found.app == app)
    }

    /// Whether its document names a release of the app, or its agent reports it.
    pub fn has_app(&self, app: &str) -> bool {
        self.releases().any(|release| release.app().as_str() == app) || self.reported(app).is_some()
    }

    /// Whether it should have the release, or its agent says that it does.
    pub fn has(&self, release: &ReleaseName) -> bool {
        [self.desired(release.app()), self.installed(release.app())].contains(&Some(release))
    }

    /// The release of the app that its agent says is installed.
    pub fn installed(&self, app: &AppName) -> Option<&ReleaseName> {
        self.reported(app.as_str())?.installed.as_ref()
    }
}

/// Servers as they were read, by name.
pub trait Servers: fmt::Debug + Sync {
    /// A server, if it was read.
    fn get(&self, name: &ServerName) -> Option<&Server>;
}

impl<S: Borrow<Server> + fmt::Debug + Sync> Servers for BTreeMap<ServerName, S> {
    fn get(&self, name: &ServerName) -> Option<&Server> {
        BTreeMap::get(self, name).map(Borrow::borrow)
    }
}

/// Reads one server. What can't be read is said in it, so that one bad object doesn't hide the rest.
pub async fn read(bucket: &Bucket, name: &ServerName) -> Server {
    let (document, status) = tokio::join!(document(bucket, name), status(bucket, name));
    let status = status.map(|found| found.map(|(_, status)| status));
    // Who can't see whether it was retired sees that it has no document.
    let is_retired = matches!(document, Ok(None)) && bucket.is_retired(name).await.unwrap_or_default();
    Server { name: name.clone(), document: document.into(), status: status.into(), is_retired }
}

/// Reads one server whose report was written at that time by the bucket's clock, as a listing tells.
pub async fn read_listed(bucket: &Bucket, name: &ServerName, written: Option<Timestamp>) -> Server {
    read(bucket, name).await.dated(written)
}

/// Reads one server, and when its report was written by the bucket's clock.
pub async fn read_dated(bucket: &Bucket, name: &ServerName) -> Server {
    let (server, written) = tokio::join!(read(bucket, name), bucket.status_written(name));
    // Without it the agent's own time counts.
    server.dated(written.unwrap_or_default())
}

/// A server's document with its generation, if it has one.
pub async fn document(
    bucket: &Bucket,
    name: &ServerName,
) -> Result<Option<(Generation, ServerDocument)>, bucket::Error> {
    bucket.server_document(name).await
}

/// The last report of a server's agent with its generation, if there is one.
pub async fn status(bucket: &Bucket, name: &ServerName) -> Result<Option<(Generation, Status)>, bucket::Error> {
    bucket.status(name).await
}

/// The names of all servers that have a document or have reported, in order.
pub async fn names(bucket: &Bucket) -> anyhow::Result<Vec<ServerName>> {
    Ok(listed(bucket).await?.into_keys().collect())
}

/// All servers that have a document or have reported, in order, and when the report was written by the bucket's clock.
pub async fn listed(bucket: &Bucket) -> anyhow::Result<BTreeMap<ServerName, Option<Timestamp>>> {
    let documents = bucket.servers().map_ok(|summary| (summary.server, None)).try_collect::<BTreeMap<_, _>>();
    let mut listed = documents.await.context("could not list the server documents")?;
    let reports = bucket.statuses().map_ok(|summary| (summary.server, Some(summary.updated))).try_collect::<Vec<_>>();
    listed.extend(reports.await.context("could not list the reports of the agents")?);
    Ok(listed)
}
