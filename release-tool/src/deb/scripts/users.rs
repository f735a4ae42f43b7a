//! What a package does for the owners of its files.
//!
//! dpkg gives each file to the user that its tar names, if there is such a user when it unpacks. So users are made in
//! preinst, and nothing is left to do for any file. They are made with useradd(8), of a package that every Debian has:
//! systemd-sysusers(8) is missing in containers, and would have to be told the lines anyway, as the package's own file
//! is unpacked later. What was made stays when the package is purged, as files of that user may (Debian Policy §9.2.2).

use std::fmt::Write as _;

use super::quote;
use crate::manifest::{Content, Id, MadeUser, Recipe, User};

/// Whether a name is known to the server, or to the system that is being set up in a directory.
const KNOWN: &str = r#"
known() {
    if [ -n "${DPKG_ROOT:-}" ]; then
        cut -d: -f1 "$DPKG_ROOT/etc/$1" | grep -qxF -- "$2"
    else
        getent "$1" "$2" >/dev/null
    fi
}
"#;

/// The lines of preinst that make users, and look for those that others make.
pub(super) fn make_users(users: &[User]) -> String {
    let mut body = String::new();
    for user in users {
        match user {
            User::Made(user) => make_user(user, &mut body),
            User::Existing { name, as_user, as_group } => {
                for (kind, database) in [(as_user, "passwd"), (as_group, "group")] {
                    if *kind {
                        expect(name, database, &mut body);
                    }
                }
            }
        }
    }
    if body.is_empty() {
        return body;
    }
    format!(
        "{KNOWN}\n# Before files are unpacked: dpkg gives them to users that are there by then.\n\
         if [ \"$1\" = install ] || [ \"$1\" = upgrade ]; then\n{body}fi\n"
    )
}

fn make_user(user: &MadeUser, body: &mut String) {
    const PREFIX: &str = "${DPKG_ROOT:+--prefix \"$DPKG_ROOT\"}";
    let name = quote(&user.name);
    for group in std::iter::once(&user.group).chain(&user.groups) {
        let gid = user.uid.filter(|_| *group == user.name).map(|uid| format!(" --gid {uid}")).unwrap_or_default();
        let group = quote(group);
        let _ = writeln!(body, "    known group {group} || groupadd --system{gid} {PREFIX} {group}");
    }
    let uid = user.uid.map(|uid| format!(" --uid {uid}")).unwrap_or_default();
    let _ = writeln!(
        body,
        "    known passwd {name} || useradd --system{uid} --gid {} --home-dir {} --no-create-home --shell {} \
         --comment {} {PREFIX} {name}",
        quote(&user.group),
        quote(&user.home),
        quote(&user.shell),
        quote(&user.description),
    );
    if !user.groups.is_empty() {
        let _ = writeln!(body, "    usermod --append --groups {} {PREFIX} {name}", quote(&user.groups.join(",")));
    }
}

fn expect(name: &str, database: &str, body: &mut String) {
    let kind = if database == "passwd" { "user" } else { "group" };
    let _ = writeln!(
        body,
        "    if ! known {database} {}; then\n        \
         echo \"$DPKG_MAINTSCRIPT_PACKAGE: the {kind} {name} does not exist: install the package that makes it, \
         which belongs into pre_depends of release.toml\" >&2\n        exit 1\n    fi",
        quote(name)
    );
}

/// dpkg leaves a directory as it is that was there before, so that one from before its owner would stay root's.
pub(super) fn take_over_directories(recipe: &Recipe) -> String {
    let mut body = String::new();
    for content in &recipe.contents {
        let Content::Directory { directory, mode, owner, .. } = content else { continue };
        let settled = |id: &Id| matches!(id, Id::Number(_)) || *id == Id::Name("root".to_owned());
        if settled(&owner.user) && settled(&owner.group) {
            continue;
        }
        let path = quote(&format!("/{}", directory.path));
        let _ = write!(
            body,
            "    if [ \"$(stat -c %u:%g {path})\" = 0:0 ] && ! dpkg-statoverride --list {path} >/dev/null; then\n        \
             chown {}:{} {path}\n        chmod {mode:04o} {path}\n    fi\n",
            owner.user, owner.group
        );
    }
    if body.is_empty() {
        return body;
    }
    format!(
        "\n# Made by an earlier version of this package, for root: dpkg leaves directories that exist as they are.\n\
         if [ \"$1\" = configure ] && [ -z \"${{DPKG_ROOT:-}}\" ]; then\n{body}fi\n"
    )
}

#[cfg(test)]
mod tests {
    use crate::{deb::scripts::scripts, manifest::test_recipe, tree::Tree};

    #[test]
    fn users_are_made_before_files_are_unpacked_and_only_where_they_are_missing() {
        let recipe = test_recipe(
            "[[package.web.user]]\nname = \"web\"\nuid = 900\ngroups = [\"adm\", \"certs\"]\ndescription = \"It's web\"\n\
             home = \"/srv/web\"\nshell = \"/bin/sh\"\n",
        );
        let all = scripts(&[], &recipe, &Tree::default());
        let (_, preinst) = all.iter().find(|(name, _)| *name == "preinst").unwrap();
        let made = run(preinst, &["install"], "adm");
        let expected = [
            "groupadd --system --gid 900 web",
            "groupadd --system certs",
            "useradd --system --uid 900 --gid web --home-dir /srv/web --no-create-home --shell /bin/sh --comment It's web web",
            "usermod --append --groups adm,certs web",
        ];
        assert_eq!(made, expected);
        assert_eq!(run(preinst, &["upgrade", "1"], ""), [expected[3]]);
        assert_eq!(run(preinst, &["abort-upgrade", "1"], "adm"), [""; 0]);
    }

    #[test]
    fn a_user_that_another_package_makes_is_waited_for_in_vain() {
        let recipe = test_recipe("[[package.web.user]]\nname = \"postgres\"\nexisting = true\n");
        let all = scripts(&[], &recipe, &Tree::default());
        let (_, preinst) = all.iter().find(|(name, _)| *name == "preinst").unwrap();
        assert_eq!(run(preinst, &["install"], ""), [""; 0]);
        assert_eq!(run(preinst, &["install"], "adm"), ["failed"]);
    }

    /// Runs preinst where only the name `known` is known, or every name if that is empty; what it called.
    fn run(script: &str, arguments: &[&str], known: &str) -> Vec<String> {
        let fakes = "groupadd() { echo groupadd $*; }; useradd() { echo useradd $*; }; usermod() { echo usermod $*; }\n\
                     getent() { [ -z \"$KNOWN\" ] || [ \"$2\" = \"$KNOWN\" ]; }\n";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{fakes}{script}"), "script"]).args(arguments);
        shell.env_remove("DPKG_ROOT").env("KNOWN", known).env("DPKG_MAINTSCRIPT_PACKAGE", "web");
        let output = shell.output().unwrap();
        let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        if !output.status.success() {
            assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"), "{script}");
            lines.push("failed".to_owned());
        }
        lines
    }
}
