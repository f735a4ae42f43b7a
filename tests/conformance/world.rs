//! A bucket to try things on, and a second process that uses it.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, Download, Metadata, ObjectPath};
use harness::gcs::FakeGcs;
use tempfile::TempDir;

/// The program `conformance-client`.
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_conformance-client");

/// An empty bucket of a test's own, gone with it.
pub(crate) struct World {
    pub(crate) bucket: Bucket,
    pub(crate) scratch: TempDir,
    url: String,
    endpoint: Option<String>,
    _server: Option<FakeGcs>,
}

impl World {
    pub(crate) async fn file() -> Self {
        let scratch = TempDir::new().expect("a temporary directory");
        let directory = scratch.path().join("bucket");
        std::fs::create_dir(&directory).expect("a directory");
        let url = format!("file://{}", directory.display());
        let bucket = open(&url, None).await;
        Self { bucket, scratch, url, endpoint: None, _server: None }
    }

    pub(crate) async fn gcs() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("conformance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (endpoint, server) = if let Ok(endpoint) = std::env::var("CONFORMANCE_GCS_ENDPOINT") {
            (endpoint, None)
        } else {
            let server = FakeGcs::start(&name);
            (server.url.clone(), Some(server))
        };
        let url = format!("gs://{name}");
        // Opening installs the TLS provider that every client here wants.
        let bucket = open(&url, Some(&endpoint)).await;
        if server.is_none() {
            make_bucket(&endpoint, &name).await;
        }
        let scratch = TempDir::new().expect("a temporary directory");
        Self { bucket, scratch, url, endpoint: Some(endpoint), _server: server }
    }

    /// Runs `conformance-client` on this bucket in a process of its own.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        self.client_at(CLIENT.as_ref(), arguments)
    }

    /// The same, with the program at another place.
    pub(crate) fn client_at(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg(&self.url).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(endpoint) = &self.endpoint {
            command.env("PUSH_GCS_ENDPOINT", endpoint).env("PUSH_GCS_CREDENTIALS", "anonymous");
        }
        command
    }

    /// Creates an object without metadata.
    pub(crate) async fn create(&self, path: &str, content: &str) -> bucket::Generation {
        let created = self.bucket.create(&at(path), content.to_owned().into(), &Metadata::new()).await;
        created.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

pub(crate) async fn open(url: &str, endpoint: Option<&str>) -> Bucket {
    open_patient(url, endpoint, Duration::from_secs(30)).await
}

pub(crate) async fn open_patient(url: &str, endpoint: Option<&str>, timeout: Duration) -> Bucket {
    let url: BucketUrl = url.parse().expect("a bucket's URL");
    let endpoint = endpoint.map(|endpoint| endpoint.parse().expect("a URL"));
    let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, timeout, ..BucketOptions::default() };
    Bucket::open(&url, &options).await.expect("the bucket opens")
}

pub(crate) fn at(path: &str) -> ObjectPath {
    path.parse().expect("an object path")
}

async fn make_bucket(endpoint: &str, name: &str) {
    let url = format!("{endpoint}/storage/v1/b?project=conformance");
    let request = reqwest::Client::new().post(url).json(&serde_json::json!({ "name": name }));
    let answer = request.send().await.expect("the server answers");
    assert!(answer.status().is_success(), "making the bucket: {}", answer.status());
}

/// Most bytes that are read of a document here.
pub(crate) const LIMIT: u64 = 1 << 20;

/// An object's content as text, if there is one.
pub(crate) async fn text(bucket: &Bucket, path: &str) -> Option<String> {
    let object = bucket.get(&at(path), LIMIT).await.expect("the bucket answers")?;
    Some(String::from_utf8(object.content.to_vec()).expect("text"))
}

/// Reads a download to its end.
pub(crate) async fn drain(mut download: Download) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = download.chunk().await.expect("the download goes on") {
        assert!(!chunk.is_empty(), "an empty chunk");
        all.extend_from_slice(&chunk);
    }
    all
}

/// Custom metadata.
pub(crate) fn note(text: &str) -> Metadata {
    Metadata::from([("note".to_owned(), text.to_owned())])
}
