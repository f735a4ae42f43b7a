//! Releases that install but don't stay up.

use anyhow::{Context, Result};
use bucket::AppState;
use harness::{Scenario, Version};

use crate::{PORT, app::App, says, unpacked};

#[test]
fn a_crash_looping_release_is_rolled_back_and_not_retried() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let bad = web.release(scenario.target(), &Version::new("2").crashing())?;
    scenario.deploy(&bad, &server)?;
    let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    let reason = app.reason.clone().unwrap_or_default();
    assert!(reason.contains("exit status 3"), "the report says how it ended: {app:?}");
    assert!(reason.ends_with("\n  web: this version has a mistake"), "and what it said: {app:?}");
    says(&server, PORT, "web 1")?;
    let times = unpacked(&server, "web")?;
    assert_eq!(times, 3, "the first, the bad one, the first again");

    // Neither another cycle nor another agent tries it again.
    server.run("pulld pull")?;
    server.sh("systemctl restart pulld")?;
    server.run("pulld pull")?;
    assert_eq!(unpacked(&server, "web")?, times);
    says(&server, PORT, "web 1")?;

    // A push of another app is none of its business.
    let db = scenario.service("db", PORT + 1)?.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&db, &server)?;
    assert_eq!(unpacked(&server, "web")?, times);

    // A person may have it tried again; it is as bad as before.
    let retried = server.run("pulld retry web")?;
    assert!(!retried.success() && retried.stderr.contains(&format!("retrying `{}`", bad.stem())), "{retried}");
    assert_eq!(unpacked(&server, "web")?, times + 2, "tried once more, and rolled back once more");
    says(&server, PORT, "web 1")?;
    let refused = server.run("pulld retry db")?;
    assert!(!refused.success() && refused.stderr.contains("nothing to retry for `db`"), "{refused}");

    // The next push does its work as ever.
    let three = web.release(scenario.target(), &Version::new("3"))?;
    scenario.install(&three, &server)?;
    says(&server, PORT, "web 3")
}

#[test]
fn a_first_release_that_crashes_is_taken_out_again() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let bad = web.release(scenario.target(), &Version::new("1").crashing())?;
    scenario.deploy(&bad, &server)?;
    let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined)?;
    assert_eq!(app.installed, None);
    assert!(!server.run("systemctl is-active --quiet web.service")?.success(), "nothing of it runs");
    Ok(())
}

#[test]
fn a_program_that_keeps_dying_after_its_window_is_unstable_and_stays() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.sh("systemctl restart web.service")?;
    for died in 1..=3 {
        let app = scenario.wait_for_app(&server, &one, AppState::Converged)?;
        assert_eq!(app.units[0].restarts, died - 1, "a person's restart does not count: {app:?}");
        server.sh("systemctl kill --signal KILL web.service")?;
        scenario.wait_for_status(&server, "the restart is seen", |status| {
            (status.apps[0].units[0].restarts == died).then_some(())
        })?;
    }
    // Also for the next agent.
    server.sh("systemctl restart pulld && pulld pull || true")?;
    let app = scenario.wait_for_app(&server, &one, AppState::Unstable)?;
    let reason = app.reason.clone().unwrap_or_default();
    let told =
        "`web.service` does not stay up: systemd restarted it 3 times in the last hour (last: killed by SIGKILL)";
    assert!(reason.starts_with(told), "{app:?}");
    for shown in [scenario.push(&["status", "web-1"])?.ok()?, server.sh("pulld status")?] {
        assert!(shown.contains("unstable") && shown.contains(told), "{shown}");
    }
    says(&server, PORT, "web 1")?;
    assert_eq!(unpacked(&server, "web")?, 1, "it was not rolled back");
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.install(&two, &server)?;
    says(&server, PORT, "web 2")
}

#[test]
fn a_program_that_is_not_there_is_told_by_its_name() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let app = App::new(&scenario, "gone")?;
    let unit = "[Service]\nExecStart=/usr/bin/nothing-there\n[Install]\nWantedBy=multi-user.target\n";
    let release = app.release("", &[("gone.service", unit)])?;
    scenario.deploy(&release, &server)?;
    let app = scenario.wait_for_app(&server, &release, AppState::Quarantined)?;
    let reason = app.reason.context("the report says why")?;
    for said in ["`gone.service` failed", "203/EXEC", "/usr/bin/nothing-there", "No such file"] {
        assert!(reason.contains(said), "{said}: {reason}");
    }
    Ok(())
}
