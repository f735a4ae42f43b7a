//! People have hands on the machine too: what they do is kept, or seen and said.

use anyhow::Result;
use bucket::{AppState, ServerState};
use harness::{Scenario, Version};

use crate::{PORT, says};

#[test]
fn a_conffile_edited_by_the_admin_is_kept() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.write("/etc/web.conf", "greeting = the admin's\n")?;
    // dpkg would ask here: both sides changed it. Nobody is there to answer.
    let two = web.release(scenario.target(), &Version::new("2").conf("greeting = new default\n"))?;
    scenario.install(&two, &server)?;
    says(&server, PORT, "web 2")?;
    assert_eq!(server.http(PORT, "/conf")?.body, "greeting = the admin's\n");
    Ok(())
}

#[test]
fn changes_made_by_hand_are_reported_as_drift() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.sh("echo '# patched in a hurry' >> /usr/lib/web/serve")?;
    // Files are compared when the agent starts, when it is asked to pull, and once an hour.
    server.sh("pulld pull")?;
    let app = scenario.wait_for_app(&server, &one, AppState::Drifted)?;
    assert!(app.drift.iter().any(|line| line.contains("/usr/lib/web/serve")), "{app:?}");
    server.sh("sed --in-place '$d' /usr/lib/web/serve; pulld pull")?;
    scenario.wait_until_converged(&server, &one)
}

#[test]
fn a_package_on_hold_stays_and_keeps_its_hold() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let (web, api) = (scenario.service("web", PORT)?, scenario.service("api", PORT + 1)?);
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.sh("apt-mark hold web")?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::AptHeld)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    // Another app gets in, and the hold is there afterwards.
    let api_one = api.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&api_one, &server)?;
    assert_eq!(server.sh("dpkg-query -W -f '${db:Status-Abbrev}' web")?, "hi ");
    assert_eq!(server.sh("apt-mark showhold")?, "web");
    says(&server, PORT, "web 1")?;
    let shown = scenario.push(&["status", "web-1"])?.ok()?;
    assert!(shown.contains("held by apt") && shown.contains("`apt-mark unhold web`"), "{shown}");
    assert!(server.run("pulld plan")?.stdout.contains("leave web: "));
    server.sh("apt-mark unhold web")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")
}

#[test]
fn a_package_removed_or_replaced_by_hand_is_put_right_and_that_is_said() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.install(&two, &server)?;
    let events = |status: &bucket::Status| status.events.iter().map(|event| event.text.clone()).collect::<Vec<_>>();
    let before = scenario.status(&server)?.map(|status| events(&status)).unwrap_or_default();
    assert!(before.is_empty(), "the agent's own work is no change by hand: {before:?}");

    server.sh("dpkg --remove web")?;
    let installing = format!("installing `{}` as the server document says", two.stem());
    let wait_for = |what: &str, count: usize| {
        let told = scenario.wait_for_status(&server, what, |status| {
            (status.events.len() == count && status.state == ServerState::Converged).then(|| events(status))
        })?;
        let told = told.last().cloned().unwrap_or_default();
        assert!(told.contains(what) && told.ends_with(&installing), "{told}");
        says(&server, PORT, "web 2")
    };
    wait_for("`web` was removed or replaced by hand ", 1)?;
    server.sh(&format!("dpkg --install '/srv/push/debs/{one}'"))?;
    wait_for(&format!("`web` was changed by hand to `{}` at 2", one.stem()), 2)?;

    // Another agent neither forgets nor repeats it.
    server.sh("systemctl restart pulld && pulld pull")?;
    assert_eq!(scenario.status(&server)?.map(|status| status.events.len()), Some(2));
    let told = format!("`web` was changed by hand to `{}`", one.stem());
    for shown in [scenario.push(&["status", "web-1"])?.ok()?, server.sh("pulld status")?] {
        assert!(shown.contains(&told), "{shown}");
    }
    let journal = server.sh("journalctl --unit pulld --output cat")?;
    assert_eq!(journal.matches(&told).count(), 1, "{journal}");
    Ok(())
}
