//! An app with units of any kind, for stories about them.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use bucket::ReleaseName;
use harness::{Machine, Repo, Scenario};

/// Does nothing for good. Perl is on every Debian, and a script's name and arguments are in the command line of its process.
const WORK: &str = "#!/usr/bin/perl\nsleep;\n";

const MANIFEST: &str = r#"schema = 1
[package.@APP@]
description = "The test app @APP@"
maintainer = "Tests <tests@push.example>"
arch = "all"
contents = [{ src = "work", dst = "/usr/lib/@APP@/work", mode = "0755" }]
"#;

/// An app in a repository of its own, whose program is `/usr/lib/{app}/work`.
pub(crate) struct App<'a> {
    name: String,
    scenario: &'a Scenario,
    repo: Repo,
    work: String,
}

impl<'a> App<'a> {
    /// An app whose program does nothing for good.
    pub(crate) fn new(scenario: &'a Scenario, name: &str) -> Result<Self> {
        Self::with_program(scenario, name, WORK)
    }

    /// An app with that program.
    pub(crate) fn with_program(scenario: &'a Scenario, name: &str, program: &str) -> Result<Self> {
        let repo = Repo::new(&scenario.path(name))?;
        Ok(Self { name: name.to_owned(), scenario, repo, work: program.to_owned() })
    }

    /// Releases it with `package`, more keys of its table, and with units: each a file and its content, of which keys of
    /// the unit's own table come first, in lines that begin with `#`.
    pub(crate) fn release(&self, package: &str, units: &[(&str, &str)]) -> Result<ReleaseName> {
        let app = &self.name;
        let mut manifest = format!("{}{package}\n", MANIFEST.replace("@APP@", app));
        for (file, content) in units {
            let keys: String = content.lines().filter_map(|line| line.strip_prefix('#')).collect::<Vec<_>>().join("\n");
            writeln!(manifest, "[[package.{app}.unit]]\nfile = \"{file}\"\n{keys}")?;
            self.repo.write(file, content)?;
        }
        self.repo.write("work", &self.work)?;
        self.repo.write("release.toml", &manifest)?;
        self.repo.commit("another version")?;
        self.repo.release(self.scenario.target(), "another version")
    }
}

/// Pushes releases so that one cycle of the agent finds them all.
pub(crate) fn deploy_together(scenario: &Scenario, server: &Machine, releases: &[ReleaseName]) -> Result<()> {
    server.sh("systemctl stop pulld")?;
    for release in releases {
        scenario.deploy(release, server)?;
    }
    server.sh("systemctl start pulld").map(drop)
}

/// The program and the arguments of a unit's main process.
pub(crate) fn runs(server: &Machine, unit: &str) -> Result<String> {
    let of = format!(
        "pid=$(systemctl show --value --property=MainPID {unit}) && echo $(readlink /proc/$pid/exe) \
                      $(tr '\\0' ' ' </proc/$pid/cmdline)"
    );
    server.sh(&of).with_context(|| format!("`{unit}` has no main process"))
}

/// What [`runs`] says of an app's program with these arguments.
pub(crate) fn work(app: &str, arguments: &str) -> String {
    format!("/usr/bin/perl /usr/bin/perl /usr/lib/{app}/work {arguments}")
}
