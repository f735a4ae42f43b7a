//! What a person decides: that a server follows again, where a channel points, and past what.

use serde_json::{Value, json};

use super::{Channels, only, stem};
use crate::{failed, ok, text};

/// A channel that takes what has run on another for an hour.
const BEHIND: &str = r#"[{ App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] },
                         { App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta", Soak: "1h" }]"#;

#[tokio::test]
async fn who_deploys_what_a_channel_points_to_for_it_gives_the_server_back() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two", "three"]).await;
    assert!(failed(&channels.push("deploy web web-1 --channel prod -m x")).contains("points to nothing yet"));
    channels.round();
    let two = channels.release(&commits[1]).await;
    channels.round();
    ok(&channels.push("rollback web web-1 -m slow"));
    // APP alone is what the channel points to, which is not the newest release.
    ok(&channels.push("channel freeze web -m fair"));
    let three = channels.release(&commits[2]).await;
    assert!(channels.round().contains("web-1: left alone: taken over"));
    for (arguments, part) in [
        ("deploy web web-1 --channel beta -m x", "`web` has no channel `beta`; there is `prod`"),
        ("deploy web web-1 --channel prdo -m x", "did you mean `prod`?"),
        ("deploy api web-1 --channel prod -m x", "no channel of `api` is configured"),
        ("deploy wev@1234 web-1 --channel prod -m x", "did you mean `web`?"),
    ] {
        let output = channels.push(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text(&output).contains(part), "{arguments}: {}", text(&output));
    }
    for named in [three.to_string(), format!("web@{}", &commits[0][..8])] {
        let said = failed(&channels.push(&format!("deploy {named} web-1 --channel prod -m x")));
        assert!(said.contains(&format!("points to `{}`, not to", stem(&two))), "{said}");
    }
    assert_eq!(channels.document("web-1"), only(&one));
    ok(&channels.push("deploy web web-1 --channel prod -m done"));
    assert_eq!(channels.document("web-1"), only(&two));
    let last = |directory: &str| -> Value {
        let objects = channels.objects();
        let found = objects.iter().rev().find(|(path, _)| path.starts_with(channels.fixture.path(directory)));
        serde_json::from_slice(&found.unwrap().1).unwrap()
    };
    assert_eq!((&last("history/web-1")["channel"], &last("history/web-1")["why"]), (&json!("prod"), &json!("done")));
    let pushes = channels.objects();
    let is_of_it = |(path, content): &&(std::path::PathBuf, Vec<u8>)| {
        path.starts_with(channels.fixture.path("pushes")) && String::from_utf8_lossy(content).contains("\"done\"")
    };
    let push: Value = serde_json::from_slice(&pushes.iter().find(is_of_it).unwrap().1).unwrap();
    assert_eq!(push["channel"], "prod");
    ok(&channels.push("channel resume web -m over"));
    channels.round();
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&three), only(&three)));
    // In waves the servers come back, too.
    ok(&channels.push("rollback web web-1 -m slow"));
    ok(&channels.push("deploy web web-1 --channel prod --waves 1 -m done"));
    assert_eq!(last("rollouts")["channel"], "prod");
}

#[tokio::test]
async fn what_has_not_gone_through_the_channel_before_is_set_only_past_that() {
    let mut channels = Channels::new("").await;
    channels.configure(BEHIND, "");
    let commits = ["one", "two"].map(|message| channels.commit(message));
    let (one, two) = (channels.release(&commits[0]).await, channels.release(&commits[1]).await);
    for release in [&one, &two] {
        let said = failed(&channels.push(&format!("channel set {release} -m hotfix")));
        assert!(said.contains("has not gone through the channel `beta`") && said.contains("--skip-soak"), "{said}");
        assert!(failed(&channels.push(&format!("channel set {release} -m hotfix --dry-run"))).contains("--skip-soak"));
        ok(&channels.push(&format!("channel set {release} --skip-soak -m hotfix")));
    }
    let history = channels.channel()["history"].clone();
    assert_eq!((&history[0]["without_soak"], &history[1]["without_soak"]), (&json!(true), &json!(true)));
    assert!(ok(&channels.push("channel show web")).contains("without soak: hotfix"));
    // It was here before.
    ok(&channels.push(&format!("channel set {one} -m back")));
    assert_eq!(channels.channel()["history"][0]["without_soak"], Value::Null);
    let output = channels.push(&format!("channel set {one} --skip-soak --channel beta -m hotfix"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("`beta` of `web` has no `From`"), "{}", text(&output));
    // What ran on the channel before for long enough needs nothing.
    let three = channels.commit("three");
    let three = channels.release(&three).await;
    ok(&channels.push(&format!("channel set {three} --channel beta -m new")));
    let path = channels.fixture.path("channels/web/beta.json");
    let mut beta: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    beta["history"][0]["ran"] = json!("2026-11-20T19:00:00Z");
    std::fs::write(path, beta.to_string()).unwrap();
    ok(&channels.push(&format!("channel set {three} -m soaked")));
}

#[tokio::test]
async fn a_channel_that_is_told_freezes_only_where_it_does_not_go_forward() {
    let mut channels = Channels::new("").await;
    channels.configure(r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"], Moves: "told" }]"#, "");
    let commits = ["one", "two", "three"].map(|message| channels.commit(message));
    let (one, two) = (channels.release(&commits[0]).await, channels.release(&commits[1]).await);
    // No round has seen the branch.
    let said = ok(&channels.push(&format!("channel set {one} -m first")));
    assert!(said.contains("is frozen all the same, because what the last round"), "{said}");
    // Who meets it later is told, too.
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("froze all the same, because what the last round"), "{shown}");
    ok(&channels.push("channel resume web -m x"));
    channels.round();
    let said = ok(&channels.push(&format!("channel set {two} -m second")));
    assert!(!said.contains("frozen"), "{said}");
    let channel = channels.channel();
    assert_eq!((&channel["release"], &channel["frozen"]), (&json!(two), &Value::Null));
    // Further still, though no round has seen the move.
    let three = channels.release(&commits[2]).await;
    assert!(!ok(&channels.push(&format!("channel set {three} -m third"))).contains("frozen"));
    for (back, why) in [(&two, "backwards"), (&one, "further back")] {
        let said = ok(&channels.push(&format!("channel set {back} -m {}", why.replace(' ', "-"))));
        assert!(said.contains("because its commit is not among the last 100"), "{said}");
        assert_ne!(channels.channel()["frozen"], Value::Null);
        ok(&channels.push("channel resume web -m x"));
    }
    // What can't be read of the branch keeps nobody from setting it.
    std::fs::write(channels.fixture.path("channel-state/web/prod.json"), "{").unwrap();
    assert!(ok(&channels.push(&format!("channel set {two} -m unseen"))).contains("is frozen all the same"));
}

#[tokio::test]
async fn more_of_a_history_is_kept_while_the_channel_behind_waits_for_it() {
    let mut channels = Channels::new("").await;
    let one = channels.commit("one");
    let one = channels.release(&one).await;
    channels.configure(BEHIND, "");
    ok(&channels.push(&format!("channel set {one} --channel beta -m first")));
    let path = channels.fixture.path("channels/web/beta.json");
    let read = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let mut beta = read();
    let entry = beta["history"][0].clone();
    beta["history"] = json!(vec![entry; 150]);
    std::fs::write(&path, beta.to_string()).unwrap();
    let kept = || read()["history"].as_array().unwrap().len();
    ok(&channels.push("channel resume web --channel beta -m x"));
    assert_eq!(kept(), 150, "none of it has run long enough");
    channels.configure(r#"[{ App: "web", Channel: "beta", Repo: "REPO" }]"#, "");
    ok(&channels.push("channel freeze web --channel beta -m x"));
    assert_eq!(kept(), 100);
}
