//! The agent is a release like any other, and comes through its own update.

use std::time::Duration;

use anyhow::Result;
use bucket::AppState;
use harness::{AgentRepo, Scenario, Version};

use crate::{PORT, rescue::nothing_is_left, says};

#[test]
fn the_agent_updates_itself() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let before = server.sh("systemctl show --value -p MainPID pulld")?;
    let new = agent.release(scenario.target(), "newer")?;
    scenario.install(&new, &server)?;
    assert_ne!(server.sh("systemctl show --value -p MainPID pulld")?, before, "another process runs");
    assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' pulld")?, new.stem());
    assert_eq!(server.sh("systemctl is-active pulld")?, "active");
    // The new one does the work.
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")
}

#[test]
fn an_agent_that_can_not_start_is_rescued() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    // One from the bucket first: there must be a package to go back to.
    let good = agent.release(scenario.target(), "good")?;
    scenario.install(&good, &server)?;
    nothing_is_left(&server)?;
    server.write("/etc/pulld/pulld.d/60-rescue.toml", "rescue_after = \"1s\"\n")?;
    agent.replace_program("#!/bin/sh\necho 'this pulld is broken' >&2\nexit 1\n")?;
    let broken = agent.release(scenario.target(), "broken")?;
    scenario.deploy(&broken, &server)?;
    let app = scenario.wait_for_app(&server, &broken, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&good));
    assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' pulld")?, good.stem());
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")
}

#[test]
fn an_agent_comes_back_whatever_ends_it_and_never_twice() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let running = |other_than: &str| {
        server.wait_until("another process of the agent runs", Duration::from_secs(10), |server| {
            let pid = server.sh("systemctl show --value -p MainPID pulld")?;
            let program = server.run(&format!("readlink /proc/{pid}/exe"))?.stdout;
            Ok((pid != other_than && program.trim() == "/usr/bin/pulld").then_some(pid))
        })
    };
    // One more than systemd lets a service with its usual limit have in two minutes.
    let mut pid = running("")?;
    for _ in 0..6 {
        server.sh(&format!("kill -KILL {pid}"))?;
        pid = running(&pid)?;
    }
    server.sh("systemctl stop dbus.socket dbus.service; systemctl start dbus.socket")?;
    assert_eq!(running("")?, pid, "it is not even stopped");
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")?;
    for deleted in ["rm /run/pulld/lock", "rm -r /run/pulld"] {
        server.sh(deleted)?;
        let second = server.run("timeout 20 pulld run")?;
        let told = second.stderr.contains(&format!("another pulld is already running as process {pid}"));
        assert!(second.status == 1 && told, "{deleted}: {second}");
    }
    Ok(())
}

#[test]
fn the_agent_goes_down_as_it_goes_up() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let (one, two) = (agent.release(scenario.target(), "one")?, agent.release(scenario.target(), "two")?);
    let program = agent.program()?;
    // An earlier pulld: what it finds is a record of a later one, which it cannot read.
    agent.add("real", &program, "/usr/lib/pulld/real")?;
    agent.replace_program(
        "#!/bin/sh\nsed -i 's/\"schema\":2/\"schema\":9/' /var/lib/pulld/transaction.json\nexec /usr/lib/pulld/real \"$@\"\n",
    )?;
    let earlier = agent.release(scenario.target(), "reads older records only")?;
    for release in [&one, &two, &one, &earlier] {
        scenario.install(release, &server)?;
        assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' pulld")?, release.stem());
        let exe = server.sh("readlink /proc/$(systemctl show --value -p MainPID pulld)/exe")?;
        assert_eq!(exe == "/usr/lib/pulld/real", *release == earlier, "{exe}");
        nothing_is_left(&server)?;
    }
    server.sh("test -e /var/lib/pulld/transaction.json.unreadable")?;
    let downloaded = format!("downloaded and verified `{}`", one.stem());
    assert_eq!(server.journal("pulld")?.matches(&downloaded).count(), 1, "the way down was on disk");
    assert_eq!(server.sh("dpkg --audit")?, "");
    Ok(())
}

#[test]
fn a_reload_pulls_at_once_on_a_minimal_debian() -> Result<()> {
    let scenario = Scenario::new()?;
    let slow = "poll = \"24h\"\n";
    let server = scenario.server_options("web-1")?.file("/etc/pulld/pulld.d/60-slow.toml", slow).boot()?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.wait_for_agent(&server)?;
    assert!(server.run("ls /bin/kill")?.stderr.contains("No such file"), "the package procps is absent");
    scenario.deploy(&one, &server)?;
    server.sh("systemctl reload pulld")?;
    scenario.wait_until_converged(&server, &one)?;
    assert_eq!(server.sh("systemctl show --value -p NRestarts pulld")?, "0");
    says(&server, PORT, "web 1")
}

#[test]
fn an_agent_that_crashed_updates_itself_before_anything_else() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let (web, agent) = (scenario.service("web", PORT)?, AgentRepo::new(&scenario.path("pulld"))?);
    let (one, new) = (web.release(scenario.target(), &Version::new("1"))?, agent.release(scenario.target(), "cured")?);
    scenario.wait_for_agent(&server)?;
    // Both are asked for while it hangs, and then it dies.
    server.sh("kill -STOP $(systemctl show --value -p MainPID pulld)")?;
    scenario.deploy(&one, &server)?;
    scenario.deploy(&new, &server)?;
    server.sh("kill -KILL $(systemctl show --value -p MainPID pulld)")?;
    scenario.wait_until_converged(&server, &one)?;
    scenario.wait_until_converged(&server, &new)?;
    let unpacked = server.sh("awk '$3 ~ /^(install|upgrade)$/ { print $4 }' /var/log/dpkg.log")?;
    let unpacked: Vec<&str> = unpacked.lines().filter_map(|package| package.split(':').next()).collect();
    assert!(unpacked.ends_with(&["pulld", "web"]), "{unpacked:?}");
    says(&server, PORT, "web 1")
}
