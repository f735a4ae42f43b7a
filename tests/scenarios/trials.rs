//! Releases that a pipeline tries on a real server: its agent installs them, and then what was there before again.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bucket::ReleaseName;
use harness::{Machine, Output, Programs, Repo, Scenario};
use serde_json::Value;

use crate::app::{runs, work};

/// One version does not stay up.
const WORK: &str = "#!/usr/bin/perl\nexit 3 if $ARGV[0] eq 'broken';\nsleep;\n";

const MANIFEST: &str = r#"schema = 1
[package.web]
description = "web"
maintainer = "Tests <tests@push.example>"
arch = "all"
contents = [{ src = "work", dst = "/usr/lib/web/work", mode = "0755" }]
[[package.web.unit]]
file = "web.service"
"#;

/// A repository whose pipeline releases `web` and tries that on `stage-1`.
struct Project<'a> {
    scenario: &'a Scenario,
    repo: Repo,
    server: &'a Machine,
}

impl Project<'_> {
    /// Commits a version, and how it is tested.
    fn version(&self, version: &str, test: &str) -> Result<()> {
        let unit = format!(
            "[Unit]\nDescription=web\n[Service]\nExecStart=/usr/lib/web/work {version}\n[Install]\nWantedBy=multi-user.target\n"
        );
        let config = format!(
            "pipelines:\n  web:\n    stages:\n      - {{ name: candidate, publish: {{ package: {{ name: web }} }} }}\n      \
             - {{ name: staging, deploy: {{ server: stage-1, release: '${{candidate.release}}', wait: 2m, test: {test} }} }}\n"
        );
        for (path, content) in [
            ("work", WORK),
            ("release.toml", MANIFEST),
            ("web.service", &unit),
            (".pipeline/config.yaml", &config),
            (".pipeline/web/variants.yaml", "variants: {}\n"),
        ] {
            self.repo.write(path, content)?;
        }
        self.repo.commit(version)
    }

    /// Runs the pipeline to this exit status: how its trial ended, the release, and what was said meanwhile.
    fn run(&self, status: i32) -> Result<(String, ReleaseName, String)> {
        let mut release = Command::new(Programs::get()?.release());
        self.scenario.target().apply(&mut release);
        release.arg("-C").arg(self.repo.directory()).args(["run", "--json", "-m", "try it"]);
        let output: Output = harness::run(release, "release run", b"", Duration::from_mins(4))?;
        ensure!(output.status == status, "{output}");
        let run: Value = serde_json::from_str(&output.stdout).with_context(|| output.to_string())?;
        let pipeline = &run["pipelines"][0];
        let why = pipeline["stages"][1]["why"].as_str().unwrap_or_default().to_owned();
        let release = pipeline["releases"][0]["release"].as_str().with_context(|| output.to_string())?;
        Ok((why, release.parse()?, output.stderr))
    }

    fn document(&self) -> Result<String> {
        Ok(fs::read_to_string(self.scenario.object("server/stage-1.json"))?)
    }

    /// That the document and the server are as they were before.
    fn ensure_as_before(&self, document: &str, release: &ReleaseName) -> Result<()> {
        assert_eq!(self.document()?, document);
        let holds: Value = serde_json::from_slice(&fs::read(self.scenario.object("holds/stage-1.json"))?)?;
        assert_eq!(holds["holds"], serde_json::json!([]));
        self.scenario.wait_until_converged(self.server, release)?;
        assert_eq!(runs(self.server, "web.service")?, work("web", "one"));
        Ok(())
    }
}

#[test]
fn what_a_pipeline_tries_runs_on_the_server_and_then_what_was_there_before() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("stage-1")?;
    let project = Project { repo: Repo::new(&scenario.path("web"))?, scenario: &scenario, server: &server };
    project.version("one", "[]")?;
    let one = project.repo.release(scenario.target(), "first")?;
    scenario.deploy(&one, &server)?;
    scenario.wait_until_converged(&server, &one)?;
    let before = project.document()?;

    // It converges, and passes: its agent has reported that it runs when it is tested.
    let status = scenario.object("status/stage-1.json");
    let test = format!("[grep, -F, '${{candidate.release}}', '{}']", status.display());
    project.version("two", &test)?;
    let (why, two, said) = project.run(0)?;
    ensure!(why.is_empty() && said.contains("put back what stage-1 had before"), "{why}: {said}");
    project.ensure_as_before(&before, &one)?;
    let history: Value = serde_json::from_str(&scenario.push(&["history", "stage-1", "--json"])?.ok()?)?;
    let pushes = history["pushes"].as_array().context("a list")?;
    let kinds: Vec<&Value> = pushes.iter().map(|push| &push["kind"]).collect();
    ensure!(kinds == ["trial-end", "trial", "deploy"], "{history:#}");
    assert_eq!((&pushes[1]["to"], &pushes[1]["why"]), (&two.as_str().into(), &"pipeline web, stage staging".into()));

    // Its test fails.
    project.version("three", "['false']")?;
    let (why, ..) = project.run(1)?;
    ensure!(why.contains("`false` ended with exit status 1"), "{why}");
    project.ensure_as_before(&before, &one)?;

    // It does not stay up, and the agent rolls it back.
    project.version("broken", "['true']")?;
    let (why, broken, _) = project.run(1)?;
    ensure!(why.contains("rolled back automatically") && why.contains("web.service"), "{why}");
    ensure!(why.contains(broken.stem()), "{why}");
    project.ensure_as_before(&before, &one)?;

    // Somebody pushes in between: that stays.
    let push = format!("{} --bucket {}", Programs::get()?.push().display(), scenario.target().url);
    project.version("four", &format!("[sh, -c, '{push} resume stage-1 && {push} deploy {two} stage-1 -m urgent']"))?;
    let (why, _, said) = project.run(0)?;
    ensure!(
        why.is_empty() && said.contains("was changed by") && said.contains("it stays as it is now"),
        "{why}: {said}"
    );
    ensure!(project.document()?.contains(two.as_str()), "{}", project.document()?);
    scenario.wait_until_converged(&server, &two)?;
    assert_eq!(runs(&server, "web.service")?, work("web", "two"));
    Ok(())
}
