//! The power is cut while a release is rolled back. What runs after the boot is what is installed, and what is reported.

use std::time::Duration;

use anyhow::{Context, Result};
use bucket::{AppState, ReleaseName, Status};
use harness::{Machine, Scenario, Version};

use crate::{PORT, says};

/// Judges at once: a walk through many moments waits for many gates.
const QUICK: &str = "health_window = \"500ms\"\n";

/// Stays in the health gate for as long as `/run/hold-check` is there, and then fails it.
const BAD_CHECK: &str = "while [ -e /run/hold-check ]; do sleep 0.05; done; exit 1\n";

/// Holds dpkg's lock, says so by `/run/locked`, and keeps it until the power is cut.
const HOLD_LOCK: &str = "use Fcntl; open my $f, '+>>', '/var/lib/dpkg/lock-frontend' or die; \
    my $l = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); fcntl($f, F_SETLKW, $l) or die; \
    open my $o, '>', '/run/locked'; close $o; sleep 1 while 1;";

/// When the power is cut while dpkg restores `web 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// It waits for dpkg's lock.
    Before,
    /// dpkg runs the preinst: the other release's files are still there.
    Preinst,
    /// dpkg runs the postinst: the files are those of `web 1`.
    Postinst,
    /// dpkg is done, and nothing is restarted yet.
    Installed,
    /// `web 1` was restarted and is watched.
    Watched,
}

/// A maintainer script that stops here for as long as `/run/hold-NAME` is there, and says so by `/run/held-NAME`.
fn hold(name: &str) -> String {
    format!(
        "if [ -e /run/hold-{name} ]; then : > /run/held-{name}; while [ -e /run/hold-{name} ]; do sleep 0.05; done; fi\n"
    )
}

/// Whether a report says that a bad release of `web` was rolled back.
fn is_over(status: &Status, bad: &ReleaseName) -> bool {
    let app = status.apps.iter().find(|app| app.app == "web");
    app.is_some_and(|app| app.desired.as_ref() == Some(bad) && app.state == AppState::Quarantined)
}

fn wait_for(server: &Machine, condition: &str) -> Result<()> {
    server.wait_until(condition, Duration::from_mins(1), |server| Ok(server.run(condition)?.success().then_some(())))
}

/// Pushes a bad release, and gives control back at the moment when the power shall be cut.
fn roll_back_until(scenario: &Scenario, server: &Machine, bad: &ReleaseName, moment: Moment) -> Result<()> {
    let holds = match moment {
        Moment::Before => "check",
        Moment::Preinst => "preinst",
        Moment::Postinst | Moment::Installed => "postinst",
        Moment::Watched => "nothing",
    };
    server.write(&format!("/run/hold-{holds}"), "")?;
    scenario.deploy(bad, server)?;
    match moment {
        Moment::Before => {
            // Not before dpkg has installed the bad one.
            wait_for(server, "pidof -x /usr/lib/web/check")?;
            server.sh(&format!("setsid perl -e \"{}\" >/dev/null 2>&1 </dev/null &", HOLD_LOCK.replace('$', "\\$")))?;
            wait_for(server, "test -e /run/locked")?;
            server.sh("rm /run/hold-check")?;
            wait_for(
                server,
                "grep -q rolling-back /var/lib/pulld/transaction.json && test -e /var/lib/pulld/order/order.json",
            )
        }
        Moment::Preinst | Moment::Postinst => wait_for(server, &format!("test -e /run/held-{holds}")),
        Moment::Installed => {
            wait_for(server, "test -e /run/held-postinst")?;
            server.sh("systemctl kill --kill-whom=main --signal=STOP pulld; rm /run/hold-postinst")?;
            wait_for(server, "test -e /var/lib/pulld/order/result.json")
        }
        Moment::Watched => server.wait_until("`web 1` is watched", Duration::from_mins(1), |server| {
            let record = server.run("cat /var/lib/pulld/transaction.json")?;
            let runs = server.http(PORT, "/").is_ok_and(|response| response.body == "web 1\n");
            // On a slow machine it may be over: that is a moment too.
            let over = !record.success() && scenario.status(server)?.is_some_and(|status| is_over(&status, bad));
            Ok(((record.stdout.contains("checking-rollback") && runs) || over).then_some(()))
        }),
    }
}

/// What is released, when the power is cut in its rollback, and how often the agent restarts the unit afterwards.
type Cut = (fn(&str) -> Version, Moment, usize);

#[test]
fn what_was_rolled_back_does_not_run_after_the_power_was_cut() -> Result<()> {
    let scenario = Scenario::new()?;
    let mut server = scenario.server_options("web-1")?.file("/etc/pulld/pulld.d/60-quick.toml", QUICK).boot()?;
    let web = scenario.service("web", PORT)?;
    let one = Version::new("1").preinst(&hold("preinst")).postinst(&hold("postinst"));
    let one = web.release(scenario.target(), &one)?;
    scenario.install(&one, &server)?;
    let failing = |name: &str| Version::new(name).check(BAD_CHECK);
    let crashing = |name: &str| Version::new(name).crashing();
    let walk: [Cut; 6] = [
        (failing, Moment::Before, 1),
        (failing, Moment::Preinst, 1),
        (failing, Moment::Postinst, 1),
        // The boot has started what was installed before it: nothing is left to restart.
        (failing, Moment::Installed, 0),
        (failing, Moment::Watched, 0),
        (crashing, Moment::Preinst, 1),
    ];
    for (number, (version, moment, restarts)) in walk.into_iter().enumerate() {
        let bad = web.release(scenario.target(), &version(&format!("{}", number + 2)))?;
        roll_back_until(&scenario, &server, &bad, moment)?;
        server.reboot()?;
        let told = || format!("{moment:?}, number {number}");
        let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined).with_context(told)?;
        assert_eq!(app.installed.as_ref(), Some(&one), "{}", told());
        says(&server, PORT, "web 1").with_context(told)?;
        assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' web")?, one.stem(), "{}", told());
        assert_eq!(server.sh("dpkg --audit")?, "", "{}", told());
        let journal = server.sh("journalctl --boot --no-pager --quiet --unit=pulld")?;
        assert_eq!(journal.matches("restarted `web.service`").count(), restarts, "{}: {journal}", told());
    }
    Ok(())
}
