//! Owners of files: made before dpkg unpacks, so that no script has anything to do for a file.

use std::{fs, path::Path};

use crate::{
    outcome::Run as _,
    project::{HEAD, Project, field, tool},
};

const TREE: &str = "contents = [{ src = \"tree/**\", dst = \"/usr/lib/web/\", owner = \"web\", group = \"web\" }]\n";
const USER: &str = "[[package.web.user]]\nname = \"web\"\n";

/// All scripts of a package.
fn scripts(deb: &Path) -> String {
    let tar = "dpkg-deb --ctrl-tarfile \"$1\" | tar --extract --to-stdout --wildcards './p*'";
    tool("sh", &["-c", tar, "sh", deb.to_str().unwrap()])
}

#[test]
fn scripts_do_not_grow_with_the_files_that_have_an_owner() {
    let of_files = |count: usize| {
        let project = Project::new(&format!("scripts = {{ postinst = \"true\" }}\n{TREE}{USER}"));
        for i in 0..count {
            project.write(&format!("tree/{}/{i}.py", i % 50), "x = 1\n");
        }
        project.commit();
        let deb = project.build();
        let listing = tool("dpkg-deb", &["--contents", deb.to_str().unwrap()]);
        assert_eq!(listing.lines().filter(|line| line.starts_with("-rw-r--r-- web/web ")).count(), count);
        assert_eq!(field(&deb, "Pre-Depends"), "passwd");
        project.release(&["check"]).assert().success().stdout("");
        project.release(&["check", deb.to_str().unwrap()]).assert().success().stdout("");
        scripts(&deb)
    };
    let few = of_files(3);
    assert!(few.contains("useradd --system") && few.len() < 2000, "{few}");
    assert_eq!(of_files(2253), few);
}

#[test]
fn an_owner_that_nothing_makes_is_an_error_of_build_and_check() {
    let project = Project::new(TREE);
    project.write("tree/a.py", "x = 1\n");
    for arguments in [&["build", "-m", "why"][..], &["check"]] {
        let said = project.refused(arguments, 1);
        assert!(said.contains("[package.web] contents[0]: `owner` is `web`, but nothing makes that user"), "{said}");
        assert!(said.contains("[[package.NAME.user]] with name = \"web\""), "{said}");
    }
    assert!(!project.path("dist").exists(), "nothing was built");
    let existing = "[[package.web.user]]\nname = \"web\"\nexisting = true\n";
    project.write("release.toml", &format!("{HEAD}pre_depends = [\"web-user\"]\n{TREE}{existing}"));
    let deb = project.build();
    assert_eq!(field(&deb, "Pre-Depends"), "web-user");
    assert!(!scripts(&deb).contains("useradd"));
}

#[test]
fn what_upload_would_refuse_is_not_built() {
    let large = "# A line of a script.\n".repeat(3_200_000);
    let project = Project::new(&format!("scripts = {{ postinst = \"\"\"{large}\"\"\" }}\n"));
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("control member is larger than 67108864 bytes"), "{said}");
    let left: Vec<_> = fs::read_dir(project.path("dist")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".deb")), "{left:?}");

    let units: String =
        (0..300).fold(String::new(), |units, i| units + &format!("[[package.web.unit]]\nname = \"u{i}.service\"\n"));
    let project = Project::new(&units);
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("it has more than"), "{said}");
}

#[test]
fn users_are_made_in_the_system_that_is_being_set_up() {
    let project = Project::new(&format!("{TREE}{USER}"));
    project.write("tree/a.py", "x = 1\n");
    project.commit();
    let deb = project.build();
    let root = project.beside("root");
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    for (file, text) in [("passwd", "root:x:0:0::/root:/bin/sh\n"), ("group", "root:x:0:\n")] {
        fs::write(root.join("etc").join(file), text).unwrap();
    }
    let install = ["--force-script-chrootless", "--force-depends", "-i", deb.to_str().unwrap()];
    tool("dpkg", &[&[&*format!("--root={}", root.display())], &install[..]].concat());
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let made = passwd.lines().find(|line| line.starts_with("web:")).unwrap_or_else(|| panic!("{passwd}"));
    assert!(made.ends_with(":/nonexistent:/usr/sbin/nologin"), "{made}");
    let group = fs::read_to_string(root.join("etc/group")).unwrap();
    assert!(group.lines().any(|line| line.starts_with("web:")), "{group}");
}
