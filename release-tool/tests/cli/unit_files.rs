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

/// Somebody else's package `other.deb` in the project, with these files.
fn vendor(project: &Project, files: &[(&str, &str)]) {
    let tree = project.beside("tree");
    let control = "Package: other\nVersion: 1\nArchitecture: all\nMaintainer: B <b@c.example>\nDescription: O\n";
    for (path, text) in [("DEBIAN/control", control)].iter().chain(files) {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    let deb = project.path("other.deb");
    tool("dpkg-deb", &["--root-owner-group", "--build", tree.to_str().unwrap(), deb.to_str().unwrap()]);
}

#[test]
fn a_unit_file_of_garbage_in_a_prebuilt_package_is_said_and_is_an_error_of_a_release_that_owns_it() {
    let project = Project::new("");
    let large = format!("[Service]\nExecStart=/usr/bin/x\n#{}\n", "x".repeat(1 << 20));
    vendor(
        &project,
        &[
            ("lib/systemd/system/other.service", "\u{7f}ELF garbage"),
            ("lib/systemd/system/idle.service", "[Service]\nType=simple\n"),
            ("lib/systemd/system/large.service", &large),
            ("lib/systemd/system/good.service", "[Service]\nExecStart=/usr/bin/x\n"),
            ("etc/systemd/system/nginx.service.d/other.conf", "LimitNOFILE=4096\n"),
        ],
    );
    let unit = |name: &str| format!("[[package.other.unit]]\nname = \"{name}.service\"\n");
    let units: String = ["other", "idle", "large", "good"].map(unit).concat();
    let texts = [
        ("/etc/systemd/system/nginx.service.d/other.conf` is invalid: line 1: ", "stands before any section", false),
        ("/lib/systemd/system/idle.service` is invalid: the file starts nothing", "", true),
        ("/lib/systemd/system/large.service` is invalid: it has more than 1048576 bytes", "", true),
        ("/lib/systemd/system/other.service` is invalid: line 1: ", "neither a section, an assignment", true),
    ];
    project.write("release.toml", &format!("schema = 1\n[package.other]\ndeb = \"other.deb\"\n{units}"));
    let found = stdout(project.release(&["check"]).assert().success().get_output());
    let deb = stdout(project.release(&["build", "-m", "why"]).assert().success().get_output());
    let released = stdout(project.release(&["check", deb.trim()]).assert().code(1).get_output());
    for (path, wrong, is_owned) in texts {
        let line = |level: &str, found: &str| {
            found.lines().any(|line| {
                line.starts_with(&format!("{level}: "))
                    && line.contains(&format!("the unit file `{path}"))
                    && line.contains(wrong)
            })
        };
        assert!(line("warning", &found), "{path}\n{found}");
        assert!(line(if is_owned { "error" } else { "warning" }, &released), "{path}\n{released}");
    }
    assert_eq!((found.lines().count(), released.lines().count()), (4, 4), "{found}\n{released}");
}

#[test]
fn a_program_that_nothing_seems_to_bring_is_a_warning_with_its_remedy() {
    let contents = "contents = [{ src = \"web\", dst = \"/usr/bin/web\", mode = \"0755\" }]\n";
    let unit = "[[package.web.unit]]\nfile = \"web.service\"\n";
    let project = Project::new(&format!("{contents}{unit}"));
    let checked = || stdout(project.release(&["check"]).assert().success().get_output());
    for (program, expected) in [
        ("/usr/bin/wbe", "which is not in the package; did you mean `/usr/bin/web`?\n"),
        ("/usr/bin/python3", "which is not in the package; if another package brings it, add that to `depends`\n"),
    ] {
        project.write("web.service", &format!("[Service]\nExecStart={program}\nExecReload=/bin/kill -HUP $MAINPID\n"));
        let found = checked();
        let named = found.lines().find(|line| line.starts_with("warning: ") && line.contains("ExecStart="));
        assert!(named.is_some_and(|line| format!("{line}\n").ends_with(expected)), "{found}");
    }
    project.write("release.toml", &format!("{HEAD}depends = [\"python3\"]\n{contents}{unit}"));
    assert!(!checked().contains("not in the package"), "{}", checked());
}

#[test]
fn units_of_a_prebuilt_package_that_nobody_would_restart_are_named() {
    let project = Project::new("");
    vendor(
        &project,
        &[
            ("lib/systemd/system/other.service", "[Service]\nExecStart=/usr/bin/other\n"),
            ("lib/systemd/system/other-tidy.timer", "[Timer]\nOnCalendar=daily\n"),
            ("usr/bin/other", "#!/bin/sh\n"),
        ],
    );
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
