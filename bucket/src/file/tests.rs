//! What only a directory can have: people, links and dying writers.

use std::path::Path;

use super::FileBucket;
use crate::{Error, Fetched, Metadata, ObjectPath};

async fn bucket() -> (tempfile::TempDir, FileBucket) {
    let directory = tempfile::tempdir().unwrap();
    let bucket = FileBucket::open(directory.path()).await.unwrap();
    (directory, bucket)
}

fn at(path: &str) -> ObjectPath {
    path.parse().unwrap()
}

#[tokio::test]
async fn what_a_person_edits_is_a_new_generation() {
    let (directory, bucket) = bucket().await;
    let path = at("server/web-1.json");
    let first = bucket.create(&path, "[]".into(), &Metadata::new()).await.unwrap();
    std::fs::write(directory.path().join(path.as_str()), "[ ]").unwrap();
    let Fetched::Found(second, content) = bucket.get_if_changed(&path, first, 100).await.unwrap() else {
        panic!("the edit wasn't seen");
    };
    assert_eq!((second > first, &content[..]), (true, &b"[ ]"[..]));
    let stale = bucket.replace(&path, "[]".into(), &Metadata::new(), first).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
}

#[tokio::test]
async fn metadata_of_a_writer_that_died_is_not_read() {
    let (directory, bucket) = bucket().await;
    let path = at("debs/web/x.deb");
    let metadata = |note: &str| Metadata::from([("note".to_owned(), note.to_owned())]);
    let first = bucket.create(&path, "one".into(), &metadata("one")).await.unwrap();
    // What a writer leaves that dies after its metadata and before its content was renamed into place.
    let meta = directory.path().join(".push/meta").join(path.as_str());
    std::fs::write(meta.join((first.0 + 1000).to_string()), r#"{"note":"never"}"#).unwrap();
    assert_eq!(bucket.head(&path).await.unwrap().unwrap().metadata, metadata("one"));
    bucket.replace(&path, "two".into(), &metadata("two"), first).await.unwrap();
    assert_eq!(bucket.head(&path).await.unwrap().unwrap().metadata, metadata("two"));
    assert_eq!(std::fs::read_dir(&meta).unwrap().count(), 1);
}

#[tokio::test]
async fn unreadable_metadata_hides_no_other_object() {
    let (directory, bucket) = bucket().await;
    let metadata = Metadata::from([("note".to_owned(), "one".to_owned())]);
    let mut generations = Vec::new();
    for name in ["debs/web/a.deb", "debs/web/b.deb"] {
        generations.push(bucket.create(&at(name), "x".into(), &metadata).await.unwrap());
    }
    let broken = directory.path().join(format!(".push/meta/debs/web/a.deb/{}", generations[0]));
    std::fs::write(broken, "{").unwrap();
    let listed = bucket.list("debs/", None, 10).await.unwrap().items;
    let notes: Vec<_> = listed.iter().map(|info| info.metadata.get("note").map(String::as_str)).collect();
    assert_eq!(notes, [None, Some("one")]);
    assert_eq!((listed[0].generation, listed[0].size), (generations[0], 1));
    let alone = bucket.head(&at("debs/web/a.deb")).await;
    assert!(matches!(alone, Err(Error::Malformed { .. })), "{alone:?}");
    assert_eq!(bucket.list_directories("debs/", None, 10).await.unwrap().items, ["web"]);
}

#[tokio::test]
async fn a_symbolic_link_is_not_an_object() {
    let (directory, bucket) = bucket().await;
    std::os::unix::fs::symlink("/etc", directory.path().join("server")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
    assert_eq!(bucket.head(&at("server/passwd")).await.unwrap(), None);
    assert_eq!(bucket.head(&at("link")).await.unwrap(), None);
    assert!(bucket.create(&at("server/new"), "x".into(), &Metadata::new()).await.is_err());
    assert!(!Path::new("/etc/new").exists());
}

#[tokio::test]
async fn a_directory_that_went_away_is_not_an_empty_bucket() {
    let (directory, bucket) = bucket().await;
    drop(directory);
    let answer = bucket.head(&at("server/web-1.json")).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}
