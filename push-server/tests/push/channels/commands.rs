//! `push channel`: what it shows, changes and refuses.

use serde_json::json;

use super::{Channels, stem};
use crate::{failed, ok, text};

#[tokio::test]
async fn a_channel_is_shown_and_changed_from_the_command_line() {
    let mut channels = Channels::new(r#"{ App: "web", Channel: "beta", Repo: "REPO" }"#).await;
    let commits = ["one", "two"].map(|message| channels.commit(message));
    let (one, two) = (channels.release(&commits[0]).await, channels.release(&commits[1]).await);
    channels.server("web-1", &one);
    let listed = ok(&channels.push("channel list"));
    assert!(
        listed.contains("web  prod") && listed.contains("0 of 1 server") && listed.contains("web  beta"),
        "{listed}"
    );
    let said = ok(&channels.push(&format!("channel set web@{} -m first --dry-run", &commits[0][..8])));
    assert!(said.contains(&format!("nothing → {}", stem(&one))) && said.contains("would be frozen"), "{said}");
    assert!(!channels.fixture.path("channels").exists());
    let set = channels.json(&format!("channel set {one} -m first"));
    assert_eq!((&set["from"], &set["release"], &set["frozen"]["why"]), (&json!(null), &json!(one), &json!("first")));
    assert!(
        failed(&channels.push(&format!("channel set {one} -m again"))).contains("what the channel points to already")
    );
    ok(&channels.push(&format!("channel set {two} -m second")));
    assert!(failed(&channels.push("channel freeze web -m fair")).contains("frozen already, by `dev@"));
    ok(&channels.push("channel rollback web -m slow"));
    assert!(failed(&channels.push("channel rollback web -m slow")).contains("pointed to nothing else before"));
    let shown = ok(&channels.push("channel show web"));
    for part in
        [stem(&one), "1 of 1 server".to_owned(), "every newer release of main of file://".to_owned(), "slow".to_owned()]
    {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    let shown = channels.json("channel show web");
    assert_eq!((&shown["followers"][0]["server"], &shown["history"][1]["why"]), (&json!("web-1"), &json!("second")));
    assert!(failed(&channels.push("channel resume web --reason=")).contains("no reason specified"));
    assert!(ok(&channels.push("channel resume web -m mended")).contains("no longer frozen"));
    assert!(failed(&channels.push("channel resume web -m mended")).contains("is not frozen"));
    assert_eq!(channels.json("channel list web")["channels"][0]["frozen"], json!(null));
}

#[tokio::test]
async fn what_a_newer_program_wrote_is_kept_and_what_nobody_would_read_is_left_out() {
    let mut channels = Channels::new("").await;
    let commits = ["one", "two"].map(|message| channels.commit(message));
    let (one, two) = (channels.release(&commits[0]).await, channels.release(&commits[1]).await);
    ok(&channels.push(&format!("channel set {one} -m first")));
    let object = channels.fixture.path("channels/web/prod.json");
    let mut channel = channels.channel();
    channel["newer"] = json!({ "x": 1 });
    channel["history"][0]["newer"] = json!("y");
    channel["history"][0]["kind"] = json!("teleport");
    channel["frozen"]["newer"] = json!({ "z": [1] });
    channel["rolled_back"] = json!([{ "release": two.to_string().replace(&commits[1], &"a".repeat(40)), "server": "web-1",
        "at": "2026-11-20T19:00:00Z", "why": "it crashed", "newer": 2 }]);
    let long =
        json!({ "release": one, "at": "2026-11-20T19:00:00Z", "by": "dev", "why": "w".repeat(4000), "ran": null });
    channel["history"].as_array_mut().unwrap().extend(std::iter::repeat_n(long, 60));
    std::fs::write(&object, channel.to_string()).unwrap();
    // Whatever of it is not changed.
    channels.configure(r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"], Moves: "told" }]"#, "");
    channels.round();
    ok(&channels.push(&format!("channel set {two} -m second")));
    let channel = channels.channel();
    assert_eq!((&channel["newer"]["x"], &channel["history"][1]["newer"]), (&json!(1), &json!("y")));
    assert_eq!((&channel["history"][1]["kind"], &channel["rolled_back"][0]["newer"]), (&json!("teleport"), &json!(2)));
    assert_eq!(channel["frozen"]["newer"], json!({ "z": [1] }), "a `set` forward leaves it as frozen as it was");
    assert_eq!((&channel["history"][0]["why"], channel["history"].as_array().unwrap().len()), (&json!("second"), 62));
    // 256 KiB are read.
    for _ in 0..5 {
        ok(&channels.push(&format!("channel set {one} -m {}", "x".repeat(2000))));
        ok(&channels.push(&format!("channel set {two} -m {}", "x".repeat(2000))));
    }
    assert!(channels.channel()["history"].as_array().unwrap().len() < 72);
    assert!(std::fs::metadata(&object).unwrap().len() <= 256 << 10);
}

#[tokio::test]
async fn what_is_no_channel_is_a_usage_error_that_names_the_nearest() {
    let channels = Channels::new(r#"{ App: "web", Channel: "beta", Repo: "REPO" }"#).await;
    for (arguments, part) in [
        ("channel show web --channel bet", "`web` has no channel `bet`; did you mean `beta`?"),
        ("channel show web --channel nightly", "`web` has no channel `nightly`; there is `prod`, `beta`"),
        ("channel list nope", "no channel of `nope` is configured"),
        ("channel show wev", "no channel of `wev` is configured; did you mean `web`?"),
        ("channel freeze web --channel a/b -m x", "invalid channel name"),
        ("channel freeze web", "--reason"),
        ("watch --poll 0s", "must be at least 1s"),
    ] {
        let output = channels.push(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text(&output).contains(part), "{arguments}: {}", text(&output));
    }
    channels.configure("[]", "");
    for arguments in ["channel show web", "watch --once"] {
        let output = channels.push(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text(&output).contains("no channel is configured"), "{}", text(&output));
    }
    channels.configure(r#"[{ App: "web", Repo: "https://dev:secret@git.example/web.git" }]"#, "");
    let said = text(&channels.push(&format!("check-config {}", channels.elsewhere.path().join("rules").display())));
    assert!(said.contains("rules:1:") && said.contains("redential") && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn that_max_down_alone_makes_one_wave_is_told_before_anything_goes_out() {
    let channels = Channels::new("").await;
    let check = |of: &Channels| format!("check-config {}", of.elsewhere.path().join("rules").display());
    let note = "channel `prod` of `web` has `MaxDown` and no `Waves`: where the policy asks for no waves either, its followers are \
                one wave, of which at most 10% of each group are out at a time";
    for (rules, notes) in [
        ("MaxDown: '10%'", vec![note]),
        ("MaxDown: '10%', Waves: ['rest']", Vec::new()),
        ("Servers: ['web-*']", Vec::new()),
    ] {
        channels.configure(&format!("[{{ App: 'web', Repo: 'REPO', {rules} }}]"), "");
        assert_eq!(channels.json(&check(&channels))["notes"], serde_json::json!(notes), "{rules}");
        let said = ok(&channels.push(&check(&channels)));
        assert_eq!(said.contains(note), !notes.is_empty(), "{rules}: {said}");
    }
}

#[tokio::test]
async fn who_may_not_push_to_all_followers_may_not_change_the_channel() {
    let mut channels = Channels::new("").await;
    let one = channels.commit("one");
    let one = channels.release(&one).await;
    for server in ["web-1", "web-2"] {
        channels.server(server, &one);
    }
    let roles = |groups: &str| {
        format!(
            r#"Groups: {{ one: {{ Servers: ["web-1"] }}, two: {{ Servers: ["web-2"] }} }},
               Roles: [{{ Role: "deployer", Who: ["dev*"], Groups: [{groups}] }}]"#
        )
    };
    let web = r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"] }]"#;
    channels.configure(web, &roles(r#""one""#));
    for verb in [format!("set {one}"), "freeze web".to_owned(), "resume web".to_owned(), "rollback web".to_owned()] {
        let said = failed(&channels.push(&format!("channel {verb} -m x")));
        assert!(said.contains("may not change the channel `prod` of `web`"), "{said}");
    }
    assert!(!channels.fixture.path("channels").exists());
    channels.configure(web, &roles(r#""one", "two""#));
    ok(&channels.push(&format!("channel set {one} -m x")));
}

#[tokio::test]
async fn no_server_gets_what_a_channel_of_images_points_to_and_its_role_is_for_the_app() {
    let channels = Channels::new("").await;
    let image = "[{ App: 'web', Repo: 'REPO', Image: 'i.example/web', Tag: 'prod' }]";
    channels.configure(image, "");
    let output = channels.push("deploy web web-1 --channel prod -m x");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("the channel `prod` of `web` is of images"), "{}", text(&output));
    let role = |of: &str| {
        format!("Groups: {{ one: {{ Servers: ['web-1'] }} }}, Roles: [{{ Role: 'deployer', Who: ['*'], {of} }}]")
    };
    channels.configure(image, &role("Groups: ['one']"));
    let said = failed(&channels.push("channel freeze web -m x"));
    assert!(said.contains("takes the role `deployer` for the app and for no groups alone"), "{said}");
    channels.configure(image, &role("Apps: ['api']"));
    failed(&channels.push("channel freeze web -m x"));
    channels.configure(image, &role("Apps: ['web']"));
    ok(&channels.push("channel freeze web -m x"));
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("i.example/web, whose tag `prod` is moved") && !shown.contains("0 of 0 servers"), "{shown}");
}
