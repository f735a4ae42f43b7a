//! Runs of pipelines: one that passed and made a release, one that failed, and one that goes on.

use anyhow::Result;
use bucket::{ArtifactPlace, MadeBy, ReleaseName, Run, RunId, SourceFile};
use serde_json::{Value, json};

use super::Fleet;

/// The run that passed.
const PASSED: &str = "acme/20261120T190502Z-passed";

/// Which run made a release.
pub(crate) fn made_by() -> Result<MadeBy> {
    Ok(MadeBy { pipeline: "web".parse()?, stage: "candidate".parse()?, run: PASSED.parse()? })
}

/// Records them: the first of them made `release`.
pub(crate) async fn fill(fleet: &Fleet<'_>, release: &ReleaseName, commit: &str) -> Result<()> {
    let at = |second: u8| format!("2026-11-20T19:05:{second:02}Z");
    let stage = |name: &str, after: &[&str], result: &str, why: &str| json!({ "name": name, "after": after, "result": result, "began": at(2), "ended": at(40), "why": why });
    let first = [
        stage("unit", &[], "passed", ""),
        stage("lint", &[], "passed", ""),
        stage("candidate", &["unit", "lint"], "passed", ""),
    ];
    let releases = json!([{ "stage": "candidate", "release": release }]);
    let passed = json!({
        "run": "20261120T190502Z-passed", "commit": release.commit(), "branch": "main", "by": "ci@build-3", "note": "login by mail link",
        "began": at(2), "ended": at(41), "result": "passed",
        "pipelines": [{ "name": "web", "stages": first, "releases": releases }],
    });
    let second = [
        stage("unit", &[], "failed", &format!("`make test` exited with 2: {}", fleet.hostile)),
        json!({ "name": "candidate", "after": ["unit"], "result": "skipped" }),
    ];
    let failed = json!({
        "run": "20261121T080000Z-failed", "commit": "0".repeat(40), "branch": fleet.hostile, "by": fleet.hostile, "dirty": true,
        "note": fleet.hostile, "began": at(2), "ended": at(41), "result": "failed",
        "pipelines": [{ "name": "web", "stages": second }, { "name": "api", "stages": [stage("unit", &[], "passed", "")] }],
    });
    let third = [
        json!({ "name": "unit", "result": "running", "began": fleet.now }),
        json!({ "name": "ship", "after": ["unit"], "result": "waiting" }),
    ];
    let running = json!({
        "run": RunId::new(fleet.now), "commit": commit, "branch": "main", "by": "ci@build-3", "began": fleet.now,
        "result": "running", "pipelines": [{ "name": "web", "stages": third }],
    });
    for (mut run, file) in [(passed, Some("report.xml")), (failed, Some("<b>.html")), (running, None)] {
        let defaults =
            json!({ "schema": 1, "project": "acme", "host": "build-3", "dirty": run["dirty"] == Value::Bool(true) });
        if let (Value::Object(run), Value::Object(defaults)) = (&mut run, defaults) {
            run.extend(defaults);
        }
        let run: Run = serde_json::from_value(run)?;
        fleet.bucket.begin_run(&run).await?;
        if let Some(file) = file {
            keep(fleet, &run, file).await?;
        }
    }
    Ok(())
}

async fn keep(fleet: &Fleet<'_>, run: &Run, file: &str) -> Result<()> {
    let content = tempfile::NamedTempFile::new()?;
    std::fs::write(content.path(), &fleet.hostile)?;
    let (run, path) = (run.place()?, file.parse()?);
    let place = ArtifactPlace { run, pipeline: "web".parse()?, stage: "unit".parse()?, path };
    fleet.bucket.upload_artifact(&place, &SourceFile::read(content.path())?, &|_| ()).await?;
    Ok(())
}
