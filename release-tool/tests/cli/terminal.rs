//! What a person at a terminal, and a script in their place, relies on.

use std::{
    io::{PipeReader, PipeWriter, pipe},
    process::Stdio,
};

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
};

const CONTENTS: &str = "contents = [{ src = \"web\", dst = \"/usr/bin/web\", mode = \"0755\" }]\n";

#[test]
fn shells_get_their_completions() {
    let project = Project::bare();
    for shell in ["bash", "zsh", "fish"] {
        let output = project.release(&["completions", shell]).assert().success().get_output().clone();
        assert!(stdout(&output).contains("upload"), "{shell}");
    }
    for arguments in [
        &["--help"][..],
        &["build", "--help"],
        &["upload", "--help"],
        &["list", "--help"],
        &["check", "--help"],
        &["init", "--help"],
        &["adopt", "--help"],
        &["schema", "--help"],
        &["reference", "--help"],
        &["plan", "--help"],
        &["show", "--help"],
        &["init", "--help"],
        &["adopt", "--help"],
        &["diff", "--help"],
    ] {
        let output = project.release(arguments).assert().success().get_output().clone();
        assert!(stdout(&output).contains("Example"), "{arguments:?}");
    }
}

/// A pipe that nobody reads: what `head` leaves behind.
fn closed_pipe() -> PipeWriter {
    let (reader, writer): (PipeReader, PipeWriter) = pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let project = Project::new(CONTENTS);
    project.release(&["-m", "why"]).assert().success();
    let table: [&[&str]; 9] = [
        &["list"],
        &["list", "web"],
        &["list", "web", "--json"],
        &["list", "web", "--names"],
        &["check"],
        &["check", "--json"],
        &["build", "-m", "why", "--out", "../built"],
        &["completions", "bash"],
        &["--help"],
    ];
    for arguments in table {
        let mut command = project.release(arguments);
        let output = command.stdout(closed_pipe()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{arguments:?}: {}: {said}", output.status);
        if arguments[0] == "build" {
            // A second build within the second is refused.
            std::fs::remove_dir_all(project.beside("built")).unwrap();
        }
        // Nor is one of the messages.
        let status = project.release(arguments).stdout(Stdio::null()).stderr(closed_pipe()).status().unwrap();
        assert!(status.success(), "{arguments:?}: {status}");
    }
}

#[test]
fn no_json_has_a_key_twice() {
    let project = Project::new(CONTENTS);
    let published = project.json(&["-m", "why", "--json"]);
    assert_eq!(published[0]["note"], "why");
    let built = project.json(&["build", "-m", "why", "--json", "--out", "../built"]);
    let path = built[0]["path"].as_str().unwrap();
    assert_eq!(project.json(&["upload", path, "--json"])[0]["release"], published[0]["release"]);
    assert_eq!(project.json(&["list", "--json"]), serde_json::json!(["web"]));
    assert_eq!(project.json(&["list", "web", "--json"])[0]["release"], published[0]["release"]);
    assert_eq!(project.json(&["check", "--json"]), serde_json::json!([]));
    assert_eq!(project.json(&["check", path, "--json"]), serde_json::json!([]));
}

#[test]
fn errors_have_one_shape_and_their_status() {
    let project = Project::new("depend = []\n");
    let said = project.refused(&["check"], 1);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("error: invalid `") && lines[1].starts_with("  caused by: [package.web]: "), "{said}");
    let project = Project::new(CONTENTS);
    assert!(project.refused(&["build"], 2).starts_with("error: missing release note: add one, as in -m "));
    let said = project.refused(&["lsit"], 2);
    assert!(said.contains("no command or package `lsit`; did you mean `release list`?"), "{said}");
    let mut command = project.release(&["biuld", "-m", "why"]);
    let output = command.env_remove("PUSH_BUCKET").assert().code(2).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `release build`?"), "{output:?}");
}

#[test]
fn a_note_of_others_cannot_drive_the_terminal() {
    let project = Project::new(CONTENTS);
    project.release(&["-m", "fix\u{202e}\u{200b}\nthe login"]).assert().success();
    let table = stdout(project.release(&["list", "web"]).assert().success().get_output());
    assert!(table.contains("fix\\u{202e}\\u{200b} ⏎ the login"), "{table}");
}
