//! Every verb, on a server that refuses, fails or has no such bucket: none may take the one for the other.

use std::time::Duration;

use bucket::{Bucket, Error, Generation, Metadata, Object};
use harness::gcs::{FakeGcs, Fault, Kind};
use tempfile::TempDir;

use crate::world::{at, open_patient};

const LIMIT: u64 = 1 << 20;
const DOCUMENT: &str = "server/web-1.json";
const KINDS: [Kind; 7] = [Kind::Get, Kind::Head, Kind::List, Kind::Insert, Kind::Chunk, Kind::Rewrite, Kind::Delete];

/// Larger than what is sent in one request.
const LARGE: usize = 5 << 20;

/// No server is asked again that asks for so long a wait: what it answers is seen at once.
const AN_HOUR: Option<u32> = Some(3600);

async fn open(server: &FakeGcs) -> Bucket {
    open_patient("gs://verbs", Some(&server.url), Duration::from_secs(3)).await
}

/// What each verb answers on an object that isn't there.
async fn every_verb(bucket: &Bucket) -> Vec<(&'static str, Result<(), Error>)> {
    let path = at("debs/web/none.deb");
    let mut answers = vec![
        ("get", bucket.get(&path, LIMIT).await.map(drop)),
        ("get_if_changed", bucket.get_if_changed(&path, Generation(1), LIMIT).await.map(drop)),
        ("head", bucket.head(&path).await.map(drop)),
        ("list", bucket.list("server/", None, 10).await.map(drop)),
        ("list_directories", bucket.list_directories("debs/", None, 10).await.map(drop)),
        ("create", bucket.create(&path, "x".into(), &Metadata::new()).await.map(drop)),
        ("replace", bucket.replace(&path, "x".into(), &Metadata::new(), Generation(1)).await.map(drop)),
        ("copy", bucket.copy(&path, Generation(1), &at("debs/web/copy.deb"), &Metadata::new()).await.map(drop)),
        ("delete", bucket.delete(&path, Generation(1)).await),
        ("download", bucket.download(&path, None, 0).await.map(drop)),
        ("pinned download", bucket.download(&path, Some(Generation(1)), 1).await.map(drop)),
    ];
    answers.extend(uploads(bucket).await);
    answers
}

/// A small file goes in one request, a large one in pieces.
async fn uploads(bucket: &Bucket) -> Vec<(&'static str, Result<(), Error>)> {
    let scratch = TempDir::new().expect("a temporary directory");
    let file = scratch.path().join("none.deb");
    let mut answers = Vec::new();
    for (verb, size) in [("create_from_file, small", 3), ("create_from_file, large", LARGE)] {
        std::fs::write(&file, vec![7; size]).expect("a file");
        let path = at("debs/web/none.deb");
        answers.push((
            verb,
            bucket
                .create_from_file(&path, &bucket::SourceFile::read(&file).unwrap(), &Metadata::new(), &|_| {})
                .await
                .map(drop),
        ));
    }
    answers
}

#[tokio::test]
async fn a_server_that_is_unavailable_says_nothing_about_objects() {
    let server = FakeGcs::start("verbs");
    let bucket = open(&server).await;
    for status in [429, 503] {
        for kind in KINDS {
            server.fail(kind, "", Fault::Status(status, AN_HOUR));
        }
        for (verb, answer) in every_verb(&bucket).await {
            assert!(matches!(answer, Err(Error::Unavailable { .. })), "{status}, {verb}: {answer:?}");
        }
        server.heal();
    }
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_said_to_be_by_every_verb() {
    let server = FakeGcs::start("another");
    for (verb, answer) in every_verb(&open(&server).await).await {
        assert!(matches!(answer, Err(Error::Unusable { .. })), "{verb}: {answer:?}");
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_only_when_it_writes_is_forbidden() {
    let server = FakeGcs::start("verbs");
    let bucket = open(&server).await;
    for status in [401, 403] {
        server.fail(Kind::Insert, "", Fault::Status(status, None));
        for (verb, answer) in uploads(&bucket).await {
            assert!(matches!(answer, Err(Error::Forbidden { verb: "write", .. })), "{status}, {verb}: {answer:?}");
        }
        server.heal();
    }
    assert_eq!(bucket.head(&at("debs/web/none.deb")).await.unwrap(), None);
}

#[tokio::test]
async fn writes_sit_out_a_short_storm() {
    let server = FakeGcs::start("verbs");
    let bucket = open(&server).await;
    for retry_after in [None, Some(1)] {
        let path = at(DOCUMENT);
        let storm = |kind| server.fail_next(kind, "", 2, Fault::Status(503, retry_after));
        storm(Kind::Insert);
        let created = bucket.create(&path, "one".into(), &Metadata::new()).await.unwrap();
        storm(Kind::Insert);
        let replaced = bucket.replace(&path, "two".into(), &Metadata::new(), created).await.unwrap();
        let found = bucket.get(&path, LIMIT).await.unwrap();
        assert_eq!(found, Some(Object { generation: replaced, content: "two".into(), metadata: Metadata::new() }));
        storm(Kind::Delete);
        bucket.delete(&path, replaced).await.unwrap();
        assert_eq!(bucket.head(&path).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_small_upload_and_a_delete_whose_answers_were_lost_are_done() {
    let server = FakeGcs::start("verbs");
    let bucket = open(&server).await;
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("web.deb");
    std::fs::write(&file, "deb").unwrap();
    let path = at("debs/web/web.deb");
    server.fail_next(Kind::Insert, "", 1, Fault::LoseAnswer);
    let created = bucket
        .create_from_file(&path, &bucket::SourceFile::read(&file).unwrap(), &Metadata::new(), &|_| {})
        .await
        .unwrap();
    assert_eq!(bucket.head(&path).await.unwrap().unwrap().generation, created);
    server.fail_next(Kind::Delete, "", 1, Fault::LoseAnswer);
    bucket.delete(&path, created).await.unwrap();
    assert_eq!(bucket.head(&path).await.unwrap(), None);
}
