//! The packages in `examples/`, as a developer makes them and a person installs them by hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{Image, Machine, Programs, Repo, TempDir};

/// The time at which the packages are built.
const TIME: &str = "2026-11-20T19:05:02Z";

/// What the examples depend on, and the image of other tests has not.
const DEPENDS: [&str; 2] = ["nginx-light", "python3-minimal"];

/// The examples, of which each is its package's name, but for the prebuilt one.
const EXAMPLES: [&str; 5] = ["hello", "catalog", "site", "backup", "vendor"];

/// Builds and checks `examples/{name}` in a repository of its own; the package is then `{name}.deb` in `out`.
fn build(name: &str, directory: &Path, out: &Path) -> Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let project = directory.join(name);
    let repo = Repo::new(&project)?;
    let copied = Command::new("cp").arg("-a").arg(example.join(".")).arg(&project).status()?;
    ensure!(copied.success(), "could not copy `{}`", example.display());
    repo.commit("the example")?;
    let built: PathBuf = repo.build("the example", TIME, &directory.join(format!("{name}.out")))?;
    for checked in [None, Some(&built)] {
        let mut check = Command::new(Programs::get()?.release());
        check.arg("-C").arg(&project).arg("check").args(checked);
        let output = check.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.is_empty(),
            "{name}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::rename(&built, out.join(format!("{name}.deb"))).context("could not hand over the package")
}

#[test]
fn every_example_is_built_checked_installed_and_purged() -> Result<()> {
    let directory = TempDir::new()?;
    let debs = directory.path().join("debs");
    fs::create_dir(&debs)?;
    for name in EXAMPLES {
        build(name, directory.path(), &debs)?;
    }
    let image = Image::debian()?.with_debian_packages(&DEPENDS)?;
    let server = Machine::options("web-1", &image)?.share(&debs, "/root/debs").boot()?;
    let files = "find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/run/*' -not -path '/tmp/*' \
                 -not -path '/var/log/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/systemd/*' | sort";
    let before = server.sh(files)?;
    let dirty = server.sh("for deb in /root/debs/*.deb; do dpkg-deb --field \"$deb\" Push-Dirty; done | sort -u")?;
    assert_eq!(dirty, "false");

    a_web_service_answers(&server)?;
    a_tree_belongs_to_the_user_that_its_package_makes(&server)?;
    a_drop_in_for_another_packages_unit_takes_effect(&server)?;
    a_timer_starts_its_service(&server)?;
    a_prebuilt_package_is_as_it_was(&server)?;

    let gone = server.sh(files)?;
    let left: Vec<&str> = gone.lines().filter(|path| !before.lines().any(|there| there == *path)).collect();
    // useradd(8) keeps what was before.
    assert!(left.iter().all(|path| path.starts_with("/etc/") && path.ends_with('-')), "purging left {left:?}");
    Ok(())
}

/// Waits until a URL of the machine's own answers with what contains `expected`.
fn answers(server: &Machine, port: u16, expected: &str) -> Result<()> {
    server.wait_until(&format!("port {port} answers"), Duration::from_secs(10), |server| {
        let response = server.http(port, "/")?;
        ensure!(response.status == 200 && response.body.contains(expected), "it says {response:?}");
        Ok(Some(()))
    })
}

fn a_web_service_answers(server: &Machine) -> Result<()> {
    server.sh("dpkg --install /root/debs/hello.deb && dpkg --verify hello")?;
    answers(server, 8080, "Hello")?;
    server.sh("dpkg --purge hello && ! systemctl is-active hello").map(drop)
}

fn a_drop_in_for_another_packages_unit_takes_effect(server: &Machine) -> Result<()> {
    server.sh("dpkg --install /root/debs/site.deb && dpkg --verify site")?;
    answers(server, 8081, "Hello from the site.")?;
    let limit = "grep '^Max open files' /proc/$(systemctl show --value --property=MainPID nginx)/limits";
    assert!(server.sh(limit)?.contains(" 8192 "), "nginx runs with the limit of the drop-in");
    server.sh("dpkg --purge site")?;
    let state =
        "systemctl show --value --property=NeedDaemonReload --property=DropInPaths --property=ActiveState nginx";
    assert_eq!(server.sh(state)?.split_whitespace().collect::<Vec<_>>(), ["active", "no"]);
    Ok(())
}

fn a_timer_starts_its_service(server: &Machine) -> Result<()> {
    server.sh("dpkg --install /root/debs/backup.deb && dpkg --verify backup")?;
    assert_eq!(
        server.sh("systemctl is-active backup.timer; systemctl is-active backup.service || true")?,
        "active\ninactive"
    );
    assert_eq!(server.sh("stat --format '%U:%G %a' /var/backups/etc")?, "root:adm 750");
    server.sh("systemctl start backup.service && tar --list --gzip --file /var/backups/etc/*.tar.gz etc/passwd")?;
    // What a service wrote is not the package's.
    server.sh("rm /var/backups/etc/*.tar.gz && dpkg --purge backup && ! systemctl is-active backup.timer").map(drop)
}

fn a_prebuilt_package_is_as_it_was(server: &Machine) -> Result<()> {
    server
        .sh("dpkg --install /root/debs/vendor.deb && dpkg --verify vendor-agent && systemctl is-active vendor-agent")?;
    let fields = "dpkg-query --show --showformat '${Version} ${Push-Units}' vendor-agent";
    assert_eq!(server.sh(fields)?, "2.1-3 vendor-agent.service=restart");
    server.sh("dpkg --purge vendor-agent && ! systemctl is-active vendor-agent").map(drop)
}

fn a_tree_belongs_to_the_user_that_its_package_makes(server: &Machine) -> Result<()> {
    server.sh("dpkg --install /root/debs/catalog.deb")?;
    let others = "find /usr/lib/catalog /var/lib/catalog -mindepth 1 -not \\( -user catalog -group catalog \\)";
    assert_eq!(server.sh(others)?, "");
    assert_eq!(server.sh("find /usr/lib/catalog -user catalog -name '*.py' | wc -l")?, "2001");
    let modes = "stat --format '%U:%G %a' /var/lib/catalog /usr/lib/catalog/products /usr/lib/catalog/catalog.py";
    assert_eq!(server.sh(modes)?, "catalog:catalog 750\ncatalog:catalog 750\ncatalog:catalog 640");
    let said = server
        .sh("dpkg --verify catalog; getent passwd catalog; dpkg-query --control-show catalog postinst | wc -c")?;
    let (made, size) = said.rsplit_once('\n').context("two lines")?;
    assert!(made.ends_with(":Product catalog:/var/lib/catalog:/usr/sbin/nologin"), "{said}");
    assert!(size.parse::<usize>()? < 3000, "the postinst has {size} bytes");
    server.wait_until("the service runs as that user", Duration::from_secs(10), |server| {
        Ok(server.run("test \"$(cat /var/lib/catalog/products)\" = 2000")?.success().then_some(()))
    })?;

    server.sh("dpkg --purge catalog")?;
    assert_eq!(server.sh("ls -d /usr/lib/catalog /lib/systemd/system/catalog.service 2>/dev/null || true")?, "");
    server.sh("getent passwd catalog")?;
    Ok(())
}
