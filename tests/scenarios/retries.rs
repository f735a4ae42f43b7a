//! An operator has a release tried again that a server's agent gave up.

use anyhow::Result;
use bucket::AppState;
use harness::Scenario;

use crate::{
    app::{App, runs, work},
    unpacked,
};

/// Version 2 stays up only where a person has prepared for it.
const WORK: &str = "#!/usr/bin/perl\nexit 3 if $ARGV[0] eq '2' && !-e '/etc/web.prepared';\nsleep;\n";

#[test]
fn a_release_that_was_rolled_back_is_retried_once_when_an_operator_asks_for_it() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = App::with_program(&scenario, "web", WORK)?;
    let version = |number: u8| {
        let unit = format!(
            "[Unit]\nDescription=web\n[Service]\nExecStart=/usr/lib/web/work {number}\n[Install]\nWantedBy=multi-user.target\n"
        );
        web.release("", &[("web.service", &unit)])
    };
    let one = version(1)?;
    scenario.install(&one, &server)?;
    let two = version(2)?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Quarantined)?;
    assert_eq!((app.rolled_back, app.installed.as_ref()), (vec![two.clone()], Some(&one)));
    assert!(app.cached.contains(&one) && app.cached.contains(&two), "{:?}", app.cached);
    assert_eq!(unpacked(&server, "web")?, 3);

    let document = std::fs::read(scenario.object("server/web-1.json"))?;
    server.sh("touch /etc/web.prepared")?;
    let plan = scenario.push(&["retry", "web", "web-1", "--dry-run"])?.ok()?;
    assert!(plan.contains("(same release, retried)"), "{plan}");
    scenario.push(&["retry", "web", "web-1", "-m", "prepared"])?.ok()?;
    assert_eq!(std::fs::read(scenario.object("server/web-1.json"))?, document, "only its generation is another");
    let app = scenario.wait_for_app(&server, &two, AppState::Converged)?;
    assert_eq!((app.rolled_back, app.installed.as_ref()), (vec![], Some(&two)));
    assert_eq!(runs(&server, "web.service")?, work("web", "2"));

    // It counts once, for the next agent too.
    server.sh("rm /etc/web.prepared")?;
    scenario.push(&["rollback", "web", "web-1"])?.ok()?;
    scenario.wait_for_app(&server, &one, AppState::Converged)?;
    scenario.deploy(&two, &server)?;
    scenario.wait_for_app(&server, &two, AppState::Quarantined)?;
    let times = unpacked(&server, "web")?;
    server.sh("systemctl restart pulld && pulld pull || true")?;
    scenario.wait_until_settled(&server)?;
    assert_eq!(unpacked(&server, "web")?, times);
    assert_eq!(runs(&server, "web.service")?, work("web", "1"));
    Ok(())
}
