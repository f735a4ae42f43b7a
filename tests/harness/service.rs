//! A small service in a git repository of its own, to be released in many versions, good and bad.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::{ReleaseName, Timestamp};

use crate::{Programs, command};

/// Longest time for a `git` or a `release`.
const PATIENCE: Duration = Duration::from_mins(2);

/// Answers HTTP with its version, or with its configuration under `/conf`. Perl is on every Debian.
const SERVE: &str = r#"#!/usr/bin/perl
use strict;
use IO::Socket::INET;
if ("@BEHAVIOUR@" eq "crash") {
    select(undef, undef, undef, 0.1);
    warn "@APP@: this version has a mistake\n";
    exit 3;
}
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:@PORT@", Listen => 16, ReuseAddr => 1) or die "$!\n";
while (my $client = $server->accept) {
    my $request = <$client>;
    while (<$client>) { last if /^\r?\n$/ }
    my $body = "@APP@ @VERSION@\n";
    if ($request =~ m{^GET /conf }) {
        open my $conf, "<", "/etc/@APP@.conf" or die "$!\n";
        local $/;
        $body = <$conf>;
    }
    print $client "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n$body";
    close $client;
}
"#;

/// A crash loop soon reaches the limit of starts that systemd has unless a unit says otherwise: five in ten seconds.
const UNIT: &str = "\
[Unit]
Description=The test service @APP@

[Service]
ExecStart=/usr/lib/@APP@/serve @VERSION@
Restart=always
RestartSec=10ms

[Install]
WantedBy=multi-user.target
";

/// The unit beside it.
const BESIDE: &str = "[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

const MANIFEST: &str = r#"schema = 1
[package.@APP@]
description = "The test service @APP@"
maintainer = "Tests <tests@push.example>"
arch = "all"
@CHECK@contents = [
  { src = "serve", dst = "/usr/lib/@APP@/serve", mode = "0755" },
  { src = "check", dst = "/usr/lib/@APP@/check", mode = "0755" },
  { src = "conf", dst = "/etc/@APP@.conf" },
]
[[package.@APP@.unit]]
file = "@APP@.service"
@BESIDE@[package.@APP@.scripts]
preinst = '''
@PREINST@'''
postinst = '''
@POSTINST@'''
"#;

/// What one version of a [`Service`] is like.
#[derive(Debug, Clone)]
pub struct Version {
    name: String,
    crashes: bool,
    conf: String,
    preinst: String,
    postinst: String,
    check: Option<String>,
    replaces: Option<String>,
    beside: Option<String>,
}

impl Version {
    /// A version that works; over HTTP it says `{app} {name}`.
    pub fn new(name: &str) -> Self {
        let conf = "greeting = default\n".to_owned();
        let (preinst, postinst) = (String::new(), String::new());
        let (check, replaces, beside) = (None, None, None);
        Self { name: name.to_owned(), crashes: false, conf, preinst, postinst, check, replaces, beside }
    }

    /// Its process writes `{app}: this version has a mistake` and ends with 3 soon after each start.
    #[must_use]
    pub fn crashing(mut self) -> Self {
        self.crashes = true;
        self
    }

    /// What its conffile holds.
    #[must_use]
    pub fn conf(mut self, content: &str) -> Self {
        content.clone_into(&mut self.conf);
        self
    }

    /// Lines of shell that dpkg runs before it unpacks the package.
    #[must_use]
    pub fn preinst(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.preinst);
        self
    }

    /// Lines of shell that dpkg runs when it configures the package.
    #[must_use]
    pub fn postinst(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.postinst);
        self
    }

    /// A package that dpkg removes in favour of this one, as debian-policy, 7.6.2, has it.
    #[must_use]
    pub fn replaces(mut self, package: &str) -> Self {
        self.replaces = Some(package.to_owned());
        self
    }

    /// It has a second unit of this name, as in `web-jobs.service`, which does nothing for good.
    #[must_use]
    pub fn beside(mut self, unit: &str) -> Self {
        self.beside = Some(unit.to_owned());
        self
    }

    /// Lines of shell that the agent runs as the release's own check.
    #[must_use]
    pub fn check(mut self, lines: &str) -> Self {
        self.check = Some(lines.to_owned());
        self
    }
}

/// A git repository with a `release.toml`.
#[derive(Debug)]
pub struct Repo {
    directory: PathBuf,
    /// When the last release was made, by its name.
    last: Rc<Cell<Option<Timestamp>>>,
}

impl Repo {
    /// Makes an empty repository.
    pub fn new(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("could not make `{}`", directory.display()))?;
        let repo = Self { directory: directory.to_owned(), last: Rc::default() };
        repo.git(&["init", "--quiet", "--initial-branch=main"])?;
        repo.write(".gitignore", "/dist/\n")?;
        Ok(repo)
    }

    /// A directory of this repository that has a `release.toml` of its own.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self { directory: self.directory.join(path), last: self.last.clone() }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let path = self.directory.join(path);
        fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        fs::write(&path, content).with_context(|| format!("could not write `{}`", path.display()))
    }

    /// Commits everything.
    pub fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])
    }

    /// Builds with `release build`, and gives the path of the one package in `release.toml`.
    pub fn build(&self, note: &str, time: &str, out: &Path) -> Result<PathBuf> {
        let mut release = Command::new(Programs::get()?.release());
        release.arg("-C").arg(&self.directory).args(["build", "-m", note, "--time", time, "--out"]).arg(out);
        neutral(&mut release);
        command::run(release, &format!("release build -m {note:?}"), b"", PATIENCE)?.ok()?;
        let built = fs::read_dir(out)?.flatten().map(|entry| entry.path());
        let mut debs = built.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
        debs.next().with_context(|| format!("`release build` left no package in `{}`", out.display()))
    }

    /// Builds and uploads with `release -m`, and gives the release's name. Later than the last one by its name.
    pub fn release(&self, bucket: &Target, note: &str) -> Result<ReleaseName> {
        let mut release = Command::new(Programs::get()?.release());
        release.arg("-C").arg(&self.directory).args(["-m", note, "--time", &self.next_time()?]);
        bucket.apply(&mut release);
        let output = command::run(release, &format!("release -m {note:?}"), b"", PATIENCE)?.ok()?;
        output.parse().with_context(|| format!("`release` printed {output:?}"))
    }

    /// Names have whole seconds: two releases in one would be in no order.
    fn next_time(&self) -> Result<String> {
        let now: Timestamp = Timestamp::from_second(Timestamp::now().as_second())?;
        let time = match self.last.get() {
            Some(last) if last >= now => Timestamp::from_second(last.as_second() + 1)?,
            _ => now,
        };
        self.last.set(Some(time));
        Ok(time.to_string())
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut git = Command::new("git");
        git.current_dir(&self.directory).args(["-c", "user.name=Tests", "-c", "user.email=tests@push.example"]);
        git.args(arguments);
        neutral(&mut git);
        command::run(git, &format!("git {}", arguments.join(" ")), b"", PATIENCE)?.ok().map(drop)
    }
}

/// A service in a repository of its own.
#[derive(Debug)]
pub struct Service {
    app: String,
    port: u16,
    repo: Repo,
}

impl Service {
    /// The service `app`, which will serve HTTP on `port`.
    pub fn new(directory: &Path, app: &str, port: u16) -> Result<Self> {
        Ok(Self { app: app.to_owned(), port, repo: Repo::new(directory)? })
    }

    /// Commits and releases a version.
    pub fn release(&self, bucket: &Target, version: &Version) -> Result<ReleaseName> {
        let behaviour = if version.crashes { "crash" } else { "serve" };
        let fill = |template: &str| {
            let template = template.replace("@APP@", &self.app).replace("@PORT@", &self.port.to_string());
            let template = template.replace("@VERSION@", &version.name).replace("@BEHAVIOUR@", behaviour);
            let template = template.replace("@PREINST@", &version.preinst).replace("@POSTINST@", &version.postinst);
            let check = version.check.as_ref().map(|_| format!("check = [\"/usr/lib/{}/check\"]\n", self.app));
            let replaces = version.replaces.as_ref();
            let replaces = replaces.map(|name| format!("conflicts = [\"{name}\"]\nreplaces = [\"{name}\"]\n"));
            let beside = version.beside.as_ref();
            let beside = beside.map(|unit| format!("[[package.{}.unit]]\nfile = \"{unit}\"\n", self.app));
            template
                .replace("@CHECK@", &(check.unwrap_or_default() + &replaces.unwrap_or_default()))
                .replace("@BESIDE@", &beside.unwrap_or_default())
        };
        self.repo.write("serve", &fill(SERVE))?;
        self.repo.write("check", &format!("#!/bin/sh\n{}", version.check.as_deref().unwrap_or_default()))?;
        self.repo.write("conf", &version.conf)?;
        self.repo.write(&format!("{}.service", self.app), &fill(UNIT))?;
        if let Some(unit) = &version.beside {
            self.repo.write(unit, BESIDE)?;
        }
        self.repo.write("release.toml", &fill(MANIFEST))?;
        let note = format!("{} {}", self.app, version.name);
        self.repo.commit(&note)?;
        self.repo.release(bucket, &note)
    }
}

/// A bucket, as the developer's and the operator's commands are told of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `file:///…` or `gs://…`.
    pub url: String,
    /// Base URL of a storage API that stands in for Google's.
    pub endpoint: Option<String>,
}

impl Target {
    /// Makes a command use this bucket, and nothing of the environment of whoever runs the tests.
    pub fn apply(&self, command: &mut Command) {
        neutral(command);
        command.env("PUSH_BUCKET", &self.url);
        if let Some(endpoint) = &self.endpoint {
            command.env("PUSH_GCS_ENDPOINT", endpoint).env("PUSH_GCS_CREDENTIALS", "anonymous");
        }
    }
}

/// Takes from a command what the environment of whoever runs the tests could change about it.
fn neutral(command: &mut Command) {
    for key in ["STORAGE_EMULATOR_HOST", "PUSH_GCS_ENDPOINT", "PUSH_GCS_CREDENTIALS", "PUSH_BUCKET", "PUSH_TIME"] {
        command.env_remove(key);
    }
    for key in ["PUBSUB_EMULATOR_HOST", "PUSH_PUBSUB_ENDPOINT", "PUSH_PUBSUB_CREDENTIALS"] {
        command.env_remove(key);
    }
    for key in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
        command.env_remove(key);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("USER", "tester");
}
