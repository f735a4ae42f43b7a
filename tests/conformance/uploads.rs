//! Uploads of large files on a server that misbehaves: as polite and as stubborn as every other verb.

use std::{path::PathBuf, time::Duration};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, Error, Generation, Metadata};
use harness::gcs::{FakeGcs, Fault, Kind, Request};
use tempfile::TempDir;

use crate::world::at;

const MIB: u64 = 1 << 20;
const PATH: &str = "debs/web/web.deb";

/// A file to upload, a server, and a bucket on it that asks for tokens.
struct Upload {
    server: FakeGcs,
    bucket: Bucket,
    scratch: TempDir,
}

impl Upload {
    async fn new(size: u64) -> Self {
        let server = FakeGcs::start("uploads");
        let key = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cloud/fixtures/service-account.json");
        let options = BucketOptions {
            endpoint: Some(server.url.parse().expect("a URL")),
            credentials: Credentials::ServiceAccountFile(key),
            timeout: Duration::from_secs(10),
            ..BucketOptions::default()
        };
        let bucket = Bucket::open(&BucketUrl::Gcs("uploads".to_owned()), &options).await.expect("a bucket");
        let scratch = TempDir::new().expect("a temporary directory");
        let upload = Self { server, bucket, scratch };
        std::fs::write(upload.file(), Self::content(size)).expect("a file");
        upload
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("web.deb")
    }

    /// No two neighbouring parts of it are alike.
    fn content(size: u64) -> Vec<u8> {
        (0..u32::try_from(size / 4).expect("a small file")).flat_map(u32::to_le_bytes).collect()
    }

    async fn send(&self) -> Result<Generation, Error> {
        self.bucket
            .create_from_file(&at(PATH), &bucket::SourceFile::read(&self.file()).unwrap(), &Metadata::new(), &|_| {})
            .await
    }

    async fn check(&self, generation: Generation) {
        let mut download = self.bucket.download(&at(PATH), Some(generation), 0).await.unwrap().unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = download.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        assert!(all == std::fs::read(self.file()).unwrap());
    }

    fn requests(&self, kind: Kind) -> Vec<Request> {
        self.server.requests().into_iter().filter(|request| request.kind == kind).collect()
    }
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_left_alone_for_so_long() {
    for kind in [Kind::Insert, Kind::Chunk] {
        let upload = Upload::new(5 * MIB).await;
        upload.server.fail_next(kind, "", 1, Fault::Status(503, Some(2)));
        upload.check(upload.send().await.unwrap()).await;
        let requests = upload.requests(kind);
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_secs(2), "{kind:?}: only {waited:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_too_long_a_wait_is_not_asked_again() {
    for kind in [Kind::Insert, Kind::Chunk] {
        let upload = Upload::new(5 * MIB).await;
        upload.server.fail(kind, "", Fault::Status(429, Some(3600)));
        let answer = upload.send().await;
        assert!(matches!(answer, Err(Error::Unavailable { verb: "write", .. })), "{kind:?}: {answer:?}");
        assert_eq!(upload.requests(kind).len(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_long_storm_ends_in_a_bounded_number_of_requests() {
    for (kind, fault) in [
        (Kind::Insert, Fault::Status(503, None)),
        (Kind::Chunk, Fault::Status(503, None)),
        (Kind::Chunk, Fault::Reset),
        (Kind::Chunk, Fault::Cut(100)),
        (Kind::Chunk, Fault::Forget),
    ] {
        let upload = Upload::new(5 * MIB).await;
        upload.server.fail(kind, "", fault.clone());
        let answer = upload.send().await;
        assert!(matches!(answer, Err(Error::Unavailable { verb: "write", .. })), "{fault:?}: {answer:?}");
        let requests = upload.requests(kind).len();
        assert!((2..=25).contains(&requests), "{kind:?}, {fault:?}: {requests} requests");
        assert_eq!(upload.bucket.head(&at(PATH)).await.unwrap(), None);
        let forgotten = upload.requests(Kind::Chunk).iter().any(|request| request.status == 308);
        assert!(fault != Fault::Forget || forgotten, "{:#?}", upload.requests(Kind::Chunk));
    }
}

#[tokio::test]
async fn a_token_refused_in_mid_upload_is_renewed_and_the_upload_goes_on() {
    for kind in [Kind::Insert, Kind::Chunk] {
        let upload = Upload::new(5 * MIB).await;
        upload.server.fail_next(Kind::Chunk, "", 1, Fault::Cut(2 * MIB));
        upload.server.fail_next(kind, "", 1, Fault::Status(401, None));
        upload.check(upload.send().await.unwrap()).await;
        let begun = upload.requests(Kind::Insert).iter().filter(|request| request.status == 200).count();
        assert_eq!(begun, 1, "{kind:?}: what was sent isn't sent again");
    }
}

#[tokio::test]
async fn a_token_that_is_always_refused_is_renewed_only_once() {
    for (size, kind) in [(MIB, Kind::Insert), (5 * MIB, Kind::Insert), (5 * MIB, Kind::Chunk)] {
        let upload = Upload::new(size).await;
        upload.server.fail(kind, "", Fault::Status(401, None));
        let answer = upload.send().await;
        assert!(matches!(answer, Err(Error::Forbidden { verb: "write", .. })), "{kind:?}: {answer:?}");
        assert_eq!(upload.requests(kind).len(), 2, "{size} bytes, {kind:?}");
    }
}

#[tokio::test]
async fn an_upload_that_gets_on_may_be_cut_any_number_of_times() {
    let upload = Upload::new(10 * MIB).await;
    upload.server.fail_next(Kind::Chunk, "", 9, Fault::Cut(MIB));
    upload.check(upload.send().await.unwrap()).await;
    assert_eq!(upload.requests(Kind::Insert).len(), 1);
}
