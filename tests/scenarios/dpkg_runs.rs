//! What dpkg and maintainer scripts may do to a dpkg run, and who else may be at work.

use std::time::Duration;

use anyhow::{Context, Result};
use bucket::{Activity, AppState, Status};
use harness::{Machine, Scenario, Version};

use crate::{PORT, install_extra, says};

/// Stops here for as long as `/run/hold` is there, and says so by `/run/held`.
const HOLD: &str = "if [ -e /run/hold ]; then : > /run/held; while [ -e /run/hold ]; do sleep 0.05; done; fi\n";

/// A server whose agent lets dpkg take no longer than `limit`.
fn server(scenario: &Scenario, limit: &str) -> Result<Machine> {
    let options = scenario.server_options("web-1")?;
    options.file("/etc/pulld/pulld.d/60-limit.toml", &format!("transaction_timeout = \"{limit}\"\n")).boot()
}

fn wait_for_file(server: &Machine, path: &str) -> Result<()> {
    server.wait_until(path, Duration::from_mins(1), |server| {
        Ok(server.run(&format!("test -e {path}"))?.success().then_some(()))
    })
}

/// Has another program hold dpkg's lock for as long as `/run/held` is there.
fn hold_lock(server: &Machine) -> Result<()> {
    let hold = "use Fcntl; open my $f, '+>>', '/var/lib/dpkg/lock-frontend' or die; \
                my $l = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); fcntl($f, F_SETLK, $l) or die; \
                open my $o, '>', '/run/held'; close $o; sleep 1 while -e '/run/held';";
    server.sh(&format!("setsid perl -e \"{}\" >/dev/null 2>&1 </dev/null &", hold.replace('$', "\\$")))?;
    wait_for_file(server, "/run/held")
}

fn nothing_is_half_done(server: &Machine) -> Result<()> {
    assert_eq!(server.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | grep -v '^ii ' || true")?, "");
    assert_eq!(server.sh("dpkg --audit")?, "");
    Ok(())
}

#[test]
fn a_postinst_that_hangs_is_cut_short_and_rolled_back() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = server(&scenario, "6s")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let bad = web.release(scenario.target(), &Version::new("2").postinst("sleep infinity\n"))?;
    scenario.deploy(&bad, &server)?;
    let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    assert!(app.reason.context("the report says why")?.contains("time limit"));
    says(&server, PORT, "web 1")?;
    nothing_is_half_done(&server)
}

#[test]
fn a_first_release_whose_preinst_hangs_is_taken_out_again() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = server(&scenario, "6s")?;
    let web = scenario.service("web", PORT)?;
    let bad = web.release(scenario.target(), &Version::new("1").preinst("sleep infinity\n"))?;
    scenario.deploy(&bad, &server)?;
    let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined)?;
    assert_eq!(app.installed, None);
    nothing_is_half_done(&server)
}

#[test]
fn a_first_release_whose_postinst_hangs_is_taken_out_again() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = server(&scenario, "6s")?;
    let web = scenario.service("web", PORT)?;
    let bad = web.release(scenario.target(), &Version::new("1").postinst("sleep infinity\n"))?;
    scenario.deploy(&bad, &server)?;
    let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined)?;
    assert_eq!(app.installed, None);
    Ok(())
}

#[test]
fn the_words_of_a_script_that_fails_are_in_the_reason_and_in_the_journal() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let script =
        "head -c 100000000 /dev/zero | tr '\\0' x\necho\nprintf 'no \\377 \\033[31mtable\\n<0>users\\n' >&2\nexit 7\n";
    let bad = web.release(scenario.target(), &Version::new("2").postinst(script))?;
    scenario.deploy(&bad, &server)?;
    let app = scenario.wait_for_app(&server, &bad, AppState::Quarantined)?;
    let reason = app.reason.context("the report says why")?;
    let dpkg = "dpkg exited with 1: error processing package web (--install): installed web package post-installation \
                script subprocess returned error exit status 7\ndpkg's output ends with:\n  x";
    assert!(reason.starts_with(dpkg), "{reason}");
    assert!(reason.ends_with("\n  no \u{fffd} \\u{1b}[31mtable\n  <0>users"), "{reason}");
    let journal = server.sh("journalctl --unit pulld-transaction --output cat")?;
    assert!(journal.contains("\nSetting up web ") && journal.contains("\n<0>users\n"), "{}", journal.len());
    assert!(journal.len() < 1_000_000, "{} bytes", journal.len());
    says(&server, PORT, "web 1")?;
    nothing_is_half_done(&server)
}

#[test]
fn a_script_may_print_much_and_leave_a_daemon() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let spam = "head -c 200000000 /dev/zero | tr '\\0' x\nsetsid sleep 10000 &\n";
    let one = web.release(scenario.target(), &Version::new("1").postinst(spam))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")
}

#[test]
fn a_runner_that_is_killed_is_no_fault_of_the_release() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.write("/run/hold", "")?;
    let two = web.release(scenario.target(), &Version::new("2").preinst(HOLD))?;
    scenario.deploy(&two, &server)?;
    wait_for_file(&server, "/run/held")?;
    server.sh("systemctl kill --kill-whom=main --signal=KILL pulld-transaction; rm /run/hold")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}

#[test]
fn a_transaction_stopped_by_hand_ends_before_it_is_judged() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.write("/run/hold", "")?;
    let two = web.release(scenario.target(), &Version::new("2").preinst(HOLD))?;
    scenario.deploy(&two, &server)?;
    wait_for_file(&server, "/run/held")?;
    let stopping =
        "until [ \"$(systemctl show -P ActiveState pulld-transaction)\" = deactivating ]; do sleep 0.05; done";
    server.sh(&format!("systemctl stop --no-block pulld-transaction; {stopping}; rm /run/hold"))?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}

#[test]
fn a_dpkg_run_waits_for_whoever_holds_the_lock_of_dpkg() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = server(&scenario, "9s")?;
    let web = scenario.service("web", PORT)?;
    hold_lock(&server)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.deploy(&one, &server)?;
    let pid = server.sh("pidof perl")?;
    let holder = format!("waiting for the dpkg lock, held by `perl` (process {pid})");
    scenario.wait_for_status(&server, "the holder is named while dpkg waits", |status| {
        let app = status.apps.iter().find(|app| app.reason.as_deref() == Some(&holder))?;
        (app.activity == Some(Activity::Installing) && app.activity_since.is_some()).then_some(())
    })?;
    assert!(server.sh("journalctl --unit pulld --output cat")?.contains(&holder));
    let shown = scenario.push(&["status", "web-1"])?.ok()?;
    assert!(shown.contains("installing for ") && shown.contains(&holder), "{shown}");
    let shown = server.sh("pulld status")?;
    assert!(shown.contains("(installing since ") && shown.contains(&holder), "{shown}");
    let app = scenario.wait_for_app(&server, &one, AppState::Failed)?;
    assert!(app.reason.context("the report says why")?.contains(&format!("`perl` (process {pid})")));
    server.sh("rm /run/held")?;
    scenario.wait_until_converged(&server, &one)?;
    says(&server, PORT, "web 1")
}

#[test]
fn a_file_that_changes_before_dpkg_gets_it_is_not_installed() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    hold_lock(&server)?;
    scenario.deploy(&one, &server)?;
    let is_waiting = |status: &Status| {
        status.apps.iter().any(|app| app.reason.as_deref().is_some_and(|reason| reason.contains("the dpkg lock")))
    };
    scenario.wait_for_status(&server, "dpkg waits", |status| is_waiting(status).then_some(()))?;
    server.sh("printf x >> \"$(echo /var/lib/pulld/cache/web:*/*.deb)\"; rm /run/held")?;
    let app = scenario.wait_for_app(&server, &one, AppState::Failed)?;
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("is another file than was verified"), "{reason}");
    assert_eq!(server.sh("dpkg-query -W web 2>&1 || true")?, "dpkg-query: no packages found matching web");
    scenario.wait_until_converged(&server, &one)?;
    says(&server, PORT, "web 1")
}

#[test]
fn a_release_that_takes_another_package_away_is_degraded_by_name() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    install_extra(&server, "")?;
    let two = web.release(scenario.target(), &Version::new("2").replaces("extra"))?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Degraded)?;
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("`extra` 3 was removed"), "{reason}");
    says(&server, PORT, "web 2")?;
    server.sh("pulld retry web")?;
    scenario.wait_until_converged(&server, &two)?;
    nothing_is_half_done(&server)
}

#[test]
fn what_an_interrupted_dpkg_run_took_away_is_told_also_after_a_reboot() -> Result<()> {
    let scenario = Scenario::new()?;
    let mut server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    install_extra(&server, "")?;
    server.write("/run/hold", "")?;
    let two = web.release(scenario.target(), &Version::new("2").replaces("extra").postinst(HOLD))?;
    scenario.deploy(&two, &server)?;
    wait_for_file(&server, "/run/held")?;
    assert_ne!(server.sh("dpkg-query -W -f '${db:Status-Status}' extra 2>&1 || true")?, "installed");
    // The runner dies with dpkg, then the machine under the next one.
    server.sh("rm /run/held; systemctl kill --kill-whom=all --signal=KILL pulld-transaction")?;
    wait_for_file(&server, "/run/held")?;
    server.reboot()?;
    let app = scenario.wait_for_app(&server, &two, AppState::Degraded)?;
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("`extra` 3 was removed"), "{reason}");
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}
