//! `release` announces what it uploads and what others built, and a watcher looks.

use std::process::{Command, Output};

use bucket::ReleaseName;
use harness::{
    Programs, Target, base64,
    pubsub::{FakePubSub, Fault, Verb},
    registry::{Debian, RegistryOptions, RegistryServer, Tools, oci_image},
};
use registry::{Client, ClientOptions};

use crate::{
    messages::{BUCKET, World, until},
    watching::git,
};

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

#[tokio::test]
async fn an_image_is_announced_once_it_is_there() {
    let world = World::new().await;
    let registry = RegistryServer::start(Debian::Thirteen, RegistryOptions::default()).expect("Debian's registry");
    let web = format!("{}/acme/web", registry.host());
    let oci = world.directory.path().join("oci");
    oci_image(&oci, b"first").expect("an image");
    Tools::get().and_then(|tools| tools.push(&oci, &format!("{web}:one"))).expect("skopeo pushes");
    let url = format!("gs://{BUCKET}");
    // Writes release.toml, too.
    released(&release(&world, &url, &["-m", "first"]));
    let announce = |images: &str, image: &str, repo: &[&str]| {
        let path = world.repo.directory().join("release.toml");
        let manifest = std::fs::read_to_string(&path).expect("a file");
        let manifest = manifest.split("\n[images]").next().unwrap_or_default();
        std::fs::write(&path, format!("{manifest}\n[images]\n{images}\n")).expect("a file");
        let mut release = Command::new(Programs::get().expect("our programs").release());
        release.arg("-C").arg(world.repo.directory()).args(["announce", image]).args(repo);
        release
            .env("PUBSUB_EMULATOR_HOST", world.pubsub.host())
            .env("HOME", world.directory.path())
            .env_remove("REGISTRY_AUTH_FILE");
        release.output().expect("release runs")
    };
    let before = world.pubsub.published().len();
    for (images, image, status, expected) in [
        ("repository = '.*/other/.*'", format!("{web}:one"), 1, "is no image of this repository"),
        ("", format!("{web}:two"), 1, "push it before it is announced"),
        ("", web.clone(), 2, "names a tag and no digest"),
        ("", "web:one".to_owned(), 2, "it must be a registry and a path"),
    ] {
        let refused = announce(images, &image, &["--repo", "https://git.example/web.git"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(status) && said.contains(expected), "{said}");
    }
    assert_eq!(world.pubsub.published().len(), before);

    // Without --repo it is `origin`, and of neither a password is told on.
    let unknown = announce("repository = '.*/acme/.*'", &format!("{web}:one"), &[]);
    assert!(unknown.status.code() == Some(2) && String::from_utf8_lossy(&unknown.stderr).contains("no `origin`"));
    git(world.repo.directory(), &["remote", "add", "origin", "https://dev:s3cret@git.example/web.git"]);
    for repo in [&[][..], &["--repo", "https://dev:s3cret@git.example/web.git"]] {
        let before = world.pubsub.published().len();
        let announced = announce("repository = '.*/acme/.*'", &format!("{web}:one"), repo);
        let said = String::from_utf8_lossy(&announced.stderr);
        assert!(announced.status.success() && !said.contains("s3cret"), "{said}");
        let message = format!(r#"{{"image_name":"{web}","tag":"one","repo":"https://git.example/web.git"}}"#);
        assert_eq!(world.pubsub.published()[before..], [base64(message.as_bytes())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_announced_has_its_channels_tag_moved_without_a_poll() {
    let world = World::new().await;
    let registry = RegistryServer::start(Debian::Twelve, RegistryOptions::default()).expect("Debian's registry");
    let web = format!("{}/acme/web", registry.host());
    let manifest = format!(
        "schema = 1\n[bucket]\nurl = \"gs://{BUCKET}\"\nannounce = \"{}\"\n[images]\nrepository = '.*/acme/.*'\n",
        FakePubSub::TOPIC
    );
    world.repo.write("release.toml", &manifest).expect("a file");
    world.repo.commit("the image").expect("a commit");
    git(world.repo.directory(), &["remote", "add", "origin", &world.url()]);
    let (url, auth) = (world.url(), world.directory.path().join("config.json"));
    std::fs::write(&auth, "{}").expect("a file");
    world.configure(&format!("{{ App: 'image', Repo: '{url}', Image: '{web}', Tag: 'prod' }}"));
    let watching = world.watch_with(
        "1h",
        &[("PUBSUB_EMULATOR_HOST", world.pubsub.host()), ("REGISTRY_AUTH_FILE", &auth.to_string_lossy())],
    );
    let client = Client::new(ClientOptions::default()).expect("a client");
    let repository = web.parse().expect("a name of an image");
    let named = async |tag: &str| client.digest(&repository, &tag.parse().expect("a tag")).await.expect("an answer");
    let tools = Tools::get().expect("skopeo");
    for content in ["first", "second"] {
        world.repo.write("version", content).expect("a file");
        world.repo.commit(content).expect("a commit");
        let commit = git(world.repo.directory(), &["rev-parse", "HEAD"]);
        let oci = world.directory.path().join(format!("oci-{content}"));
        oci_image(&oci, content.as_bytes()).expect("an image");
        tools.push(&oci, &format!("{web}:{commit}")).expect("skopeo pushes");
        let built = named(&commit).await;
        assert!(built.is_some() && named("prod").await != built);
        let rounds = world.rounds();
        let mut announce = Command::new(Programs::get().expect("our programs").release());
        announce.arg("-C").arg(world.repo.directory()).args(["announce", &format!("{web}:{commit}")]);
        announce.env("PUBSUB_EMULATOR_HOST", world.pubsub.host()).env("REGISTRY_AUTH_FILE", &auth);
        let announced = announce.output().expect("release runs");
        assert!(announced.status.success(), "{}", String::from_utf8_lossy(&announced.stderr));
        let begun = std::time::Instant::now();
        while named("prod").await != built {
            assert!(begun.elapsed() < std::time::Duration::from_mins(1), "waited a minute in vain for {content}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        until("the message is acknowledged", || world.pubsub.left() == 0);
        // One that moved something is followed by another, without a message.
        until("a round has seen that nothing is left to do", || world.rounds() >= rounds + 2);
    }
    assert_eq!(watching.value("push_watch_moves_total{app=\"image\",channel=\"prod\"}"), 2);
    assert_eq!(watching.value("push_watch_failures{app=\"image\",channel=\"prod\"}"), 0);
}
