//! Reading what servers should run and do run.

use anyhow::Context;
use bucket::{AppName, AppStatus, Bucket, Fetched, Generation, ReleaseName, ServerDocument, ServerName, Status};

/// One server: what it should run, and what its agent last said.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its document and the generation of it; `None` when it has none.
    pub document: Option<(Generation, ServerDocument)>,
    /// Why the document can't be read; it isn't known then whether there is one.
    pub document_error: Option<String>,
    /// What its agent last reported; `None` when it never did.
    pub status: Option<Status>,
    /// Why the report can't be read.
    pub status_error: Option<String>,
}

impl Server {
    /// The release of the app that its document names.
    pub fn desired(&self, app: &AppName) -> Option<&ReleaseName> {
        self.document.as_ref()?.1.release_of(app)
    }

    /// What its agent last said of the app.
    pub fn reported(&self, app: &str) -> Option<&AppStatus> {
        self.status.as_ref()?.apps.iter().find(|found| found.app == app)
    }

    /// The release of the app that its agent says is installed.
    pub fn installed(&self, app: &AppName) -> Option<&ReleaseName> {
        self.reported(app.as_str())?.installed.as_ref()
    }
}

/// Reads one server. What can't be read is said in it, so that one bad object doesn't hide the rest.
pub async fn read(bucket: &Bucket, name: &ServerName) -> Server {
    let (document, status) = tokio::join!(document(bucket, name), status(bucket, name));
    let (document, document_error) = known_or_why(document);
    let (status, status_error) = known_or_why(status);
    let status = status.map(|(_, status)| status);
    Server { name: name.clone(), document, document_error, status, status_error }
}

/// A server's document with its generation, if it has one.
pub async fn document(
    bucket: &Bucket,
    name: &ServerName,
) -> Result<Option<(Generation, ServerDocument)>, bucket::Error> {
    bucket.server_document(name, None).await.map(found)
}

/// The last report of a server's agent with its generation, if there is one.
pub async fn status(bucket: &Bucket, name: &ServerName) -> Result<Option<(Generation, Status)>, bucket::Error> {
    bucket.status(name, None).await.map(found)
}

fn found<T>(fetched: Fetched<T>) -> Option<(Generation, T)> {
    match fetched {
        Fetched::Found(generation, content) => Some((generation, content)),
        Fetched::Absent | Fetched::Unchanged => None,
    }
}

/// What was read, or in words why it wasn't.
fn known_or_why<T>(read: Result<Option<T>, bucket::Error>) -> (Option<T>, Option<String>) {
    match read {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// The names of all servers that have a document or have reported, in order.
pub async fn names(bucket: &Bucket) -> anyhow::Result<Vec<ServerName>> {
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = bucket.servers(after.as_ref()).await.context("could not list the server documents")?;
        names.extend(page.items.into_iter().map(|summary| summary.server));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    loop {
        let page = bucket.statuses(after.as_ref()).await.context("could not list the reports of the agents")?;
        names.extend(page.items.into_iter().map(|summary| summary.server));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}
