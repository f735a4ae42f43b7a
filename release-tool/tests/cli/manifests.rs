//! `release.toml`: mistakes are found before anything is built, and the message says what to do.

use std::os::unix::fs::symlink;

use crate::project::{HEAD, Project};

/// What `release build` says about a file.
fn said(rest: &str) -> String {
    Project::new(rest).refused(&["build", "-m", "why"], 1)
}

#[test]
fn mistakes_are_named_with_their_place() {
    let table = [
        ("dependss = []", "[package.web]: unknown key `dependss`; did you mean `depends`?"),
        ("contents = [{ src = \"web\", dst = \"/usr/../etc/passwd\" }]", "[package.web] contents[0]: invalid `dst`"),
        ("contents = [{ src = \"web\", dst = \"usr/bin/web\" }]", "is not absolute"),
        ("contents = [{ src = \"wep\", dst = \"/usr/bin/web\" }]", "[package.web] contents[0]: cannot use `src`"),
        ("contents = [{ src = \"*.css\", dst = \"/srv/\" }]", "`*.css` matches no files"),
        ("contents = [{ src = \"etc/**\", dst = \"/srv\" }]", "end `dst` with a slash"),
        (
            "contents = [{ src = \"web\", dst = \"/a\" }, { link = \"/a\", to = \"b\" }]",
            "already defined by [package.web] contents[0]",
        ),
        ("contents = [{ src = \"web\", dst = \"/a\" }, { src = \"web\", dst = \"/a/b\" }]", "is not a directory"),
        ("[[package.web.unit]]\nfile = \"none.service\"", "unit `none.service`: cannot use `file`"),
        ("[[package.web.unit]]\nfile = \"web.service\"\nrestrat = \"never\"", "did you mean `restart`?"),
        ("scripts = { postinst = \"if true\" }", "script postinst is not valid shell"),
        ("deb = \"web\"", "has no effect on a prebuilt package"),
    ];
    for (rest, expected) in table {
        let said = said(rest);
        assert!(said.contains(expected), "{rest}\nsaid: {said}\nexpected: {expected}");
    }
}

#[test]
fn links_into_the_project_are_refused() {
    let project = Project::new("contents = [{ src = \"tree/**\", dst = \"/srv/\" }]\n");
    project.write("tree/a", "x");
    symlink(project.path("web").canonicalize().unwrap(), project.path("tree/link")).unwrap();
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("which does not exist on servers"), "{said}");
}

#[test]
fn a_missing_file_says_what_to_write() {
    let project = Project::bare();
    assert!(project.refused(&["-m", "why"], 1).contains("no `release.toml` in"));
    assert!(project.refused(&["-C", "nowhere", "check"], 1).contains("directory not found: `nowhere`"));
}

#[test]
fn whoever_makes_a_mistake_is_told_where_each_key_is_explained() {
    let project = Project::new("dependss = []");
    let said = project.refused(&["check"], 1);
    assert!(said.contains("`release reference` explains every key"), "{said}");
    let said = crate::project::stdout(
        crate::outcome::Run::assert(&mut project.release(&["reference"])).success().get_output(),
    );
    for key in ["exclude", "link", "deb", "name", "compression", "owner", "dir", "scripts", "depends"] {
        assert!(said.contains(&format!("\n| `{key}` | ")), "{key} is missing in\n{said}");
    }
    let schema = project.json(&["schema"]);
    assert_eq!(schema["properties"]["schema"]["type"], "integer");
    let help =
        crate::project::stdout(crate::outcome::Run::assert(&mut project.release(&["--help"])).success().get_output());
    assert!(help.contains("release reference"), "{help}");
}

#[test]
fn check_finds_what_builds_well_and_hurts_later() {
    let contents =
        "contents = [{ src = \"web\", dst = \"/bin/web\", mode = \"0777\" }, { src = \"elf\", dst = \"/usr/bin/elf\" }]
[[package.web.unit]]
file = \"web.service\"
[[package.web.unit]]
file = \"web.timer\"
";
    let project = Project::new(contents);
    project.write("web.timer", "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n");
    std::fs::write(project.path("elf"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0").unwrap();
    let mut command = project.release(&["check"]);
    let output = crate::outcome::Run::assert(&mut command).success().get_output().clone();
    let found = crate::project::stdout(&output);
    for expected in
        ["`/bin` is a link", "`/bin/web` is world-writable", "is compiled for amd64", "is started both by `web.timer`"]
    {
        assert!(found.contains(expected), "{expected} is missing in\n{found}");
    }
    project.write("release.toml", &format!("{HEAD}contents = [{{ src = \"gone\", dst = \"/x\" }}]"));
    let mut command = project.release(&["check"]);
    crate::outcome::Run::assert(&mut command).code(1);
}
