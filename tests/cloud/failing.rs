//! A watcher whose storage fails: what is concerned is counted, others go on, and the next good round counts from 0.

use std::time::Duration;

use harness::gcs::{Fault, Kind};

use crate::messages::{BUCKET, Watching, World, until};

fn failures(watching: &Watching, app: &str) -> usize {
    watching.value(&format!("push_watch_failures{{app=\"{app}\",channel=\"prod\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_storage_fails_is_counted_for_its_channel_and_reset_by_the_next_good_round() {
    let mut world = World::new().await;
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
