//! What comes out of the bucket may be anything; the machine is changed only by what was verified.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use bucket::{AppState, ReleaseMetadata, ReleaseName, SourceFile};
use harness::{
    Scenario, Version,
    gcs::{Fault, Kind},
};

use crate::{PORT, app::deploy_together, says, unpacked};

#[test]
fn a_corrupt_download_never_reaches_dpkg() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    // A flipped bit on the bucket's disk: same name, same size, same time.
    let object = scenario.object(&format!("debs/{two}"));
    let modified = fs::metadata(&object)?.modified()?;
    let mut bytes = fs::read(&object)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes)?;
    fs::File::options().write(true).open(&object)?.set_modified(modified)?;

    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Failed)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    assert!(app.reason.context("the report says why")?.contains("sha256"));
    assert_eq!(unpacked(&server, "web")?, 1, "dpkg saw only the first");
    says(&server, PORT, "web 1")
}

#[test]
fn a_download_that_comes_whole_and_wrong_leaves_nothing_to_go_on_with() -> Result<()> {
    let scenario = Scenario::over_gcs()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    scenario.install(&web.release(scenario.target(), &Version::new("1"))?, &server)?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    let object = format!("debs/{two}");
    scenario.fail_next(Kind::Get, &object, 1, Fault::WrongBytes);
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Failed)?;
    assert!(app.reason.context("the report says why")?.contains("corrupt"));
    assert_eq!(server.sh("find /var/lib/pulld/cache -name '*.part'")?, "", "it goes at once, not a cycle later");
    server.sh("pulld pull")?;
    scenario.wait_until_converged(&server, &two)?;
    let downloads: Vec<_> = scenario
        .requests()
        .into_iter()
        .filter(|request| request.kind == Kind::Get && request.object == object)
        .collect();
    assert_eq!(downloads.len(), 2, "{downloads:#?}");
    assert!(downloads.iter().all(|request| request.range.is_none()), "from its beginning: {downloads:#?}");
    says(&server, PORT, "web 2")
}

/// A package that its control archive calls `web` in one way of reading it, and `evil` in another.
fn two_faced(scenario: &Scenario, name: &str, release: &ReleaseName, archive: &str) -> Result<PathBuf> {
    let directory = scenario.path(name);
    for package in ["web", "evil"] {
        let place = directory.join(package);
        fs::create_dir_all(&place)?;
        let control = format!(
            "Package: {package}\nVersion: 2\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: x\n\
             Push-Release: {}\n",
            release.stem()
        );
        fs::write(place.join("control"), control)?;
    }
    let script = format!(
        "set -e; {archive}; tar -cf data.tar --files-from /dev/null; gzip data.tar; printf '2.0\\n' >debian-binary; \
         ar rcS made.deb debian-binary control.tar.gz data.tar.gz"
    );
    let output = Command::new("sh").arg("-c").arg(script).current_dir(&directory).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(directory.join("made.deb"))
}

#[test]
fn a_package_that_dpkg_may_read_otherwise_never_reaches_dpkg() -> Result<()> {
    let scenario = Scenario::new()?;
    let options = scenario.server_options("web-1")?;
    let server = options.file("/etc/pulld/pulld.d/60-allowed.toml", "allowed_apps = [\"web\"]\n").boot()?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let begun = "grep -c ' startup ' /var/log/dpkg.log";
    let before = server.sh(begun)?;
    let cases = [
        // Only the first part of the archive says `web`; dpkg reads on.
        (
            "parts",
            "two members `control`",
            "tar -b1 -C web -cf - ./control | head -c -1024 | gzip >control.tar.gz; \
             tar -b1 -C evil -cf - ./control | gzip >>control.tar.gz",
        ),
        // The file of that name says `web`; dpkg finds it replaced by a link to the other one.
        (
            "link",
            "neither a file nor a directory",
            "mkdir both; cp web/control both/control; tar -C both -cf control.tar ./control; cp evil/control both/real; \
             ln -sf real both/control; tar -C both -rf control.tar ./real ./control; gzip control.tar",
        ),
    ];
    for (minute, (name, why, archive)) in cases.into_iter().enumerate() {
        let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
        let release: ReleaseName = format!("web/web:qa@build:2099-11-20T21:0{minute}:00Z:{commit}.deb").parse()?;
        let deb = two_faced(&scenario, name, &release, archive)?;
        let dpkgs = Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Package").output()?;
        assert_eq!(String::from_utf8_lossy(&dpkgs.stdout), "evil\n", "{name}: what dpkg reads");
        let deb = SourceFile::read(&deb)?;
        let metadata = ReleaseMetadata {
            dirty: false,
            note: "hand-made".to_owned(),
            services: vec![],
            sha256: deb.sha256.clone(),
            size: deb.size,
            package: "web".parse()?,
            version: "2".to_owned(),
            architecture: "all".parse()?,
            repo: String::new(),
            branch: String::new(),
            made_by: None,
        };
        scenario.upload(&release, &deb, &metadata)?;
        scenario.deploy(&release, &server)?;
        let app = scenario.wait_for_app(&server, &release, AppState::Failed)?;
        let reason = app.reason.context("the report says why")?;
        assert_eq!(app.installed.as_ref(), Some(&one), "{name}: {reason}");
        assert!(reason.contains(why), "{name}: {reason}");
        assert_eq!(server.sh("dpkg-query -W -f '${Package}' evil 2>/dev/null || echo none")?, "none", "{name}");
        assert_eq!(server.sh(begun)?, before, "{name}: dpkg was not run");
    }
    says(&server, PORT, "web 1")
}

#[test]
fn a_malformed_document_changes_nothing() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let good = fs::read_to_string(scenario.object("server/web-1.json"))?;
    for malformed in ["", "{}", "null", "[\"web", "\u{feff}[]", "[] []"] {
        fs::write(scenario.object("server/web-1.json"), malformed)?;
        scenario.wait_for_status(&server, &format!("the document {malformed:?} is reported"), |status| {
            status.document.error.clone()
        })?;
        says(&server, PORT, "web 1")?;
        fs::write(scenario.object("server/web-1.json"), &good)?;
        scenario.wait_for_status(&server, "the good document is read again", |status| {
            status.document.error.is_none().then_some(())
        })?;
    }
    assert_eq!(unpacked(&server, "web")?, 1);
    assert_eq!(server.sh("systemctl show --value -p NRestarts pulld")?, "0", "the agent never ended over it");
    scenario.wait_until_settled(&server)
}

#[test]
fn a_bad_entry_is_reported_and_the_others_go_on() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    let document = format!("[\"../../etc/passwd\", 7, \"api\", \"{one}\"]");
    fs::create_dir_all(scenario.object("server"))?;
    fs::write(scenario.object("server/web-1.json"), document)?;
    scenario.wait_until_converged(&server, &one)?;
    let bad = scenario.wait_for_status(&server, "the bad entries are reported", |status| {
        (!status.document.bad_entries.is_empty()).then(|| status.document.bad_entries.clone())
    })?;
    assert_eq!(bad.len(), 2, "{bad:?}");
    says(&server, PORT, "web 1")
}

#[test]
fn a_full_disk_stops_the_release_and_not_the_service() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.fill_disk()?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.deploy(&two, &server)?;
    scenario.wait_for_app(&server, &two, AppState::Failed)?;
    says(&server, PORT, "web 1")?;
    assert_eq!(unpacked(&server, "web")?, 1, "dpkg was spared the full disk");
    server.free_disk()?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")
}

#[test]
fn a_read_only_file_system_is_no_fault_of_the_release() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.sh("mount --bind /usr /usr && mount -o remount,bind,ro /usr")?;
    // Should it get that far, /usr becomes read-only once more while dpkg is at work.
    let again = "if mkdir /run/again; then mount -o remount,bind,ro /usr; fi\n";
    let two = web.release(scenario.target(), &Version::new("2").preinst(again))?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Failed)?;
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("`/usr` is a read-only file system"), "{reason}");
    assert_eq!(unpacked(&server, "web")?, 1, "dpkg was not run");
    assert_eq!(server.sh("dpkg --audit")?, "");
    says(&server, PORT, "web 1")?;

    server.sh("mount -o remount,bind,rw /usr")?;
    server.run("pulld pull")?;
    let app = scenario.wait_for_app(&server, &two, AppState::Failed)?;
    assert!(app.drift.iter().any(|line| line.contains("dpkg says that `web` is broken")), "{app:?}");
    assert!(app.reason.clone().context("the report says why")?.contains("Read-only file system"), "{app:?}");

    server.sh("mount -o remount,bind,rw /usr")?;
    server.sh("pulld pull")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    assert_eq!(server.sh("dpkg --audit")?, "");
    Ok(())
}

#[test]
fn an_app_on_a_read_only_file_system_does_not_keep_the_others_out() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let (web, db) = (scenario.service("web", PORT)?, scenario.service("db", PORT + 1)?);
    for service in [&web, &db] {
        scenario.install(&service.release(scenario.target(), &Version::new("1"))?, &server)?;
    }
    server.sh("mount --bind /usr/lib/web /usr/lib/web && mount -o remount,bind,ro /usr/lib/web")?;
    let web = web.release(scenario.target(), &Version::new("2"))?;
    let db = db.release(scenario.target(), &Version::new("2"))?;
    deploy_together(&scenario, &server, &[web.clone(), db.clone()])?;
    scenario.wait_for_app(&server, &db, AppState::Converged)?;
    let app = scenario.wait_for_app(&server, &web, AppState::Failed)?;
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("`/usr/lib/web` is a read-only file system"), "{reason}");
    says(&server, PORT + 1, "db 2")?;
    says(&server, PORT, "web 1")?;
    assert_eq!(server.sh("dpkg --audit")?, "");
    server.sh("mount -o remount,bind,rw /usr/lib/web && pulld pull")?;
    scenario.wait_until_converged(&server, &web)
}

#[test]
fn what_a_rollback_left_broken_is_repaired_by_itself_though_the_release_is_quarantined() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.sh("mount --bind /usr /usr")?;
    let fails = "mount -o remount,bind,ro /usr\nexit 1\n";
    let two = web.release(scenario.target(), &Version::new("2").postinst(fails))?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Degraded)?;
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("rollback failed") && reason.contains("read-only file system"), "{reason}");
    assert_ne!(server.sh("dpkg-query -W -f '${db:Status-Abbrev}' web")?, "ii ");

    server.sh("mount -o remount,bind,rw /usr")?;
    let app = scenario.wait_for_app(&server, &two, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    assert_eq!(server.sh("dpkg-query -W -f '${db:Status-Abbrev}' web; dpkg --audit")?, "ii ");
    says(&server, PORT, "web 1")
}

#[test]
fn a_rollback_that_a_read_only_file_system_kept_from_beginning_is_tried_again_by_itself() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.sh("mount --bind /usr /usr")?;
    // dpkg is content with it; it is the check that isn't.
    let two = Version::new("2").postinst("mount -o remount,bind,ro /usr\n").check("exit 1\n");
    let two = web.release(scenario.target(), &two)?;
    scenario.deploy(&two, &server)?;
    let app = scenario.wait_for_app(&server, &two, AppState::Degraded)?;
    assert_eq!(app.installed.as_ref(), Some(&two));
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains("rollback failed: dpkg was not run: `/usr` is a read-only file system"), "{reason}");
    assert_eq!(server.sh("dpkg-query -W -f '${db:Status-Abbrev}' web; dpkg --audit")?, "ii ");
    let plan = server.run("pulld plan")?.stdout;
    assert!(plan.contains(&format!("install {} in place of {}", one.stem(), two.stem())), "{plan}");

    server.sh("mount -o remount,bind,rw /usr")?;
    let app = scenario.wait_for_app(&server, &two, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&one));
    says(&server, PORT, "web 1")
}
