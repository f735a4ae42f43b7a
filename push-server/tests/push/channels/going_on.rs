//! A watcher that goes on, round after round, also while a repository hangs.

use std::{
    net::TcpListener,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{StatusCode, Uri},
};

use super::{Channels, only};
use crate::{ok, text};

/// The longest that is waited for what is to come: less than a fetch may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A `push watch` that is killed when this is dropped.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watcher {
    fn start(channels: &Channels, arguments: &str) -> Self {
        Self(channels.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Whether what it waits for hangs still.
    fn waits(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

/// Connections to it are taken by the system, and nobody ever answers.
fn hanging() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let channel = format!(r#"{{ App: "api", Repo: "http://{}/api.git" }}"#, listener.local_addr().unwrap());
    (listener, channel)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_repository_hangs_other_followers_are_written_and_waves_follow_each_other() {
    let (mut channels, commits) = Channels::in_waves(&["web-1", "web-2"], ["one", "two"]).await;
    let two = channels.release(&commits[1]).await;
    let (_listener, api) = hanging();
    channels.configure(&super::waves::WAVES.replacen('[', &format!("[{api}, "), 1), "");
    let mut watcher = Watcher::start(&channels, "watch --once");
    until("the first wave", || channels.document("web-1") == only(&two));
    super::following::report(&channels, "web-1", &two.to_string(), "converged");
    until("the second wave", || channels.document("web-2") == only(&two));
    assert!(watcher.waits(), "the one round there is waits for the repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_registry_hangs_followers_of_other_channels_are_written() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two"]).await;
    let two = channels.release(&commits[1]).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let image = format!("{}/api", listener.local_addr().unwrap());
    let rules = r#"[{ App: "api", Repo: "REPO", Image: "IMAGE", Tag: "prod" }, { App: "web", Repo: "REPO", Servers: ["web-*"] }]"#;
    channels.configure(&rules.replace("IMAGE", &image), "");
    let mut watcher = Watcher::start(&channels, "watch --once");
    until("what was built", || channels.document("web-1") == only(&two));
    assert!(watcher.waits(), "the round waits for the registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_go_on_while_a_repository_hangs_and_its_channel_fails_in_each() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two"]).await;
    let (_listener, api) = hanging();
    channels.configure(&format!(r#"[{{ App: "web", Repo: "REPO", Servers: ["web-*"] }}, {api}]"#), "");
    let mut watcher = Watcher::start(&channels, "watch --poll 1s");
    let problem =
        |of: &Channels| of.json("channel show api")["seen"]["problem"].as_str().unwrap_or_default().to_owned();
    until("a round that ended without it", || problem(&channels).contains("within 10s: the fetch goes on"));
    let two = channels.release(&commits[1]).await;
    until("what came since", || channels.document("web-1") == only(&two));
    let three = channels.commit("three");
    let three = channels.release(&three).await;
    until("and what came after that", || channels.document("web-1") == only(&three));
    assert!(watcher.waits() && problem(&channels).contains("could not fetch `http://127.0.0.1:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_message_what_lands_is_written_by_the_next_poll() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two"]).await;
    let mut watcher = Watcher::start(&channels, "watch --poll 1s");
    until("the first round", || channels.fixture.path("channel-state/web/prod.json").exists());
    let two = channels.release(&commits[1]).await;
    until("what came since", || channels.document("web-1") == only(&two));
    assert!(watcher.waits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_on_when_its_time_on_the_channel_before_is_over_whenever_the_next_poll_is() {
    let beta = r#"{ App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] }"#;
    let prod = r#"{ App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta", Soak: "5s" }"#;
    // In whatever order the file has them.
    for rules in [[beta, prod], [prod, beta]] {
        let (mut channels, commits, one) = Channels::following(&["web-1"], ["one", "two"]).await;
        channels.server("beta-1", &one);
        channels.configure(&format!("[{}]", rules.join(", ")), "");
        let two = channels.release(&commits[1]).await;
        channels.round();
        super::following::report(&channels, "beta-1", &two.to_string(), "converged");
        let mut watcher = Watcher::start(&channels, "watch --poll 1h");
        until("it has gone through beta", || channels.document("web-1") == only(&two));
        assert!(watcher.waits());
    }
}

/// Beta and prod, which is behind it, with the repository of beta elsewhere.
fn beta_in(repo: &str) -> String {
    format!(
        r#"[{{ App: "web", Channel: "beta", Repo: "{repo}", Servers: ["beta-*"] }},
            {{ App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta" }}]"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_by_what_the_one_before_it_sees_in_the_same_round_however_slow_its_repository_is() {
    let (mut channels, commits, one) = Channels::following(&["web-1"], ["one", "two"]).await;
    channels.server("beta-1", &one);
    channels.git("update-server-info");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, directory) = (format!("http://{}/.git", listener.local_addr().unwrap()), channels.repo());
    let is_first = Arc::new(AtomicBool::new(true));
    let answer = move |uri: Uri| {
        let (path, is_first) = (directory.join(uri.path().trim_start_matches('/')), is_first.clone());
        async move {
            // Longer than a round waits before it looks at what is there.
            let delay = if is_first.swap(false, Ordering::Relaxed) { 3 } else { 0 };
            tokio::time::sleep(Duration::from_secs(delay)).await;
            std::fs::read(path).map_err(|_| StatusCode::NOT_FOUND)
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    channels.configure(&beta_in("REPO"), "");
    let two = channels.release(&commits[1]).await;
    channels.round();
    super::following::report(&channels, "beta-1", &two.to_string(), "converged");
    // Both files have been copied before, but for the new address of the one.
    channels.configure(&beta_in(&url), "");
    let mut watcher = Watcher::start(&channels, "watch --once");
    until("the round ends", || watcher.0.try_wait().unwrap().is_some());
    assert_eq!(channels.document("web-1"), only(&two), "one round brought it through beta");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_repository_of_the_channel_before_hangs_followers_of_those_behind_are_written() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two"]).await;
    let two = channels.release(&commits[1]).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    channels.configure(&beta_in(&format!("http://{}/web.git", listener.local_addr().unwrap())), "");
    ok(&channels.push(&format!("channel set {two} --skip-soak -m hotfix")));
    let mut watcher = Watcher::start(&channels, "watch --once");
    until("what a person pointed to", || channels.document("web-1") == only(&two));
    assert!(watcher.waits(), "the one round there is waits for the repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_watcher_lives_is_told_as_its_first_round_begins() {
    let channels = Channels::new("").await;
    let (_listener, api) = hanging();
    channels.configure(&format!("[{api}]"), "");
    let _watcher = Watcher::start(&channels, "watch --poll 1h");
    until("it says so", || !text(&channels.push("channel list")).contains("no `push watch` has reported"));
    assert!(!channels.fixture.path("channel-state").exists(), "the round goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_added_to_the_file_is_followed_without_a_restart() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two", "three"]).await;
    let api = r#"[{ App: "api", Repo: "REPO" }]"#;
    channels.configure(api, "");
    let mut watcher = Watcher::start(&channels, "watch --poll 1s");
    until("the first round", || channels.fixture.path("channel-state/api/prod.json").exists());
    let two = channels.release(&commits[1]).await;
    channels.configure(r#"[{ App: "api", Repo: "REPO" }, { App: "web", Repo: "REPO", Servers: ["web-*"] }]"#, "");
    until("the new channel's release", || channels.document("web-1") == only(&two));
    // With a mistake in it, the file counts as it was.
    std::fs::write(channels.elsewhere.path().join("rules"), "{ Channels: [").unwrap();
    let three = channels.release(&commits[2]).await;
    until("what came after the mistake", || channels.document("web-1") == only(&three));
    assert!(watcher.waits());
}
