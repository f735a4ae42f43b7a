//! What a server's report says while there is work, when its document is nonsense, and when another server has its name.

use std::{fs, time::Duration};

use anyhow::Result;
use bucket::{Activity, AppState, ServerState, Status, Timestamp};
use harness::{Machine, Scenario};

use crate::app::{App, runs, work};

/// A service that runs its app's program.
const GOOD: &str = "[Service]\nExecStart=/usr/lib/web/work 1\n[Install]\nWantedBy=multi-user.target\n";

/// One that fails at once.
const BAD: &str = "[Service]\nExecStart=/bin/sh -c 'exit 9'\n[Install]\nWantedBy=multi-user.target\n";

/// A `prerm` at which dpkg stands still for as long as `/run/hold` is there: while it goes back from this release.
const HELD: &str = "scripts = { prerm = 'while [ -e /run/hold ]; do sleep 0.05; done' }\n";

#[test]
fn a_rollback_is_reported_while_it_is_carried_out_and_by_whoever_resumes_it() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = App::new(&scenario, "web")?;
    // What a timer, or a person, is to start isn't enabled, which is no drift.
    let one = web.release("", &[("web.service", GOOD), ("extra.service", &format!("#enable = false\n{GOOD}"))])?;
    scenario.install(&one, &server)?;
    assert_eq!(server.run("systemctl is-enabled extra.service")?.stdout.trim(), "disabled");
    server.sh("pulld pull")?;
    let app = scenario.wait_for_app(&server, &one, AppState::Converged)?;
    assert_eq!(app.drift, Vec::<String>::new());

    server.write("/run/hold", "")?;
    let two = web.release(HELD, &[("web.service", BAD)])?;
    scenario.deploy(&two, &server)?;
    let rolling_back = |status: &Status, than: Option<Timestamp>| {
        let app = status.apps.iter().find(|app| app.activity == Some(Activity::RollingBack))?;
        (than.is_none_or(|than| status.agent.started > than)).then(|| (status.agent.started, app.reason.clone()))
    };
    let (first, reason) =
        scenario.wait_for_status(&server, "the rollback is reported", |status| rolling_back(status, None))?;
    assert!(reason.as_ref().is_some_and(|reason| reason.contains("exit status 9")), "{reason:?}");

    server.sh("systemctl kill --kill-whom=main --signal=KILL pulld")?;
    let (_, reason) = scenario
        .wait_for_status(&server, "the next agent reports it too", |status| rolling_back(status, Some(first)))?;
    assert!(reason.as_ref().is_some_and(|reason| reason.contains("exit status 9")), "{reason:?}");
    server.sh("rm /run/hold")?;
    let app = scenario.wait_for_app(&server, &two, AppState::Quarantined)?;
    assert_eq!((app.installed, app.activity), (Some(one), None));
    assert_eq!(runs(&server, "web.service")?, work("web", "1"));
    Ok(())
}

#[test]
fn a_document_of_nonsense_is_reported_in_few_words() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = App::new(&scenario, "web")?.release("", &[("web.service", GOOD)])?;
    scenario.install(&web, &server)?;
    // One entry that is none after the other, as many as there is room for.
    let nonsense = format!("[\"{web}\"{}]", ",0".repeat(500_000));
    fs::write(scenario.object("server/web-1.json"), nonsense)?;
    let pulled = server.run_with("pulld pull", b"", Duration::from_secs(30))?;
    assert_eq!(pulled.status, 1, "{pulled}");
    let status = scenario.wait_for_status(&server, "it is reported", |status| {
        (status.document.bad_count() == 500_000).then(|| status.clone())
    })?;
    assert_eq!(status.state, ServerState::Failed);
    assert_eq!(status.document.bad_entries.len(), 20);
    let report = fs::metadata(scenario.object("status/web-1.json"))?.len();
    assert!(report < 16 << 10, "a report of {report} bytes");
    let shown = scenario.push(&["status", "web-1"])?;
    assert!(shown.stdout.contains("and 499980 more bad entries"), "{shown}");
    assert_eq!(runs(&server, "web.service")?, work("web", "1"));
    scenario.wait_until_settled(&server)
}

#[test]
fn both_of_two_machines_with_one_name_say_so() -> Result<()> {
    let scenario = Scenario::new()?;
    let [first, second] = [scenario.server("web-1")?, scenario.server("web-1")?];
    let told = "another machine reports as `web-1` too";
    let knows = |server: &Machine| {
        server.wait_until("it knows of the other one", Duration::from_secs(30), |server| {
            Ok(server.run("pulld status")?.stdout.contains(told).then_some(()))
        })?;
        let journal = server.journal("pulld")?;
        assert_eq!(journal.matches(told).count(), 1, "{journal}");
        Ok::<_, anyhow::Error>(())
    };
    // The one that came later found the report of the other, and has replaced it.
    knows(&second)?;
    // That one sees it as soon as it has something to say.
    first.write("/etc/pulld/pulld.d/90-wrong.toml", "poll = 5\n")?;
    first.run("pulld pull")?;
    knows(&first)?;
    let shown = scenario.push(&["status", "web-1"])?;
    assert!(shown.stdout.contains(told), "{shown}");
    Ok(())
}
