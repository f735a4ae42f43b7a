//! `release sweep` of images of changes: what it asks of the buckets.

use bucket::{Image, ImageCandidate, ImagePlace, Sha256};
use harness::gcs::{Fault, Kind};
use jiff::SignedDuration;
use serde_json::json;

use crate::trying::World;

const NAME: &str = "images.example/acme/web";

/// Records two images that are gated of a change, and that the latter is that of a commit by now.
async fn promoted(world: &World, number: usize) {
    gated(world, number, 1000 + number).await;
    let mut said = gated(world, number, number).await;
    let commit = format!("{number:040x}");
    said["promoted"] = json!({ "change": said["change"], "patchset": 1, "tag": said["tag"] });
    said["commit"] = commit.clone().into();
    said["tag"] = commit.into();
    let image: Image = serde_json::from_value(said).expect("an image");
    world.production.record_image(&image).await.expect("a record");
}

/// Records an image that is gated of a change.
async fn gated(world: &World, number: usize, bytes: usize) -> serde_json::Value {
    let (id, tag, digest) = (format!("web/{number}"), format!("v{number}"), format!("{bytes:064x}"));
    let said = json!({
        "schema": 1, "app": "web", "change": id, "patchset": 1, "commit": "a".repeat(40), "tree": "e".repeat(40),
        "build": "k3v9", "name": NAME, "tag": tag, "digest": format!("sha256:{digest}"), "media_type": "x",
        "time": "2026-11-20T19:05:02Z", "who": "dev@x",
    });
    let candidate: ImageCandidate = serde_json::from_value(said.clone()).expect("a candidate");
    let (change, app, digest) = (candidate.change.clone(), candidate.app.clone(), digest.parse::<Sha256>());
    let place = ImagePlace::Gated { change, app, tag: candidate.tag.clone(), digest: digest.expect("a digest") };
    world.production.record_image_candidate(&place, &candidate, None).await.expect("a record");
    said
}

#[tokio::test]
async fn the_images_of_an_app_are_listed_once_however_many_are_gated_of_it() {
    let world = World::over_google().await;
    let path = world.repo.directory().join("release.toml");
    let own = std::fs::read_to_string(&path).expect("a file");
    let images = "[images]\nregistry = \"images.example/acme\"\nrepository = '.*/acme/.*'\n";
    std::fs::write(&path, format!("{own}{images}")).expect("a file");
    for number in 1..=5 {
        promoted(&world, number).await;
    }
    let gcs = world.gcs.as_ref().expect("a fake");
    gcs.set_clock_ahead(SignedDuration::from_hours(48));
    let listings = || {
        let is_it = |request: &&harness::gcs::Request| request.kind == Kind::List && request.object == "images/web/";
        gcs.requests().iter().filter(is_it).count()
    };
    let before = listings();
    let planned = world.json(&["sweep", "--dry-run"]);
    let deleted = planned["deleted"].as_array().expect("a list");
    // What was gated before what was promoted, too.
    assert_eq!(deleted.len(), 10, "{planned}");
    assert!(deleted.iter().all(|gone| gone["why"] == "its change was promoted"), "{planned}");
    assert_eq!(listings() - before, 1);

    // Where they can't be listed none of them goes, however old.
    gcs.set_clock_ahead(SignedDuration::from_hours(31 * 24));
    gcs.fail(Kind::List, "images/web/", Fault::Status(403, None));
    let output = world.release(&["sweep", "--dry-run", "--json"]).output().expect("release runs");
    assert_eq!(output.status.code(), Some(1));
    let refused: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((refused["deleted"].as_array().map(Vec::len), &refused["seen"]), (Some(0), &10.into()), "{refused}");
    assert!(refused["failed"][0].as_str().is_some_and(|told| told.contains("which images of `web` are recorded")));
}
