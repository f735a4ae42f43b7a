//! What is recorded of images, and compared with what the registry has: what was put in its place, named anew, or built upon.

use std::fs;

use harness::{
    base64,
    pubsub::{FakePubSub, Fault, Verb},
    registry::Debian,
};
use registry::{Digest, Rule};
use serde_json::Value;

use crate::images::{World, text};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_under_the_commit_that_runs_stops_the_channel_until_that_image_is_rejected() {
    let world = World::new(Debian::Twelve);
    world.configure(&[("web", "Tag: 'prod'")]);
    let (first, one) = world.land("web", "one").await;
    world.round();
    let other = world.publish(&world.build("other", false), "web", &first).await.expect("an image");
    let (second, two) = world.land("web", "two").await;
    let said = world.failing_round();
    assert!(said.contains(&other.to_string()) && world.digest("web", "prod").await == one, "{said}");
    let (_, command) = said.split_once("`push reject ").expect("the command that passes it over");
    let name = command.split('`').next().expect("its end").to_owned();
    assert!(name.starts_with("web:") && name.contains(&first), "{name}");

    // By its name, or by the commit.
    let short = format!("web@{}", &first[..8]);
    for text in [&name, &short] {
        let rejected = world.ok(&["reject", text, "-m", "not ours"]);
        assert!(rejected.contains("not ours"), "{rejected}");
        world.ok(&["unreject", text]);
    }
    let rejected: Value = serde_json::from_str(&world.ok(&["reject", &short, "-m", "x", "--json"])).expect("JSON");
    assert_eq!(rejected["releases"].as_array().map(Vec::len), Some(1), "{rejected}");
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
    // One that is rejected is passed over.
    let (third, three) = world.land("web", "three").await;
    world.push(&["watch", "--once"]);
    assert_eq!(world.digest("web", "prod").await, three);
    world.ok(&["channel", "set", &format!("web@{}", &second[..8]), "-m", "slow"]);
    world.ok(&["reject", &format!("web@{}", &third[..8]), "-m", "slow"]);
    world.ok(&["channel", "resume", "web", "-m", "on"]);
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
    let nothing = world.push(&["reject", "web@00000000", "-m", "x"]);
    assert!(text(&nothing).contains("neither a release nor an image"), "{}", text(&nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_named_with_what_to_do_and_keeps_no_other_image_from_anything() {
    let world = World::new(Debian::Twelve);
    world.configure(&[("web", "Tag: 'prod'")]);
    let first = world.commit("one");
    let object = format!("images/web/{first}.json");
    world.gcs.put("acme", &object, "{}");
    world.publish(&world.build("one", false), "web", &first).await;
    let expected = format!(
        "`{object}` is malformed: no program of ours wrote it; if no newer program wrote that, delete it, and the next round records \
         the image of commit {} anew",
        &first[..12]
    );
    let said = world.round();
    assert!(said.contains(&format!("web prod: passed over {expected}")), "{said}");
    assert_eq!(world.digest("web", "prod").await, None);
    assert_eq!(world.shown("web")["seen"]["why_passed_over"][0], expected);
    let shown = world.ok(&["channel", "show", "web"]);
    assert!(shown.contains("1 unreadable release") && shown.contains(&expected), "{shown}");
    let (_, two) = world.land("web", "two").await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_were_recorded_under_another_name_are_said_when_the_image_moves_house() {
    let world = World::new(Debian::Thirteen);
    world.configure(&[("web", "Tag: 'prod'")]);
    let (first, _) = world.land("web", "one").await;
    world.round();
    let rules = fs::read_to_string(world.path("rules")).expect("a file");
    fs::write(world.path("rules"), rules.replace("/acme/web'", "/acme/site'")).expect("a file");
    let built = world.build("one", false);
    world.publish(&built, "site", &first).await;
    let said = text(&world.push(&["watch", "--once"]));
    let expected = format!("commits of before were recorded as `{}`, so land a new one", world.name("web"));
    assert!(said.contains(&expected), "{said}");
    let (_, two) = world.land("site", "two").await;
    world.round();
    assert_eq!(world.digest("site", "prod").await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_on_an_image_that_moved_is_named_until_it_is_built_again_and_its_builders_are_told() {
    let world = World::new(Debian::Thirteen);
    let pubsub = FakePubSub::start();
    world.configure(&[("base", "Tag: 'prod'"), ("web", "Tag: 'prod'")]);
    let round = || {
        let mut watch = world.command(&["watch", "--once", "--announce", FakePubSub::TOPIC]);
        let output = watch.env("PUBSUB_EMULATOR_HOST", pubsub.host()).output().expect("push runs");
        assert!(output.status.success(), "{}", text(&output));
    };
    // An image of two platforms, so that what is built on it names one of those.
    let land_base = async |content: &str| {
        let commit = world.commit(content);
        world.publish(&world.build(content, true), "base", &commit).await.expect("an image");
        let index = world.client.by_tag(&world.name("base"), &commit.parse().expect("a tag")).await;
        let index = index.expect("the registry answers").expect("an image");
        (commit, index.children()[0].digest.clone())
    };
    let land_on = async |base: &Digest, content: &str| {
        let (commit, _) = world.land("web", content).await;
        let (name, tag) = (world.name("web"), commit.parse().expect("a tag"));
        let plain = world.client.by_tag(&name, &tag).await.expect("the registry answers").expect("an image");
        let named = plain.annotated("org.opencontainers.image.base.name", &world.name("base").to_string());
        let on = named.and_then(|named| named.annotated("org.opencontainers.image.base.digest", &base.to_string()));
        let writable = Rule::permit(Some(&Rule::only(&name)), &name).expect("it may be written");
        world.client.writer(&writable).tag(&tag, &on.expect("a manifest")).await.expect("it is put");
        commit
    };
    let on_older = || world.shown("base")["seen"]["on_older"].clone();
    let (first, part) = land_base("one").await;
    let built = land_on(&part, "web one").await;
    round();
    assert!(on_older().is_null() && pubsub.published().is_empty());
    // The round that sees the tag there says so, once.
    round();
    round();
    let message = |image: &str, commit: &str| {
        let (name, repo) = (world.name(image), world.repo().display().to_string());
        base64(format!(r#"{{"image_name":"{name}","tag":"{commit}","repo":"file://{repo}"}}"#).as_bytes())
    };
    assert_eq!(pubsub.published(), [message("base", &first), message("web", &built)]);
    let (second, new_part) = land_base("two").await;
    round();
    round();
    assert_eq!(pubsub.published()[2..], [message("base", &second)]);
    let older = on_older();
    assert!(
        older[0]["app"] == "web" && older[0]["commit"] == built && older.as_array().map(Vec::len) == Some(1),
        "{older}"
    );
    assert!(older[0]["base"].as_str().expect("a base").ends_with(&part.to_string()), "{older}");
    let said = world.ok(&["channel", "show", "base"]);
    assert!(said.contains(&format!("web {}", &built[..7])), "{said}");
    // What is built on a newer image than the channel points to is not said to be old.
    world.ok(&["channel", "rollback", "base", "-m", "slow"]);
    let on_new = land_on(&new_part, "web on new").await;
    round();
    assert!(on_older().is_null(), "{on_new}");
    world.ok(&["channel", "resume", "base", "-m", "on"]);
    round();
    round();
    assert!(on_older().is_null());

    // Where nothing can be announced the channel goes on, and that is said.
    pubsub.fail(Verb::Publish, Fault::Status(403));
    let (third, _) = land_base("three").await;
    round();
    let mut watch = world.command(&["watch", "--once", "--announce", FakePubSub::TOPIC]);
    let output = watch.env("PUBSUB_EMULATOR_HOST", pubsub.host()).output().expect("push runs");
    assert!(
        output.status.success() && text(&output).contains("could not announce that the image moved"),
        "{}",
        text(&output)
    );
    assert!(world.shown("base")["release"].as_str().expect("a release").contains(&third));
}
