//! A change is tried on a real server: its agent, on the overlay, installs what it would install after the merge.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bucket::ReleaseName;
use harness::{Image, Machine, Programs, Repo, Scenario};

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
        let bucket = format!("schema = 1\n[candidates]\nbucket = \"file://{}\"\n", candidates.display());
        repo.write("release.toml", &(bucket + &package("lib") + &package("web")))?;
        Ok(Self { scenario, repo })
    }

    /// A commit of something new.
    fn work(&self, version: &str) -> Result<()> {
        self.repo.write("version", version)?;
        self.repo.commit(version)
    }

    fn release(&self, arguments: &[&str]) -> Result<String> {
        let mut release = Command::new(Programs::get()?.release());
        self.scenario.target().apply(&mut release);
        release.arg("-C").arg(self.repo.directory()).args(arguments);
        harness::run(release, &format!("release {arguments:?}"), b"", Duration::from_mins(1))?.ok()
    }

    fn named(&self, arguments: &[&str]) -> Result<ReleaseName> {
        Ok(self.release(arguments)?.parse()?)
    }
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
    for (app, release, version) in [("lib", &candidate, "two"), ("web", &web, "one")] {
        server.wait_until(&format!("`{app}` is installed"), Duration::from_mins(1), |server| {
            let installed = server.sh(&format!("dpkg-query -W -f '${{Push-Release}}' {app} || true"))?;
            ensure!(installed == release.stem(), "it is {installed:?}, not {}", release.stem());
            Ok(Some(()))
        })?;
        assert_eq!(server.sh(&format!("cat /srv/{app}"))?, version);
        assert_eq!(server.sh(&format!("dpkg --verify {app}"))?, "");
    }
    drop(server);
    project.release(&["buildset", "stop", out])?;
    ensure!(!overlay.exists(), "the overlay is still there");
    assert_eq!(listing(&scenario.path("bucket"))?, before);
    Ok(())
}
