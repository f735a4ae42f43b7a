//! Why a dpkg run failed, from what dpkg and the maintainer scripts printed: dpkg's error, the last words of the script that
//! failed, and whether the machine is to blame. Pure.

use console::cut;

use crate::{
    failure::{DpkgEnd, DpkgFault, DpkgWords, MAX_DPKG_WORDS, ScriptFault, last_lines},
    machine::DpkgResult,
};

/// How the lines begin in which dpkg tells what it does; all but the first two end with `...`.
const PROGRESS: [&str; 9] = [
    "(Reading database ",
    "Selecting previously unselected package ",
    "Preparing to unpack ",
    "Unpacking ",
    "Setting up ",
    "Removing ",
    "Purging configuration files for ",
    "Processing triggers for ",
    "Installing new version of config file ",
];

/// Errors of system calls (errno(3)) that no package causes.
const OF_THE_MACHINE: [&str; 6] = [
    "Read-only file system",
    "No space left on device",
    "Input/output error",
    "Disk quota exceeded",
    "Structure needs cleaning",
    "Cannot allocate memory",
];

/// Why a dpkg run failed: dpkg's error, and what was printed before, which are the words of the script that failed. Without
/// an error of dpkg, because it was killed, they are the last words altogether, and what it was doing.
///
/// `replaced` is the ID of the release that was to be replaced: its own script may be what failed.
pub(crate) fn explain(result: &DpkgResult, replaced: Option<&str>) -> DpkgFault {
    let lines: Vec<&str> = result.output.lines().collect();
    let error = errors(&lines).next();
    let before = &lines[..error.as_ref().map_or(lines.len(), |(at, _)| *at)];
    let doing = before.iter().rposition(|line| is_progress(line));
    let (words, from) = match &error {
        Some((_, error)) => {
            let script = old_script(before, error, replaced);
            let words = script.map_or_else(|| DpkgWords::Error(short(&without_path(error))), DpkgWords::OldScript);
            (words, doing.map_or(0, |doing| doing + 1))
        }
        None => (DpkgWords::None, doing.unwrap_or(0)),
    };
    let is_told = |line: &str| {
        matches!(words, DpkgWords::OldScript(_))
            && (warning(line).is_some() || line == "dpkg: trying script from the new package instead ...")
    };
    let is_said = |line: &&&str| {
        !line.starts_with("dpkg: warning: downgrading ") && !line.starts_with(PROGRESS[0]) && !is_told(line)
    };
    let said: Vec<&str> = before[from..].iter().filter(is_said).copied().collect();
    let lines = last_lines(&said);
    let end = match &result.end {
        DpkgEnd::Exited(status) => DpkgEnd::Exited(*status),
        DpkgEnd::Failed(reason) => DpkgEnd::Failed(short(reason)),
    };
    let never_ran = matches!(end, DpkgEnd::Failed(_)) && result.output.is_empty();
    DpkgFault { end, words, lines, machine_at_fault: never_ran || is_machine_at_fault(result) }
}

/// The script of the installed package behind an error of dpkg, from the lines before it.
fn old_script(before: &[&str], error: &str, replaced: Option<&str>) -> Option<ScriptFault> {
    let (package, script, how) = before.iter().rev().find_map(|line| warning(line))?;
    let new = match error.split_once(" script subprocess ") {
        Some((_, new)) if error.contains(" new ") => Some(new),
        _ if error.ends_with("there is no script in the new version of the package - giving up") => None,
        _ => return None,
    };
    Some(ScriptFault {
        package: short(package),
        script: script.to_owned(),
        how: short(how),
        new: new.map(short),
        replaced: replaced.map(str::to_owned),
    })
}

/// Package, script and how it failed, as dpkg warns of them before it tries the new package's.
fn warning(line: &str) -> Option<(&str, &'static str, &str)> {
    let (package, rest) = line.strip_prefix("dpkg: warning: old ")?.split_once(" package ")?;
    let (script, how) = rest.split_once(" script subprocess ")?;
    let script = match script {
        "pre-removal" => "prerm",
        "post-removal" => "postrm",
        _ => return None,
    };
    Some((package, script, how))
}

/// Words of dpkg's, made safe and kept short.
fn short(words: &str) -> String {
    cut(words, MAX_DPKG_WORDS)
}

/// Whether it is the machine that failed, as dpkg says: a full disk, a file system that is read-only. What a script says
/// of such things doesn't count.
fn is_machine_at_fault(result: &DpkgResult) -> bool {
    let lines: Vec<&str> = result.output.lines().collect();
    errors(&lines).any(|(_, error)| {
        let error = error.trim_end_matches(')');
        OF_THE_MACHINE.iter().any(|machine| error.ends_with(machine))
    })
}

/// The errors of dpkg itself, each with the number of its first line.
fn errors<'a>(lines: &'a [&str]) -> impl Iterator<Item = (usize, String)> + 'a {
    let starts = lines.iter().enumerate().filter_map(|(at, line)| {
        let error = line.strip_prefix("dpkg: ")?;
        (error.starts_with("error") || error.starts_with("unrecoverable fatal error")).then_some((at, error))
    });
    starts.map(|(at, error)| {
        let more = lines[at + 1..].iter().take_while(|line| error.ends_with(':') && line.starts_with(' '));
        (at, std::iter::once(error).chain(more.map(|line| line.trim())).collect::<Vec<_>>().join(" "))
    })
}

/// An error without the path of the archive, which is long and says nothing: the app is known.
fn without_path(error: &str) -> String {
    match error.strip_prefix("error processing archive ").and_then(|rest| rest.split_once(" (--")) {
        Some((_path, rest)) => format!("error processing archive (--{rest}"),
        None => error.to_owned(),
    }
}

fn is_progress(line: &str) -> bool {
    let kind = PROGRESS.iter().position(|begin| line.starts_with(begin));
    kind.is_some_and(|kind| kind < 2 || line.ends_with("..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a run.
    fn told(result: &DpkgResult, replaced: Option<&str>) -> String {
        explain(result, replaced).to_string()
    }

    fn failed(output: &str) -> DpkgResult {
        DpkgResult { end: DpkgEnd::Exited(1), output: output.to_owned(), ..DpkgResult::failed("") }
    }

    /// As dpkg 1.21.22 printed it.
    #[test]
    fn the_words_of_the_script_that_failed_are_told_and_no_progress() {
        let postinst = "\
dpkg: warning: downgrading web from 2 to 1
(Reading database ...
(Reading database ... 100%
(Reading database ... 5 files and directories currently installed.)
Preparing to unpack .../web-1.deb ...
Unpacking web (1) over (2) ...
Setting up web (1) ...
migrating
no such table: users
dpkg: error processing package web (--install):
 installed web package post-installation script subprocess returned error exit status 7
Errors were encountered while processing:
 web
";
        assert_eq!(
            told(&failed(postinst), None),
            "dpkg exited with 1: error processing package web (--install): installed web package post-installation \
             script subprocess returned error exit status 7\ndpkg's output ends with:\n  migrating\n  no such table: users"
        );
    }

    /// As dpkg 1.21.22 printed it.
    #[test]
    fn a_script_of_the_installed_release_that_keeps_it_there_is_named_with_the_remedy() {
        let prerm = |error: &str| {
            failed(&format!(
                "\
Preparing to unpack old-2.deb ...
old prerm upgrade 2
dpkg: warning: old web package pre-removal script subprocess returned error exit status 1
dpkg: trying script from the new package instead ...
dpkg: error processing archive /var/lib/pulld/cache/old:a@b:2026/0a.deb (--install):
 {error}
Errors were encountered while processing:
 old-2.deb
"
            ))
        };
        let both = prerm("new web package pre-removal script subprocess returned error exit status 2");
        assert_eq!(
            told(&both, Some("web:a@b:1")),
            "cannot replace `web:a@b:1`: its `prerm` returned error exit status 1, and that of the release in its place \
             returned error exit status 2 too; correct `/var/lib/dpkg/info/web.prerm` on the server, or push a release \
             whose `prerm failed-upgrade` succeeds\ndpkg's output ends with:\n  old prerm upgrade 2"
        );
        let none = prerm("there is no script in the new version of the package - giving up");
        let said = told(&none, None);
        let expected = "cannot replace the installed `web`: its `prerm` returned error exit status 1, and the release in its \
                        place has none; correct";
        assert!(said.starts_with(expected), "{said}");
        let other = told(&prerm("unable to create '/f.dpkg-new': Permission denied"), None);
        assert!(other.starts_with("dpkg exited with 1: error processing archive (--install): unable"), "{other}");
    }

    #[test]
    fn dependency_problems_are_told_in_full() {
        let output = "\
Setting up dep (1) ...
dpkg: dependency problems prevent configuration of dep:
 dep depends on libnone (>= 2); however:
  Package libnone is not installed.

dpkg: error processing package dep (--install):
 dependency problems - leaving unconfigured
";
        let said = told(&failed(output), None);
        assert!(
            said.contains("\n   dep depends on libnone (>= 2); however:\n    Package libnone is not installed."),
            "{said}"
        );
    }

    #[test]
    fn of_a_run_that_was_killed_the_last_words_are_told_and_what_dpkg_was_doing() {
        let output = "Unpacking web (1) ...\nSetting up web (1) ...\nwaiting for the \u{1b}[1mdatabase\n";
        let killed = DpkgResult {
            end: DpkgEnd::Failed("it took too long".to_owned()),
            output: output.to_owned(),
            ..DpkgResult::failed("")
        };
        assert_eq!(
            told(&killed, None),
            "it took too long\ndpkg's output ends with:\n  Setting up web (1) ...\n  waiting for the \\u{1b}[1mdatabase"
        );
        assert_eq!(told(&DpkgResult::failed("no \u{1b} service"), None), "no \\u{1b} service");
        assert_eq!(told(&failed(""), None), "dpkg exited with 1");
        let locked = "dpkg: error: dpkg frontend lock was locked by another process with pid 1\n";
        let said = "dpkg exited with 1: error: dpkg frontend lock was locked by another process with pid 1";
        assert_eq!(told(&failed(locked), None), said);
    }

    #[test]
    fn whatever_scripts_print_the_reason_is_short() {
        let said = told(&failed(&"\u{fffd}\u{202e}🦀 Setting up \n".repeat(100_000)), None);
        assert!(said.len() < 1500, "{} bytes", said.len());
        let said = told(&failed(&format!("dpkg: error: {}", "x".repeat(100_000))), None);
        assert!(said.len() < 1500, "{} bytes", said.len());
    }

    #[test]
    fn only_dpkg_can_blame_the_machine() {
        let unpacking = |error: &str| {
            failed(&format!(
                "dpkg: error processing archive web.deb (--install):\n {error}\nErrors were encountered:\n"
            ))
        };
        for error in [
            "cannot copy extracted data for './f' to '/f.dpkg-new': failed to write (No space left on device)",
            "unable to create '/f.dpkg-new' (while processing './f'): Read-only file system",
            "unable to stat './f' (which was about to be installed): Input/output error",
        ] {
            assert!(is_machine_at_fault(&unpacking(error)), "{error}");
        }
        assert!(is_machine_at_fault(&failed(
            "dpkg: error: failed to write status database: No space left on device\n"
        )));
        let by_script = "cp: cannot create '/f': Read-only file system\ndpkg: error processing package web (--install):\n \
                         installed web package post-installation script subprocess returned error exit status 1\n";
        assert!(!is_machine_at_fault(&failed(by_script)));
        assert!(!is_machine_at_fault(&DpkgResult::failed("No space left on device")));
    }
}
