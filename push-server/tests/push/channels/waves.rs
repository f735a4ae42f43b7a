//! What a channel points to goes out in waves.

use serde_json::{Value, json};

use super::{Channels, following::report, only, stem};
use crate::{failed, ok};

/// The channel `prod` with waves, whose servers count as soon as their agents say that they run the release.
pub(super) const WAVES: &str = r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"], Waves: ["web-1", "rest"], Settle: "0s",
    StopAt: 3, MaxDown: "100%" }]"#;

impl Channels {
    /// Servers that follow in waves, and run the release of the first commit.
    pub(super) async fn in_waves<const N: usize>(servers: &[&str], messages: [&str; N]) -> (Self, [String; N]) {
        let (channels, commits, one) = Self::following(servers, messages).await;
        channels.configure(WAVES, "");
        channels.round();
        for server in servers {
            report(&channels, server, &one.to_string(), "converged");
        }
        (channels, commits)
    }

    /// The rollouts, the newest first: the release that each brings, and its stage.
    fn rollouts(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let listed = self.json("rollout list")["rollouts"].as_array().unwrap().clone();
        listed.iter().map(|rollout| (text(&rollout["release"]), text(&rollout["stage"]))).collect()
    }

    /// The ID of the newest rollout.
    pub(super) fn rollout(&self) -> String {
        self.json("rollout list")["rollouts"][0]["id"].as_str().unwrap().to_owned()
    }

    fn documents(&self) -> [Value; 3] {
        ["web-1", "web-2", "web-3"].map(|server| self.document(server))
    }

    /// What the agents of these servers say of the release that they should run.
    fn all_report(&self, servers: &[&str], release: &bucket::ReleaseName, state: &str) {
        for server in servers {
            report(self, server, &release.to_string(), state);
        }
    }
}

const ALL: [&str; 3] = ["web-1", "web-2", "web-3"];

#[tokio::test]
async fn waves_follow_each_other_and_bear_the_name_of_their_channel() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two"]).await;
    let (one, two) = (channels.document("web-1")[0].clone(), channels.release(&commits[1]).await);
    let said = channels.round();
    let id = channels.rollout();
    for part in [
        format!("rollout {id} of {} is running: waiting for a report of web-1", stem(&two)),
        "web-1: pushed".to_owned(),
        format!("web-2: waits: rollout {id} of {} is running", stem(&two)),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert_eq!(channels.documents(), [only(&two), json!([one]), json!([one])]);
    let before = channels.objects();
    let round = channels.json("watch --once");
    assert_eq!(channels.objects(), before, "while it waits nothing is written");
    let channel = &round["channels"][0];
    assert_eq!(
        (&channel["rollouts"][0]["stage"], &channel["followers"][1]["result"]),
        (&json!("running"), &json!("waits"))
    );
    assert!(channel["rollouts"][0]["why"].as_str().unwrap().contains("a report of web-1"), "{channel}");
    channels.all_report(&["web-1"], &two, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&two), only(&two), only(&two)]);
    channels.all_report(&ALL, &two, "converged");
    assert!(channels.round().contains(&format!("rollout {id} of {} is done", stem(&two))));
    let quiet = channels.objects();
    assert_eq!(channels.round(), "");
    assert_eq!(channels.objects(), quiet);
    for server in ALL {
        let history = channels.json(&format!("history {server}"));
        let last = &history["pushes"][0];
        assert_eq!(
            (&last["push"], &last["channel"], &last["why"]),
            (&json!(id), &json!("prod"), &json!("channel prod: built 2"))
        );
        assert_eq!(history["pushes"].as_array().unwrap().len(), 2, "{server} was written once");
    }
    assert_eq!(channels.json(&format!("rollout show {id}"))["channel"], "prod");
    let metadata = std::fs::read_to_string(channels.fixture.path("rollouts").join(format!("{id}.json"))).unwrap();
    assert!(metadata.contains(r#""channel":"prod""#), "{metadata}");
}

#[tokio::test]
async fn a_branch_that_moves_faster_than_a_wave_settles_still_reaches_its_last_wave() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two", "three", "four", "five"]).await;
    let two = channels.release(&commits[1]).await;
    channels.round();
    let mut last = two.clone();
    for commit in &commits[2..] {
        last = channels.release(commit).await;
        let said = channels.round();
        assert!(said.contains(&format!("moved to {}", stem(&last))), "{said}");
        assert_eq!(channels.document("web-1"), only(&two), "the first wave isn't begun anew");
    }
    channels.all_report(&["web-1"], &two, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&two), only(&two), only(&two)]);
    // It ran everywhere, though the channel points elsewhere by now; the next one has the newest.
    channels.all_report(&ALL, &two, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&last), only(&two), only(&two)]);
    assert_eq!(channels.rollouts(), [(stem(&last), "running".to_owned()), (stem(&two), "done".to_owned())]);
    let channel = channels.channel();
    let of_two = channel["history"].as_array().unwrap().iter().find(|entry| entry["release"] == json!(two)).unwrap();
    assert!(of_two["ran"].is_string(), "a channel behind this one may have it: {of_two}");
}

#[tokio::test]
async fn what_the_first_wave_rolls_back_reaches_nobody_else_and_what_mends_it_reaches_all() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two", "three"]).await;
    let one = channels.document("web-2");
    let two = channels.release(&commits[1]).await;
    channels.round();
    channels.all_report(&["web-1"], &two, "quarantined");
    let said = channels.round();
    assert!(said.contains("is stopped: 1 server rolled the release back: web-1; `push rollout continue"), "{said}");
    assert!(said.contains("web-2: left alone: `web-1` rolled this release back by itself"), "{said}");
    assert_eq!(channels.channel()["rolled_back"][0]["server"], "web-1");
    channels.round();
    assert_eq!((channels.document("web-2"), channels.rollouts()[0].1.as_str()), (one.clone(), "stopped"));
    let three = channels.release(&commits[2]).await;
    channels.round();
    assert_eq!(channels.documents(), [only(&three), one.clone(), one]);
    assert_eq!(channels.rollouts(), [(stem(&three), "running".to_owned()), (stem(&two), "abandoned".to_owned())]);
    channels.all_report(&["web-1"], &three, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&three), only(&three), only(&three)]);
}

#[tokio::test]
async fn what_has_stopped_waits_for_a_person_who_has_it_go_on_or_ends_it() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two", "three"]).await;
    channels.configure(&WAVES.replace("StopAt: 3", "StopAt: 1"), "");
    let one = channels.document("web-2");
    let two = channels.release(&commits[1]).await;
    channels.round();
    channels.all_report(&["web-1"], &two, "failed");
    let said = channels.round();
    let id = channels.rollout();
    assert!(
        said.contains(&format!("web-2: waits: rollout {id} of {} is stopped: 1 server failed: web-1", stem(&two))),
        "{said}"
    );
    channels.round();
    assert_eq!(channels.document("web-2"), one);
    ok(&channels.push(&format!("rollout continue {id} -m known")));
    channels.round();
    assert_eq!(channels.document("web-2"), only(&two));
    // What a person undoes doesn't go out again by itself, also to those whom it never reached.
    let three = channels.release(&commits[2]).await;
    channels.all_report(&ALL, &two, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&three), only(&two), only(&two)]);
    let id = channels.rollout();
    ok(&channels.push(&format!("rollout undo {id} -m bad")));
    channels.round();
    let said = channels.round();
    assert_eq!(channels.documents(), [only(&two), only(&two), only(&two)]);
    assert!(said.contains("web-1: left alone: taken over: undo by dev@"), "{said}");
    assert!(said.contains(&format!("web-2: waits: rollout {id} of {} is undone", stem(&three))), "{said}");
    assert_eq!(channels.rollouts().len(), 2);
}

#[tokio::test]
async fn a_person_who_points_the_channel_elsewhere_ends_what_goes_on() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two", "three"]).await;
    let one: bucket::ReleaseName = channels.document("web-1")[0].as_str().unwrap().parse().unwrap();
    let two = channels.release(&commits[1]).await;
    channels.round();
    assert_eq!(channels.document("web-1"), only(&two));
    ok(&channels.push("channel rollback web -m slow"));
    ok(&channels.push("halt -m migration"));
    let said = channels.round();
    assert!(said.contains("web-1: pushed"), "{said}");
    ok(&channels.push("halt --lift"));
    assert_eq!(channels.documents(), [only(&one), only(&one), only(&one)]);
    assert_eq!(channels.rollouts(), [(stem(&two), "abandoned".to_owned())]);
    let pushes = channels.json("pushes");
    assert_eq!((&pushes["pushes"][0]["kind"], &pushes["pushes"][0]["servers"]), (&json!("rollback"), &json!(1)));
    // Forward by hand goes out in waves, too, and what was undone by going back is no reason against it.
    channels.all_report(&ALL, &one, "converged");
    ok(&channels.push(&format!("channel set {two} -m mended")));
    channels.round();
    assert_eq!(channels.documents(), [only(&two), only(&one), only(&one)]);
    let three = channels.release(&commits[2]).await;
    ok(&channels.push(&format!("channel set {three} -m newer")));
    channels.round();
    assert_eq!(channels.documents(), [only(&three), only(&one), only(&one)]);
    let stages: Vec<String> = channels.rollouts().into_iter().map(|(_, stage)| stage).collect();
    assert_eq!(stages, ["running", "abandoned", "abandoned"]);
}

#[tokio::test]
async fn who_is_on_hold_keeps_nobody_waiting_and_gets_what_the_channel_points_to_then() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two", "three"]).await;
    let one = channels.document("web-3");
    let two = channels.release(&commits[1]).await;
    channels.round();
    let id = channels.rollout();
    ok(&channels.push("hold web-3 -m debugging"));
    channels.all_report(&["web-1"], &two, "converged");
    channels.round();
    channels.all_report(&["web-1", "web-2"], &two, "converged");
    let said = channels.round();
    assert!(said.contains(&format!("rollout {id} of {} is done", stem(&two))), "{said}");
    assert!(said.contains("web-3: left alone: ") && said.contains("on hold on `web-3`"), "{said}");
    assert_eq!(channels.documents(), [only(&two), only(&two), one.clone()]);
    let shown = ok(&channels.push(&format!("show {id}")));
    assert!(shown.contains("on hold"), "{shown}");
    let three = channels.release(&commits[2]).await;
    channels.round();
    ok(&channels.push("resume web-3"));
    channels.all_report(&["web-1"], &three, "converged");
    channels.round();
    channels.all_report(&["web-1", "web-2"], &three, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&three), only(&three), only(&three)]);
}

#[tokio::test]
async fn without_waves_of_its_own_a_channel_has_those_of_the_policy() {
    let (mut channels, commits, one) = Channels::following(&ALL, ["one", "two", "three"]).await;
    channels.round();
    channels.all_report(&ALL, &one, "converged");
    let web = r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"] }]"#;
    let asks =
        r#"Groups: { prod: { Servers: ["web-1", "web-2", "web-3"], Waves: "web-2,rest", Settle: "0s", MaxDown: 3 } }"#;
    channels.configure(web, asks);
    let two = channels.release(&commits[1]).await;
    channels.round();
    assert_eq!(channels.documents(), [only(&one), only(&two), only(&one)]);
    channels.all_report(&["web-2"], &two, "converged");
    channels.round();
    channels.all_report(&ALL, &two, "converged");
    channels.round();
    // What differs is no reason to guess, and a channel that says its own waves needs none of them.
    let differ =
        r#"Groups: { one: { Servers: ["web-1"], Waves: "1,rest" }, two: { Servers: ["web-2"], Waves: "50%,rest" } }"#;
    channels.configure(web, differ);
    let three = channels.release(&commits[2]).await;
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains("web-1: error: ") && said.contains("50%,rest for group `two`"), "{said}");
    assert_eq!(channels.documents(), [only(&two), only(&two), only(&two)]);
    channels.configure(WAVES, differ);
    channels.round();
    assert_eq!(channels.documents(), [only(&three), only(&two), only(&two)]);
}

#[tokio::test]
async fn what_a_person_rolls_out_for_the_channel_is_the_channels_own() {
    let (mut channels, commits) = Channels::in_waves(&ALL, ["one", "two", "three"]).await;
    let one = channels.document("web-1");
    let two = channels.release(&commits[1]).await;
    ok(&channels.push(&format!("channel set {two} -m two")));
    ok(&channels
        .push("deploy web web-1 web-2 web-3 --channel prod --waves 1,rest --max-down 100% --settle 0s -m mine"));
    let id = channels.rollout();
    assert_eq!(channels.json("rollout list")["rollouts"][0]["channel"], "prod");
    let said = channels.round();
    assert!(said.contains(&format!("web-2: waits: rollout {id} of {} is running", stem(&two))), "{said}");
    assert_eq!(channels.rollouts().len(), 1, "the round carries that on, and begins none beside it");
    assert_eq!(channels.documents(), [only(&two), one.clone(), one]);
    channels.all_report(&["web-1"], &two, "converged");
    channels.round();
    assert_eq!(channels.documents(), [only(&two), only(&two), only(&two)]);
    channels.all_report(&ALL, &two, "converged");
    channels.round();
    assert_eq!(channels.rollouts()[0].1, "done");
    // Nobody took a server over: what lands next goes to all of them.
    ok(&channels.push("channel resume web -m on"));
    let three = channels.release(&commits[2]).await;
    let said = channels.round();
    assert!(said.contains("web-1: pushed") && !said.contains("taken over"), "{said}");
    assert_eq!(channels.document("web-1"), only(&three));
}
