//! What a server can lose without anybody's fault but its own surroundings': its bucket, its configuration.

use std::time::Duration;

use anyhow::Result;
use harness::{Machine, Scenario, Version};

use crate::{PORT, says};

/// Longest time until the agent has noticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `pulld status` says each of these, and gives all that it says.
fn told(server: &Machine, words: &[&str]) -> Result<String> {
    server.wait_until(&format!("status says {words:?}"), PATIENCE, |server| {
        let said = server.run("pulld status")?.stdout;
        Ok(words.iter().all(|word| said.contains(word)).then_some(said))
    })
}

/// What lies in the bucket's directory, as the machine sees it.
fn in_mount_point(server: &Machine) -> Result<String> {
    server.sh("find /srv/push -mindepth 1")
}

#[test]
fn an_unmounted_bucket_and_a_wrong_configuration_are_survived_and_said() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;

    server.sh("umount --lazy /srv/push")?;
    let said = told(&server, &["web-1: failed", "the bucket is unreachable", "mount the share"])?;
    assert!(said.contains("web: converged"), "{said}");
    assert_eq!(in_mount_point(&server)?, "");

    // An agent that never saw the document, and cannot read its configuration either.
    server.write("/etc/pulld/pulld.d/90-wrong.toml", "poll = 5\n")?;
    server.sh("systemctl restart pulld")?;
    let said =
        told(&server, &["server document not read yet", "invalid configuration, keeping the last valid settings"])?;
    assert!(said.contains("web: pending") && !said.contains("orphan"), "{said}");
    assert_eq!(in_mount_point(&server)?, "");
    says(&server, PORT, "web 1")?;
    let journal = server.journal("pulld")?;
    assert!(journal.contains("so everything stays as it is: the bucket is unreachable"), "{journal}");

    // What the first release into a new bucket does.
    server.sh("touch /srv/push/push-bucket")?;
    server.wait_until("the agent goes on", PATIENCE, |server| {
        Ok(in_mount_point(server)?.contains("/srv/push/status/web-1.json").then_some(()))
    })?;

    // Of all this, others see what they may.
    assert_eq!(server.sh("stat --format='%a %U %G' /run/pulld/status.json")?, "640 root adm");
    for command in ["pulld status", "pulld plan", "pulld pull"] {
        let output = server.run(&format!("runuser --user nobody -- {command}"))?;
        assert!(output.status == 1 && output.stderr.contains("requires root"), "{command}: {output}");
        assert!(output.stderr.contains("sudo") && !output.stderr.contains("not running"), "{command}: {output}");
        assert_eq!(output.stdout, "", "{command}: {output}");
    }
    let output = server.run("runuser --user nobody --supp-group adm -- pulld status")?;
    assert!(output.stdout.contains("web: ") && output.stderr.contains("use `sudo pulld status`"), "{output}");
    Ok(())
}
