//! A change is tried on a real server: its agent, on the overlay, installs what it would install after the merge.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bucket::ReleaseName;
use harness::{Image, Machine, Programs, Repo, Scenario};
use serde_json::Value;

/// Where the overlay is on the server.
const OVERLAY: &str = "/srv/overlay";

const AGENT: &str = "bucket = \"file:///srv/overlay\"\npoll = \"1s\"\njitter = \"0s\"\nhealth_window = \"1s\"\n";

/// A repository with a library and what uses it, and `release` in it.
struct Project<'a> {
    scenario: &'a Scenario,
    repo: Repo,
}

impl<'a> Project<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self> {
        let repo = Repo::new(&scenario.path("repo"))?;
        let candidates = scenario.path("ci");
        fs::create_dir(&candidates)?;
        let package = |app: &str| {
            format!(
                "[package.{app}]\ndescription = \"{app}\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"\n\
                 contents = [{{ src = \"version\", dst = \"/srv/{app}\" }}]\n"
            )
        };
        let bucket = format!(
            "schema = 1\n[candidates]\nbucket = \"file://{}\"\n[pipeline]\nservers = [\"web-*\"]\n",
            candidates.display()
        );
        repo.write("release.toml", &(bucket + &package("lib") + &package("web")))?;
        Ok(Self { scenario, repo })
    }

    /// A commit of something new.
    fn work(&self, version: &str) -> Result<()> {
        self.repo.write("version", version)?;
        self.repo.commit(version)
    }

    fn release(&self, arguments: &[&str]) -> Result<String> {
        harness::run(self.command(arguments)?, &format!("release {arguments:?}"), b"", Duration::from_mins(1))?.ok()
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut release = Command::new(Programs::get()?.release());
        self.scenario.target().apply(&mut release);
        release.arg("-C").arg(self.repo.directory()).args(arguments).env("PUSH_TARGET", "main");
        Ok(release)
    }

    fn named(&self, arguments: &[&str]) -> Result<ReleaseName> {
        Ok(self.release(arguments)?.parse()?)
    }
}

/// Waits until an app of a server is installed as this release, and has its content.
fn ensure_installed(server: &Machine, release: &ReleaseName, version: &str) -> Result<()> {
    let app = release.app();
    server.wait_until(&format!("`{app}` is installed"), Duration::from_mins(1), |server| {
        let installed = server.sh(&format!("dpkg-query -W -f '${{Push-Release}}' {app} || true"))?;
        ensure!(installed == release.stem(), "it is {installed:?}, not {}", release.stem());
        Ok(Some(()))
    })?;
    assert_eq!(server.sh(&format!("cat /srv/{app}"))?, version);
    assert_eq!(server.sh(&format!("dpkg --verify {app}"))?, "");
    Ok(())
}

/// Every file below a directory, with its time and size.
fn listing(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, about) = (entry.path(), entry.metadata()?);
        found.push(format!("{} {:?} {}", path.display(), about.modified()?, about.len()));
        if about.is_dir() {
            found.extend(listing(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn an_agent_installs_what_is_ahead_of_a_change_and_production_stays_as_it_is() -> Result<()> {
    let scenario = Scenario::new()?;
    let project = Project::new(&scenario)?;
    project.work("one")?;
    let lib = project.named(&["-m", "first", "lib"])?;
    let web = project.named(&["-m", "first", "web"])?;
    fs::create_dir(scenario.object("server"))?;
    fs::write(scenario.object("server/web-1.json"), serde_json::to_vec(&[&web, &lib])?)?;
    project.work("two")?;
    project.release(&["change", "open", "lib/1"])?;
    let candidate = project.named(&["candidate", "-m", "try", "lib", "--change", "lib/1"])?;
    project.work("three")?;
    project.release(&["change", "open", "web/2", "--needs", "lib/1"])?;
    let before = listing(&scenario.path("bucket"))?;

    let overlay = scenario.path("overlay");
    let out = overlay.to_str().context("a path")?;
    project.release(&["buildset", "start", "--change", "web/2", "--server", "web-1", "--out", out])?;
    let options = Machine::options("web-1", &Image::with_pulld()?)?.share(&overlay, OVERLAY);
    let server = options.file("/etc/pulld/pulld.d/50-scenario.toml", AGENT).boot()?;
    ensure_installed(&server, &candidate, "two")?;
    ensure_installed(&server, &web, "one")?;
    drop(server);
    project.release(&["buildset", "stop", out])?;
    ensure!(!overlay.exists(), "the overlay is still there");
    assert_eq!(listing(&scenario.path("bucket"))?, before);
    Ok(())
}

#[test]
fn a_pipeline_tries_a_change_on_the_server_that_reads_its_overlay() -> Result<()> {
    let scenario = Scenario::new()?;
    let project = Project::new(&scenario)?;
    project.work("one")?;
    let web = project.named(&["-m", "first", "web"])?;
    fs::create_dir(scenario.object("server"))?;
    fs::write(scenario.object("server/web-1.json"), serde_json::to_vec(&[&web])?)?;
    let overlay = scenario.path("overlay");
    let report = overlay.join("status/web-1.json");
    // What it tries is what its agent says that it runs.
    let config = format!(
        "pipelines:\n  web:\n    stages:\n      - {{ name: candidate, publish: {{ package: {{ name: web }} }} }}\n      \
         - {{ name: staging, deploy: {{ server: web-1, release: '${{candidate.release}}', wait: 2m, \
         test: [grep, -F, '${{candidate.release}}', '{}'] }} }}\n",
        report.display()
    );
    project.repo.write(".pipeline/config.yaml", &config)?;
    project.repo.write(".pipeline/web/variants.yaml", "variants: {}\n")?;
    project.work("two")?;
    project.release(&["change", "open", "repo/1"])?;
    let before = listing(&scenario.path("bucket"))?;

    let out = overlay.to_str().context("a path")?;
    let made =
        project.release(&["buildset", "start", "--change", "repo/1", "--server", "web-1", "--out", out, "--json"])?;
    let made: Value = serde_json::from_str(&made)?;
    let options = Machine::options("web-1", &Image::with_pulld()?)?.share(&overlay, OVERLAY);
    let server = options.file("/etc/pulld/pulld.d/50-scenario.toml", AGENT).boot()?;
    ensure_installed(&server, &web, "one")?;
    server.wait_until("its agent reports that", Duration::from_mins(1), |_| {
        Ok(fs::read_to_string(&report)?.contains(web.as_str()).then_some(()))
    })?;
    let document = fs::read(overlay.join("server/web-1.json"))?;

    let mut run = project.command(&["run", "--json", "-m", "try it", "--change", "repo/1", "--target", "main"])?;
    run.env("PUSH_BUILDSET", made["buildset"].as_str().context("a buildset")?);
    let output = harness::run(run, "release run", b"", Duration::from_mins(4))?;
    ensure!(output.status == 0, "{output}");
    let found: Value = serde_json::from_str(&output.stdout).with_context(|| output.to_string())?;
    let tried: ReleaseName = serde_json::from_value(found["pipelines"][0]["releases"][0]["release"].clone())?;
    ensure!(output.stderr.contains(&format!("pushed {} to web-1", tried.stem())), "{output}");
    ensure!(output.stderr.contains("put back what web-1 had before"), "{output}");
    assert_eq!(fs::read(overlay.join("server/web-1.json"))?, document);
    ensure_installed(&server, &web, "one")?;
    // The one before, the one that was tried, and the one before again, once that is configured too.
    server.wait_until("each was installed", Duration::from_mins(1), |server| {
        let log = server.sh("cat /var/log/dpkg.log*")?;
        Ok((log.matches(" installed web:all").count() >= 3).then_some(()))
    })?;
    drop(server);
    project.release(&["buildset", "stop", out])?;
    assert_eq!(listing(&scenario.path("bucket"))?, before);
    Ok(())
}
