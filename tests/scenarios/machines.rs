//! The ground that the scenarios stand on: if one of these fails, look here first.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use harness::{Image, Machine, Scenario, Slot, TempDir, Version, control_groups_of};

use crate::{PORT, says};

/// Answers every request with the machine's name. Perl is on every Debian.
const SERVER: &str = r#"
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:80", Listen => 5) or die $!;
while (my $client = $server->accept) {
    while (<$client>) { last if /^\r?\n$/ }
    print $client "HTTP/1.0 200 OK\r\n\r\n", `hostname`;
    close $client;
}
"#;

fn boot(name: &str) -> Result<Machine> {
    Machine::options(name, &Image::debian()?)?.boot()
}

#[test]
fn a_machine_has_systemd_dpkg_and_dbus() -> Result<()> {
    let _slot = Slot::take()?;
    let machine = boot("web-1")?;
    assert_eq!(machine.sh("hostname")?, "web-1");
    assert_eq!(machine.sh("cat /proc/1/comm")?, "systemd");
    assert_eq!(machine.sh("systemctl is-system-running")?, "running", "{}", machine.diagnostics());
    assert_eq!(machine.sh("dpkg-query -W -f '${db:Status-Abbrev}' dpkg")?, "ii ");
    assert_eq!(machine.sh("stat --file-system --format=%T /sys/fs/cgroup")?, "cgroup2fs");
    machine.sh("busctl --system list | grep -q org.freedesktop.systemd1")?;
    machine.sh("systemd-run --quiet --wait true")?;
    let failed = machine.run("echo talk >&2; exit 3")?;
    assert_eq!((failed.status, failed.stderr.as_str()), (3, "talk\n"));
    Ok(())
}

#[test]
fn a_machine_keeps_its_disk_when_the_power_is_cut() -> Result<()> {
    let _slot = Slot::take()?;
    let mut machine = boot("web-1")?;
    machine.write("/srv/some where/note", "it's here\n")?;
    machine.write("/run/note", "gone\n")?;
    let (boot, id) = (machine.read("/proc/sys/kernel/random/boot_id")?, machine.read("/etc/machine-id")?);
    machine.reboot()?;
    assert_eq!(machine.read("/srv/some where/note")?, "it's here");
    assert!(machine.read("/run/note").is_err(), "/run doesn't survive a reboot");
    assert_ne!(machine.read("/proc/sys/kernel/random/boot_id")?, boot);
    assert_eq!(machine.read("/etc/machine-id")?, id);
    machine.poweroff()?;
    assert!(machine.run("true").is_err(), "it is off");
    machine.start()?;
    assert_eq!(machine.read("/srv/some where/note")?, "it's here");
    Ok(())
}

#[test]
fn two_machines_have_nothing_in_common() -> Result<()> {
    let _slot = Slot::take()?;
    let (one, two) = (boot("web-1")?, boot("web-2")?);
    one.write("/srv/note", "one\n")?;
    assert!(two.read("/srv/note").is_err());
    assert_ne!(one.read("/etc/machine-id")?, two.read("/etc/machine-id")?);
    // Each has a loopback of its own: both serve the same port.
    for machine in [&one, &two] {
        machine.write("/srv/server", SERVER)?;
        machine.sh("systemd-run --quiet perl /srv/server")?;
    }
    for machine in [&one, &two] {
        let response =
            machine.wait_until("the server answers", Duration::from_secs(10), |m| m.http(80, "/").map(Some))?;
        assert_eq!(response.body, format!("{}\n", machine.name()));
    }
    Ok(())
}

#[test]
fn a_machine_reaches_what_the_test_serves() -> Result<()> {
    let _slot = Slot::take()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let machine = Machine::options("web-1", &Image::debian()?)?.reach(port).boot()?;
    let server = std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"from the host\n")?;
        Ok(())
    });
    let heard = machine.sh(&format!("bash -c 'cat </dev/tcp/127.0.0.1/{port}'"))?;
    assert_eq!(heard, "from the host");
    server.join().expect("the server doesn't panic")
}

#[test]
fn a_full_disk_is_full() -> Result<()> {
    let _slot = Slot::take()?;
    let machine = Machine::options("web-1", &Image::debian()?)?.disk(64 << 20).boot()?;
    machine.fill_disk()?;
    let output = machine.run("cp /bin/bash /srv/")?;
    assert!(!output.success() && output.stderr.contains("No space left"), "{output}");
    machine.free_disk()?;
    machine.write("/srv/note", "fits\n")
}

#[test]
fn a_shared_directory_is_the_hosts_own() -> Result<()> {
    let _slot = Slot::take()?;
    let directory = TempDir::new()?;
    let machine = Machine::options("web-1", &Image::debian()?)?.share(directory.path(), "/srv/push").boot()?;
    fs::write(directory.path().join("from-host"), "1")?;
    machine.sh("test -e /srv/push/from-host && echo 2 > /srv/push/from-machine")?;
    assert_eq!(fs::read_to_string(directory.path().join("from-machine"))?, "2\n");
    Ok(())
}

#[test]
fn a_machine_goes_with_the_process_that_made_it() -> Result<()> {
    // The maker: this very test, told to boot a machine, say so, and wait to be killed.
    const MAKER: &str = "PUSH_TEST_BOOT_AND_WAIT";
    if std::env::var_os(MAKER).is_some() {
        let machine = boot("doomed")?;
        println!("\nkeeper {}", machine.keeper_pid());
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    let _slot = Slot::take()?;
    let mut maker = Command::new(std::env::current_exe()?)
        .args(["--exact", "machines::a_machine_goes_with_the_process_that_made_it", "--nocapture"])
        .env(MAKER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(maker.stdout.take().context("stdout is piped")?).lines();
    let keeper = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("keeper ")?.parse::<u32>().ok());
    let keeper = keeper.context("the maker says what its keeper is")?;
    let alive = || fs::exists(format!("/proc/{keeper}/root/sys"));
    assert!(alive()?);
    let pid = maker.id();
    assert_eq!(control_groups_of(pid)?.len(), 1, "the machine has one");
    // It is there before the other ends, and leaves cleaning up to it.
    let machine = boot("next")?;
    maker.kill()?;
    maker.wait()?;
    machine.wait_until("the killed process's machine is gone", Duration::from_secs(10), |_| {
        Ok((!alive()? && control_groups_of(pid)?.is_empty()).then_some(()))
    })?;
    Ok(())
}

#[test]
fn the_test_service_serves_and_its_crashing_version_does_not() -> Result<()> {
    let scenario = Scenario::new()?;
    let web = scenario.service("web", PORT)?;
    let good = web.release(scenario.target(), &Version::new("1"))?;
    let bad = web.release(scenario.target(), &Version::new("2").crashing())?;
    let bucket = scenario.path("bucket");
    let machine = Machine::options("web-1", &Image::debian()?)?.share(&bucket, "/srv/push").boot()?;
    // By hand, as the maintainer scripts also allow.
    machine.sh(&format!("dpkg --install '/srv/push/debs/{good}'"))?;
    says(&machine, PORT, "web 1")?;
    machine.sh(&format!("dpkg --install '/srv/push/debs/{bad}'"))?;
    machine.wait_until("systemd restarts it again and again", Duration::from_secs(20), |machine| {
        let restarts: u32 = machine.sh("systemctl show --value -p NRestarts web.service")?.parse()?;
        Ok((restarts > 3).then_some(()))
    })
}
