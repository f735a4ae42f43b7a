//! What rounds leave behind, and what is shown of it without git.

use serde_json::{Value, json};

use super::{Channels, only, stem};
use crate::{failed, ok, text};

impl Channels {
    fn state(&self) -> Value {
        let object = std::fs::read(self.fixture.path("channel-state/web/prod.json")).unwrap();
        serde_json::from_slice(&object).unwrap()
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let path = self.fixture.path(path);
        let mut object = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut object);
        std::fs::write(path, object.to_string()).unwrap();
    }

    /// The report of the only watcher.
    fn watcher(&self) -> String {
        let mut reports = std::fs::read_dir(self.fixture.path("watchers")).unwrap();
        let names = reports.by_ref().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        format!("watchers/{}", names[0])
    }
}

#[tokio::test]
async fn a_channel_is_shown_as_the_last_round_saw_it() {
    let (mut channels, commits, one) = Channels::following(&["web-1", "web-2"], ["one", "two", "three", "four"]).await;
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("next round  not known before the first round"), "{shown}");
    channels.round();
    ok(&channels.push("channel freeze web -m fair"));
    let three = channels.release(&commits[2]).await;
    ok(&channels.push(&format!("deploy {three} web-2 -m early")));
    channels.round();
    // No git is there to be asked.
    std::fs::remove_dir_all(channels.elsewhere.path().join("repo")).unwrap();
    std::fs::remove_dir_all(channels.elsewhere.path().join("cache")).unwrap();
    let shown = ok(&channels.push("channel show web"));
    for part in [
        "place       3 commits behind main".to_owned(),
        "seen        first seen so".to_owned(),
        format!("next round  stays, being frozen; would otherwise move to {}", stem(&three)),
        "its release is further on the branch than the channel's".to_owned(),
        format!("{}  none", &commits[3][..12]),
        format!("{}  {}", &commits[2][..12], stem(&three)),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    assert!(ok(&channels.push("channel list")).contains("3 commits behind main"));
    let shown = channels.json("channel show web");
    assert_eq!((&shown["seen"]["place"], &shown["seen"]["behind"]), (&json!(0), &json!(3)));
    let later: Vec<_> = shown["seen"]["later"].as_array().unwrap().iter().map(|later| &later["release"]).collect();
    assert_eq!(later, [&Value::Null, &json!(three), &Value::Null]);
    assert_eq!(shown["followers"][0]["why"], Value::Null);
    assert_eq!(shown["followers"][1]["why"], "its release is further on the branch than the channel's");
    // Resumed, and pointed elsewhere, which the round has not seen yet.
    ok(&channels.push("channel resume web -m over"));
    assert!(ok(&channels.push("channel show web")).contains(&format!("next round  moves to {}", stem(&three))));
    ok(&channels.push(&format!("channel set {three} -m now")));
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("place       1 commit behind main"), "{shown}");
    assert!(shown.contains(&format!("next round  pushes {} to its followers", stem(&three))), "{shown}");
    assert_eq!(channels.document("web-1"), only(&one));
}

#[tokio::test]
async fn what_a_round_saw_is_written_when_it_differs_and_keeps_what_a_newer_program_wrote() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two"]).await;
    channels.round();
    channels.change("channel-state/web/prod.json", |state| state["newer"] = json!({ "x": 1 }));
    channels.change(&channels.watcher(), |report| report["newer"] = json!(2));
    let before = channels.objects();
    channels.round();
    assert_eq!(channels.objects(), before, "a quiet round writes nothing");
    channels.release(&commits[1]).await;
    channels.round();
    let state = channels.state();
    assert_eq!((&state["behind"], &state["newer"], &state["followers"]), (&json!(0), &json!({ "x": 1 }), &json!(1)));
    // A round that fails says so, and what was seen before stays.
    let (repo, away) = (channels.repo(), channels.elsewhere.path().join("away"));
    std::fs::rename(&repo, &away).unwrap();
    failed(&channels.push("watch --once"));
    let state = channels.state();
    assert!(state["problem"].as_str().unwrap().contains("could not fetch"), "{state}");
    assert_eq!((&state["behind"], &state["followers"]), (&json!(0), &json!(1)));
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("problem     could not fetch") && shown.contains("next round  tries again"), "{shown}");
    std::fs::rename(&away, &repo).unwrap();
    channels.round();
    assert_eq!(channels.state()["problem"], Value::Null);
    // It says that it lives after a quarter of an hour, which is the only write then.
    let watcher = channels.watcher();
    channels.change(&watcher, |report| report["at"] = json!("2026-11-20T19:00:00Z"));
    let before = channels.objects();
    channels.round();
    let changed: Vec<_> = channels.objects().into_iter().filter(|object| !before.contains(object)).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    let report: Value = serde_json::from_slice(&changed[0].1).unwrap();
    assert!(changed[0].0.ends_with(&watcher) && report["newer"] == 2 && report["poll_seconds"] == 300, "{report}");
}

#[tokio::test]
async fn a_release_that_cannot_be_read_is_named_with_why_and_what_to_do() {
    let (channels, commits, one) = Channels::following(&["web-1"], ["one", "two"]).await;
    let stem = format!("web:dev@build-1:2026-11-20T19:09:00Z:{}", commits[1]);
    std::fs::write(channels.fixture.path(&format!("debs/web/{stem}.deb")), "no metadata").unwrap();
    let said = channels.round();
    let (_, why) = said.split_once(&format!("web prod: passed over `{stem}`: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(why.lines().next().unwrap().ends_with("; build that commit again, and reject this release"), "{said}");
    assert_eq!(channels.document("web-1"), only(&one));
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("passed over 1 unreadable release"), "{shown}");
    assert!(shown.contains(&format!("            `{stem}`: {}", why.lines().next().unwrap())), "{shown}");
    let seen = channels.json("channel show web")["seen"].clone();
    assert_eq!((&seen["unreadable"], seen["passed_over"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{seen}");
}

#[tokio::test]
async fn what_cannot_be_read_of_what_was_seen_is_said_and_never_trusted() {
    let (channels, _, one) = Channels::following(&["web-1"], ["one", "two"]).await;
    channels.round();
    let state = channels.state();
    let with = |change: fn(&mut Value)| {
        let mut state = state.clone();
        change(&mut state);
        state.to_string()
    };
    for (bad, why) in [
        ("{".to_owned(), "EOF"),
        (with(|state| state["schema"] = json!(2)), "schema 2"),
        (with(|state| state["channel"] = json!("beta")), "of the channel `beta` of `web`"),
        (
            with(|state| state["would"] = json!(state["release"].as_str().unwrap().replace("web", "api"))),
            "no release of `web`",
        ),
        (with(|state| state["behind"] = json!(-1)), "-1"),
        (" ".repeat(600 << 10), "more than the 524288 allowed"),
    ] {
        std::fs::write(channels.fixture.path("channel-state/web/prod.json"), &bad).unwrap();
        for command in ["channel show web", "channel list", "watch --once"] {
            let said = ok(&channels.push(command));
            assert!(said.contains("warning") && said.contains(why), "{command}: {why}: {said}");
        }
        let shown = ok(&channels.push("channel show web"));
        assert!(shown.contains(&stem(&one)) && shown.contains("place       not known"), "{shown}");
        assert_eq!(std::fs::read_to_string(channels.fixture.path("channel-state/web/prod.json")).unwrap(), bad);
    }
    std::fs::remove_file(channels.fixture.path("channel-state/web/prod.json")).unwrap();
    channels.round();
    assert_eq!(channels.state()["behind"], state["behind"]);
}

#[tokio::test]
async fn that_no_watcher_runs_is_told() {
    let (channels, ..) = Channels::following(&["web-1"], ["one"]).await;
    let warned =
        |channels: &Channels| ["channel show web", "channel list"].map(|command| text(&channels.push(command)));
    for said in warned(&channels) {
        assert!(said.contains("warning: no `push watch` has reported yet"), "{said}");
    }
    channels.round();
    for said in warned(&channels) {
        assert!(!said.contains("warning"), "{said}");
    }
    channels.change(&channels.watcher(), |report| report["at"] = json!("2026-11-20T19:00:00Z"));
    for said in warned(&channels) {
        assert!(said.contains("warning: `push watch` on") && said.contains("last reported"), "{said}");
    }
    std::fs::write(channels.fixture.path(&channels.watcher()), "{}").unwrap();
    for said in warned(&channels) {
        assert!(said.contains("could not read whether a watcher runs"), "{said}");
    }
}
