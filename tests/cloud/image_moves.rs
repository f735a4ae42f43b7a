//! Channels of images that do not simply move on: when told alone, past what is built late, and on a branch that is not what it was.

use harness::registry::Debian;
use serde_json::Value;

use crate::{
    images::{World, text},
    watching::git,
};

/// What a round did with the only channel, as programs see it.
fn round(world: &World) -> Value {
    let output = world.push(&["watch", "--once", "--json"]);
    let read: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    read["channels"][0].clone()
}

/// A commit as people name it.
fn named(commit: &str) -> String {
    format!("web@{}", &commit[..10])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_moves_when_told_says_what_it_would_move_to_and_moves_when_told() {
    let world = World::new(Debian::Twelve);
    world.configure(&[("web", "Tag: 'prod', Moves: 'told'")]);
    let (first, one) = world.land("web", "one").await;
    for _ in 0..2 {
        let said = world.round();
        assert!(said.contains("web prod: stays, and would otherwise move to web:") && said.contains(&first), "{said}");
        assert_eq!(world.digest("web", "prod").await, None);
    }
    world.ok(&["channel", "set", &named(&first), "-m", "go"]);
    world.round();
    assert_eq!(world.digest("web", "prod").await, one);
    let (second, two) = world.land("web", "two").await;
    let next = round(&world)["would"].clone();
    assert!(next.as_str().is_some_and(|next| next.contains(&second)), "{next}");
    assert_eq!(world.digest("web", "prod").await, one);
    // Whatever was pushed under its tag meanwhile goes back, too.
    world.publish(&world.build("by-hand", false), "web", "prod").await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, one);
    world.ok(&["channel", "set", &named(&second), "-m", "go on"]);
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_an_older_commit_that_is_built_late_is_counted_and_moves_nothing() {
    let world = World::new(Debian::Thirteen);
    world.configure(&[("web", "Tag: 'prod'")]);
    let (older, newer) = (world.commit("older"), world.commit("newer"));
    let new = world.publish(&world.build("newer", false), "web", &newer).await;
    assert_eq!(round(&world)["stale"], 0);
    assert_eq!(world.digest("web", "prod").await, new);
    world.publish(&world.build("older", false), "web", &older).await;
    for _ in 0..2 {
        let did = round(&world);
        assert_eq!((&did["stale"], &did["moved"]), (&1.into(), &Value::Null), "{did}");
        assert_eq!(world.digest("web", "prod").await, new);
    }
    // A person may want just that one.
    world.ok(&["channel", "set", &named(&older), "-m", "the newer one is slow"]);
    world.round();
    assert_ne!(world.digest("web", "prod").await, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_channel_of_images_stays_until_it_is_resumed() {
    let world = World::new(Debian::Twelve);
    world.configure(&[("web", "Tag: 'prod'")]);
    let (_, one) = world.land("web", "one").await;
    world.round();
    world.ok(&["channel", "freeze", "web", "-m", "holidays"]);
    let (second, two) = world.land("web", "two").await;
    let said = world.round();
    assert!(said.contains("stays, and would otherwise move to") && said.contains(&second), "{said}");
    assert_eq!(world.digest("web", "prod").await, one);
    let shown = world.shown("web");
    assert_eq!(shown["frozen"]["why"], "holidays", "{shown}");
    world.ok(&["channel", "resume", "web", "-m", "back"]);
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_branch_was_rewritten_or_is_gone_no_tag_moves_before_somebody_says_where_to() {
    let world = World::new(Debian::Thirteen);
    world.configure(&[("web", "Tag: 'prod'")]);
    let first = world.commit("base");
    world.publish(&world.build("base", false), "web", &first).await;
    let (_, two) = world.land("web", "two").await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
    git(&world.repo(), &["reset", "--quiet", "--hard", &first]);
    let (rewritten, three) = world.land("web", "in-its-place").await;
    let said = world.failing_round();
    assert!(said.contains("its release is not on its branch, which was rewritten"), "{said}");
    assert_eq!(world.digest("web", "prod").await, two);
    let problem = world.shown("web")["seen"]["problem"].clone();
    assert!(problem.as_str().is_some_and(|problem| problem.contains("diverged")), "{problem}");
    // The tag is kept in line meanwhile.
    world.publish(&world.build("by-hand", false), "web", "prod").await;
    world.failing_round();
    assert_eq!(world.digest("web", "prod").await, two);
    world.ok(&["channel", "set", &named(&rewritten), "-m", "it goes on here"]);
    world.ok(&["channel", "resume", "web", "-m", "it goes on here"]);
    world.round();
    assert_eq!(world.digest("web", "prod").await, three);
    let (_, four) = world.land("web", "four").await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, four);

    git(&world.repo(), &["branch", "--quiet", "--move", "main", "trunk"]);
    world.land("web", "five").await;
    let said = world.failing_round();
    assert!(said.contains("there is no branch `main`"), "{said}");
    assert_eq!(world.digest("web", "prod").await, four);
    git(&world.repo(), &["branch", "--quiet", "--move", "trunk", "main"]);
    world.round();
    assert_ne!(world.digest("web", "prod").await, four);
}
