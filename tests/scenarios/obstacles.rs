//! Releases that are in the way of the next one, because the script with which they should go fails.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use anyhow::Result;
use bucket::{AppState, ReleaseName};
use harness::{Repo, Scenario};

use crate::app::{App, deploy_together, runs, work};

#[test]
fn a_release_whose_prerm_or_postrm_fails_is_replaced_all_the_same() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let mut releases = Vec::new();
    // The second release has the same mistake as the first.
    for (name, script) in [("before", "prerm = \"exit 1\""), ("after", "postrm = \"exit 1\"")] {
        let app = App::new(&scenario, name)?;
        let release = |version: &str| {
            let service =
                format!("[Service]\nExecStart=/usr/lib/{name}/work {version}\n[Install]\nWantedBy=multi-user.target\n");
            app.release(&format!("scripts = {{ {script} }}"), &[(&format!("{name}.service"), &service)])
        };
        releases.push((release("1")?, release("2")?));
    }
    let (one, two): (Vec<_>, Vec<_>) = releases.into_iter().unzip();
    for (version, releases) in [("1", one), ("2", two)] {
        deploy_together(&scenario, &server, &releases)?;
        for release in &releases {
            scenario.wait_until_converged(&server, release)?;
            let app = release.app().as_str();
            assert_eq!(runs(&server, &format!("{app}.service"))?, work(app, version));
        }
        assert_eq!(server.sh("dpkg --audit")?, "");
    }
    Ok(())
}

/// Releases a package that `release` did not build, with that `prerm` or none.
fn release_foreign(scenario: &Scenario, repo: &Repo, version: &str, prerm: Option<&str>) -> Result<ReleaseName> {
    let root = scenario.path(&format!("root-{version}"));
    fs::create_dir_all(root.join("DEBIAN"))?;
    let control = format!(
        "Package: foreign\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@push.example>\nDescription: foreign\n"
    );
    fs::write(root.join("DEBIAN/control"), control)?;
    if let Some(prerm) = prerm {
        fs::write(root.join("DEBIAN/prerm"), prerm)?;
        fs::set_permissions(root.join("DEBIAN/prerm"), fs::Permissions::from_mode(0o755))?;
    }
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(root).arg(repo.directory().join("foreign.deb"));
    harness::run(build, "dpkg-deb", b"", Duration::from_mins(1))?.ok()?;
    repo.write("release.toml", "schema = 1\n[package.foreign]\ndeb = \"foreign.deb\"\n")?;
    repo.commit(version)?;
    repo.release(scenario.target(), version)
}

#[test]
fn what_a_foreign_script_keeps_in_place_says_which_one_and_what_to_do() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let repo = Repo::new(&scenario.path("foreign"))?;
    let one = release_foreign(&scenario, &repo, "1", Some("#!/bin/sh\necho the lock is gone\nexit 1\n"))?;
    scenario.install(&one, &server)?;
    let two = release_foreign(&scenario, &repo, "2", None)?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    let expected = format!(
        "cannot replace `{}`: its `prerm` returned error exit status 1, and the release in its place has none; correct \
         `/var/lib/dpkg/info/foreign.prerm` on the server, or push a release whose `prerm failed-upgrade` succeeds\n\
         dpkg's output ends with:\n  the lock is gone",
        one.stem()
    );
    assert_eq!(app.reason, Some(expected));
    assert_eq!(server.sh("dpkg --audit; dpkg-query --show --showformat='${db:Status-Abbrev}' foreign")?, "ii ");

    // Either remedy helps.
    let three = release_foreign(&scenario, &repo, "3", Some("#!/bin/sh\n"))?;
    scenario.install(&three, &server)?;
    let four = release_foreign(&scenario, &repo, "4", Some("#!/bin/sh\nexit 1\n"))?;
    scenario.install(&four, &server)?;
    let five = release_foreign(&scenario, &repo, "5", None)?;
    scenario.deploy(&five, &server)?;
    scenario.wait_for_app(&server, &five, AppState::Quarantined)?;
    server.sh("sed -i s/1/0/ /var/lib/dpkg/info/foreign.prerm && pulld retry foreign")?;
    scenario.wait_until_converged(&server, &five)
}
