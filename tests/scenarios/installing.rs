//! The one command that puts the agent on a server: one that runs, and one that is being built.

use std::{fs, time::Duration};

use anyhow::Result;
use bucket::{AppState, ReleaseName, Status};
use harness::{AgentRepo, Image, Machine, Output, Scenario};

/// What README tells people to run.
const SCRIPT: &str = include_str!("../../packaging/install-pulld");

/// Where the first bucket is on the machine.
const BUCKET: &str = "/srv/push";

/// A Debian without pulld, but with the script.
fn boot(scenario: &Scenario) -> Result<Machine> {
    // Another bucket, with nothing in it but the place for releases.
    fs::create_dir_all(scenario.path("other/debs"))?;
    let options = Machine::options("web-1", &Image::debian()?)?;
    let options = options.share(&scenario.path("bucket"), BUCKET).share(&scenario.path("other"), "/srv/other");
    options.file("/root/install-pulld", SCRIPT).boot()
}

/// The script's command line for a package from the bucket, whose name has colons.
fn command(release: &ReleaseName, bucket: &str) -> String {
    format!("sh /root/install-pulld '{BUCKET}/debs/{release}' file://{bucket}")
}

fn install(machine: &Machine, release: &ReleaseName, bucket: &str) -> Result<String> {
    machine.sh(&command(release, bucket))
}

/// What identifies a run of the agent: the invocation, its process, and what it holds the lock with.
fn agent(machine: &Machine) -> Result<String> {
    machine.sh("systemctl show --property=ActiveState,SubState,InvocationID,MainPID,NRestarts pulld; \
         stat --format='lock %i' /run/pulld/lock; cat /run/pulld/lock")
}

/// The processes that run pulld's program, one line each.
fn processes(machine: &Machine) -> Result<String> {
    machine.sh("for exe in /proc/[0-9]*/exe; do readlink \"$exe\"; done | grep /usr/bin/pulld || true")
}

/// How often an agent has started here, by its own log.
fn starts(machine: &Machine) -> Result<usize> {
    Ok(machine.journal("pulld")?.matches("pulld has started").count())
}

fn installed(machine: &Machine) -> Result<String> {
    machine.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Push-Release}' pulld")
}

#[test]
fn on_a_running_server_one_agent_runs_whatever_the_script_is_run_for() -> Result<()> {
    let scenario = Scenario::new()?;
    let repo = AgentRepo::new(&scenario.path("pulld"))?;
    let (one, two) = (repo.release(scenario.target(), "one")?, repo.release(scenario.target(), "two")?);
    let server = boot(&scenario)?;

    let said = install(&server, &one, BUCKET)?;
    assert!(said.contains("this machine is the server `web-1`, with the bucket file:///srv/push."), "{said}");
    assert_eq!(server.read("/etc/pulld/pulld.d/10-bucket.toml")?, "bucket = \"file:///srv/push\"");
    let status = server.sh("pulld status")?;
    assert!(status.starts_with("web-1: converged"), "{status}");
    assert!(scenario.status(&server)?.is_some(), "the agent had its bucket from the start");
    let first = agent(&server)?;
    assert_eq!((processes(&server)?.as_str(), starts(&server)?), ("/usr/bin/pulld", 1), "{first}");
    let cached = format!("/var/lib/pulld/cache/{}", one.stem());
    assert_eq!(
        server.sh(&format!("cd '{cached}' && sha256sum *.deb | tr -d ' ' | sed 's/^\\(.*\\)\\1.deb$/same/'"))?,
        "same"
    );

    // A second agent finds the first.
    let second = server.run("pulld run")?;
    assert!(second.stderr.contains("another pulld is already running as process"), "{second}");
    assert!(!second.success());

    // Again: nothing to do, and the state of the agent stays.
    server.write("/var/lib/pulld/kept", "")?;
    install(&server, &one, BUCKET)?;
    assert_eq!(agent(&server)?, first);
    server.sh("pulld status && test -e /var/lib/pulld/kept")?;

    // Another bucket: no restart is needed for that.
    install(&server, &one, "/srv/other")?;
    assert_eq!(agent(&server)?, first);
    assert!(scenario.path("other/status/web-1.json").exists(), "the agent reports to the other bucket");

    // A newer package: one restart, of which the state survives; and the older one isn't brought back.
    install(&server, &two, BUCKET)?;
    let upgraded = agent(&server)?;
    assert_ne!(upgraded, first);
    assert_eq!(installed(&server)?, format!("ii  {}", two.stem()));
    assert_eq!((processes(&server)?.as_str(), starts(&server)?), ("/usr/bin/pulld", 2), "{upgraded}");
    server.sh("pulld status && test -e /var/lib/pulld/kept")?;
    let said = install(&server, &one, BUCKET)?;
    assert!(said.contains("keeping the installed pulld"), "{said}");
    assert_eq!((agent(&server)?, installed(&server)?), (upgraded, format!("ii  {}", two.stem())));

    // An upgrade by hand, whose restart was forgotten.
    let three = repo.release(scenario.target(), "three")?;
    server.sh(&format!("dpkg --install '{BUCKET}/debs/{three}'"))?;
    assert_eq!(processes(&server)?, "/usr/bin/pulld (deleted)");
    install(&server, &three, BUCKET)?;
    assert_eq!((processes(&server)?.as_str(), starts(&server)?), ("/usr/bin/pulld", 3));
    Ok(())
}

#[test]
fn the_first_report_of_a_new_server_waits_for_the_end_of_the_installation() -> Result<()> {
    let scenario = Scenario::new()?;
    let repo = AgentRepo::new(&scenario.path("pulld"))?;
    let one = repo.release(scenario.target(), "one")?;
    let server = boot(&scenario)?;
    // On a slow machine there is more to do after the postinst has started the agent.
    server.sh("mv /usr/bin/deb-systemd-invoke /usr/bin/deb-systemd-invoke.real")?;
    server.write("/usr/bin/deb-systemd-invoke", "#!/bin/sh\n/usr/bin/deb-systemd-invoke.real \"$@\"\nsleep 2\n")?;
    server.sh("chmod 755 /usr/bin/deb-systemd-invoke")?;
    let keep = "until cp /srv/push/status/web-1.json /root/first.json; do sleep 0.02; done 2>/dev/null";
    server.sh(&format!("systemd-run --quiet sh -c '{keep}'"))?;
    install(&server, &one, BUCKET)?;
    server.wait_until("the first report was kept", Duration::from_secs(10), |server| {
        Ok(server.run("test -s /root/first.json")?.success().then_some(()))
    })?;
    let first: Status = serde_json::from_str(&server.read("/root/first.json")?)?;
    let own = first.apps.iter().find(|app| app.app == "pulld").map(|app| (app.state, app.drift.clone()));
    assert_eq!(own, Some((AppState::Converged, vec![])), "{first:?}");
    assert!(server.journal("pulld")?.contains("is done with `pulld`"), "{}", server.journal("pulld")?);
    Ok(())
}

#[test]
fn what_is_not_pulld_is_not_installed_and_changes_nothing() -> Result<()> {
    let scenario = Scenario::new()?;
    let repo = AgentRepo::new(&scenario.path("pulld"))?;
    let one = repo.release(scenario.target(), "one")?;
    let server = boot(&scenario)?;
    let refused = |arguments: &str| -> Result<Output> { server.run(&format!("sh /root/install-pulld {arguments}")) };
    for (arguments, status, expected) in [
        ("/srv/nothing.deb gs://acme", 1, "package not found"),
        ("/root/install-pulld gs://acme", 2, "is not a Debian format archive"),
        ("/srv/nothing.deb /srv/push", 2, "invalid bucket URL"),
        ("/srv/nothing.deb", 2, "usage:"),
    ] {
        let output = refused(arguments)?;
        assert!(output.status == status && output.stderr.contains(expected), "{arguments}: {output}");
    }
    assert!(server.run("ls /etc/pulld")?.stderr.contains("No such file"));

    // A file that comes later decides otherwise.
    server.write("/etc/pulld/pulld.d/50-other.toml", "bucket = \"file:///srv/other\"\n")?;
    let overruled = server.run(&command(&one, BUCKET))?;
    assert!(
        !overruled.success() && overruled.stderr.contains("the bucket in use is `file:///srv/other`"),
        "{overruled}"
    );
    Ok(())
}

#[test]
fn an_image_keeps_nothing_of_the_machine_it_was_built_on() -> Result<()> {
    let scenario = Scenario::new()?;
    let repo = AgentRepo::new(&scenario.path("pulld"))?;
    let one = repo.release(scenario.target(), "one")?;
    let mut server = boot(&scenario)?;
    // As in a build: there is no systemd to be seen.
    let build = format!("mount -t tmpfs tmpfs /run && {}", command(&one, BUCKET));
    for _ in 0..2 {
        let said = server.sh(&format!("unshare --mount sh -c \"{build}\""))?;
        assert!(said.contains("pulld is installed in this image, with the bucket file:///srv/push."), "{said}");
        let state = server.sh("cd /var/lib/pulld && find . -type f")?;
        assert!(state.lines().count() == 1 && state.starts_with(&format!("./cache/{}/", one.stem())), "{state}");
        assert_eq!(processes(&server)?, "");
    }
    assert!(scenario.status(&server)?.is_none(), "no agent has reported");

    server.reboot()?;
    scenario.wait_for_agent(&server)?;
    let status = server.sh("pulld status")?;
    assert!(status.starts_with("web-1: converged"), "{status}");
    Ok(())
}

#[test]
fn purging_the_package_leaves_nothing_of_it() -> Result<()> {
    let scenario = Scenario::new()?;
    let repo = AgentRepo::new(&scenario.path("pulld"))?;
    let one = repo.release(scenario.target(), "one")?;
    let server = boot(&scenario)?;
    let present = "find / -xdev -name '*pulld*' -not -path '/root/*' -not -path '/proc/*' -not -path '/sys/*'; \
                   find /run -name '*pulld*'; ls -d /etc/pulld 2>/dev/null || true";
    let before = server.sh(present)?;
    install(&server, &one, BUCKET)?;
    assert!(server.sh(present)?.contains("/var/lib/pulld"));
    let output = server.sh("dpkg --purge pulld 2>&1")?;
    assert!(!output.contains("warning"), "{output}");
    assert_eq!((processes(&server)?, server.sh(present)?), (String::new(), before));
    assert_eq!(server.sh("systemctl show --value --property=LoadState pulld.service")?, "not-found");
    assert_eq!(server.sh("systemctl list-units --failed --plain --no-legend")?, "");
    // And it can come again.
    install(&server, &one, BUCKET)?;
    assert!(server.sh("pulld status")?.starts_with("web-1: converged"));
    Ok(())
}
