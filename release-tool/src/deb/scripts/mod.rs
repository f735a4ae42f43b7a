//! Maintainer scripts (Debian Policy §6): what a package does on a server besides putting files there.
//!
//! Units are enabled, started and removed through `deb-systemd-helper` and `deb-systemd-invoke`, so that a person's
//! `systemctl disable` and `policy-rc.d` are respected. When pulld installs (it sets `PUSH_TRANSACTION`), starting,
//! restarting and `daemon-reload` are left to it: it does them once for all packages, and watches what happens.
//!
//! Every package has a prerm and a postrm, whatever its units: when one of the installed package fails on an upgrade, dpkg
//! tries that of the new one (`failed-upgrade`, Debian Policy §6.5), and a package without it can never replace that one.
//!
//! On an upgrade, prerm does nothing at all: a unit runs until its restart. So a package whose unit says
//! `restart = "never"`, as the agent's own does, is never stopped or restarted by its own scripts.

mod users;

use std::fmt::Write as _;

use bucket::UnitName;

use crate::{
    manifest::{Recipe, Restart},
    tree::{Entry, Kind, Tree},
};

/// A unit of which everything is known that scripts and control fields need.
#[derive(Debug, Clone)]
pub(crate) struct PlannedUnit {
    /// As in `web.service`.
    pub(crate) name: UnitName,
    /// Whether this package brings its file.
    pub(crate) ours: bool,
    /// Whether the scripts enable it.
    pub(crate) enable: bool,
    /// Whether the scripts, or pulld in their place, start it.
    pub(crate) start: bool,
    /// What happens to it on an upgrade.
    pub(crate) restart: Restart,
}

/// When systemd has to read its unit files again, because the package brings or takes some: units, or drop-ins for those of
/// others, which would have no effect before.
#[derive(Debug, Clone, Copy)]
struct Reloads {
    /// After it was installed, upgraded or removed.
    changed: bool,
    /// After it was purged too: conffiles stay until then.
    purged: bool,
}

impl Reloads {
    fn of(units: &[PlannedUnit], tree: &Tree) -> Self {
        let below = |directory: &str| {
            let is_file = |(path, entry): (&str, &Entry)| entry.kind != Kind::Directory && path.starts_with(directory);
            tree.iter().any(is_file)
        };
        let purged = below("etc/systemd/system/");
        let ours = units.iter().any(|unit| unit.ours);
        Self { changed: ours || purged || below("usr/lib/systemd/system/") || below("lib/systemd/system/"), purged }
    }
}

/// The scripts that a package needs, by name, in the order in which they are packed.
pub(crate) fn scripts(units: &[PlannedUnit], recipe: &Recipe, tree: &Tree) -> Vec<(&'static str, String)> {
    let lines = &recipe.scripts;
    let reloads = Reloads::of(units, tree);
    let all = [
        ("postinst", with_lines(&lines.postinst, &(users::take_over_directories(recipe) + &postinst(units, reloads)))),
        (
            "postrm",
            Some(
                in_place_of_failed(&lines.postrm)
                    + &with_lines(&lines.postrm, &postrm(units, reloads)).unwrap_or_default(),
            ),
        ),
        ("preinst", with_lines(&lines.preinst, &users::make_users(&recipe.users))),
        (
            "prerm",
            Some(in_place_of_failed(&lines.prerm) + &with_lines(&lines.prerm, &prerm(units)).unwrap_or_default()),
        ),
    ];
    all.into_iter().filter_map(|(name, body)| Some((name, format!("#!/bin/sh\nset -e\n{}", body?)))).collect()
}

/// The end of a script that dpkg tries in place of the installed package's, unless the person's lines are about that.
fn in_place_of_failed(lines: &[String]) -> String {
    if lines.iter().any(|line| line.contains("failed-upgrade")) {
        return String::new();
    }
    "\n# This script of the installed package failed: that is no reason to keep that package.\n\
     if [ \"$1\" = failed-upgrade ]; then\n    exit 0\nfi\n"
        .to_owned()
}

/// The person's lines first: ours may need what they do.
fn with_lines(lines: &[String], ours: &str) -> Option<String> {
    let mut body = String::new();
    if !lines.is_empty() {
        let _ = write!(body, "\n# From release.toml.\n{}\n", lines.join("\n"));
    }
    body.push_str(ours);
    (!body.is_empty()).then_some(body)
}

fn postinst(units: &[PlannedUnit], reloads: Reloads) -> String {
    let mut body = String::new();
    if let Some(unit) = units.iter().find(|unit| unit.ours && unit.start) {
        let _ = write!(
            body,
            "    upgraded_from=${{2:-}}\n    \
             # Masked by its own postrm: removed, and now installed again. That is a first install too.\n    \
             if [ -z \"${{DPKG_ROOT:-}}\" ] && [ \"$(systemctl is-enabled {} 2>/dev/null || true)\" = masked ]; then\n        \
             upgraded_from=\n    \
             fi\n",
            quote(unit.name.template().as_ref().unwrap_or(&unit.name).as_str())
        );
    } else if units.iter().any(|unit| unit.start) {
        body.push_str("    upgraded_from=${2:-}\n");
    }
    for unit in units.iter().filter(|unit| unit.ours) {
        let name = quote(unit.name.as_str());
        if unit.name.template().is_some() {
            if unit.enable {
                body.push_str(&enable_instance(&name));
            }
            continue;
        }
        let _ = write!(body, "    # Undoes only the mask that postrm sets when the package is removed.\n    ");
        let _ = writeln!(body, "deb-systemd-helper unmask {name} >/dev/null || true");
        if unit.enable {
            let _ = write!(
                body,
                "    # True on the first install too; false after an administrator's `systemctl disable`.\n    \
                 if deb-systemd-helper --quiet was-enabled {name}; then\n        \
                 deb-systemd-helper enable {name} >/dev/null || true\n    \
                 else\n        \
                 deb-systemd-helper update-state {name} >/dev/null || true\n    \
                 fi\n"
            );
        } else {
            let _ = writeln!(body, "    deb-systemd-helper update-state {name} >/dev/null || true");
        }
    }
    let acting = act(units, reloads);
    if !acting.is_empty() {
        body.push_str("    # Under pulld, starting and restarting is pulld's.\n");
        body.push_str("    if [ -z \"${DPKG_ROOT:-}${PUSH_TRANSACTION:-}\" ] && [ -d /run/systemd/system ]; then\n");
        body.push_str(&acting);
        body.push_str("    fi\n");
    }
    if body.is_empty() {
        return body;
    }
    format!("\ncase \"$1\" in\nconfigure | abort-upgrade | abort-deconfigure | abort-remove)\n{body}    ;;\nesac\n")
}

/// Enables an instance of a template, of which deb-systemd-helper would read the unit file and finds none. From the list
/// of its links it knows the rest: whether an administrator disabled it since, and what a purge removes.
fn enable_instance(name: &str) -> String {
    format!(
        "    # True on the first install too; false after an administrator's `systemctl disable`.\n    \
         if deb-systemd-helper --quiet was-enabled {name} && command -v systemctl >/dev/null; then\n        \
         systemctl --quiet --root=\"${{DPKG_ROOT:-/}}\" enable {name} || true\n        \
         links=\"${{DPKG_ROOT:-}}/var/lib/systemd/deb-systemd-helper-enabled\"\n        \
         mkdir -p \"$links\"\n        \
         for link in \"${{DPKG_ROOT:-}}\"/etc/systemd/system/*/{name}; do\n            \
         if [ -L \"$link\" ]; then echo \"${{link#\"${{DPKG_ROOT:-}}\"}}\"; fi\n        \
         done | tee \"$links/\"{name}.dsh-also >/dev/null\n    \
         fi\n"
    )
}

/// Starts, restarts and reloads, as far as `$upgraded_from` asks for it.
fn act(units: &[PlannedUnit], reloads: Reloads) -> String {
    let mut body = String::new();
    if reloads.changed {
        body.push_str("        systemctl --system daemon-reload >/dev/null || true\n");
    }
    let first: Vec<&PlannedUnit> = units.iter().filter(|unit| unit.start && unit.ours).collect();
    let restarted: Vec<_> = units.iter().filter(|unit| unit.start && unit.restart == Restart::OnUpgrade).collect();
    let reloaded: Vec<_> = units.iter().filter(|unit| unit.start && unit.restart == Restart::Reload).collect();
    // What another package runs already has to see what came with this one, on the first install too.
    let on_first = [("start", first), ("restart", others(&restarted)), ("try-reload-or-restart", others(&reloaded))];
    let on_upgrade = [("restart", restarted), ("try-reload-or-restart", reloaded)];
    let (on_first, on_upgrade) = (invoke(&on_first), invoke(&on_upgrade));
    let acting = match (on_first.is_empty(), on_upgrade.is_empty()) {
        (true, true) => return body,
        (false, true) => format!("if [ -z \"$upgraded_from\" ]; then\n{on_first}"),
        (true, false) => format!("if [ -n \"$upgraded_from\" ]; then\n{on_upgrade}"),
        (false, false) => format!("if [ -z \"$upgraded_from\" ]; then\n{on_first}        else\n{on_upgrade}"),
    };
    body + "        " + &acting + "        fi\n"
}

fn others<'a>(units: &[&'a PlannedUnit]) -> Vec<&'a PlannedUnit> {
    units.iter().copied().filter(|unit| !unit.ours).collect()
}

/// One line for each action that has units. A unit that fails doesn't fail the package: its state is there to see.
fn invoke(actions: &[(&str, Vec<&PlannedUnit>)]) -> String {
    actions.iter().filter(|(_, units)| !units.is_empty()).fold(String::new(), |mut text, (action, units)| {
        let names: Vec<String> = units.iter().map(|unit| quote(unit.name.as_str())).collect();
        let _ = writeln!(text, "            deb-systemd-invoke {action} {} >/dev/null || true", names.join(" "));
        text
    })
}

fn prerm(units: &[PlannedUnit]) -> String {
    let ours = || units.iter().filter(|unit| unit.ours);
    // Also what we never start: a timer or a person may have.
    let named: Vec<String> =
        ours().filter(|unit| !unit.name.is_template()).map(|unit| quote(unit.name.as_str())).collect();
    // And the instances that somebody else started.
    let templates = ours().filter(|unit| unit.name.is_template());
    let patterns: Vec<String> =
        templates.map(|unit| quote(&format!("{}*.{}", unit.name.stem(), unit.name.kind()))).collect();
    let mut stops = String::new();
    for (program, units) in [("deb-systemd-invoke", named), ("systemctl", patterns)] {
        if !units.is_empty() {
            let _ = writeln!(stops, "    {program} stop {} >/dev/null || true", units.join(" "));
        }
    }
    if stops.is_empty() {
        return stops;
    }
    format!(
        "\n# Only on removal: on an upgrade everything runs on until its restart.\n\
         if [ \"$1\" = remove ] && [ -z \"${{DPKG_ROOT:-}}\" ] && [ -d /run/systemd/system ]; then\n{stops}fi\n"
    )
}

fn postrm(units: &[PlannedUnit], reloads: Reloads) -> String {
    let mut body = String::new();
    if units.iter().any(|unit| unit.ours) {
        // A mask of the template is one of its instances.
        let each = |command: &str| {
            let ours = units.iter().filter(|unit| unit.ours && (command == "purge" || unit.name.template().is_none()));
            ours.fold(String::new(), |mut text, unit| {
                let name = quote(unit.name.as_str());
                let _ = writeln!(text, "        deb-systemd-helper {command} {name} >/dev/null || true");
                text
            })
        };
        let mut purge = each("purge");
        purge.push_str(&each("unmask"));
        let _ = write!(
            body,
            "\nif command -v deb-systemd-helper >/dev/null; then\n    case \"$1\" in\n    remove)\n        \
             # Nothing starts it while only its conffiles are left.\n{}        ;;\n    purge)\n{purge}        ;;\n    esac\nfi\n",
            each("mask")
        );
    }
    if reloads.changed {
        let when =
            if reloads.purged { "{ [ \"$1\" = remove ] || [ \"$1\" = purge ]; }" } else { "[ \"$1\" = remove ]" };
        let lead = if body.is_empty() { "\n" } else { "" };
        let _ = write!(
            body,
            "{lead}if {when} && [ -z \"${{DPKG_ROOT:-}}${{PUSH_TRANSACTION:-}}\" ] && [ -d /run/systemd/system ]; then\n    \
             systemctl --system daemon-reload >/dev/null || true\nfi\n"
        );
    }
    body
}

/// A word of a shell command.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::test_recipe;

    fn unit(name: &str, restart: Restart) -> PlannedUnit {
        PlannedUnit { name: name.parse().unwrap(), ours: true, enable: true, start: true, restart }
    }

    fn script(name: &str, units: &[PlannedUnit]) -> Option<String> {
        let all = scripts(units, &test_recipe(""), &Tree::default());
        all.into_iter().find(|(script, _)| *script == name).map(|(_, text)| text)
    }

    #[test]
    fn after_a_removal_the_next_install_is_a_first_one() {
        let postinst = script("postinst", &[unit("pulld.service", Restart::Never)]).unwrap();
        let again = run_with(&postinst, &["configure", "1.0"], &[("STATE", "masked")]);
        assert_eq!(again.last().unwrap(), "invoke start pulld.service");
    }

    fn run(script: &str, arguments: &[&str], transaction: bool) -> Vec<String> {
        run_with(script, arguments, if transaction { &[("PUSH_TRANSACTION", "1")] } else { &[] })
    }

    /// Runs a script with every command it calls replaced by `echo` of itself.
    fn run_with(script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        let mut shell = std::process::Command::new("sh");
        let fakes = "mkdir() { :; }; tee() { :; }\n\
                     deb-systemd-helper() { echo \"helper $*\" >&3; }\n\
                     deb-systemd-invoke() { echo \"invoke $*\" >&3; }\n\
                     systemctl() { if [ $1 = is-enabled ]; then echo \"${STATE:-}\"; else echo \"systemctl $*\" >&3; fi; }\n";
        // Functions can't have a dash in sh; the scripts' names get an underscore for this.
        let text = format!("exec 3>&1\n{fakes}{script}")
            .replace("deb-systemd-", "deb_systemd_")
            .replace("-d /run/systemd/system", "-n x");
        shell.args(["-c", &text, "script"]).args(arguments).env_remove("PUSH_TRANSACTION").env_remove("DPKG_ROOT");
        shell.envs(environment.iter().copied());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{script}\n{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_unit_that_is_never_restarted_is_started_on_the_first_install_only() {
        let units = [unit("pulld.service", Restart::Never)];
        let (postinst, prerm) = (script("postinst", &units).unwrap(), script("prerm", &units).unwrap());
        let enabling =
            ["helper unmask pulld.service", "helper --quiet was-enabled pulld.service", "helper enable pulld.service"];
        let first = run(&postinst, &["configure"], false);
        assert_eq!(first[..3], enabling);
        assert_eq!(first[3..], ["systemctl --system daemon-reload", "invoke start pulld.service"]);
        let upgrade = run(&postinst, &["configure", "1.0"], false);
        assert_eq!(upgrade[3..], ["systemctl --system daemon-reload"]);
        assert_eq!(run(&postinst, &["configure", "1.0"], true), enabling);
        assert_eq!(run(&prerm, &["upgrade", "2.0"], false), [""; 0]);
        assert_eq!(run(&prerm, &["remove"], false), ["invoke stop pulld.service"]);
    }

    #[test]
    fn under_the_agent_nothing_is_started() {
        let units = [unit("web.service", Restart::OnUpgrade), unit("x.service", Restart::Reload)];
        let postinst = script("postinst", &units).unwrap();
        assert!(run(&postinst, &["configure"], true).iter().all(|line| line.starts_with("helper ")));
        assert!(run(&postinst, &["configure", "1"], true).iter().all(|line| line.starts_with("helper ")));
        let by_hand = run(&postinst, &["configure", "1"], false);
        assert_eq!(by_hand[7..], ["invoke restart web.service", "invoke try-reload-or-restart x.service"]);
        let by_hand = run(&postinst, &["configure"], false);
        assert_eq!(by_hand[7..], ["invoke start web.service x.service"]);
    }

    #[test]
    fn removal_masks_and_purge_forgets() {
        let postrm = script("postrm", &[unit("web.service", Restart::OnUpgrade)]).unwrap();
        assert_eq!(run(&postrm, &["remove"], false), ["helper mask web.service", "systemctl --system daemon-reload"]);
        assert_eq!(run(&postrm, &["remove"], true), ["helper mask web.service"]);
        assert_eq!(run(&postrm, &["purge"], false), ["helper purge web.service", "helper unmask web.service"]);
        assert_eq!(run(&postrm, &["upgrade", "2"], false), [""; 0]);
    }

    #[test]
    fn units_of_others_are_only_restarted_or_reloaded() {
        let nginx = PlannedUnit { ours: false, enable: false, ..unit("nginx.service", Restart::Reload) };
        let postinst = script("postinst", std::slice::from_ref(&nginx)).unwrap();
        assert_eq!(run(&postinst, &["configure"], false), ["invoke try-reload-or-restart nginx.service"]);
        assert_eq!(run(&postinst, &["configure", "1"], false), ["invoke try-reload-or-restart nginx.service"]);
        assert_eq!(run(&postinst, &["configure", "1"], true), [""; 0]);
        for name in ["prerm", "postrm"] {
            let script = script(name, std::slice::from_ref(&nginx)).unwrap();
            for arguments in [["remove", ""], ["upgrade", "2"], ["purge", ""]] {
                assert_eq!(run(&script, &arguments, false), [""; 0], "{name} {arguments:?}");
            }
        }
    }

    #[test]
    fn systemd_reads_a_drop_in_for_the_unit_of_another_package() {
        let nginx = PlannedUnit { ours: false, enable: false, ..unit("nginx.service", Restart::OnUpgrade) };
        let reload = "systemctl --system daemon-reload";
        for (path, units, purged) in [
            ("usr/lib/systemd/system/nginx.service.d/web.conf", &[][..], &[][..]),
            ("etc/systemd/system/nginx.service.d/web.conf", &[], &[reload]),
            ("usr/lib/systemd/system/nginx.service.d/web.conf", std::slice::from_ref(&nginx), &[]),
        ] {
            let mut tree = Tree::default();
            tree.add_file(path, "/x".into(), 1);
            let all = scripts(units, &test_recipe(""), &tree);
            let script = |wanted| &all.iter().find(|(name, _)| *name == wanted).unwrap().1;
            let mut installed = vec![reload];
            // Restarted only if the release says so.
            installed.extend(units.iter().map(|_| "invoke restart nginx.service"));
            for arguments in [&["configure"][..], &["configure", "1"]] {
                assert_eq!(run(script("postinst"), arguments, false), installed);
                assert_eq!(run(script("postinst"), arguments, true), [""; 0]);
            }
            assert_eq!(run(script("postrm"), &["remove"], false), [reload]);
            assert_eq!(run(script("postrm"), &["purge"], false), purged);
            assert_eq!(run(script("postrm"), &["upgrade", "2"], false), [""; 0]);
        }
    }

    #[test]
    fn every_kind_of_unit_makes_valid_scripts() {
        for restart in [Restart::OnUpgrade, Restart::Reload, Restart::Never] {
            for bits in 0..8 {
                let (ours, enable, start) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                let units = [PlannedUnit { ours, enable, start, ..unit("web.service", restart) }];
                for (name, text) in scripts(&units, &test_recipe(""), &Tree::default()) {
                    crate::pack::check_syntax(name, &text).unwrap();
                    for arguments in [&["configure"][..], &["configure", "1"], &["remove"], &["purge"]] {
                        run(&text, arguments, false);
                    }
                }
            }
        }
    }

    #[test]
    fn a_unit_that_a_timer_starts_is_not_enabled_or_started_but_stopped_on_removal() {
        let tidy = PlannedUnit { enable: false, start: false, ..unit("tidy.service", Restart::OnUpgrade) };
        let units = [unit("tidy.timer", Restart::OnUpgrade), tidy];
        let first = run(&script("postinst", &units).unwrap(), &["configure"], false);
        assert!(first.contains(&"helper update-state tidy.service".to_owned()), "{first:?}");
        assert_eq!(first.last().unwrap(), "invoke start tidy.timer");
        let stopped = run(&script("prerm", &units).unwrap(), &["remove"], false);
        assert_eq!(stopped, ["invoke stop tidy.timer tidy.service"]);
    }

    #[test]
    fn instances_are_enabled_started_and_stopped_and_their_template_is_not() {
        let template = PlannedUnit { enable: false, start: false, ..unit("web@.service", Restart::OnUpgrade) };
        let units = [template, unit("web@a.service", Restart::OnUpgrade), unit("web@b.service", Restart::OnUpgrade)];
        let postinst = script("postinst", &units).unwrap();
        let under_the_agent = run(&postinst, &["configure"], true);
        assert_eq!(
            under_the_agent,
            [
                "helper unmask web@.service",
                "helper update-state web@.service",
                "helper --quiet was-enabled web@a.service",
                "systemctl --quiet --root=/ enable web@a.service",
                "helper --quiet was-enabled web@b.service",
                "systemctl --quiet --root=/ enable web@b.service",
            ]
        );
        let by_hand = run(&postinst, &["configure"], false);
        assert_eq!(by_hand.last().unwrap(), "invoke start web@a.service web@b.service");
        let by_hand = run(&postinst, &["configure", "1"], false);
        assert_eq!(by_hand.last().unwrap(), "invoke restart web@a.service web@b.service");
        let removed = run(&script("prerm", &units).unwrap(), &["remove"], true);
        assert_eq!(removed, ["invoke stop web@a.service web@b.service", "systemctl stop web@*.service"]);
        let postrm = script("postrm", &units).unwrap();
        assert_eq!(run(&postrm, &["remove"], true), ["helper mask web@.service"]);
        let purged = run(&postrm, &["purge"], true);
        assert_eq!(
            purged[1..],
            ["helper purge web@a.service", "helper purge web@b.service", "helper unmask web@.service"]
        );
    }

    #[test]
    fn a_script_is_no_obstacle_in_place_of_one_that_failed() {
        for lines in ["scripts = { prerm = \"exit 1\", postrm = \"exit 1\" }", ""] {
            let all = scripts(&[], &test_recipe(lines), &Tree::default());
            for wanted in ["prerm", "postrm"] {
                let (_, text) = all.iter().find(|(name, _)| *name == wanted).unwrap();
                assert_eq!(run(text, &["failed-upgrade", "1", "2"], false), [""; 0]);
            }
        }
        let own = "scripts = { prerm = \"if [ $1 = failed-upgrade ]; then echo mine >&3; fi\" }";
        let all = scripts(&[], &test_recipe(own), &Tree::default());
        let (_, prerm) = all.iter().find(|(name, _)| *name == "prerm").unwrap();
        assert_eq!(run(prerm, &["failed-upgrade", "1", "2"], false), ["mine"]);
    }

    #[test]
    fn own_lines_come_first_and_alone_are_enough() {
        let all = scripts(&[], &test_recipe("scripts = { preinst = \"echo hello >&3\" }"), &Tree::default());
        let (name, preinst) = &all[1];
        assert_eq!((all.len(), *name), (3, "preinst"));
        assert_eq!(run(preinst, &["install"], false), ["hello"]);
    }
}
