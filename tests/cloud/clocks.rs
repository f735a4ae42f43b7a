//! A machine whose clock is not the bucket's.

use std::process::{Command, Output};

use harness::{Programs, Target, gcs::FakeGcs};
use jiff::{SignedDuration, Timestamp};

fn push(target: &Target, arguments: &[&str]) -> Output {
    let mut push = Command::new(Programs::get().expect("our programs").push());
    push.args(arguments);
    target.apply(&mut push);
    push.output().expect("push runs")
}

#[test]
fn a_clock_that_is_far_off_is_told_and_the_buckets_time_is_used() {
    for (hours, which) in [(3, "3 h behind"), (-3, "3 h ahead of")] {
        let gcs = FakeGcs::start("acme");
        let ahead = SignedDuration::from_hours(hours);
        gcs.set_clock_ahead(ahead);
        let target = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
        gcs.put("acme", "server/web-1.json", "[]");
        let held = push(&target, &["hold", "web-1", "--for", "1h", "--json"]);
        let told = String::from_utf8_lossy(&held.stderr);
        assert!(
            held.status.success() && told.contains(&format!("the clock of this machine is {which} that of")),
            "{told}"
        );
        let held: serde_json::Value = serde_json::from_slice(&held.stdout).expect("JSON");
        let until: Timestamp = held["rows"][0]["holds"][0]["until"].as_str().expect("an end").parse().expect("a time");
        let off = until.duration_since(Timestamp::now() + ahead + SignedDuration::from_hours(1));
        assert!(off.abs() < SignedDuration::from_mins(5), "the hold ends at {until}");
        let shown = push(&target, &["status", "web-1"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("on hold"), "{shown:?}");
    }
    let gcs = FakeGcs::start("acme");
    gcs.set_clock_ahead(SignedDuration::from_mins(5));
    let target = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
    let listed = push(&target, &["status"]);
    assert!(!String::from_utf8_lossy(&listed.stderr).contains("clock"), "{listed:?}");
}
