//! Which servers get what a channel points to.

use std::process::Stdio;

use bucket::{LastPush, MoveKind, PushId, PushKind, Timestamp};
use fleet::{
    assign::assign,
    channel::change::{Said, moved},
};
use serde_json::{Value, json};

use super::{Channels, only, stem};
use crate::{failed, ok};

#[tokio::test]
async fn a_round_makes_up_for_one_that_was_killed_and_a_quiet_one_writes_nothing() {
    let (mut channels, commits, _) = Channels::following(&["web-1", "web-2"], ["one", "two"]).await;
    channels.round();
    // As after a kill between the write of the channel and those of the documents.
    let two = channels.release(&commits[1]).await;
    let (app, name) = ("web".parse().unwrap(), "prod".parse().unwrap());
    let bucket = &channels.fixture.bucket;
    let (seen, channel) = bucket.channel(&app, &name).await.unwrap().unwrap();
    let killed = moved(&channel, &two, MoveKind::Forward, Said { by: "watcher", why: "newer", at: Timestamp::now() });
    bucket.write_channel(&killed, Some(seen)).await.unwrap();
    let said = channels.round();
    assert!(said.contains("web-1: pushed") && said.contains("web-2: pushed"), "{said}");
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&two), only(&two)));
    let pushes = channels.json("pushes");
    assert_eq!(
        (&pushes["pushes"][0]["servers"], &pushes["pushes"][0]["why"]),
        (&json!(2), &json!("channel prod: built 2"))
    );
    let before = channels.objects();
    assert_eq!(channels.round(), "");
    assert_eq!(channels.objects(), before, "nothing was written");
}

#[tokio::test]
async fn who_took_a_server_over_keeps_it_and_who_debugs_is_not_disturbed() {
    let mut channels = Channels::new("").await;
    let commits = ["one", "two", "three", "four"].map(|message| channels.commit(message));
    let (one, two) = (channels.release(&commits[0]).await, channels.release(&commits[1]).await);
    let dirty = channels.release_that(&commits[1], true).await;
    for server in ["web-1", "web-2", "web-3", "web-4"] {
        channels.server(server, &one);
    }
    channels.round();
    assert_eq!(channels.document("web-4"), only(&two));
    ok(&channels.push("rollback web web-1 -m slow"));
    ok(&channels.push(&format!("deploy {dirty} web-2 -m debugging")));
    // Written by hand: on the line it follows.
    std::fs::write(channels.fixture.path("server/web-3.json"), format!("[\"{one}\"]")).unwrap();
    let three = channels.release(&commits[2]).await;
    let said = channels.round();
    for part in [
        "web-1: left alone: taken over: rollback by dev@".to_owned(),
        "web-2: left alone: its release is dirty".to_owned(),
        "web-3: pushed".to_owned(),
        "web-4: pushed".to_owned(),
        format!("moved to {}", stem(&three)),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&one), only(&dirty)));
    assert_eq!((channels.document("web-3"), channels.document("web-4")), (only(&three), only(&three)));
    // A follower that is further isn't pushed back: a person deployed there what the channel hasn't reached, being frozen.
    ok(&channels.push("channel freeze web -m fair"));
    let four = channels.release(&commits[3]).await;
    ok(&channels.push(&format!("deploy {four} web-4 -m early")));
    let said = channels.round();
    assert!(said.contains("web-4: left alone: its release is further on the branch"), "{said}");
    assert_eq!(channels.document("web-4"), only(&four));
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("frozen") && shown.contains("1 of 4 servers"), "{shown}");
}

#[tokio::test]
async fn what_is_held_halted_or_refused_is_left_alone_without_a_push() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two"]).await;
    channels.round();
    ok(&channels.push("hold web-1 -m debugging"));
    let two = channels.release(&commits[1]).await;
    ok(&channels.push("halt -m migration"));
    let said = channels.round();
    assert!(said.contains("web-2: left alone") && said.contains("halted all pushes"), "{said}");
    let before = channels.objects();
    channels.round();
    assert_eq!(channels.objects(), before, "no push is made of nothing");
    ok(&channels.push("halt --lift"));
    let said = channels.round();
    assert!(said.contains("web-1: left alone") && said.contains("on hold on `web-1`"), "{said}");
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&one), only(&two)));
    channels.configure(
        r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"] }]"#,
        r#"Groups: { prod: { Servers: ["web-1"], AppNames: ["api"] } }"#,
    );
    ok(&channels.push("resume web-1"));
    let said = channels.round();
    assert!(said.contains("does not allow `web` on `web-1`"), "{said}");
    channels.configure(
        r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"] }, { App: "web", Channel: "beta", Repo: "REPO", Servers: ["web-1"] }]"#,
        "",
    );
    let said = channels.round();
    assert!(said.contains("web prod: web-1: left alone: the channel `beta` has it, too"), "{said}");
    assert!(said.contains("web beta: web-1: left alone: the channel `prod` has it, too"), "{said}");
    assert_eq!(channels.document("web-1"), only(&one));
}

#[tokio::test]
async fn who_watches_needs_the_role_to_push() {
    let (mut channels, commits, one) = Channels::following(&["web-1"], ["one", "two"]).await;
    let two = channels.release(&commits[1]).await;
    let web = r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"] }]"#;
    channels.configure(web, r#"Roles: [{ Role: "deployer", Who: ["ops*"] }]"#);
    let said = channels.round();
    assert!(said.contains("web-1: left alone: ") && said.contains("`dev@"), "{said}");
    assert_eq!(channels.document("web-1"), only(&one));
    ok(&channels.command("watch --once").env("PUSH_USER", "ops").output().unwrap());
    assert_eq!(channels.document("web-1"), only(&two));
}

#[tokio::test]
async fn a_reason_has_as_much_of_a_long_note_as_it_may() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two"]).await;
    let (two, deb, mut facts) = channels.build(&commits[1], false);
    // An odd number of bytes before characters of two.
    facts.note = format!("x{}", "ü".repeat(1500));
    channels.fixture.bucket.upload_release(&two, &deb, &facts, &|_| ()).await.unwrap();
    channels.round();
    assert_eq!(channels.document("web-1"), only(&two));
    let pushed = channels.json("history web-1")["pushes"][0]["why"].clone();
    assert_eq!(pushed, format!("channel prod: x{}", "ü".repeat(1016)));
    assert_eq!(channels.channel()["why"], format!("x{}", "ü".repeat(1023)));
}

#[tokio::test]
async fn a_trial_and_its_end_take_nothing_over() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two", "three"]).await;
    let two = channels.release(&commits[1]).await;
    channels.round();
    // One is left over, without its hold; of the other its end has put back what was there.
    for (name, kind, from, to) in [("web-1", PushKind::Trial, &two, &one), ("web-2", PushKind::TrialEnd, &one, &two)] {
        let (bucket, server) = (&channels.fixture.bucket, name.parse().unwrap());
        let (seen, document) = bucket.server_document(&server).await.unwrap().unwrap();
        let (from, to) = (Some(from.clone()), Some(to.clone()));
        let push = LastPush {
            id: PushId::random(),
            time: bucket.now(),
            app: "web".parse().unwrap(),
            from,
            to: to.clone(),
            kind,
            who: "ci".to_owned(),
            why: "tried".to_owned(),
            generation: None,
            settle_seconds: None,
            without_waves: false,
            channel: None,
            recorded: false,
        };
        let metadata = document.metadata().clone().carried(seen, &[]).with_push(&push);
        let tried = assign(&document, &push.app, to.as_ref()).document.with_metadata(metadata);
        bucket.write_server_document(&server, &tried, Some(seen)).await.unwrap();
    }
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&one), only(&two)));
    let three = channels.release(&commits[2]).await;
    channels.round();
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&three), only(&three)));
}

#[tokio::test]
async fn a_release_that_is_tried_again_and_runs_goes_to_the_others_too() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two"]).await;
    channels.round();
    ok(&channels.push("hold web-2 -m slow"));
    let two = channels.release(&commits[1]).await;
    channels.round();
    report(&channels, "web-1", &two.to_string(), "quarantined");
    channels.round();
    ok(&channels.push("resume web-2"));
    channels.round();
    assert_eq!(channels.document("web-2"), only(&one));
    ok(&channels.push("retry web web-1 -m again"));
    report(&channels, "web-1", &two.to_string(), "converged");
    channels.round();
    assert_eq!(channels.channel()["rolled_back"], json!([]));
    assert_eq!(channels.document("web-2"), only(&two));
}

#[tokio::test]
async fn a_pattern_alone_puts_no_app_on_a_server_and_a_placeholder_does() {
    let mut channels = Channels::new("").await;
    let one = channels.commit("one");
    let one = channels.release(&one).await;
    let server = channels.fixture.path("server");
    std::fs::create_dir_all(&server).unwrap();
    // Bytes of others stay as they are.
    std::fs::write(server.join("web-1.json"), "[\"api/\", {\"x\": 1.50}, \"web/\"]").unwrap();
    std::fs::write(server.join("web-2.json"), "[\"api/\"]").unwrap();
    std::fs::write(server.join("web-3.json"), "{}").unwrap();
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("web-3: error: could not read its document"), "{said}");
    assert!(ok(&channels.push("channel list")).contains("and 1 whose document cannot be read"));
    assert!(said.contains("web-1: pushed") && !said.contains("web-2"), "{said}");
    let written = std::fs::read_to_string(server.join("web-1.json")).unwrap();
    assert_eq!(written, format!("[\n  \"api/\",\n  {{\"x\": 1.50}},\n  \"{one}\"\n]\n"));
    assert_eq!(std::fs::read_to_string(server.join("web-2.json")).unwrap(), "[\"api/\"]");
    assert_eq!(std::fs::read_to_string(server.join("web-3.json")).unwrap(), "{}");
}

#[tokio::test]
async fn a_release_that_a_follower_rolled_back_goes_no_further() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two", "three"]).await;
    channels.round();
    ok(&channels.push("hold web-2 -m slow"));
    let two = channels.release(&commits[1]).await;
    channels.round();
    report(&channels, "web-1", &two.to_string(), "quarantined");
    channels.round();
    assert_eq!(channels.channel()["rolled_back"][0]["server"], "web-1");
    ok(&channels.push("resume web-2"));
    let said = channels.round();
    assert!(said.contains("web-2: left alone: `web-1` rolled this release back by itself"), "{said}");
    assert_eq!(channels.document("web-2"), only(&one));
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("rolled back") && shown.contains("it crashed"), "{shown}");
    // The commit that mends it goes to both.
    let three = channels.release(&commits[2]).await;
    channels.round();
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&three), only(&three)));
}

/// Releases that two watchers race for.
const RELEASES: usize = 20;

#[tokio::test]
async fn after_a_refusal_nothing_is_pushed_backwards_to_servers_that_run_the_release_well() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two"]).await;
    channels.round();
    let web = r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"] }]"#;
    channels.configure(web, r#"Groups: { prod: { Servers: ["web-2"], AppNames: ["api"] } }"#);
    let two = channels.release(&commits[1]).await;
    let said = channels.round();
    assert!(said.contains("web-2: left alone: ") && said.contains("does not allow `web` on `web-2`"), "{said}");
    report(&channels, "web-1", &two.to_string(), "converged");
    channels.round();
    let before = channels.objects();
    channels.round();
    assert_eq!(channels.objects(), before, "neither is it tried again, nor is anything taken back");
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&two), only(&one)));
    // Allowed, it goes there, and the agent goes back.
    channels.configure(web, "");
    channels.round();
    report(&channels, "web-2", &two.to_string(), "quarantined");
    let pushes = channels.json("pushes")["pushes"].as_array().unwrap().len();
    for _ in 0..2 {
        channels.round();
    }
    // Nor does anybody's word against the release take it from a server.
    ok(&channels.push(&format!("reject {two} -m CVE")));
    channels.round();
    assert_eq!(channels.channel()["rolled_back"][0]["release"], json!(two));
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&two), only(&two)));
    assert_eq!(channels.json("pushes")["pushes"].as_array().unwrap().len(), pushes, "no push was made");
}

#[tokio::test]
async fn a_release_that_a_follower_rolled_back_before_the_channel_moved_goes_no_further_either() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two"]).await;
    channels.round();
    // A canary, by hand.
    let two = channels.release(&commits[1]).await;
    ok(&channels.push(&format!("deploy {two} web-1 -m canary")));
    report(&channels, "web-1", &two.to_string(), "quarantined");
    let said = channels.round();
    assert!(said.contains("web-2: left alone: `web-1` rolled this release back"), "{said}");
    assert_eq!(channels.document("web-2"), only(&one));
    // A person means it.
    ok(&channels.push(&format!("channel set {two} -m known")));
    channels.round();
    assert_eq!(channels.document("web-2"), only(&two));
}

#[tokio::test]
async fn a_retry_does_not_give_back_what_a_person_took_over_and_an_undo_does() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two", "three"]).await;
    let two = channels.release(&commits[1]).await;
    channels.round();
    for server in ["web-1", "web-2"] {
        ok(&channels.push(&format!("rollback web {server} -m slow")));
    }
    ok(&channels.push("retry web web-1 -m again"));
    let undone = channels.json("pushes rollback")["pushes"][0]["id"].as_str().unwrap().to_owned();
    ok(&channels.push(&format!("undo {undone} -m mended")));
    assert_eq!(channels.document("web-2"), only(&two));
    let three = channels.release(&commits[2]).await;
    let said = channels.round();
    assert!(said.contains("web-1: left alone: taken over: rollback"), "{said}");
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&one), only(&three)));
}

#[tokio::test]
async fn who_took_a_server_over_is_found_in_its_history_when_its_document_no_longer_tells() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two", "three"]).await;
    channels.release(&commits[1]).await;
    channels.round();
    for server in ["web-1", "web-2"] {
        ok(&channels.push(&format!("rollback web {server} -m slow")));
    }
    // More than the metadata of a document has room for.
    for n in 1..=12 {
        let other = channels.fixture.release(&format!("api-{n}"), n, false).await;
        ok(&channels.push(&format!("deploy {other} web-1 --force -m {}", "w".repeat(200))));
    }
    // And written by hand, as it was.
    let document = channels.fixture.path("server/web-2.json");
    std::fs::write(&document, std::fs::read(&document).unwrap()).unwrap();
    channels.release(&commits[2]).await;
    let said = channels.round();
    for server in ["web-1", "web-2"] {
        assert!(said.contains(&format!("{server}: left alone: taken over: rollback by dev@")), "{said}");
        assert_eq!(channels.document(server)[0], json!(one));
    }
}

#[tokio::test]
async fn who_goes_behind_a_release_that_was_promoted_takes_the_server_over() {
    let messages = ["one", "two", "three", "four"];
    let (mut channels, commits, _) = Channels::following(&["web-1", "web-2", "web-3"], messages).await;
    let two = channels.release(&commits[1]).await;
    channels.git("switch --quiet --create side");
    let built = channels.commit("built");
    channels.git("switch --quiet main");
    // It stands where it landed, and no server has it any more when that is asked.
    let promoted = channels.promoted(&built, &commits[2]).await;
    channels.round();
    assert_eq!(channels.document("web-1"), only(&promoted));
    for server in ["web-1", "web-2"] {
        ok(&channels.push(&format!("deploy {two} {server} -m slow")));
    }
    // Written by hand, as it was: only the history tells now.
    let document = channels.fixture.path("server/web-2.json");
    std::fs::write(&document, std::fs::read(&document).unwrap()).unwrap();
    let four = channels.release(&commits[3]).await;
    let said = channels.round();
    for server in ["web-1", "web-2"] {
        assert!(said.contains(&format!("{server}: left alone: taken over: deploy by dev@")), "{said}");
        assert_eq!(channels.document(server), only(&two));
    }
    assert_eq!(channels.document("web-3"), only(&four));
}

#[tokio::test]
async fn a_release_that_is_rolled_back_while_it_soaks_goes_no_further_though_its_channel_has_moved_on() {
    let (mut channels, commits, one) = Channels::following(&["web-1"], ["one", "two", "three"]).await;
    let rules = |soak: &str| {
        format!(
            r#"[{{ App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] }},
                {{ App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta", Soak: "{soak}" }}]"#
        )
    };
    channels.configure(&rules("1h"), "");
    for server in ["beta-1", "beta-2"] {
        channels.server(server, &one);
    }
    let two = channels.release(&commits[1]).await;
    channels.round();
    for server in ["beta-1", "beta-2"] {
        report(&channels, server, &two.to_string(), "converged");
    }
    channels.round();
    ok(&channels.push("hold beta-2 -m debugging"));
    let three = channels.release(&commits[2]).await;
    channels.round();
    assert_eq!((channels.document("beta-1"), channels.document("beta-2")), (only(&three), only(&two)));
    report(&channels, "beta-2", &two.to_string(), "quarantined");
    channels.round();
    // Its time is over.
    channels.configure(&rules("0s"), "");
    channels.round();
    assert_eq!(channels.document("web-1"), only(&one));
}

#[tokio::test]
async fn a_release_goes_on_from_the_channel_before_once_it_has_run_there() {
    let mut channels = Channels::new("").await;
    let rules = |soak: &str| {
        format!(
            r#"[{{ App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] }},
                {{ App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta", Soak: "{soak}" }}]"#
        )
    };
    channels.configure(&rules("1s"), "");
    let commits = ["one", "two", "three"].map(|message| channels.commit(message));
    let one = channels.release(&commits[0]).await;
    for server in ["beta-1", "web-1"] {
        channels.server(server, &one);
    }
    channels.round();
    assert!(!channels.fixture.path("channels/web/prod.json").exists(), "nothing has run on beta yet");
    let two = channels.release(&commits[1]).await;
    channels.round();
    assert_eq!((channels.document("beta-1"), channels.document("web-1")), (only(&two), only(&one)));
    report(&channels, "beta-1", &two.to_string(), "converged");
    // It ran, and beta has moved on by the time that it has soaked.
    let three = channels.release(&commits[2]).await;
    channels.round();
    assert_eq!((channels.document("beta-1"), channels.document("web-1")), (only(&three), only(&one)));
    report(&channels, "beta-1", &three.to_string(), "quarantined");
    let begun = std::time::Instant::now();
    while channels.document("web-1") != only(&two) {
        assert!(begun.elapsed() < std::time::Duration::from_mins(1), "it does not go on");
        channels.round();
    }
    // What a follower there rolled back never does.
    channels.configure(&rules("0s"), "");
    assert!(!channels.round().contains("web prod: moved"));
    assert_eq!(channels.document("web-1"), only(&two));
}

/// A report of the agent of a server about the document that is there.
pub(super) fn report(channels: &Channels, server: &str, release: &str, state: &str) {
    let now = Timestamp::now();
    let document = channels.json(&format!("status {server}"))["document"]["generation"].clone();
    let report = json!({
        "server": server, "machine": "m", "written": now, "state": "failed", "summary": "it crashed",
        "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
        "document": { "generation": document, "error": null },
        "apps": [{
            "app": "web", "desired": release, "installed": null, "package": "web", "state": state, "since": now,
            "reason": "it crashed",
        }],
    });
    std::fs::create_dir_all(channels.fixture.path("status")).unwrap();
    std::fs::write(channels.fixture.path(&format!("status/{server}.json")), report.to_string()).unwrap();
}

#[tokio::test]
async fn two_watchers_lose_no_update_and_write_nothing_twice() {
    let mut channels = Channels::new("").await;
    let first = channels.commit("first");
    let mut last = channels.release(&first).await;
    for server in ["web-1", "web-2", "web-3"] {
        channels.server(server, &last);
    }
    channels.round();
    for n in 0..RELEASES {
        let commit = channels.commit(&format!("n{n}"));
        last = channels.release(&commit).await;
        let racing: Vec<_> = (0..2)
            .map(|_| channels.command("watch --once").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        for mut watcher in racing {
            watcher.wait().unwrap();
        }
    }
    channels.round();
    for server in ["web-1", "web-2", "web-3"] {
        assert_eq!(channels.document(server), only(&last), "{server}");
        let history = channels.json(&format!("history {server} --limit 100"));
        let to: Vec<&Value> = history["pushes"].as_array().unwrap().iter().map(|entry| &entry["to"]).collect();
        assert_eq!(to.len(), RELEASES + 1, "{server}: each release once: {to:?}");
    }
    assert_eq!(channels.channel()["history"].as_array().unwrap().len(), RELEASES + 1);
    let quiet = channels.objects();
    channels.round();
    assert_eq!(channels.objects(), quiet);
}
