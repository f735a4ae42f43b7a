//! A git repository with something to release, and the ways to look at what comes out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::outcome::Run as _;
use tempfile::TempDir;

/// The time at which tests build, unless they say otherwise.
pub(crate) const TIME: &str = "2026-11-20T19:05:02Z";

/// What the file of [`Project::new`] begins with.
pub(crate) const HEAD: &str = "\
schema = 1
[defaults]
maintainer = \"Acme <ops@acme.example>\"
[package.web]
description = \"Web\"
arch = \"all\"
";

/// A temporary project and its bucket, gone when dropped.
pub(crate) struct Project {
    directory: TempDir,
}

impl Project {
    /// A repository with `release.toml` of [`HEAD`] and `rest`, a unit, a program and a configuration file.
    pub(crate) fn new(rest: &str) -> Self {
        let project = Self::bare();
        project.write("release.toml", &format!("{HEAD}{rest}"));
        project.write("web", "#!/bin/sh\necho web\n");
        project.write("etc/web.conf", "port = 80\n");
        project.write("web.service", "[Service]\nExecStart=/usr/bin/web\n[Install]\nWantedBy=multi-user.target\n");
        project.git(&["init", "-q", "-b", "main"]);
        project.commit();
        project
    }

    /// Only the directories, without git.
    pub(crate) fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("project")).unwrap();
        fs::create_dir(directory.path().join("bucket")).unwrap();
        Self { directory }
    }

    /// Where a file of the project is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("project").join(path)
    }

    /// Where something beside the project is.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        clean(Command::new("git").args(arguments).current_dir(self.path("."))).assert().success();
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&[
            "-c",
            "user.name=Dev",
            "-c",
            "user.email=dev@acme.example",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "work",
        ]);
    }

    /// `release` in this project, with nothing from the tester's own environment, and this project's bucket.
    pub(crate) fn release(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_release"));
        clean(&mut command).args(arguments).current_dir(self.path("."));
        command.env("PUSH_BUCKET", format!("file://{}", self.beside("bucket").display()));
        command.env("PUSH_USER", "dev").env("PUSH_HOST", "build-1").env("PUSH_TIME", TIME);
        // What changes are merged into, of whose origin nothing is known here.
        command.env("PUSH_TARGET", "main");
        command
    }

    /// Builds `web` and gives the package's path.
    pub(crate) fn build(&self) -> PathBuf {
        stdout(&self.release(&["build", "-m", "why"]).assert().success().get_output().clone()).trim().into()
    }

    /// Runs `release` with `--json` among its arguments; what it printed, in which no object has a key twice.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let printed = stdout(self.release(arguments).assert().success().get_output());
        console::parse_with_unique_keys(&printed).unwrap_or_else(|error| panic!("{error}:\n{printed}"))
    }

    /// Runs `release` where it must fail with this exit status; what it said.
    pub(crate) fn refused(&self, arguments: &[&str], status: i32) -> String {
        let output = self.release(arguments).assert().code(status).get_output().clone();
        assert_eq!(stdout(&output), "", "a failure has no result");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Takes away what of the tester's environment could change the outcome.
fn clean(command: &mut Command) -> &mut Command {
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy();
        if ["PUSH_", "GIT_", "STORAGE_"].iter().any(|prefix| key.starts_with(prefix)) || key == "SOURCE_DATE_EPOCH" {
            command.env_remove(&*key);
        }
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a tool that must succeed; what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    stdout(
        &Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .assert()
            .success()
            .get_output()
            .clone(),
    )
}

/// A control field of a package, as dpkg reads it.
pub(crate) fn field(deb: &Path, name: &str) -> String {
    tool("dpkg-deb", &["--field", deb.to_str().unwrap(), name]).trim_end().to_owned()
}

/// The members of a package: name, offset of the content, size.
pub(crate) fn members(deb: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(deb).unwrap();
    let mut members = Vec::new();
    let mut at = 8;
    while at < bytes.len() {
        let header = std::str::from_utf8(&bytes[at..at + 60]).unwrap();
        let size: usize = header[48..58].trim().parse().unwrap();
        let content = bytes[at + 60..at + 60 + size].to_vec();
        members.push((header[..16].trim().to_owned(), content));
        at += 60 + size.next_multiple_of(2);
    }
    members
}
