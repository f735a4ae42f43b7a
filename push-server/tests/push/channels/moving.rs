//! Where a channel moves, and where it doesn't; `tests/cloud/moving.rs` has what both backends are asked.

use super::{Channels, only, stem};
use crate::{failed, ok};

#[tokio::test]
async fn a_side_branch_moves_nothing_before_it_is_merged() {
    let mut channels = Channels::new("").await;
    let base = channels.commit("base");
    let old = channels.release(&base).await;
    channels.server("web-1", &old);
    channels.round();
    // It descends from the channel's commit, and isn't on the first-parent line.
    channels.git("switch --quiet --create side");
    let side = channels.commit("side");
    channels.release(&side).await;
    assert!(!channels.round().contains("moved"));
    channels.git("switch --quiet main");
    channels.git("merge --quiet --no-ff side --message merged");
    assert!(!channels.round().contains("moved"), "the side branch's own commit is still not on the line");
    let merge = channels.git("rev-parse HEAD");
    let merged = channels.release(&merge).await;
    assert!(channels.round().contains(&format!("moved to {}", stem(&merged))));
    assert_eq!(channels.document("web-1"), only(&merged));
}

#[tokio::test]
async fn a_promoted_release_stands_where_its_change_landed() {
    let (mut channels, [_, two, three], first) = Channels::following(&["web-1"], ["one", "two", "three"]).await;
    channels.round();
    // It was built from a commit that never came to the branch, as one that is squashed.
    channels.git("switch --quiet --create side");
    let built = channels.commit("built");
    channels.git("switch --quiet main");
    let promoted = channels.promoted(&built, &two).await;
    let said = channels.round();
    assert!(said.contains(&format!("moved to {}", stem(&promoted))), "{said}");
    assert_eq!(channels.document("web-1"), only(&promoted));
    let seen = std::fs::read(channels.fixture.path("channel-state/web/prod.json")).unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&seen).unwrap();
    assert_eq!(seen["behind"], 1, "{seen}");
    let said = channels.round();
    assert!(!said.contains("moved") && !said.contains("diverged"), "{said}");
    // Of two builds that finish late the one that landed later counts, whatever they were built from.
    let late = channels.promoted(&three, &two).await;
    assert!(!channels.round().contains("moved"), "{late} is of the same commit");
    let third = channels.release(&three).await;
    assert!(channels.round().contains(&format!("moved to {}", stem(&third))));
    assert_eq!(channels.document("web-1"), only(&third));
    // Back to it is backwards: a person does that, and by its own commit it is found.
    ok(&channels.push(&format!("channel set {promoted} -m back")));
    channels.round();
    assert_eq!(channels.document("web-1"), only(&promoted));
    assert!(stem(&first) != stem(&promoted));
    let listed = ok(&channels.push("list web"));
    assert!(listed.contains(&two[..12]) && !listed.contains(&built[..12]), "{listed}");
    let said: Vec<&str> = listed.lines().filter(|line| line.ends_with(" (promoted from web/12, patchset 3)")).collect();
    assert_eq!(said.len(), 2, "each on its line, behind its note: {listed}");
    let listed: serde_json::Value = serde_json::from_str(&ok(&channels.push("list web --json"))).unwrap();
    let listed = listed["releases"].as_array().unwrap().iter().find(|listed| listed["release"] == promoted.as_str());
    assert_eq!(listed.unwrap()["promoted"]["landed"], two.as_str());
}

#[tokio::test]
async fn a_branch_that_was_rewritten_or_is_gone_moves_nothing() {
    let mut channels = Channels::new("").await;
    let base = channels.commit("base");
    let base = channels.release(&base).await;
    channels.server("web-1", &base);
    let old = channels.commit("old");
    let old = channels.release(&old).await;
    channels.round();
    assert_eq!(channels.document("web-1"), only(&old));
    channels.git("reset --quiet --hard HEAD~1");
    let new = channels.commit("instead");
    let new = channels.release(&new).await;
    std::fs::write(channels.fixture.path("server/web-2.json"), "[\"web/\"]").unwrap();
    let decided = || {
        let is_seen = |path: &std::path::Path| path.starts_with(channels.fixture.path("channel-state"));
        channels.objects().into_iter().filter(|(path, _)| !is_seen(path)).collect::<Vec<_>>()
    };
    let before = decided();
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("web prod: error: diverged") && said.contains("push channel set"), "{said}");
    assert!(said.contains("web-2: left alone: the channel has diverged"), "{said}");
    channels.git("branch --quiet --move other");
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("diverged: there is no branch `main`") && said.contains("push channel set"), "{said}");
    let shown = ok(&channels.push("channel show web"));
    assert!(shown.contains("problem     diverged") && shown.contains("push channel set"), "{shown}");
    assert_eq!(decided(), before, "nothing was written but what was seen");
    // A person says where it goes on, and that goes out also while the branch is gone.
    ok(&channels.push(&format!("channel set {base} -m gone")));
    let said = channels.round();
    assert!(said.contains("web-1: pushed") && said.contains("web-2: pushed"), "{said}");
    assert_eq!((channels.document("web-1"), channels.document("web-2")), (only(&base), only(&base)));
    ok(&channels.push("channel rollback web -m better"));
    assert!(channels.round().contains("web-1: pushed"));
    assert_eq!(channels.document("web-1"), only(&old));
    channels.git("branch --quiet --move main");
    ok(&channels.push(&format!("channel set {new} -m rewritten")));
    assert!(channels.round().contains("web-1: pushed"));
    assert_eq!(channels.document("web-1"), only(&new));
    ok(&channels.push("channel resume web -m rewritten"));
    let newer = channels.commit("newer");
    let newer = channels.release(&newer).await;
    channels.round();
    assert_eq!(channels.document("web-1"), only(&newer));
}

#[tokio::test]
async fn a_channel_that_is_told_moves_when_it_is_told() {
    let mut channels = Channels::new("").await;
    channels.configure(r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"], Moves: "told" }]"#, "");
    let commits = ["one", "two"].map(|message| channels.commit(message));
    let one = channels.release(&commits[0]).await;
    channels.server("web-1", &one);
    ok(&channels.push("channel set web -m first"));
    let two = channels.release(&commits[1]).await;
    assert!(channels.round().contains("would otherwise move to"));
    assert_eq!(channels.document("web-1"), only(&one));
    ok(&channels.push("channel set web -m second"));
    channels.round();
    assert_eq!(channels.document("web-1"), only(&two));
    // Back, also when it is resumed before the next round.
    ok(&channels.push("channel rollback web -m slow"));
    ok(&channels.push("channel resume web -m slow"));
    channels.round();
    assert_eq!(channels.document("web-1"), only(&one));
}

#[tokio::test]
async fn one_channel_that_fails_keeps_no_other_from_moving() {
    let mut channels = Channels::new(r#"{ App: "api", Repo: "file:///nowhere/at/all", Servers: ["*"] }"#).await;
    let one = channels.commit("one");
    let one = channels.release(&one).await;
    channels.server("web-1", &one);
    let two = channels.commit("two");
    let two = channels.release(&two).await;
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("api prod: error") && said.contains("web-1: pushed"), "{said}");
    assert_eq!(channels.document("web-1"), only(&two));
    // What can't be understood is never written over.
    std::fs::write(channels.fixture.path("channels/web/prod.json"), "{}").unwrap();
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("web prod: error: could not read the channel"), "{said}");
    assert_eq!(std::fs::read_to_string(channels.fixture.path("channels/web/prod.json")).unwrap(), "{}");
}

#[tokio::test]
async fn a_branch_that_never_was_is_told_of_a_channel_that_points_nowhere_too() {
    let channels = Channels::new("").await;
    channels.commit("one");
    channels.configure(r#"[{ App: "web", Repo: "REPO", Branch: "mian" }]"#, "");
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("there is no branch `mian`"), "{said}");
    assert!(!channels.fixture.path("channels").exists());
}

#[tokio::test]
async fn a_channel_that_cannot_be_parsed_stops_none_that_is_behind_it() {
    let (mut channels, commits, one) = Channels::following(&["web-1"], ["one", "two"]).await;
    channels.server("beta-1", &one);
    let behind = r#"[{ App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] },
                     { App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta" }]"#;
    channels.configure(behind, "");
    let two = channels.release(&commits[1]).await;
    for release in [&one, &two] {
        ok(&channels.push(&format!("channel set {release} --skip-soak -m hotfix")));
        channels.round();
    }
    assert_eq!(channels.document("web-1"), only(&two));
    std::fs::write(channels.fixture.path("channels/web/beta.json"), "{").unwrap();
    ok(&channels.push("channel rollback web -m slow"));
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("web beta: error: could not read the channel") && said.contains("web-1: pushed"), "{said}");
    assert!(said.contains("web prod: warning: nothing comes through the channel `beta`"), "{said}");
    assert_eq!(channels.document("web-1"), only(&one));
    // Resumed, it has nothing to move to.
    ok(&channels.push("channel resume web -m mended"));
    assert!(!failed(&channels.push("watch --once")).contains("prod: moved"));
    assert_eq!(channels.document("web-1"), only(&one));
    assert_eq!(std::fs::read_to_string(channels.fixture.path("channels/web/beta.json")).unwrap(), "{");
}

#[tokio::test]
async fn a_watcher_that_is_told_to_ends_at_once_also_while_a_repository_hangs() {
    let channels = Channels::new("").await;
    // Connections are taken, and never answered.
    let hanging = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let repo = format!("http://{}/web.git", hanging.local_addr().unwrap());
    channels.configure(&format!(r#"[{{ App: "web", Repo: "{repo}" }}]"#), "");
    let mut watcher = channels.command("watch").spawn().unwrap();
    let (connection, _) = tokio::task::spawn_blocking(move || hanging.accept()).await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    let pid = rustix::process::Pid::from_child(&watcher);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || watcher.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(begun.elapsed() < std::time::Duration::from_mins(1), "long before a fetch gives up");
    drop(connection);
}

#[tokio::test]
async fn the_mirror_of_a_repository_that_no_channel_has_any_more_is_removed_after_a_month() {
    let (channels, ..) = Channels::following(&["web-1"], ["one"]).await;
    channels.round();
    let mirrors = channels.elsewhere.path().join("cache/push/mirrors");
    let found = |extension: &str| {
        let entries = std::fs::read_dir(&mirrors).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect::<Vec<_>>()
    };
    let [mark] = found("used").try_into().unwrap();
    let grow_old = || {
        let month = std::time::Duration::from_hours(31 * 24);
        let file = std::fs::File::options().write(true).open(&mark).unwrap();
        file.set_modified(std::time::SystemTime::now() - month).unwrap();
    };
    grow_old();
    channels.round();
    assert!(mark.with_extension("git").exists(), "it is in use");
    channels.configure(r#"[{ App: "api", Repo: "file:///nowhere/at/all" }]"#, "");
    failed(&channels.push("watch --once"));
    assert!(mark.with_extension("git").exists(), "it was used a moment ago");
    grow_old();
    failed(&channels.push("watch --once"));
    assert!(!mark.with_extension("git").exists() && !mark.exists());
    assert_eq!(found("used").len(), 1, "that of the other one");
}
