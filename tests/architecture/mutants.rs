//! The mutations that `make mutants` tries: each still fits the source, and says what it breaks.

use std::process::Command;

use crate::source::{files, has_extension, none, read, root};

fn patches() -> impl Iterator<Item = String> {
    files("tests/mutants").into_iter().filter(|path| has_extension(path, "patch"))
}

#[test]
fn each_mutation_still_applies() {
    let applies = |path: &String| {
        let mut git = Command::new("git");
        git.args(["apply", "--check", path.as_str()]).current_dir(root());
        git.output().expect("git runs").status.success()
    };
    assert!(patches().count() >= 8, "the mutations are gone");
    let found: Vec<_> =
        patches().filter(|path| !applies(path)).map(|path| format!("{path}:1: does not apply")).collect();
    none(&found, "the code that it breaks changed: make the same mutation of the new code, and run `make mutants`");
}

#[test]
fn each_mutation_says_what_it_breaks() {
    let is_silent = |path: &String| {
        let text = read(path);
        let mut lines = text.lines();
        !lines.next().is_some_and(|line| line.ends_with('.')) || lines.next() != Some("")
    };
    let found: Vec<_> = patches().filter(is_silent).map(|path| format!("{path}:1: begins with no sentence")).collect();
    none(&found, "begin with a sentence that says what the mutation breaks, and an empty line");
}
