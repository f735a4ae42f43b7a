//! `release` announces what it uploads, and a watcher looks.

use std::process::{Command, Output};

use bucket::ReleaseName;
use harness::{
    Programs, Target,
    pubsub::{FakePubSub, Fault, Verb},
};

use crate::messages::{BUCKET, World};

/// `{"app":"web"}`
const WEB: &str = "eyJhcHAiOiJ3ZWIifQ==";

/// `release` in the repository of a world, whose release.toml has a topic.
fn release(world: &World, url: &str, arguments: &[&str]) -> Output {
    let manifest = format!(
        "schema = 1\n[bucket]\nurl = \"gs://{BUCKET}\"\nannounce = \"{}\"\n[package.web]\ndescription = \"Web\"\n\
         maintainer = \"A <a@example.org>\"\narch = \"all\"\ncontents = [{{ src = \"version\", dst = \"/srv/web\" }}]\n",
        FakePubSub::TOPIC
    );
    world.repo.write("release.toml", &manifest).expect("a file");
    world.repo.write("version", &format!("{arguments:?}")).expect("a file");
    world.repo.commit("next").expect("a commit");
    let mut release = Command::new(Programs::get().expect("our programs").release());
    Target { url: url.to_owned(), endpoint: Some(world.gcs.url.clone()) }.apply(&mut release);
    release.arg("-C").arg(world.repo.directory()).args(arguments).env("PUBSUB_EMULATOR_HOST", world.pubsub.host());
    release.output().expect("release runs")
}

/// What was released, by a command that succeeded.
fn released(output: &Output) -> ReleaseName {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a release name")
}

#[tokio::test]
async fn what_is_released_is_written_to_its_followers_without_a_poll() {
    let mut world = World::new().await;
    let first = world.release().await;
    let _watching = world.watch("1h");
    world.until_it_has(&first).await;
    let url = format!("gs://{BUCKET}");
    let second = released(&release(&world, &url, &["-m", "second"]));
    world.until_it_has(&second).await;
    // An upload that is tried again is announced again: who knows what became of the first.
    let deb = format!("dist/{}.deb", second.stem());
    assert_eq!(released(&release(&world, &url, &["upload", &deb])), second);
    assert_eq!(world.pubsub.published(), [WEB, WEB]);
}

#[tokio::test]
async fn an_upload_that_could_not_be_announced_is_there_all_the_same() {
    let world = World::new().await;
    let url = format!("gs://{BUCKET}");
    world.pubsub.fail(Verb::Publish, Fault::Status(403));
    let output = release(&world, &url, &["-m", "first"]);
    released(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("warning: could not announce the upload to `projects/acme-prod/topics/push`"), "{said}");
    assert!(said.contains("status 403") && !said.contains('\u{1b}'), "{said}");
}

#[tokio::test]
async fn uploads_to_another_bucket_are_not_announced() {
    let world = World::new().await;
    let other = world.directory.path().join("other");
    std::fs::create_dir(&other).expect("a directory");
    released(&release(&world, &format!("file://{}", other.display()), &["-m", "first"]));
    assert_eq!(world.pubsub.published(), Vec::<String>::new());
}
