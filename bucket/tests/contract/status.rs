//! Status reports: what of a report that is too large is written, and that it says what is left out.

use bucket::{
    AppState, AppStatus, BadEntry, Bucket, BucketOptions, BucketUrl, DocumentStatus, Error, Status, UnitStatus,
};

fn report(apps: usize, units: usize, text: &str) -> Status {
    let time = "2026-11-20T19:05:02Z";
    let unit = UnitStatus {
        name: "x.service".to_owned(),
        active: "active".to_owned(),
        sub: "running".to_owned(),
        since: None,
        restarts: 0,
    };
    let app = |number: usize| AppStatus {
        app: format!("app-{number}"),
        desired: None,
        installed: None,
        package: None,
        state: if number % 100 == 99 { AppState::Degraded } else { AppState::Converged },
        activity: None,
        activity_since: None,
        since: time.parse().unwrap(),
        reason: Some(text.to_owned()),
        drift: vec![],
        units: vec![unit.clone(); units],
        rolled_back: vec![],
        cached: vec![],
    };
    let status = serde_json::json!({
        "server": "web-1", "machine": "m", "written": time, "state": "failed", "summary": text,
        "agent": {"version": "1", "started": time, "poll_seconds": 300},
        "document": {"generation": 7, "error": null}, "apps": []
    });
    Status { apps: (0..apps).map(app).collect(), ..serde_json::from_value(status).unwrap() }
}

fn size(status: &Status) -> usize {
    serde_json::to_vec_pretty(status).unwrap().len()
}

#[test]
fn a_report_that_fits_is_left_as_it_is() {
    for whole in [report(0, 0, ""), report(100, 2, "a reason"), report(500, 0, "")] {
        assert_eq!(whole.clone().fit(), whole);
    }
}

#[test]
fn a_report_that_is_too_large_keeps_what_needs_attention_and_says_what_is_left_out() {
    for (whole, said) in [
        (report(2000, 0, ""), "this report leaves out 1500 of 2000 apps, because it is too large"),
        (report(1, 300, ""), "this report leaves out 100 of 300 units, because it is too large"),
        (report(500, 1, &"ä".repeat(5000)), "this report leaves out 500 of 500 units, because it is too large"),
        (report(20, 0, &"long ".repeat(100_000)), ""),
    ] {
        let fitting = whole.clone().fit();
        let (apps, units) = (fitting.apps.len(), fitting.apps.iter().map(|app| app.units.len()).sum::<usize>());
        assert!(size(&fitting) <= Status::MAX_SIZE, "{} bytes with {apps} apps", size(&fitting));
        assert!((1..=Status::MAX_APPS).contains(&apps) && units <= Status::MAX_UNITS, "{apps} apps, {units} units");
        assert!(fitting.warnings.concat().contains(said), "{:?}", fitting.warnings);
        let degraded = |status: &Status| status.apps.iter().filter(|app| app.state == AppState::Degraded).count();
        assert_eq!(degraded(&fitting), degraded(&whole));
        let numbers: Vec<usize> = fitting.apps.iter().map(|app| app.app[4..].parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "in their order");
        assert_eq!(fitting.clone().fit(), fitting, "it fits now");
    }
}

#[test]
fn the_times_of_a_report_are_moved_to_the_clock_of_the_bucket_and_none_is_later_than_it() {
    let mut status = report(2, 1, "");
    let at = |text: &str| text.parse().unwrap();
    // By a server whose clock is a year ahead, and that put it back meanwhile.
    (status.written, status.agent.next_poll) = (at("2027-11-20T19:05:02Z"), Some(at("2027-11-20T19:06:02Z")));
    (status.apps[0].since, status.apps[1].since) = (at("2027-11-20T19:00:02Z"), at("2028-01-01T00:00:00Z"));
    status.apps[0].units[0].since = Some(at("2027-11-20T18:05:02Z"));
    status.date(at("2026-11-20T19:05:03Z"));
    assert_eq!(
        (status.written, status.agent.next_poll),
        (at("2026-11-20T19:05:03Z"), Some(at("2026-11-20T19:06:03Z")))
    );
    let since: Vec<_> = status.apps.iter().map(|app| app.since).collect();
    assert_eq!(since, [at("2026-11-20T19:00:03Z"), status.written]);
    assert_eq!(status.apps[0].units[0].since, Some(at("2026-11-20T18:05:03Z")));
}

#[test]
fn warnings_events_and_bad_entries_have_a_bound_each() {
    let bad = BadEntry { entry: "1".to_owned(), reason: "not a string".to_owned() };
    let mut whole = report(1, 0, "");
    whole.warnings = (0..50).map(|number| format!("warning {number}")).collect();
    whole.document.bad_entries = vec![bad; 4000];
    whole.document.bad_count = Some(500_000);
    let fitting = whole.fit();
    assert_eq!(fitting.warnings.len(), Status::MAX_WARNINGS);
    assert_eq!(fitting.warnings.last().unwrap(), "and 31 more warnings");
    assert_eq!(fitting.document.bad_entries.len(), DocumentStatus::MAX_BAD_ENTRIES);
    assert_eq!(fitting.document.bad_count(), 500_000);
}

/// What a reader makes of a report that somebody else wrote as `web-1`'s.
async fn read(report: &serde_json::Value) -> Result<Status, Error> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("status")).unwrap();
    std::fs::write(directory.path().join("status/web-1.json"), report.to_string()).unwrap();
    let url = BucketUrl::File(directory.path().to_owned());
    let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
    bucket.status(&"web-1".parse().unwrap()).await.map(|found| found.expect("it is there").1)
}

#[tokio::test]
async fn a_report_is_bounded_by_whoever_reads_it() {
    let json = |status: &Status| serde_json::to_value(status).unwrap();
    let mut whole = report(900, 0, "");
    whole.apps[0].drift = vec![String::new(); 1000];
    whole.apps[1].units = report(1, 300, "").apps[0].units.clone();
    let read = read(&json(&whole)).await.unwrap();
    assert_eq!((read.apps.len(), read.apps[0].drift.len()), (Status::MAX_APPS, Status::MAX_DRIFT));
    assert_eq!(read.apps[1].units.len(), Status::MAX_UNITS);
    assert!(read.warnings[0].contains("leaves out 100 of 300 units"), "{:?}", read.warnings);
}

#[tokio::test]
async fn what_is_no_report_of_that_server_is_refused() {
    let mut other = serde_json::to_value(report(1, 0, "")).unwrap();
    other["server"] = "web-2".into();
    let said = read(&other).await.unwrap_err().to_string();
    assert!(said.contains("`status/web-1.json`") && said.contains("another server, `web-2`"), "{said}");
    let large = serde_json::to_value(report(1, 0, &"x".repeat(300 << 10))).unwrap();
    assert!(matches!(read(&large).await, Err(Error::TooLarge { .. })));
}
