//! A storage server that misbehaves, and what of it a caller sees.

use std::time::Duration;

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, Download, Error, Fetched, Generation, Metadata, Object};
use harness::gcs::{FakeGcs, Fault, Kind};

use crate::world::{at, open_patient};

const LIMIT: u64 = 1 << 20;
const DOCUMENT: &str = "server/web-1.json";

/// A fake, a bucket on it, and one document.
async fn world() -> (FakeGcs, Bucket, Generation) {
    let server = FakeGcs::start("faulty");
    // Long enough for a loaded machine: cases that count requests must not see one time out.
    let bucket = open_patient("gs://faulty", Some(&server.url), Duration::from_secs(3)).await;
    let created = bucket.create(&at(DOCUMENT), "[]".into(), &Metadata::new()).await;
    (server, bucket, created.expect("the fake is well yet"))
}

/// For cases in which the server is silent.
async fn impatient(server: &FakeGcs) -> Bucket {
    open_patient("gs://faulty", Some(&server.url), Duration::from_millis(300)).await
}

async fn drain(download: &mut Download) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// 1 MiB of which no two neighbouring parts are alike.
fn megabyte() -> Vec<u8> {
    (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_poll_is_one_conditional_request() {
    let (server, bucket, generation) = world().await;
    let before = server.requests().len();
    for _ in 0..3 {
        let found = bucket.get_if_changed(&at(DOCUMENT), generation, LIMIT).await.unwrap();
        assert_eq!(found, Fetched::Unchanged);
    }
    let polls = server.requests().split_off(before);
    assert_eq!(polls.len(), 3, "{polls:#?}");
    for poll in polls {
        assert_eq!((poll.kind, poll.status), (Kind::Get, 304));
        assert_eq!(poll.query["ifGenerationNotMatch"], generation.to_string());
    }
}

#[tokio::test]
async fn absent_forbidden_and_unavailable_are_told_apart() {
    let (server, bucket, _) = world().await;
    assert_eq!(bucket.get(&at("server/none.json"), LIMIT).await.unwrap(), None);
    for status in [401, 403] {
        server.fail(Kind::Get, "", Fault::Status(status, None));
        server.fail(Kind::Head, "", Fault::Status(status, None));
        server.fail(Kind::List, "", Fault::Status(status, None));
        server.fail(Kind::Insert, "", Fault::Status(status, None));
        server.fail(Kind::Rewrite, "", Fault::Status(status, None));
        server.fail(Kind::Delete, "", Fault::Status(status, None));
        let before = server.requests().len();
        let path = at("server/none.json");
        let answers = [
            bucket.get(&path, LIMIT).await.map(drop),
            bucket.head(&path).await.map(drop),
            bucket.list("server/", None, 10).await.map(drop),
            bucket.list_directories("debs/", None, 10).await.map(drop),
            bucket.create(&path, "".into(), &Metadata::new()).await.map(drop),
            bucket.replace(&path, "".into(), &Metadata::new(), Generation(1)).await.map(drop),
            bucket.copy(&path, Generation(1), &at("server/copy.json"), &Metadata::new()).await.map(drop),
            bucket.delete(&path, Generation(1)).await,
            bucket.download(&path, None, 0).await.map(drop),
            bucket.download(&path, Some(Generation(1)), 1).await.map(drop),
        ];
        for (number, answer) in answers.iter().enumerate() {
            assert!(matches!(answer, Err(Error::Forbidden { .. })), "{status}, verb {number}: {answer:?}");
        }
        let requests = server.requests().split_off(before);
        assert_eq!(requests.len(), answers.len(), "a refusal isn't tried again: {requests:#?}");
        server.heal();
    }
    server.fail(Kind::Get, "", Fault::Status(503, None));
    let answer = bucket.get(&at("server/none.json"), LIMIT).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_missing_bucket_is_not_an_empty_one() {
    let server = FakeGcs::start("another");
    let bucket = impatient(&server).await;
    let path = at(DOCUMENT);
    let answers = [
        bucket.get(&path, LIMIT).await.map(drop),
        bucket.head(&path).await.map(drop),
        bucket.list("server/", None, 10).await.map(drop),
        bucket.list_directories("debs/", None, 10).await.map(drop),
        bucket.create(&path, "".into(), &Metadata::new()).await.map(drop),
        bucket.delete(&path, Generation(1)).await,
        bucket.download(&path, Some(Generation(1)), 0).await.map(drop),
    ];
    for (number, answer) in answers.iter().enumerate() {
        assert!(matches!(answer, Err(Error::Unusable { .. })), "verb {number}: {answer:?}");
    }
}

#[tokio::test]
async fn a_page_of_a_proxy_says_nothing_about_an_object() {
    let (server, bucket, _) = world().await;
    for status in [200, 302, 404, 502] {
        server.fail(Kind::Get, "", Fault::Html(status));
        server.fail(Kind::Head, "", Fault::Html(status));
        let answers = [bucket.get(&at(DOCUMENT), LIMIT).await.map(drop), bucket.head(&at(DOCUMENT)).await.map(drop)];
        for answer in answers {
            assert!(matches!(answer, Err(Error::Unavailable { .. })), "{status}: {answer:?}");
        }
        server.heal();
    }
}

#[tokio::test]
async fn a_short_storm_is_sat_out() {
    let (server, bucket, generation) = world().await;
    let faults = [
        Fault::Status(503, None),
        Fault::Status(500, None),
        Fault::Status(429, Some(1)),
        Fault::Reset,
        Fault::NeverAnswer,
        Fault::LoseAnswer,
        Fault::Cut(1),
        Fault::Stall(1),
        Fault::WrongBytes,
        Fault::Shorter(1),
        Fault::Longer(1),
    ];
    for fault in faults {
        server.fail_next(Kind::Get, DOCUMENT, 1, fault.clone());
        let found = bucket.get(&at(DOCUMENT), LIMIT).await;
        let found = found.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(found, Some(Object { generation, content: "[]".into(), metadata: Metadata::new() }), "{fault:?}");
    }
    for (kind, count) in [(Kind::Head, 2), (Kind::List, 2), (Kind::Delete, 2)] {
        server.fail_next(kind, "", count, Fault::Status(503, None));
    }
    assert!(bucket.head(&at(DOCUMENT)).await.unwrap().is_some());
    assert_eq!(bucket.list("server/", None, 10).await.unwrap().items.len(), 1);
    bucket.delete(&at(DOCUMENT), generation).await.unwrap();
}

#[tokio::test]
async fn a_long_storm_ends_in_a_bounded_number_of_requests() {
    let (server, _, _) = world().await;
    let bucket = impatient(&server).await;
    for fault in [Fault::Status(503, None), Fault::NeverAnswer, Fault::Reset, Fault::WrongBytes] {
        server.fail(Kind::Get, "", fault.clone());
        let before = server.count(Kind::Get);
        let answer = bucket.get(&at(DOCUMENT), LIMIT).await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{fault:?}: {answer:?}");
        let requests = server.count(Kind::Get) - before;
        assert!((1..=5).contains(&requests), "{fault:?}: {requests} requests");
        server.heal();
    }
    server.fail(Kind::Get, "", Fault::Status(429, Some(3600)));
    let before = server.count(Kind::Get);
    assert!(bucket.get(&at(DOCUMENT), LIMIT).await.is_err());
    assert_eq!(server.count(Kind::Get) - before, 1, "who asks for an hour isn't asked again");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let (server, bucket, _) = world().await;
    drop(server);
    let answer = bucket.get(&at(DOCUMENT), LIMIT).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognised() {
    let (server, bucket, first) = world().await;
    server.fail_next(Kind::Insert, "", 1, Fault::LoseAnswer);
    let second = bucket.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await.unwrap();
    let info = bucket.head(&at(DOCUMENT)).await.unwrap().unwrap();
    assert_eq!((info.generation, info.metadata), (second, Metadata::new()), "the id of the write isn't shown");
    server.fail_next(Kind::Insert, "", 1, Fault::LoseAnswer);
    let created = bucket.create(&at("server/web-2.json"), "[]".into(), &Metadata::new()).await.unwrap();
    assert_eq!(bucket.head(&at("server/web-2.json")).await.unwrap().unwrap().generation, created);
}

#[tokio::test]
async fn the_same_content_written_by_somebody_else_is_still_a_conflict() {
    let (server, bucket, first) = world().await;
    let other = impatient(&server).await;
    other.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await.unwrap();
    // Our request doesn't arrive at first; when it does, somebody has written the very same.
    server.fail_next(Kind::Insert, "", 1, Fault::Reset);
    let answer = bucket.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await;
    assert!(matches!(answer, Err(Error::Conflict { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_write_of_unknown_fate_is_not_called_a_conflict() {
    let (server, bucket, first) = world().await;
    server.fail_next(Kind::Insert, "", 1, Fault::LoseAnswer);
    server.fail(Kind::Head, "", Fault::Status(503, None));
    let answer = bucket.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn writers_that_lose_answers_lose_no_write() {
    let (server, bucket, _) = world().await;
    let write_words = async |writer: &str| {
        let bucket = impatient(&server).await;
        for round in 0..10 {
            let word = format!("{writer}{round}");
            let mut refused = false;
            loop {
                let object = bucket.get(&at(DOCUMENT), LIMIT).await.unwrap().unwrap();
                let mut words: Vec<String> = serde_json::from_slice(&object.content).unwrap();
                if words.contains(&word) {
                    assert!(!refused, "a conflict promises that nothing was written");
                    break;
                }
                words.push(word.clone());
                let content = serde_json::to_vec(&words).unwrap().into();
                // Suffered by whichever writer comes first.
                server.fail_next(Kind::Insert, "", 1, if round % 2 == 0 { Fault::LoseAnswer } else { Fault::Reset });
                match bucket.replace(&at(DOCUMENT), content, &Metadata::new(), object.generation).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => refused = true,
                    Err(Error::Unavailable { .. }) => refused = false,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(write_words("a"), write_words("b"));
    let object = bucket.get(&at(DOCUMENT), LIMIT).await.unwrap().unwrap();
    let mut words: Vec<String> = serde_json::from_slice(&object.content).unwrap();
    words.sort_unstable();
    let expected: Vec<String> =
        ["a", "b"].iter().flat_map(|writer| (0..10).map(move |round| format!("{writer}{round}"))).collect();
    assert_eq!(words, expected);
}

#[tokio::test]
async fn a_write_that_took_place_and_was_written_over_is_not_called_a_conflict() {
    let (server, bucket, first) = world().await;
    let other = impatient(&server).await;
    // Its answer is lost, and before the next attempt somebody else reads it and writes over it.
    server.fail_next(Kind::Insert, "", 1, Fault::LoseAnswer);
    server.fail_next(Kind::Insert, "", 1, Fault::Status(503, Some(2)));
    let write = async { bucket.replace(&at(DOCUMENT), "[1]".into(), &Metadata::new(), first).await };
    let overtake = async {
        loop {
            let object = other.get(&at(DOCUMENT), LIMIT).await.unwrap().unwrap();
            let tries = server.requests().iter().filter(|request| request.query.contains_key("uploadType")).count();
            if object.generation != first && tries == 3 {
                break other.replace(&at(DOCUMENT), "[1,2]".into(), &Metadata::new(), object.generation).await.unwrap();
            }
        }
    };
    let (answer, _) = tokio::join!(write, overtake);
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut_on_the_same_generation() {
    let (server, bucket, _) = world().await;
    let content = megabyte();
    let path = at("debs/web/x");
    let generation = bucket.create(&path, content.clone().into(), &Metadata::new()).await.unwrap();
    server.fail_next(Kind::Get, "debs/", 1, Fault::Cut(300_000));
    server.fail_next(Kind::Get, "debs/", 1, Fault::Status(503, None));
    server.fail_next(Kind::Get, "debs/", 1, Fault::Stall(200_000));
    let before = server.requests().len();
    let mut download = bucket.download(&path, None, 100).await.unwrap().unwrap();
    assert!(drain(&mut download).await.unwrap() == content[100..]);
    let requests = server.requests().split_off(before);
    assert_eq!(requests.len(), 4, "{requests:#?}");
    for request in &requests[1..] {
        assert_eq!(request.query["generation"], generation.to_string());
    }
    let begun: Vec<&str> = requests.iter().filter_map(|request| request.range.as_deref()).collect();
    assert_eq!(begun[0], "bytes=100-");
    assert!(begun[1] > begun[0] && begun[1] == begun[2] && begun[3] != begun[2], "{begun:?}");
}

#[tokio::test]
async fn a_cut_download_of_an_object_replaced_meanwhile_is_gone() {
    let (server, bucket, _) = world().await;
    let path = at("debs/web/x");
    let first = bucket.create(&path, megabyte().into(), &Metadata::new()).await.unwrap();
    server.fail_next(Kind::Get, "debs/", 1, Fault::Cut(300_000));
    let mut download = bucket.download(&path, Some(first), 0).await.unwrap().unwrap();
    download.chunk().await.unwrap();
    bucket.replace(&path, "new".into(), &Metadata::new(), first).await.unwrap();
    let answer = drain(&mut download).await;
    assert!(matches!(answer, Err(Error::Gone { .. })), "{:?}", answer.err());
}

#[tokio::test]
async fn a_download_is_never_shorter_longer_or_other_than_promised() {
    let (server, bucket, _) = world().await;
    let content = megabyte();
    let path = at("debs/web/x");
    bucket.create(&path, content.clone().into(), &Metadata::new()).await.unwrap();
    // Mended by going on, or refused; what it gives as whole is whole.
    for (fault, offset) in [
        (Fault::Shorter(1000), 0),
        (Fault::Shorter(1000), 1000),
        (Fault::Longer(1000), 0),
        (Fault::Longer(1000), 1000),
        (Fault::WrongBytes, 0),
        (Fault::IgnoreRange, 1000),
        (Fault::WrongRange, 1000),
    ] {
        server.fail(Kind::Get, "debs/", fault.clone());
        let Ok(download) = bucket.download(&path, None, offset).await else { continue };
        let end = drain(&mut download.expect("it is there")).await;
        let offset = usize::try_from(offset).unwrap();
        assert!(end.is_err() || end.is_ok_and(|all| all == content[offset..]), "{fault:?}");
        server.heal();
    }
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_it_was_cut() {
    let (server, bucket, _) = world().await;
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("x.deb");
    let content = [megabyte(), megabyte(), megabyte(), megabyte(), megabyte()].concat();
    std::fs::write(&file, &content).unwrap();
    server.fail_next(Kind::Chunk, "", 1, Fault::Cut(2_000_000));
    let path = at("debs/web/x.deb");
    let generation = bucket
        .create_from_file(&path, &bucket::SourceFile::read(&file).unwrap(), &Metadata::new(), &|_| {})
        .await
        .unwrap();
    let mut download = bucket.download(&path, Some(generation), 0).await.unwrap().unwrap();
    assert!(drain(&mut download).await.unwrap() == content);
    // One that was finished, but whose answer was lost.
    server.fail_next(Kind::Chunk, "", 1, Fault::LoseAnswer);
    let path = at("debs/web/y.deb");
    let generation = bucket
        .create_from_file(&path, &bucket::SourceFile::read(&file).unwrap(), &Metadata::new(), &|_| {})
        .await
        .unwrap();
    assert_eq!(bucket.head(&path).await.unwrap().unwrap().generation, generation);
}

#[tokio::test]
async fn an_upload_to_a_silent_server_ends() {
    let (server, _, _) = world().await;
    let bucket = impatient(&server).await;
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("x.deb");
    std::fs::write(&file, vec![7; 5 << 20]).unwrap();
    for kind in [Kind::Insert, Kind::Chunk] {
        server.fail(kind, "", Fault::NeverAnswer);
        let answer = bucket
            .create_from_file(
                &at("debs/web/x.deb"),
                &bucket::SourceFile::read(&file).unwrap(),
                &Metadata::new(),
                &|_| {},
            )
            .await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
        server.heal();
    }
    assert_eq!(bucket.head(&at("debs/web/x.deb")).await.unwrap(), None);
}

#[tokio::test]
async fn names_in_the_bucket_that_are_not_ours_are_passed_over() {
    let (server, bucket, _) = world().await;
    for name in ["server/", "server/../x", "server//x", "server/.hidden", "server/a\nb"] {
        server.put("faulty", name, "");
    }
    let page = bucket.list("server/", None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|info| info.path.as_str()).collect::<Vec<_>>(), [DOCUMENT]);
}

#[tokio::test]
async fn a_server_that_wants_a_token_forbids_without() {
    let (server, bucket, _) = world().await;
    server.require_token("secret");
    let answer = bucket.get(&at(DOCUMENT), LIMIT).await;
    assert!(matches!(answer, Err(Error::Forbidden { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_key_file_that_is_none_makes_the_bucket_unusable() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("key.json");
    let url: BucketUrl = "gs://faulty".parse().unwrap();
    let options =
        BucketOptions { credentials: Credentials::ServiceAccountFile(file.clone()), ..BucketOptions::default() };
    for content in [None, Some("no JSON"), Some("{}")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let answer = Bucket::open(&url, &options).await;
        assert!(matches!(&answer, Err(Error::Unusable { .. })), "{content:?}: {answer:?}");
    }
}
