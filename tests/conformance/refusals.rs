//! What is said of an answer that isn't the expected one: the storage's own words, and whose answer it seems to be.

use std::time::Duration;

use bucket::{Bucket, Error, Generation, Metadata, SourceFile};
use harness::gcs::{FakeGcs, Fault, Kind};
use tempfile::TempDir;

use crate::world::{at, open_patient};

const LIMIT: u64 = 1 << 20;
const DOCUMENT: &str = "server/web-1.json";

async fn world() -> (FakeGcs, Bucket, Generation) {
    let server = FakeGcs::start("refusing");
    let bucket = open_patient("gs://refusing", Some(&server.url), Duration::from_secs(3)).await;
    let created = bucket.create(&at(DOCUMENT), "[]".into(), &Metadata::new()).await;
    (server, bucket, created.expect("the fake is well yet"))
}

/// The reason of an error that is worth another try.
fn reason(answer: Result<(), Error>) -> String {
    match answer {
        Err(Error::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_412_without_another_writer_is_no_lost_race_and_the_storages_words_are_shown() {
    let (server, bucket, first) = world().await;
    let scratch = TempDir::new().unwrap();
    for kind in [Kind::Insert, Kind::Chunk, Kind::Rewrite, Kind::Delete] {
        server.fail(kind, "", Fault::Status(412, None));
    }
    let none = at("debs/web/none.deb");
    let mut answers = vec![
        bucket.create(&none, "x".into(), &Metadata::new()).await.map(drop),
        bucket.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await.map(drop),
        bucket.copy(&at(DOCUMENT), first, &none, &Metadata::new()).await.map(drop),
        bucket.delete(&at(DOCUMENT), first).await,
    ];
    for size in [3, 5 << 20] {
        let file = scratch.path().join("none.deb");
        std::fs::write(&file, vec![7; size]).unwrap();
        let source = SourceFile::read(&file).unwrap();
        answers.push(bucket.create_from_file(&none, &source, &Metadata::new(), &|_| {}).await.map(drop));
    }
    for answer in answers {
        assert_eq!(reason(answer), "a fault was asked for (412)");
    }
    server.heal();
    assert_eq!(bucket.get(&at(DOCUMENT), LIMIT).await.unwrap().unwrap().generation, first);
    // Where another writer was faster, it is a lost race as before.
    let second = bucket.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await.unwrap();
    assert!(second > first);
    for answer in [
        bucket.replace(&at(DOCUMENT), "[2]".into(), &Metadata::new(), first).await.map(drop),
        bucket.delete(&at(DOCUMENT), first).await,
    ] {
        assert!(matches!(answer, Err(Error::Conflict { .. })), "{answer:?}");
    }
    let again = bucket.create(&at(DOCUMENT), "[]".into(), &Metadata::new()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
}

#[tokio::test]
async fn only_the_storage_says_that_an_object_is_absent() {
    let (server, bucket, first) = world().await;
    for text in ["", "Not Found", "404 page not found\n", "{\"message\":\"no Route matched with those values\"}"] {
        for kind in [Kind::Get, Kind::Head, Kind::Rewrite, Kind::Delete] {
            server.fail(kind, "", Fault::Text(404, text));
        }
        let path = at(DOCUMENT);
        let answers = [
            bucket.get(&path, LIMIT).await.map(drop),
            bucket.get_if_changed(&path, first, LIMIT).await.map(drop),
            bucket.head(&path).await.map(drop),
            bucket.download(&path, None, 0).await.map(drop),
            bucket.download(&path, Some(first), 1).await.map(drop),
            bucket.copy(&path, first, &at("server/copy.json"), &Metadata::new()).await.map(drop),
            bucket.delete(&path, first).await,
        ];
        for answer in answers {
            let reason = reason(answer);
            assert!(reason.contains("404"), "{text:?}: {reason}");
            assert!(text.is_empty() || reason.contains("something in between"), "{text:?}: {reason}");
        }
        server.heal();
    }
}

#[tokio::test]
async fn web_pages_and_redirects_are_named_as_something_in_between() {
    let (server, bucket, _) = world().await;
    for status in [200, 302, 404, 502] {
        for kind in [Kind::Get, Kind::Head, Kind::List] {
            server.fail(kind, "", Fault::Html(status));
        }
        let mut answers =
            vec![bucket.head(&at(DOCUMENT)).await.map(drop), bucket.list("server/", None, 10).await.map(drop)];
        if status != 200 {
            answers.push(bucket.get(&at(DOCUMENT), LIMIT).await.map(drop));
        }
        for answer in answers {
            let reason = reason(answer);
            assert!(reason.contains("a web page `Error`") && reason.contains("proxy"), "{status}: {reason}");
        }
        server.heal();
    }
    server.fail(Kind::Head, "", Fault::Text(307, ""));
    let reason = reason(bucket.head(&at(DOCUMENT)).await.map(drop));
    assert!(reason.contains("redirected by something in between"), "{reason}");
}

#[tokio::test]
async fn a_wait_that_the_storage_asks_for_is_said() {
    let (server, bucket, _) = world().await;
    for (seconds, words) in [(3600, "1 h"), (120, "2 min"), (45, "45 s")] {
        server.fail(Kind::Head, "", Fault::Status(429, Some(seconds)));
        let reason = reason(bucket.head(&at(DOCUMENT)).await.map(drop));
        assert_eq!(reason, format!("a fault was asked for (429); it asks to wait {words}"));
        server.heal();
    }
}
