//! Other bytes than the object's: unpacked on the way, of another generation, replaced in between. None is ever taken.

use std::time::Duration;

use bucket::{Bucket, Error, Generation, Metadata, ReleaseMetadata, ReleaseName};
use harness::gcs::{FakeGcs, Fault, Kind};
use tempfile::TempDir;

use crate::world::{at, open_patient};

const LIMIT: u64 = 1 << 20;
const PATH: &str = "debs/web/x";

async fn world() -> (FakeGcs, Bucket) {
    let server = FakeGcs::start("others");
    let bucket = open_patient("gs://others", Some(&server.url), Duration::from_secs(10)).await;
    (server, bucket)
}

/// All that a download gives before it ends or fails.
async fn drain(bucket: &Bucket, pinned: Option<Generation>, offset: u64) -> (Vec<u8>, Result<(), Error>) {
    let mut all = Vec::new();
    let mut download = match bucket.download(&at(PATH), pinned, offset).await {
        Ok(download) => download.expect("it is there"),
        Err(error) => return (all, Err(error)),
    };
    loop {
        match download.chunk().await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

#[tokio::test]
async fn what_is_stored_packed_is_refused_with_what_to_do() {
    let (server, bucket) = world().await;
    let generation = bucket.create(&at(PATH), "content".into(), &Metadata::new()).await.unwrap();
    for fault in [Fault::Unpacked, Fault::Packed] {
        server.fail(Kind::Get, "", fault.clone());
        let before = server.count(Kind::Get);
        let answers = [
            bucket.get(&at(PATH), LIMIT).await.map(drop),
            drain(&bucket, None, 0).await.1,
            drain(&bucket, Some(generation), 2).await.1,
        ];
        for answer in &answers {
            let said = answer.as_ref().map_err(ToString::to_string);
            let said = said.expect_err("other bytes than the object's were taken");
            assert!(matches!(answer, Err(Error::Malformed { .. })), "{fault:?}: {answer:?}");
            assert!(said.contains("`Content-Encoding: gzip`") && said.contains("upload it again"), "{said}");
        }
        assert_eq!(server.count(Kind::Get) - before, answers.len(), "{fault:?}: asking again doesn't help");
        server.heal();
    }
}

#[tokio::test]
async fn another_generation_than_the_one_asked_for_is_not_taken() {
    let (server, bucket) = world().await;
    let first = bucket.create(&at(PATH), "the first".into(), &Metadata::new()).await.unwrap();
    bucket.replace(&at(PATH), "the second".into(), &Metadata::new(), first).await.unwrap();
    server.fail(Kind::Get, "", Fault::IgnoreGeneration);
    for offset in [0, 4] {
        let (taken, answer) = drain(&bucket, Some(first), offset).await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
        assert!(taken.is_empty() && answer.unwrap_err().to_string().contains("instead of"));
    }
}

#[tokio::test]
async fn generations_are_not_mixed_when_a_cut_download_meets_a_server_that_does() {
    let (server, bucket) = world().await;
    let content: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let first = bucket.create(&at(PATH), content.clone().into(), &Metadata::new()).await.unwrap();
    server.fail_next(Kind::Get, "", 1, Fault::Cut(300_000));
    server.fail(Kind::Get, "", Fault::IgnoreGeneration);
    let mut download = bucket.download(&at(PATH), None, 0).await.unwrap().unwrap();
    let mut taken = download.chunk().await.unwrap().unwrap().to_vec();
    let second: Vec<u8> = content.iter().map(|byte| !byte).collect();
    bucket.replace(&at(PATH), second.into(), &Metadata::new(), first).await.unwrap();
    let error = loop {
        match download.chunk().await {
            Ok(chunk) => taken.extend_from_slice(&chunk.expect("it can't end well")),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(content.starts_with(&taken));
}

#[tokio::test]
async fn a_release_replaced_between_its_metadata_and_its_bytes_is_gone() {
    let (server, bucket) = world().await;
    let name = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
    let name: ReleaseName = name.parse().unwrap();
    let metadata = ReleaseMetadata {
        dirty: false,
        note: "first".to_owned(),
        services: Vec::new(),
        sha256: [0; 32].into(),
        size: 3,
        package: "web".parse().unwrap(),
        version: "0+1".to_owned(),
        architecture: "all".parse().unwrap(),
        repo: String::new(),
        branch: "main".to_owned(),
        made_by: None,
    };
    let scratch = TempDir::new().unwrap();
    let deb = scratch.path().join("deb");
    std::fs::write(&deb, "one").unwrap();
    bucket.upload_release(&name, &bucket::SourceFile::read(&deb).unwrap(), &metadata, &|_| {}).await.unwrap();
    let release = bucket.release(&name).await.unwrap().unwrap();
    // No program of ours replaces a release; a person with the rights can.
    let path = server.requests().iter().find(|request| request.kind == Kind::Insert).unwrap().object.clone();
    bucket.delete(&at(&path), release.generation).await.unwrap();
    bucket.create(&at(&path), "two".into(), &Metadata::new()).await.unwrap();
    for offset in [0, 1] {
        let answer = bucket.download_release(&release, offset).await;
        assert!(matches!(answer, Err(Error::Gone { .. })), "{answer:?}");
    }
}
