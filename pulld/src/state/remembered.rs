//! The server document as last read, for a person who plans while the bucket does not answer.
//!
//! The agent itself never acts on it: it reads it to say what it is doing before it has read the bucket, and that a document
//! was there if the bucket has none any more, which is noted there. Deleting the file does no harm, and ends that warning.

use std::{fs, path::Path, time::SystemTime};

use anyhow::Result;
use bucket::{BucketUrl, Generation, ServerDocument, ServerName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::state::persist;

/// Most bytes of the file that are read.
const LIMIT: u64 = 4 << 20;

/// The file.
#[derive(Serialize, Deserialize)]
struct File {
    bucket: String,
    server: ServerName,
    generation: Generation,
    document: Box<RawValue>,
    /// When the bucket was found to have none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Timestamp>,
}

/// A document as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remembered {
    /// Its generation.
    pub(crate) generation: Generation,
    /// The document.
    pub(crate) document: ServerDocument,
    /// When the bucket last had it, by this machine's clock.
    pub(crate) read: Timestamp,
    /// When the bucket was found to have none any more, if it was.
    pub(crate) gone: Option<Timestamp>,
}

impl Remembered {
    /// The document with its generation.
    pub(crate) fn numbered(&self) -> (Generation, &ServerDocument) {
        (self.generation, &self.document)
    }
}

/// Keeps a document that was read just now.
pub(crate) fn keep(
    path: &Path,
    bucket: &BucketUrl,
    server: &ServerName,
    generation: Generation,
    document: &ServerDocument,
) -> Result<()> {
    let document = serde_json::from_slice(&document.to_json())?;
    let file = File { bucket: bucket.to_string(), server: server.clone(), generation, document, gone: None };
    persist::write(path, &serde_json::to_vec(&file)?)
}

/// Notes that the bucket still has what is kept. That it does not work only makes the document look older.
pub(crate) fn confirm(path: &Path) {
    let _ = fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Notes that the bucket has none any more, and gives the generation that is kept; `None` when none is.
pub(crate) fn note_gone(path: &Path) -> Result<Option<Generation>> {
    let Some(content) = persist::read(path, LIMIT)? else { return Ok(None) };
    let file: File = serde_json::from_slice(&content)?;
    let generation = file.generation;
    if file.gone.is_none() {
        let read = fs::metadata(path)?.modified()?;
        persist::write(path, &serde_json::to_vec(&File { gone: Some(Timestamp::now()), ..file })?)?;
        fs::File::options().append(true).open(path)?.set_modified(read)?;
    }
    Ok(Some(generation))
}

/// What is kept of that server's document in that bucket, if anything is.
///
/// # Errors
/// When the file cannot be read or understood.
pub(crate) fn recall(path: &Path, bucket: &BucketUrl, server: &ServerName) -> Result<Option<Remembered>> {
    let Some(content) = persist::read(path, LIMIT)? else { return Ok(None) };
    let file: File = serde_json::from_slice(&content)?;
    if file.bucket != bucket.to_string() || file.server != *server {
        return Ok(None);
    }
    let document = ServerDocument::parse(file.document.get().as_bytes()).map_err(anyhow::Error::msg)?;
    let read = Timestamp::try_from(fs::metadata(path)?.modified()?)?;
    Ok(Some(Remembered { generation: file.generation, document, read, gone: file.gone }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    #[test]
    fn a_document_is_recalled_for_its_own_server_and_bucket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("document.json");
        let bucket = |name: &str| -> BucketUrl { format!("file:///srv/{name}").parse().unwrap() };
        let (server, other): (ServerName, ServerName) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
        assert_eq!(recall(&path, &bucket("push"), &server).unwrap(), None);
        let json = format!("[\"{}\", \"web/web;oops\", 7]", release("web", 1));
        let document = ServerDocument::parse(json.as_bytes()).unwrap();
        keep(&path, &bucket("push"), &server, Generation(7), &document).unwrap();
        confirm(&path);
        let recalled = recall(&path, &bucket("push"), &server).unwrap().unwrap();
        assert_eq!((recalled.generation, &recalled.document), (Generation(7), &document));
        assert_eq!(note_gone(&path).unwrap(), Some(Generation(7)));
        let gone = recall(&path, &bucket("push"), &server).unwrap().unwrap();
        assert!(gone.gone.is_some_and(|at| at >= gone.read), "{gone:?}");
        assert_eq!(Remembered { gone: None, ..gone }, recalled, "and all else is as it was");
        assert_eq!(recall(&path, &bucket("push"), &other).unwrap(), None);
        assert_eq!(recall(&path, &bucket("other"), &server).unwrap(), None);
        std::fs::write(&path, "{").unwrap();
        assert!(recall(&path, &bucket("push"), &server).is_err());
    }
}
