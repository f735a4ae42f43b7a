//! A bucket and a server of the original system, taken over by the very commands of docs/migrating.md.

use std::{collections::BTreeMap, env, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use bucket::{AppState, Bucket, BucketOptions, ObjectPath, ReleaseName};
use harness::{AgentRepo, Image, Machine, Programs, Scenario};
use tokio::runtime::Runtime;

use crate::{PORT, says_by, unpacked};

const PAGE: &str = include_str!("../../docs/migrating.md");

/// Where the bucket is on the server.
const BUCKET: &str = "/srv/push";

/// The agent of this story looks often; one that is poked need not.
const AGENT: &str = "poll = \"1s\"\njitter = \"0s\"\nhealth_window = \"2s\"\n";

/// What the scripts of the original put into each package.
const POSTINST: &str =
    "#!/bin/bash\nset -e\nsystemctl daemon-reload\nsystemctl enable @APP@.service\nsystemctl restart @APP@.service\n";

/// Where the package of the original has its program.
const PROGRAM: &str = "/usr/local/bin/web";

/// A web app, in the language that every Debian has.
const WEB: &str = r#"#!/usr/bin/perl
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:@PORT@", Listen => 16, ReuseAddr => 1) or die "$!\n";
while (my $client = $server->accept) {
    while (<$client>) { last if /^\r?\n$/ }
    print $client "HTTP/1.0 200 OK\r\n\r\n@VERSION@\n";
    close $client;
}
"#;

/// The bucket of the original system.
struct Old<'a> {
    scenario: &'a Scenario,
    runtime: Runtime,
    bucket: Bucket,
}

impl<'a> Old<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self> {
        let runtime = Runtime::new()?;
        let bucket = runtime.block_on(Bucket::open(&scenario.target().url.parse()?, &BucketOptions::default()))?;
        Ok(Self { scenario, runtime, bucket })
    }

    /// Uploads a package as `bash/release.sh` did: always version 1.0, its units in the metadata, no SHA-256 anywhere.
    fn release(&self, app: &str, day: u32, program: &str) -> Result<ReleaseName> {
        let tree = self.scenario.path(&format!("{app}-{day}"));
        let control = format!(
            "Package: {app}\nVersion: 1.0\nArchitecture: all\nMaintainer: dev@example.org\nPriority: optional\nDescription: {app}\n"
        );
        let unit = format!("[Service]\nExecStart=/usr/local/bin/{app}\n[Install]\nWantedBy=multi-user.target\n");
        for (path, text, mode) in [
            ("DEBIAN/control".to_owned(), control, 0o644),
            ("DEBIAN/postinst".to_owned(), POSTINST.replace("@APP@", app), 0o755),
            (format!("usr/local/bin/{app}"), program.to_owned(), 0o755),
            (format!("etc/systemd/system/{app}.service"), unit, 0o644),
        ] {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        let deb = self.scenario.path("original.deb");
        let built =
            Command::new("dpkg-deb").args(["-Zgzip", "--root-owner-group", "--build"]).arg(&tree).arg(&deb).output()?;
        ensure!(built.status.success(), "{built:?}");
        let (userid, hash) = ("dev@dev.c.acme.internal", "560316aa6e053eb75a36efb621d0fd66d1ced433");
        let datetime = format!("2016-03-{day:02}T10:00:00Z");
        let name: ReleaseName = format!("{app}/{app}:{userid}:{datetime}:{hash}.deb").parse()?;
        let services = format!("{app}.service");
        let facts = [
            ("appname", app),
            ("userid", userid),
            ("hash", hash),
            ("datetime", &datetime),
            ("dirty", "false"),
            ("note", "as it was"),
            ("services", &services),
        ];
        let facts: BTreeMap<String, String> = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        self.write(&format!("debs/{name}"), fs::read(&deb)?, &facts)?;
        Ok(name)
    }

    fn write(&self, path: &str, content: Vec<u8>, facts: &BTreeMap<String, String>) -> Result<()> {
        let path: ObjectPath = path.parse()?;
        self.runtime.block_on(self.bucket.create(&path, content.into(), facts))?;
        Ok(())
    }
}

/// The commands of the page, of which those on servers begin with `sudo`.
fn steps() -> Vec<&'static str> {
    PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Runs a step of the page where a person has `release` and `push`; what it printed.
fn at_the_desk(scenario: &Scenario, step: &str) -> Result<String> {
    let programs = Programs::get()?.release();
    let programs = programs.parent().context("a program is in a directory")?.display().to_string();
    let mut shell = Command::new("bash");
    scenario.target().apply(&mut shell);
    shell.args(["-euo", "pipefail", "-c", step]).current_dir(scenario.path("."));
    shell.env("PATH", format!("{programs}:{}", env::var("PATH").unwrap_or_default()));
    let output = shell.output()?;
    ensure!(output.status.success(), "{step}\n{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A server of the original system, which has installed these packages.
fn boot(scenario: &Scenario, installed: &[&ReleaseName]) -> Result<Machine> {
    let options = Machine::options("web-1", &Image::debian()?)?;
    let options = options.share(&scenario.path("bucket"), BUCKET).share(&scenario.path("push"), "/root/push");
    let server = options.file("/etc/pulld/pulld.d/50-scenario.toml", AGENT).boot()?;
    for release in installed {
        server.sh(&format!("dpkg --install '{BUCKET}/debs/{release}'"))?;
    }
    server.sh("mkdir /var/pulld && echo '[]' > /var/pulld/pulld.json && systemctl is-active pulld")?;
    Ok(server)
}

/// What the shell in `packaging/install-pulld` needs: the script and a package, where the page has them.
fn check_out(scenario: &Scenario, pulld: &ReleaseName) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/install-pulld");
    for (from, to) in
        [(script, "push/packaging/install-pulld"), (scenario.object(&format!("debs/{pulld}")), "push/dist/pulld.deb")]
    {
        let to = scenario.path(to);
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        fs::copy(&from, &to).with_context(|| format!("could not copy `{}`", from.display()))?;
    }
    Ok(())
}

#[test]
fn a_server_of_the_original_is_taken_over_as_the_page_says() -> Result<()> {
    let scenario = Scenario::new()?;
    let old = Old::new(&scenario)?;
    let program = |version: &str| WEB.replace("@PORT@", &PORT.to_string()).replace("@VERSION@", version);
    let first = old.release("web", 1, &program("web one"))?;
    let second = old.release("web", 2, &program("web two"))?;
    let agent = old.release("pulld", 1, "#!/bin/sh\nexec sleep infinity\n")?;
    let document = serde_json::to_vec(&[second.as_str(), agent.as_str(), "api/"])?;
    old.write("server/web-1.json", document, &BTreeMap::new())?;
    let pulld = AgentRepo::new(&scenario.path("pulld"))?.release(scenario.target(), "ours")?;
    check_out(&scenario, &pulld)?;
    let server = boot(&scenario, &[&agent, &second])?;
    says_by(&server, PORT, "web two", PROGRAM)?;

    let steps = steps();
    let [export, adopt, look, status, pairs, dry_run, install, deploy] = steps[..] else {
        panic!("the page has other commands than this test knows: {steps:#?}");
    };
    assert_eq!(export, "export PUSH_BUCKET=gs://acme-push\n");
    let adopted = at_the_desk(&scenario, adopt)?;
    let adopted: Vec<&str> = adopted.lines().skip(2).collect();
    assert_eq!(adopted.len(), 2, "{adopted:?}");
    let (back, ours): (ReleaseName, ReleaseName) = (adopted[0].parse()?, adopted[1].parse()?);
    assert!(at_the_desk(&scenario, look)?.contains("/usr/local/bin/web"));
    let status = at_the_desk(&scenario, status)?;
    assert!(status.contains("never reported") && status.contains(second.stem()), "{status}");
    let pairs = at_the_desk(&scenario, pairs)?;
    assert_eq!(pairs, format!("{first}\t{back}\n{second}\t{ours}\n"));
    let chosen = |step: &str| step.replace("RELEASE", &format!("'{ours}'"));
    let planned = at_the_desk(&scenario, &chosen(dry_run))?;
    assert!(planned.contains(&format!("{} → {}", second.stem(), ours.stem())), "{planned}");

    let install = install.replace("sudo ", "").replace("gs://acme-push", &format!("file://{BUCKET}"));
    let said = server.sh(&format!("set -e\ncd /root/push\n{install}"))?;
    assert!(said.contains("pulld is running: this machine is the server `web-1`"), "{said}");
    // What ran goes on running, and nothing is installed of which nobody knows what it must be.
    let status = scenario.status(&server)?.context("the agent has reported")?;
    let of = |app: &str| status.apps.iter().find(|of| of.app == app).map(serde_json::to_string);
    for app in ["web", "pulld"] {
        let reported = of(app).context("the app is in the report")??;
        assert!(reported.contains("cannot verify the release"), "{app}: {reported}");
    }
    says_by(&server, PORT, "web two", PROGRAM)?;
    assert_eq!(unpacked(&server, "web")?, 1);
    let started = server.sh("systemctl show --property=InvocationID --value web")?;

    at_the_desk(&scenario, &chosen(deploy))?;
    at_the_desk(&scenario, "push deploy pulld web-1 -m 'adopted' --wait")?;
    scenario.wait_for_app(&server, &ours, AppState::Converged)?;
    scenario.wait_for_app(&server, &pulld, AppState::Converged)?;
    says_by(&server, PORT, "web two", PROGRAM)?;
    assert_eq!(unpacked(&server, "web")?, 2);
    assert_ne!(server.sh("systemctl show --property=InvocationID --value web")?, started);
    let installed = "dpkg-query -W -f '${Version} ${Push-Release}' web";
    assert_eq!(server.sh(installed)?, format!("1.0 {}", ours.stem()));

    // The earlier one is there to go back to.
    at_the_desk(&scenario, &format!("push deploy '{back}' web-1 -m 'back' --wait"))?;
    scenario.wait_for_app(&server, &back, AppState::Converged)?;
    says_by(&server, PORT, "web one", PROGRAM)?;
    assert_eq!(server.sh("systemctl is-enabled pulld web; test ! -e /usr/local/bin/pulld")?, "enabled\nenabled");
    Ok(())
}
