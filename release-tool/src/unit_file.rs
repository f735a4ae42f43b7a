//! Unit files, as far as a package depends on them: that systemd can read them (systemd.syntax(7)), whether they can be
//! enabled, and the programs that they run.

use anyhow::{Context, Result, bail};
use console::{nearest, one_line, safe};

/// A unit file, or a drop-in for one.
#[derive(Debug, Default)]
pub(crate) struct UnitFile {
    /// Section, key and value of each assignment, in their order.
    assignments: Vec<(String, String, String)>,
}

/// A command line of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    /// As in `ExecStart`.
    pub(crate) key: &'a str,
    /// The program, as it is written.
    pub(crate) program: &'a str,
    /// Whether the unit goes on without it.
    pub(crate) may_fail: bool,
}

impl UnitFile {
    /// Reads the file of a unit of that kind, as in `service`.
    pub(crate) fn parse(kind: &str, text: &str) -> Result<Self> {
        let mut file = Self::default();
        let mut section: Option<String> = None;
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !is_comment(line));
        while let Some((line, number)) = lines.next() {
            let mut line = line.trim().to_owned();
            while let Some(begun) = line.strip_suffix('\\') {
                // What continues nothing ends the assignment.
                let Some((next, _)) = lines.next() else { break };
                line = format!("{} {}", begun.trim_end(), next.trim());
            }
            if line.is_empty() {
                continue;
            }
            let at = || format!("line {number}");
            if let Some(name) = line.strip_prefix('[') {
                let Some(name) = name.strip_suffix(']') else {
                    bail!("line {number}: `{}` lacks the `]` at its end", one_line(&line));
                };
                check_section(kind, name).with_context(at)?;
                section = Some(name.to_owned());
                continue;
            }
            let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            let assignment = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            match (assignment.filter(|(key, _)| is_key(key)), &section) {
                (Some((key, value)), Some(section)) => {
                    file.assignments.push((section.clone(), key.to_owned(), value.to_owned()));
                }
                (Some(_), None) => bail!("line {number}: `{}` stands before any section", one_line(&line)),
                (None, _) => bail!(
                    "line {number}: `{}` is neither a section, an assignment nor a comment: systemd would ignore it",
                    one_line(&line)
                ),
            }
        }
        Ok(file)
    }

    /// Refuses what systemd would refuse to start: a unit without the settings that its kind needs.
    pub(crate) fn check_complete(&self, kind: &str) -> Result<()> {
        let (section, needed, example): (&str, &[&str], &str) = match kind {
            "service" => ("Service", &["ExecStart", "ExecStop", "SuccessAction"], "ExecStart=/usr/bin/web"),
            "timer" => ("Timer", &["On"], "OnCalendar=daily"),
            "socket" => ("Socket", &["Listen"], "ListenStream=8080"),
            "path" => ("Path", &["Path", "DirectoryNotEmpty"], "PathChanged=/etc/web.conf"),
            _ => return Ok(()),
        };
        let has =
            |key: &str| needed.iter().any(|needed| key == *needed || (kind != "service" && key.starts_with(needed)));
        if !self.assignments.iter().any(|(of, key, _)| of == section && has(key)) {
            bail!("the file starts nothing: add to [{section}] for example {example}");
        }
        Ok(())
    }

    /// Whether it says what enabling it means (systemd.unit(5), the options of `[Install]`).
    pub(crate) fn is_installable(&self) -> bool {
        let installs = ["WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"];
        self.assignments.iter().any(|(section, key, _)| section == "Install" && installs.contains(&key.as_str()))
    }

    /// The commands that it runs. An empty assignment takes back those before.
    pub(crate) fn commands(&self) -> Vec<Command<'_>> {
        let mut commands: Vec<Command<'_>> = Vec::new();
        for (_, key, value) in self.assignments.iter().filter(|(_, key, _)| key.starts_with("Exec")) {
            if value.is_empty() {
                commands.retain(|command| command.key != key);
                continue;
            }
            let program = value.trim_start_matches(['@', '-', ':', '+', '!', '|']);
            let may_fail = value[..value.len() - program.len()].contains('-');
            let program = match program.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                Some((quoted, _)) => quoted,
                None => program.split_whitespace().next().unwrap_or_default(),
            };
            commands.push(Command { key, program, may_fail });
        }
        commands
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(['#', ';'])
}

/// Refuses a section that systemd ignores.
fn check_section(kind: &str, name: &str) -> Result<()> {
    let mut own = kind.to_owned();
    if let Some(first) = own.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let known = ["Unit", "Install", own.as_str()];
    if known.contains(&name) || name.starts_with("X-") {
        return Ok(());
    }
    let hint = nearest(name, &known).map(|near| format!("; did you mean `[{near}]`?")).unwrap_or_default();
    bail!("a {} has no section `[{}]`: systemd would ignore it{hint}", kind, safe(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, text: &str) -> String {
        let checked = UnitFile::parse(kind, text).and_then(|file| file.check_complete(kind));
        format!("{:#}", checked.unwrap_err())
    }

    #[test]
    fn what_systemd_ignores_or_refuses_is_an_error_with_its_line() {
        for (kind, text, expected) in [
            (
                "service",
                "\x7fELF garbage",
                "line 1: `\\u{7f}ELF garbage` is neither a section, an assignment nor a comment",
            ),
            ("service", "ExecStart=/x", "line 1: `ExecStart=/x` stands before any section"),
            ("service", "[Unit]\n\n[Servce]\nExecStart=/x", "line 3: a service has no section `[Servce]`"),
            ("service", "[Servce]", "did you mean `[Service]`?"),
            ("service", "[Timer]\nOnCalendar=daily", "a service has no section `[Timer]`"),
            ("service", "[Service\nExecStart=/x", "line 1: `[Service` lacks the `]`"),
            ("service", "[Service]\nExec Start=/x", "line 2: `Exec Start=/x` is neither"),
            ("service", "[Service]\nType=simple", "add to [Service] for example ExecStart="),
            ("service", "", "add to [Service]"),
            ("timer", "[Timer]\nPersistent=true", "add to [Timer] for example OnCalendar=daily"),
            ("socket", "[Socket]\nAccept=yes", "add to [Socket]"),
            ("path", "[Path]\nUnit=x.service", "add to [Path]"),
        ] {
            let error = error(kind, text);
            assert!(error.contains(expected), "{text:?}\ngave: {error}\nexpected: {expected}");
        }
    }

    #[test]
    fn what_systemd_reads_is_read() {
        let text = "# A comment.\n; Another.\n[Unit]\nDescription=a = b\n[X-Ours]\nAnything=1\n[Service]\n\
                    ExecStart = /usr/bin/web \\\n# In between.\n  --flag\nEnvironment=\\\n[Install]\nWantedBy=x\n";
        let file = UnitFile::parse("service", text).unwrap();
        file.check_complete("service").unwrap();
        assert_eq!(file.commands()[0].program, "/usr/bin/web");
        for (kind, text) in [
            ("timer", "[Timer]\nOnUnitActiveSec=1h"),
            ("socket", "[Socket]\nListenStream=80"),
            ("path", "[Path]\nPathExistsGlob=/x"),
            ("target", "[Unit]\nDescription=x"),
        ] {
            UnitFile::parse(kind, text).unwrap().check_complete(kind).unwrap();
        }
    }

    #[test]
    fn install_sections_are_seen() {
        let installable = |text: &str| UnitFile::parse("service", text).unwrap().is_installable();
        assert!(installable("[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n"));
        assert!(!installable("[Service]\nExecStart=/x\n"));
        assert!(!installable("[Install]\n[Service]\nWantedBy=x\n"));
    }

    #[test]
    fn commands_are_their_programs() {
        let text = "[Service]\nExecStart=/usr/bin/old\nExecStart=\nExecStart=@-/usr/bin/web web --x\nExecStop=web-stop\n\
                    ExecStartPre=+\"/opt/a b/c\" d\n";
        let file = UnitFile::parse("service", text).unwrap();
        let commands: Vec<_> = file.commands().iter().map(|c| (c.key, c.program, c.may_fail)).collect();
        assert_eq!(
            commands,
            [
                ("ExecStart", "/usr/bin/web", true),
                ("ExecStop", "web-stop", false),
                ("ExecStartPre", "/opt/a b/c", false)
            ]
        );
    }
}
