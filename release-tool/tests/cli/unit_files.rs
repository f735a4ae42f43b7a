//! Unit files: what systemd would ignore, or fail to start, is found before a server has it.

use std::fs;

use crate::{
    outcome::Run as _,
    project::{HEAD, Project, stdout, tool},
};

/// What `build` and `check` both say, which fail.
fn said(project: &Project) -> String {
    let built = project.refused(&["build", "-m", "why"], 1);
    let output = project.release(&["check"]).assert().code(1).get_output().clone();
    let checked = stdout(&output);
    let cause = checked.trim_start_matches("error: [package.web]: ").trim();
    let last = cause.rsplit(": ").next().unwrap();
    assert!(built.contains(last), "build said: {built}\ncheck said: {checked}");
    checked
}

#[test]
fn a_unit_file_of_garbage_and_a_program_that_nobody_ships_are_refused() {
    let unit = "[[package.web.unit]]\nfile = \"web.service\"\n";
    let contents = "contents = [{ src = \"web\", dst = \"/opt/web/bin/web\" }]\n";
    let project = Project::new(&format!("{contents}{unit}"));
    for (text, expected) in [
        ("\u{7f}ELF garbage", "is neither a section, an assignment nor a comment"),
        ("[Service]\nExecStart=/opt/web/bin/web\n[Instal]\nWantedBy=x", "line 3: a service has no section `[Instal]`"),
        ("[Service]\nType=simple", "the file starts nothing"),
        ("[Service]\nExecStart=/opt/web/bin/wep", "runs `/opt/web/bin/wep`, which is not in the package"),
        ("[Service]\nExecStart=/opt/web/bin/web", "runs `/opt/web/bin/web`, which is not executable (mode 0644)"),
    ] {
        project.write("web.service", text);
        let said = said(&project);
        assert!(said.contains(expected), "{text}\nsaid: {said}");
    }
    fs::write(project.path("web.service"), b"[Service]\nExecStart=/x\n# \xff").unwrap();
    assert!(said(&project).contains("a unit file must be UTF-8"));

    // A drop-in needs only what systemd reads.
    let drop_in = "{ src = \"drop-in\", dst = \"/usr/lib/systemd/system/nginx.service.d/web.conf\" }";
    project.write("release.toml", &format!("{HEAD}contents = [{drop_in}]\n"));
    project.write("drop-in", "[Service]\nLimitNOFILE=4096\n");
    project.release(&["check"]).assert().success().stdout("");
    project.write("drop-in", "LimitNOFILE=4096\n");
    assert!(said(&project).contains("stands before any section"));
}

#[test]
fn what_systemd_itself_would_ignore_is_said() {
    let project = Project::new(
        "contents = [{ src = \"web\", dst = \"/usr/bin/web\", mode = \"0755\" }]\n[[package.web.unit]]\nfile = \"web.service\"\n",
    );
    project.write("web.service", "[Service]\nExecStart=/usr/bin/web\nRestrat=always\n");
    let found = stdout(project.release(&["check"]).assert().success().get_output());
    assert!(found.starts_with("warning: [package.web]: systemd says of `"), "{found}");
    assert!(found.contains("web.service`, line 3: Unknown key") && found.contains("'Restrat'"), "{found}");
}

#[test]
fn units_of_a_prebuilt_package_that_nobody_would_restart_are_named() {
    let project = Project::new("");
    let tree = project.beside("tree");
    for (path, text) in [
        (
            "DEBIAN/control",
            "Package: other\nVersion: 1\nArchitecture: all\nMaintainer: B <b@c.example>\nDescription: O\n",
        ),
        ("lib/systemd/system/other.service", "[Service]\nExecStart=/usr/bin/other\n"),
        ("lib/systemd/system/other-tidy.timer", "[Timer]\nOnCalendar=daily\n"),
        ("usr/bin/other", "#!/bin/sh\n"),
    ] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    let deb = project.path("other.deb");
    tool("dpkg-deb", &["--root-owner-group", "--build", tree.to_str().unwrap(), deb.to_str().unwrap()]);
    let manifest = |units: &str| format!("schema = 1\n[package.vendor]\ndeb = \"other.deb\"\n{units}");
    let listed = "[[package.vendor.unit]]\nname = \"other.service\"\n";
    project.write("release.toml", &manifest(listed));
    let found = stdout(project.release(&["check"]).assert().success().get_output());
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(found.contains("has the unit `other-tidy.timer`, which is not listed"), "{found}");
    project
        .write("release.toml", &manifest(&format!("{listed}[[package.vendor.unit]]\nname = \"other-tidy.timer\"\n")));
    project.release(&["check"]).assert().success().stdout("");
}
