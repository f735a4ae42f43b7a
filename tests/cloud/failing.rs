//! A watcher whose storage fails: what is concerned is counted, others go on, and the next good round counts from 0.

use std::time::Duration;

use harness::gcs::{Fault, Kind, Request};

use crate::{
    messages::{self, BUCKET, Watching, until},
    watching::World,
};

fn failures(watching: &Watching, app: &str) -> usize {
    watching.value(&format!("push_watch_failures{{app=\"{app}\",channel=\"prod\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_storage_fails_is_counted_for_its_channel_and_reset_by_the_next_good_round() {
    let mut world = messages::World::new().await;
    world.configure(&format!(r#"{{ App: "api", Repo: "{}", Servers: ["api-*"] }}"#, world.url()));
    world.gcs.put(BUCKET, "server/api-1.json", "[\"api/\"]");
    let first = world.release().await;
    let watching = world.watch("1s");
    world.until_it_has(&first).await;
    let status = |status| Fault::Status(status, None);
    for (kind, object, fault) in [
        (Kind::Get, "channels/web/", status(503)),
        (Kind::Get, "channels/web/", Fault::Reset),
        (Kind::List, "debs/web/", status(403)),
        (Kind::Insert, "channels/web/", status(412)),
        (Kind::Insert, "server/web-1", status(500)),
    ] {
        world.gcs.fail(kind, object, fault.clone());
        let (web, api) = (world.release().await, world.release_of("api").await);
        until(&format!("{object} {fault:?}: it fails again and again"), || failures(&watching, "web") >= 2);
        world.until_it_has(&api).await;
        assert_eq!(failures(&watching, "api"), 0, "{object} {fault:?}");
        world.gcs.heal();
        world.until_it_has(&web).await;
        until(&format!("{object} {fault:?}: it counts from 0"), || failures(&watching, "web") == 0);
    }
    // What all of them need.
    for fault in [status(503), Fault::Reset, status(403)] {
        world.gcs.fail(Kind::List, "server/", fault.clone());
        let web = world.release().await;
        until(&format!("{fault:?}: all fail"), || ["web", "api"].iter().all(|app| failures(&watching, app) >= 2));
        world.gcs.heal();
        world.until_it_has(&web).await;
        until(&format!("{fault:?}: none fails"), || ["web", "api"].iter().all(|app| failures(&watching, app) == 0));
    }
    // What is only slow is no failure.
    world.gcs.fail(Kind::Insert, "channels/web/", Fault::Slow(Duration::from_secs(2)));
    let (web, api) = (world.release().await, world.release_of("api").await);
    world.until_it_has(&web).await;
    world.until_it_has(&api).await;
    assert_eq!((failures(&watching, "web"), failures(&watching, "api")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_storage_refuses_one_channel_keeps_no_other_from_anything() {
    let denied = Fault::Status(403, None);
    for (kind, object, fault) in [
        (Kind::Get, "channels/web/", denied.clone()),
        (Kind::List, "debs/web/", denied.clone()),
        (Kind::Insert, "channels/web/", denied.clone()),
        (Kind::Insert, "channels/web/", Fault::Status(412, None)),
        (Kind::Insert, "server/web-2", denied.clone()),
    ] {
        let world = World::new("").await;
        let other = world.other_channel().await;
        world.gcs.fail(kind, object, fault.clone());
        assert_eq!(world.round(), Some(1), "{object} {fault:?}");
        assert_eq!(world.named("api-1").await.as_ref(), Some(&other), "{object} {fault:?}");
        assert_eq!(world.named("web-2").await, None);
        world.gcs.heal();
        assert_eq!(world.round(), Some(0), "{object} {fault:?}");
        world.until_converged().await;
    }
    // What all of them need.
    let world = World::new("").await;
    let other = world.other_channel().await;
    world.gcs.fail(Kind::List, "server/", denied);
    assert_eq!((world.round(), world.named("api-1").await), (Some(1), None));
    world.gcs.heal();
    world.gcs.fail(Kind::Insert, "channels/web/", Fault::Slow(Duration::from_secs(2)));
    assert_eq!((world.round(), world.named("api-1").await), (Some(0), Some(other)));
    world.until_converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_round_did_before_is_told_when_a_race_over_another_channel_cannot_be_looked_at_again() {
    let world = World::new("").await;
    let other = world.other_channel().await;
    world.gcs.fail_next(Kind::Insert, "channels/web/", 1, Fault::Slow(Duration::from_secs(5)));
    let mut slower = world.push(&["watch", "--once"]);
    let is_held = |request: &Request| request.kind == Kind::Insert && request.object.starts_with("channels/web/");
    world.gcs.until(|requests| requests.iter().any(is_held)).await;
    // Somebody is faster, and then nothing can be read.
    let frozen = world.push(&["channel", "freeze", "web", "-m", "fair"]).0.wait().expect("it ends");
    assert!(frozen.success(), "{frozen}");
    world.gcs.fail(Kind::List, "rollouts/", Fault::Status(403, None));
    assert_eq!(slower.0.wait().expect("it ends").code(), Some(1));
    let said = std::fs::read_to_string(world.said()).expect("what it said");
    assert!(said.contains(&format!("api prod: moved to {}", other.stem())), "{said}");
    assert!(said.contains("web prod: error: could not list the rollouts"), "{said}");
    let (app, channel) = ("api".parse().unwrap(), "prod".parse().unwrap());
    let state = world.bucket.channel_state(&app, &channel).await.expect("it can be read").expect("it is there").1;
    assert_eq!((state.release.as_ref(), state.problem), (Some(&other), None));
}
