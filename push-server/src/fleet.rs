//! Reading what servers should run and do run.

use anyhow::{Context, Result};
use bucket::{Bucket, Fetched, Generation, ServerDocument, ServerName, Status};

/// One server: what it should run, and what its agent last said.
#[derive(Debug, Clone)]
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

/// Reads one server. What can't be read is said in it, so that one bad object doesn't hide the rest.
pub async fn server(bucket: &Bucket, name: &ServerName) -> Server {
    let (document, status) = (bucket.server_document(name, None).await, bucket.status(name, None).await);
    let (document, document_error) = match document {
        Ok(Fetched::Found(generation, document)) => (Some((generation, document)), None),
        Ok(Fetched::Absent | Fetched::Unchanged) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let (status, status_error) = match status {
        Ok(Fetched::Found(_, status)) => (Some(status), None),
        Ok(Fetched::Absent | Fetched::Unchanged) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Server { name: name.clone(), document, document_error, status, status_error }
}

/// The names of all servers that have a document or have reported, in order.
pub async fn names(bucket: &Bucket) -> Result<Vec<ServerName>> {
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
