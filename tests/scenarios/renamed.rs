//! An app whose next release comes in a package of another name, which breaks, and is in the way of going back.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use anyhow::{Context, Result};
use bucket::{AppState, AppStatus, ReleaseName};
use harness::{Machine, Repo, Scenario};

use crate::app::runs;

/// Stops what it runs when it goes, as packages do, and keeps from going if it is told to.
const PRERM: &str = "#!/bin/sh\n[ \"$1\" != remove ] || systemctl stop shop\n";

/// Releases of `shop` that `release` did not build: their packages may have any name.
struct Shop<'a> {
    scenario: &'a Scenario,
    repo: Repo,
}

impl<'a> Shop<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self> {
        Ok(Self { scenario, repo: Repo::new(&scenario.path("shop"))? })
    }

    /// A release in that package, which runs `/usr/bin/sleep {seconds}`. The one of another name takes the first one's place,
    /// which knows nothing of it.
    fn release(&self, package: &str, seconds: u32, postinst: &str, prerm: &str) -> Result<ReleaseName> {
        let place = if package == "shop" { "" } else { "Conflicts: shop\nReplaces: shop\n" };
        self.release_in_place(package, place, seconds, postinst, prerm)
    }

    /// The same, with what its package says of other packages.
    fn release_in_place(
        &self,
        package: &str,
        place: &str,
        seconds: u32,
        postinst: &str,
        prerm: &str,
    ) -> Result<ReleaseName> {
        let root = self.scenario.path(&format!("root-{seconds}"));
        let control = format!(
            "Package: {package}\nVersion: {seconds}\nArchitecture: all\nMaintainer: T <t@push.example>\n\
             {place}Description: x\n"
        );
        let service = format!("[Service]\nExecStart=/usr/bin/sleep {seconds}\n[Install]\nWantedBy=multi-user.target\n");
        for (path, content) in [
            ("DEBIAN/control", control.as_str()),
            ("DEBIAN/postinst", &format!("#!/bin/sh\nsystemctl --quiet enable shop\n{postinst}")),
            ("DEBIAN/prerm", prerm),
            ("usr/lib/systemd/system/shop.service", &service),
            (&format!("usr/share/doc/{package}/copyright"), "x\n"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
            fs::write(&path, content)?;
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(if content.starts_with("#!") { 0o755 } else { 0o644 }),
            )?;
        }
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "--build"]).arg(root).arg(self.repo.directory().join("shop.deb"));
        harness::run(build, "dpkg-deb", b"", Duration::from_mins(1))?.ok()?;
        let unit = "[[package.shop.unit]]\nname = \"shop.service\"\n";
        self.repo.write("release.toml", &format!("schema = 1\n[package.shop]\ndeb = \"shop.deb\"\n{unit}"))?;
        self.repo.commit(&seconds.to_string())?;
        self.repo.release(self.scenario.target(), &seconds.to_string())
    }
}

/// What dpkg has of the two packages.
fn packages(server: &Machine) -> Result<String> {
    let known = server.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' 'shop*'")?;
    Ok(known.lines().filter(|line| !line.ends_with("un ") && !line.ends_with("rc ")).collect::<Vec<_>>().join(", "))
}

/// The release of `shop` is there, sound and alone, and runs; the bad one stays away.
fn has_again(scenario: &Scenario, server: &Machine, good: &ReleaseName, bad: &ReleaseName) -> Result<()> {
    let app = scenario.wait_for_app(server, bad, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(good));
    assert_eq!(packages(server)?, "shop ii ");
    assert_eq!(server.sh("dpkg --audit")?, "");
    assert_eq!(runs(server, "shop.service")?, "/usr/bin/sleep /usr/bin/sleep 1001");
    Ok(())
}

fn reason(app: AppStatus) -> Result<String> {
    app.reason.context("the report says why")
}

#[test]
fn a_package_of_another_name_that_a_release_left_broken_goes_and_the_release_before_runs() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let shop = Shop::new(&scenario)?;
    let one = shop.release("shop", 1001, "", PRERM)?;
    scenario.install(&one, &server)?;
    server.sh("mount --bind /usr /usr")?;

    // Nothing can be rolled back, for a while.
    let two = shop.release("shop-next", 1002, "mount -o remount,bind,ro /usr\nexit 1\n", PRERM)?;
    scenario.deploy(&two, &server)?;
    let said = reason(scenario.wait_for_app(&server, &two, AppState::Degraded)?)?;
    assert!(said.contains("rollback failed") && said.contains("read-only file system"), "{said}");
    assert_eq!(packages(&server)?, "shop-next iF ");
    server.sh("mount -o remount,bind,rw /usr")?;
    has_again(&scenario, &server, &one, &two)?;

    // Its own script is in the way, and a person has to see to it.
    let three = shop.release("shop-next", 1003, "exit 1\n", "#!/bin/sh\necho the till is open\nexit 1\n")?;
    scenario.deploy(&three, &server)?;
    scenario.wait_for_app(&server, &three, AppState::Degraded)?;
    server.sh("pulld pull || true")?;
    let app = scenario.wait_for_app(&server, &three, AppState::Degraded)?;
    assert!(app.drift.iter().any(|line| line.contains("`shop-next` is broken")), "{app:?}");
    let said = reason(app)?;
    assert!(said.contains("could not be repaired, will retry (") && said.contains("the till is open"), "{said}");
    let why = server.run("pulld why shop")?;
    assert!(why.status == 3 && why.stdout.contains("the till is open") && why.stdout.contains("to do: "), "{why}");
    server.sh("sed -i 's/exit 1/exit 0/' /var/lib/dpkg/info/shop-next.prerm && pulld pull || true")?;
    has_again(&scenario, &server, &one, &three)
}

#[test]
fn a_package_that_took_files_of_the_one_before_and_does_not_go_is_tried_again_and_what_is_there_stays_as_it_is()
-> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let shop = Shop::new(&scenario)?;
    let one = shop.release("shop", 1001, "", PRERM)?;
    scenario.install(&one, &server)?;

    // Side by side, with the unit's file the new one's. dpkg deletes it with that package, and the unit stops.
    let (replaces, refuses) = ("Replaces: shop\n", "#!/bin/sh\nsystemctl stop shop\necho the till is open\nexit 1\n");
    let two = shop.release_in_place("shop-next", replaces, 1002, "exit 1\n", refuses)?;
    scenario.deploy(&two, &server)?;
    scenario.wait_for_app(&server, &two, AppState::Degraded)?;
    assert_eq!(packages(&server)?, "shop ii , shop-next rF ");
    let unpacked = || server.sh("stat -c %z /usr/share/doc/shop/copyright");
    let before = unpacked()?;
    for _ in 0..2 {
        server.sh("systemctl stop shop; pulld pull || true")?;
        let said = reason(scenario.wait_for_app(&server, &two, AppState::Degraded)?)?;
        assert!(said.contains("could not be repaired, will retry (") && said.contains("the till is open"), "{said}");
        assert_eq!(server.sh("systemctl is-active shop")?.trim(), "active");
    }
    assert_eq!(unpacked()?, before, "what is in order is not installed again");
    let journal = server.sh("journalctl --unit pulld")?;
    assert!(journal.contains("the removal of `shop-next` failed: "), "{journal}");

    // A script that fails after dpkg has deleted the files leaves the server without none of them.
    let postrm = "/var/lib/dpkg/info/shop-next.postrm";
    server.sh(&format!("printf '#!/bin/sh\\nexit 1\\n' >{postrm} && chmod +x {postrm}"))?;
    server.sh("sed -i 's/exit 1/exit 0/' /var/lib/dpkg/info/shop-next.prerm && pulld pull || true")?;
    assert_eq!(packages(&server)?, "shop ii , shop-next rH ");
    assert_eq!(runs(&server, "shop.service")?, "/usr/bin/sleep /usr/bin/sleep 1001");
    let app = scenario.wait_for_app(&server, &two, AppState::Degraded)?;
    assert_eq!(app.installed.as_ref(), Some(&one));

    // When it can go at last, what it took with it is there again.
    server.sh(&format!("rm {postrm} && pulld pull || true"))?;
    has_again(&scenario, &server, &one, &two)?;
    assert_eq!(server.sh("dpkg --verify shop")?, "");

    // Nor does a rollback that works leave it without its files.
    let three = shop.release_in_place("shop-next", replaces, 1003, "exit 1\n", PRERM)?;
    scenario.deploy(&three, &server)?;
    has_again(&scenario, &server, &one, &three)?;
    assert_eq!(server.sh("dpkg --verify shop")?, "");
    Ok(())
}
