//! Stories by the real command: each transcript is the one beside the story.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{failed, ok};

fn stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rollouts/stories")
}

fn simulate(story: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_push")).arg("simulate").arg(story).output().unwrap()
}

/// `UPDATE_STORIES=1` writes the transcripts anew, for a person to read what has changed.
#[test]
fn each_story_ends_as_it_did() {
    let mut differ = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(stories()).unwrap() {
        let story = entry.unwrap().path();
        if story.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        count += 1;
        let (told, golden) = (ok(&simulate(&story)), story.with_extension("golden"));
        if std::env::var_os("UPDATE_STORIES").is_some() {
            std::fs::write(&golden, &told).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            let line = told.lines().zip(expected.lines()).find(|(told, expected)| told != expected);
            differ.push(format!("{}: {line:?}\n{told}", story.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(count >= 10, "only {count} stories");
}

#[test]
fn a_story_that_is_wrong_is_not_played() {
    let directory = tempfile::tempdir().unwrap();
    let story = directory.path().join("story.txt");
    let said = |text: &str| {
        std::fs::write(&story, text).unwrap();
        failed(&simulate(&story))
    };
    let wrong = said("servers 2\nagent web-1 explodes\n");
    assert!(wrong.contains("line 2: invalid value 'explodes'") && !wrong.contains("> servers"), "{wrong}");
    let unknown = said("servers 2\nhold web-1 2h\noff web-9\n");
    assert!(unknown.contains("line 3: `off web-9`") && unknown.contains("there is no server `web-9`"), "{unknown}");
    assert!(said("run\n").contains("there are no servers yet"));
}
