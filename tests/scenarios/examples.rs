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
const DEPENDS: [&str; 1] = ["python3-minimal"];

/// Builds and checks `examples/{name}` in a repository of its own; the package is then `{name}.deb` in `out`.
fn build(name: &str, directory: &Path, out: &Path) -> Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let project = directory.join(name);
    let copied = Command::new("cp").arg("-a").arg(&example).arg(&project).status()?;
    ensure!(copied.success(), "could not copy `{}`", example.display());
    let repo = Repo::new(&project)?;
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
    build("catalog", directory.path(), &debs)?;
    let image = Image::debian()?.with_debian_packages(&DEPENDS)?;
    let server = Machine::options("web-1", &image)?.share(&debs, "/root/debs").boot()?;
    a_tree_belongs_to_the_user_that_its_package_makes(&server)
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
