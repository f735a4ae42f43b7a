//! What the next round would do, as `push channel show` says it.

use bucket::Timestamp;
use jiff::SignedDuration;

use super::{Channels, following::report, stem, waves::WAVES};
use crate::ok;

impl Channels {
    fn next(&self) -> String {
        self.json("channel show web")["next"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_a_release_waits_for_on_the_channel_before_is_told_and_until_when() {
    let mut channels = Channels::new("").await;
    let rules = r#"[{ App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] },
                    { App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta", Soak: "1h" }]"#;
    channels.configure(rules, "");
    let commits = ["one", "two"].map(|message| channels.commit(message));
    let one = channels.release(&commits[0]).await;
    for server in ["beta-1", "beta-2", "web-1"] {
        channels.server(server, &one);
        report(&channels, server, &one.to_string(), "converged");
    }
    channels.round();
    ok(&channels.push(&format!("channel set {one} --skip-soak -m first")));
    ok(&channels.push("channel resume web -m first"));
    let two = channels.release(&commits[1]).await;
    channels.round();
    report(&channels, "beta-1", &two.to_string(), "converged");
    channels.round();
    let waits = "when all followers of beta have run it for long enough: beta-2 does not run it yet";
    assert_eq!(channels.next(), format!("moves to {} {waits}", stem(&two)));
    report(&channels, "beta-2", &two.to_string(), "converged");
    channels.round();
    let beta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(channels.fixture.path("channels/web/beta.json")).unwrap()).unwrap();
    let ran: Timestamp = beta["history"][0]["ran"].as_str().unwrap().parse().unwrap();
    let until = (ran + SignedDuration::from_hours(1)).strftime("%Y-%m-%d %H:%M:%S UTC");
    let waits = format!("{} when it has run long enough on beta, at {until}", stem(&two));
    assert_eq!(channels.next(), format!("moves to {waits}"));
    assert!(ok(&channels.push("channel show web")).contains(&waits));
    ok(&channels.push("channel freeze web -m fair"));
    assert_eq!(channels.next(), format!("stays, being frozen; would otherwise move to {waits}"));
    // What a follower there went back from is waited for no longer.
    ok(&channels.push("channel resume web -m over"));
    report(&channels, "beta-1", &two.to_string(), "quarantined");
    channels.round();
    assert_eq!(channels.next(), "nothing, before a later commit has a release");
}

#[tokio::test]
async fn that_a_rollout_goes_on_or_what_keeps_it_is_told_as_it_is_now() {
    let (mut channels, commits) = Channels::in_waves(&["web-1", "web-2"], ["one", "two", "three"]).await;
    channels.configure(&WAVES.replace("StopAt: 3", "StopAt: 1"), "");
    let two = channels.release(&commits[1]).await;
    channels.round();
    let name = format!("rollout {} of {}", channels.rollout(), stem(&two));
    assert_eq!(channels.next(), format!("carries {name} on: wave 1 of 2"));
    report(&channels, "web-1", &two.to_string(), "failed");
    channels.round();
    let id = channels.rollout();
    let stopped = format!(
        "pushes to nobody, because {name} has stopped in wave 1 of 2: 1 server failed: web-1; `push rollout continue {id}` \
         goes on, `push rollout undo {id}` restores what ran before"
    );
    assert_eq!(channels.next(), stopped);
    // A person decides, and no round has been since.
    ok(&channels.push(&format!("rollout continue {id} -m known")));
    assert!(channels.next().starts_with(&format!("carries {name} on: wave ")), "{}", channels.next());
    ok(&channels.push(&format!("rollout stop {id} -m wait")));
    ok(&channels.push(&format!("rollout abandon {id} -m bad")));
    channels.round();
    let kept = format!(
        "leaves servers where they are that {name} has not written, because it was abandoned; `push channel set` has it go out \
         once more"
    );
    assert_eq!(channels.next(), kept);
    let three = channels.release(&commits[2]).await;
    channels.round();
    assert!(channels.next().contains(&format!("of {} on: wave 1 of 2", stem(&three))), "{}", channels.next());
}
