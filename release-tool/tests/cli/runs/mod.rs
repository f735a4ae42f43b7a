//! `release run`: pipelines, run in copies of the commit by the real command, with real git and real processes.

mod changes;
mod copies;
mod ends;
mod kills;
mod order;
mod overlays;
mod page;
mod publishing;
mod trials;
mod values;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
};

/// What of the project is released, without a build of its own.
const CONTENTS: &str = "contents = [{ src = \"web\", dst = \"/usr/bin/web\" }]\n";

/// A project with these pipelines, all of whose variants are in one file, and a temporary directory of its own.
fn project(rest: &str, config: &str, variants: &str) -> Project {
    let project = Project::new(&format!("{CONTENTS}{rest}"));
    project.write(".pipeline/config.yaml", config);
    project.write(".pipeline/web/variants.yaml", variants);
    project.commit();
    fs::create_dir(project.beside("tmp")).unwrap();
    project
}

/// One pipeline `web` with these stages.
fn stages(stages: &str) -> String {
    format!("pipelines:\n  web:\n    stages:\n{stages}")
}

/// `release run` with these arguments.
fn run(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.release(&[&["run"], arguments].concat());
    command.env("TMPDIR", project.beside("tmp")).env_remove("PUSH_TIME");
    command
}

/// Runs it with `--json`, to this exit status: what became of it, and what it said meanwhile.
#[track_caller]
fn ran(project: &Project, arguments: &[&str], status: i32) -> (Value, String) {
    let output = run(project, &[&["--json"], arguments].concat()).assert().code(status).get_output().clone();
    ensure_cleared(project);
    let printed = stdout(&output);
    let run = console::parse_with_unique_keys(&printed).unwrap_or_else(|error| panic!("{error}:\n{}", said(&output)));
    (run, said(&output))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Nothing is left where runs work.
#[track_caller]
fn ensure_cleared(project: &Project) {
    let left: Vec<PathBuf> = fs::read_dir(project.beside("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [] as [PathBuf; 0]);
}

/// Each stage with its result, in the order of the file.
fn results(run: &Value) -> Vec<String> {
    let pipelines = run["pipelines"].as_array().unwrap();
    let of = |pipeline: &Value| {
        let stages = pipeline["stages"].as_array().unwrap().clone();
        stages
            .into_iter()
            .map(|stage| format!("{} {}", stage["name"].as_str().unwrap(), stage["result"].as_str().unwrap()))
    };
    pipelines.iter().flat_map(of).collect()
}

/// Why a stage ended as it did.
fn why(run: &Value, stage: &str) -> String {
    let stages = run["pipelines"][0]["stages"].as_array().unwrap();
    stages.iter().find(|found| found["name"] == stage).unwrap()["why"].as_str().unwrap_or_default().to_owned()
}

/// What lies in the project's bucket, by its beginning.
fn objects(project: &Project, prefix: &str) -> Vec<String> {
    fn below(directory: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(path, found) } else { found.push(path) }
        }
    }
    let (bucket, mut found) = (project.beside("bucket"), Vec::new());
    below(bucket.clone(), &mut found);
    let paths = found.iter().map(|path| path.strip_prefix(&bucket).unwrap().display().to_string());
    let mut paths: Vec<String> = paths.filter(|path| path.starts_with(prefix)).collect();
    paths.sort();
    paths
}
