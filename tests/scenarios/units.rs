//! Units that come and go with releases: instances of templates, and what a release drops or adds.

use anyhow::Result;
use bucket::AppState;
use harness::{Machine, Scenario};

use crate::app::{App, deploy_together, runs, work};

const INSTALL: &str = "[Install]\nWantedBy=multi-user.target\n";

/// A service that runs its app's program with these arguments.
fn service(app: &str, arguments: &str) -> String {
    format!("[Service]\nExecStart=/usr/lib/{app}/work {arguments}\n{INSTALL}")
}

/// All that is left of a unit that no release has: its state, and its links wherever they are remembered.
fn left_of(server: &Machine, unit: &str) -> Result<String> {
    server.sh(&format!(
        "systemctl show --value --property=LoadState --property=ActiveState {unit} | xargs; \
         find /etc/systemd/system /var/lib/systemd/deb-systemd-helper-enabled -name '*{unit}*'"
    ))
}

const NOTHING: &str = "not-found inactive";

/// How many processes run programs of apps.
const PROGRAMS: &str = "for process in /proc/[0-9]*; do tr '\\0' ' ' <$process/cmdline; echo; done 2>/dev/null \
                        | grep -c '^/usr/bin/perl /usr/lib/'";

#[test]
fn units_come_and_go_with_releases() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let jobs = App::new(&scenario, "jobs")?;
    let template = |instances: &str, version: &str| {
        format!("#instances = [{instances}]\n{}", service("jobs", &format!("{version} %i")))
    };

    // A template with instances, which could never be installed.
    let one = [
        ("job@.service", &*template("\"a\", \"b\"", "1")),
        ("old.service", &service("jobs", "1 old")),
        ("moving.service", &service("jobs", "1 moving")),
    ];
    let first = jobs.release("", &one)?;
    scenario.install(&first, &server)?;
    for instance in ["a", "b"] {
        assert_eq!(runs(&server, &format!("job@{instance}.service"))?, work("jobs", &format!("1 {instance}")));
    }
    server.sh("systemctl enable --quiet --now job@hand.service")?;

    // The next release drops an instance and a unit; another unit moves to another app.
    let other = App::new(&scenario, "other")?.release("", &[("moving.service", &service("other", "2 moving"))])?;
    let second = jobs.release("", &[("job@.service", &template("\"a\"", "2"))])?;
    deploy_together(&scenario, &server, &[second.clone(), other.clone()])?;
    scenario.wait_until_converged(&server, &second)?;
    scenario.wait_until_converged(&server, &other)?;
    let second_runs = |server: &Machine| -> Result<()> {
        assert_eq!(runs(server, "job@a.service")?, work("jobs", "2 a"));
        assert_eq!(runs(server, "job@hand.service")?, work("jobs", "2 hand"), "an administrator's instance goes on");
        assert_eq!(runs(server, "moving.service")?, work("other", "2 moving"), "the other app has it now");
        assert_eq!(server.sh("systemctl is-enabled job@a job@hand moving | xargs")?, "enabled enabled enabled");
        assert_eq!(left_of(server, "old.service")?, NOTHING);
        assert_eq!(server.sh("systemctl list-units --failed --plain --no-legend")?, "");
        assert_eq!(server.sh(PROGRAMS)?, "3", "nothing of the first release runs");
        Ok(())
    };
    second_runs(&server)?;
    let dropped =
        server.sh("systemctl show --value --property=ActiveState job@b; ls /etc/systemd/system/*/job@b*; true")?;
    assert_eq!(dropped, "inactive", "its template is still there");
    let reported = scenario.wait_for_app(&server, &second, AppState::Converged)?.units;
    let reported: Vec<&str> = reported.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(reported, ["job@a.service", "job@hand.service"]);

    // A release that adds units, one of which fails, is rolled back with all of them.
    let broken = format!("[Service]\nExecStart=/bin/sh -c 'exit 9'\n{INSTALL}");
    let third = [
        ("job@.service", &*template("\"a\", \"c\"", "3")),
        ("new.service", &service("jobs", "3 new")),
        ("broken.service", &broken),
    ];
    let third = jobs.release("", &third)?;
    scenario.deploy(&third, &server)?;
    let app = scenario.wait_for_app(&server, &third, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&second));
    assert!(
        app.reason.as_ref().is_some_and(|reason| reason.contains("`broken.service` failed: exit status 9")),
        "{app:?}"
    );
    second_runs(&server)?;
    for unit in ["new.service", "broken.service"] {
        assert_eq!(left_of(&server, unit)?, NOTHING, "{unit}");
    }

    // What was dropped comes back as for the first time.
    let fourth = jobs.release("", &one[..2])?;
    scenario.install(&fourth, &server)?;
    for (unit, arguments) in [("old.service", "1 old"), ("job@b.service", "1 b")] {
        assert_eq!(runs(&server, unit)?, work("jobs", arguments));
        assert_eq!(server.sh(&format!("systemctl is-enabled {unit}"))?, "enabled");
    }

    // An administrator's instance that is for the next boot is left to that, and said to be stopped until then.
    server.sh("systemctl enable --quiet job@later.service")?;
    let fifth = [("job@.service", &*template("\"a\", \"b\"", "5")), one[1]];
    let fifth = jobs.release("", &fifth)?;
    scenario.deploy(&fifth, &server)?;
    let app = scenario.wait_for_app(&server, &fifth, AppState::Drifted)?;
    assert_eq!((app.installed.as_ref(), app.drift), (Some(&fifth), vec!["`job@later.service` is stopped".to_owned()]));
    assert_eq!(server.sh("systemctl is-active job@later; systemctl is-enabled job@later")?, "inactive\nenabled");
    Ok(())
}
