//! Copies on a server that takes several requests for one, and misbehaves: as stubborn as every other write.

use std::time::Duration;

use bucket::{Bucket, Error, Generation, Metadata, ObjectPath};
use harness::gcs::{FakeGcs, Fault, Kind, Request};

use crate::world::{at, drain, note, open_patient};

const CONTENT: &[u8] = b"0123456789";

/// A server, a bucket on it, and something to copy.
struct World {
    server: FakeGcs,
    bucket: Bucket,
    from: ObjectPath,
    generation: Generation,
    to: ObjectPath,
}

impl World {
    async fn new() -> Self {
        let server = FakeGcs::start("copies");
        let bucket = open_patient("gs://copies", Some(&server.url), Duration::from_secs(3)).await;
        let (from, to) = (at("candidates/web/12/web.deb"), at("debs/web/web.deb"));
        let generation = bucket.create(&from, CONTENT.into(), &note("candidate")).await.expect("the fake is well yet");
        Self { server, bucket, from, generation, to }
    }

    async fn copy(&self) -> Result<Generation, Error> {
        self.bucket.copy(&self.from, self.generation, &self.to, &note("release")).await
    }

    /// The requests for copies so far.
    fn copies(&self) -> Vec<Request> {
        let mut requests = self.server.requests();
        requests.retain(|request| request.kind == Kind::Rewrite);
        requests
    }

    /// The copy is there, whole.
    async fn check(&self, generation: Generation) {
        let info = self.bucket.head(&self.to).await.unwrap().unwrap();
        assert_eq!((info.generation, info.metadata), (generation, note("release")));
        let download = self.bucket.download(&self.to, Some(generation), 0).await.unwrap().unwrap();
        assert_eq!(drain(download).await, CONTENT);
    }
}

#[tokio::test]
async fn a_copy_is_one_request_that_states_both_generations_and_carries_no_content() {
    let world = World::new().await;
    let before = world.server.requests().len();
    let generation = world.copy().await.unwrap();
    let requests = world.server.requests().split_off(before);
    assert_eq!(requests.iter().map(|request| request.kind).collect::<Vec<_>>(), [Kind::Rewrite]);
    let stated = |key: &str| requests[0].query[key].clone();
    assert_eq!(
        (stated("ifGenerationMatch"), stated("ifSourceGenerationMatch")),
        ("0".to_owned(), world.generation.to_string())
    );
    world.check(generation).await;
}

#[tokio::test]
async fn a_copy_goes_on_by_its_token_until_it_is_whole() {
    let world = World::new().await;
    world.server.fail_next(Kind::Rewrite, "", 4, Fault::Part(2));
    let generation = world.copy().await.unwrap();
    let copies = world.copies();
    let tokens: Vec<_> = copies.iter().map(|copy| copy.query.get("rewriteToken").map(String::as_str)).collect();
    assert_eq!(tokens, [None, Some("copy-1"), Some("copy-2"), Some("copy-3"), Some("copy-4")]);
    world.check(generation).await;
}

#[tokio::test]
async fn a_copy_sits_out_a_storm_in_each_of_its_rounds() {
    for fault in
        [Fault::Status(503, None), Fault::Status(429, Some(1)), Fault::Reset, Fault::LoseAnswer, Fault::Html(502)]
    {
        let world = World::new().await;
        for _ in 0..2 {
            world.server.fail_next(Kind::Rewrite, "", 1, fault.clone());
            world.server.fail_next(Kind::Rewrite, "", 1, Fault::Part(4));
        }
        world.server.fail_next(Kind::Rewrite, "", 1, fault.clone());
        let generation = world.copy().await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        world.check(generation).await;
    }
}

#[tokio::test]
async fn a_copy_whose_answer_was_lost_is_recognised_also_when_its_source_is_gone_since() {
    let world = World::new().await;
    world.server.fail_next(Kind::Rewrite, "", 1, Fault::LoseAnswer);
    let generation = world.copy().await.unwrap();
    assert_eq!(world.copies().iter().map(|copy| copy.status).collect::<Vec<_>>(), [200, 412]);
    world.check(generation).await;

    let world = World::new().await;
    world.server.fail_next(Kind::Rewrite, "", 1, Fault::LoseAnswer);
    world.server.fail_next(Kind::Rewrite, "", 1, Fault::Status(503, Some(2)));
    let delete = async {
        world.server.until(|requests| requests.last().is_some_and(|last| last.status == 503)).await;
        world.bucket.delete(&world.from, world.generation).await.unwrap();
    };
    let (copied, ()) = tokio::join!(world.copy(), delete);
    world.check(copied.unwrap()).await;
}

#[tokio::test]
async fn a_copy_that_somebody_else_made_first_is_a_lost_race_whatever_became_of_ours() {
    let world = World::new().await;
    let other = world.bucket.clone();
    other.copy(&world.from, world.generation, &world.to, &note("release")).await.unwrap();
    for fault in [None, Some(Fault::Reset)] {
        if let Some(fault) = fault {
            world.server.fail_next(Kind::Rewrite, "", 1, fault);
        }
        let answer = world.copy().await;
        assert!(matches!(answer, Err(Error::AlreadyExists { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn a_copy_of_unknown_fate_promises_nothing() {
    let world = World::new().await;
    world.server.fail_next(Kind::Rewrite, "", 1, Fault::LoseAnswer);
    world.server.fail(Kind::Head, "", Fault::Status(503, None));
    let answer = world.copy().await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_storage_that_never_gets_on_or_copies_something_else_is_given_up() {
    let world = World::new().await;
    world.server.fail(Kind::Rewrite, "", Fault::Part(0));
    let answer = world.copy().await;
    let Err(Error::Unavailable { reason, .. }) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("gets no further"), "{reason}");
    assert!(world.copies().len() <= 5, "{} requests", world.copies().len());
    world.server.heal();

    world.server.fail(Kind::Rewrite, "", Fault::Shorter(1));
    let answer = world.copy().await;
    let Err(Error::Unavailable { reason, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(reason, "9 of 10 bytes were copied");
}

#[tokio::test]
async fn a_source_that_is_replaced_between_two_rounds_is_gone_and_leaves_no_copy() {
    let world = World::new().await;
    world.server.fail_next(Kind::Rewrite, "", 1, Fault::Part(2));
    world.server.fail_next(Kind::Rewrite, "", 1, Fault::Status(503, Some(2)));
    let replace = async {
        world.server.until(|requests| requests.last().is_some_and(|last| last.status == 503)).await;
        world.bucket.replace(&world.from, "other".into(), &Metadata::new(), world.generation).await.unwrap();
    };
    let (copied, ()) = tokio::join!(world.copy(), replace);
    assert!(matches!(&copied, Err(Error::Gone { object }) if object == world.from.as_str()), "{copied:?}");
    assert_eq!(world.bucket.head(&world.to).await.unwrap(), None);
}
