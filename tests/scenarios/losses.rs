//! What a server can lose without anybody's fault but its own surroundings': its bucket, its configuration.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use bucket::AppState;
use harness::{Machine, Scenario, Version};

use crate::{PORT, says, unpacked};

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
    let (why, back) = ("pulld why web", "pulld rollback web -m x");
    for command in ["pulld status", "pulld plan", "pulld pull", why, back, "pulld retry web", "pulld resume web"] {
        let output = server.run(&format!("runuser --user nobody -- {command}"))?;
        assert!(output.status == 1 && output.stderr.contains("requires root"), "{command}: {output}");
        assert!(output.stderr.contains("sudo") && !output.stderr.contains("not running"), "{command}: {output}");
        assert_eq!(output.stdout, "", "{command}: {output}");
    }
    let output = server.run("runuser --user nobody --supp-group adm -- pulld status")?;
    assert!(output.stdout.contains("web: ") && output.stderr.contains("use `sudo pulld status`"), "{output}");
    Ok(())
}

#[test]
fn a_wrong_configuration_keeps_no_push_out_and_a_document_that_is_gone_is_said_after_a_restart_too() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.write("/etc/pulld/pulld.d/90-wrong.toml", "poll = 5\n")?;
    server.sh("systemctl restart pulld")?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.install(&two, &server)?;
    says(&server, PORT, "web 2")?;
    told(&server, &["invalid configuration, keeping the last valid settings", "`poll` is `5`"])?;
    server.sh("rm /etc/pulld/pulld.d/90-wrong.toml")?;

    fs::remove_file(scenario.object("server/web-1.json"))?;
    for _ in 0..2 {
        told(&server, &["the server document is gone", "push to this server to write a new document"])?;
        server.sh("systemctl restart pulld")?;
    }
    told(&server, &["the server document is gone"])?;
    for command in ["pulld plan", "pulld plan --offline"] {
        let plan = server.run(command)?;
        let said = "the server document is gone, so that nothing is changed: generation ";
        assert!(plan.success() && plan.stderr.contains(said), "{plan}");
        assert!(plan.stdout.ends_with("nothing to do\n"), "{plan}");
    }
    server.sh("rm /var/lib/pulld/document.json")?;
    server.wait_until("the warning has ended", PATIENCE, |server| {
        Ok((!server.run("pulld status")?.stdout.contains("document is gone")).then_some(()))
    })?;
    says(&server, PORT, "web 2")?;
    scenario.wait_until_settled(&server)
}

/// Takes all out of the bucket's directory, or puts it back: as a share looks that is not mounted, and is again.
fn move_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        fs::rename(from.join(&name), to.join(&name))?;
    }
    Ok(())
}

#[test]
fn without_its_bucket_a_server_goes_back_by_hand_and_stays_there_until_a_person_resumes() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.install(&one, &server)?;
    scenario.install(&two, &server)?;
    let (bucket, away) = (scenario.path("bucket"), scenario.path("away"));
    move_all(&bucket, &away)?;
    told(&server, &["the bucket is unreachable", "mount the share"])?;
    let why = server.run("pulld why web")?;
    assert!(why.status == 3 && why.stdout.contains("  the bucket is unreachable"), "{why}");

    // The agent that does it never saw the bucket.
    server.sh("systemctl restart pulld")?;
    let rolled_back = server.run("pulld rollback web -m 'orders are lost' --for 2h")?;
    let said = format!("rolling back `web` to `{}`", one.stem());
    assert!(rolled_back.stderr.contains(&said), "{rolled_back}");
    assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' web")?, one.stem());
    says(&server, PORT, "web 1")?;
    let journal = server.journal("pulld")?;
    let gate = format!("`{}` is installed and healthy", one.stem());
    assert_eq!(journal.matches(&gate).count(), 2, "the same health gate, once more: {journal}");
    let reason = format!("rolled back to `{}` by root at ", one.stem());
    for command in ["pulld status", "pulld why web"] {
        let shown = server.run(command)?.stdout;
        assert!(shown.contains(&reason) && shown.contains("(orders are lost); left alone until "), "{shown}");
    }
    let plan = server.run("pulld plan")?;
    let age = "planning for the server document as the agent last read it, ";
    assert!(plan.success() && plan.stderr.contains(age) && plan.stderr.contains(" ago (generation "), "{plan}");
    assert!(plan.stdout.starts_with("leave web: rolled back"), "{plan}");

    // The bucket's return changes nothing, and now everybody sees it.
    move_all(&away, &bucket)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Paused)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    for _ in 0..2 {
        server.sh("pulld pull")?;
    }
    says(&server, PORT, "web 1")?;
    let shown = scenario.push(&["status", "web-1"])?.ok()?;
    assert!(shown.contains("paused") && shown.contains("(orders are lost); left alone until "), "{shown}");
    let times = unpacked(&server, "web")?;
    assert_eq!(times, 3, "each of the two, and the first again");

    server.sh("pulld resume web")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    let why: serde_json::Value = serde_json::from_str(&server.sh("pulld why web --json")?)?;
    assert_eq!(
        (&why["cause"], &why["blocked"], &why["state"]),
        (&"in-place".into(), &false.into(), &"converged".into())
    );
    // Its time passes, or its entry changes.
    server.sh("pulld rollback web -m 'for a moment' --for 30s")?;
    says(&server, PORT, "web 1")?;
    scenario.wait_until_converged(&server, &two)?;
    server.sh("pulld rollback web -m 'until there is another one' --for 2h")?;
    says(&server, PORT, "web 1")?;
    let three = web.release(scenario.target(), &Version::new("3"))?;
    scenario.install(&three, &server)?;
    says(&server, PORT, "web 3")?;
    let unknown = server.run("pulld why wbe")?;
    assert!(unknown.status == 2 && unknown.stderr.contains("hint: did you mean `web`?"), "{unknown}");
    Ok(())
}
