//! What a document, a comment or a script refers to is there.

use crate::source::{exists, files, has_extension, none, read};

/// Files that people read, or that have comments for them.
const READ: [&str; 13] =
    ["md", "rs", "toml", "sh", "ts", "mjs", "js", "css", "yaml", "json5", "conf", "service", "patch"];

fn texts() -> impl Iterator<Item = (String, String)> {
    let is_read = |path: &String| {
        READ.iter().any(|extension| has_extension(path, extension))
            || ["Makefile", "run", "setup"].iter().any(|name| path.ends_with(name))
    };
    files("").into_iter().filter(is_read).map(|path| (path.clone(), read(&path)))
}

/// The folder that a file is in.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path from a folder, without `.` and `..`.
fn join(folder: &str, path: &str) -> String {
    let mut segments: Vec<&str> = folder.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

#[test]
fn each_document_that_is_named_exists() {
    let mut found = Vec::new();
    for (path, text) in texts().filter(|(path, _)| !path.starts_with("tests/architecture/")) {
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"._-/".contains(c));
            for word in words.filter(|word| has_extension(word, "md")) {
                if !exists(&join("", word)) && !exists(&join(folder(&path), word)) {
                    found.push(format!("{path}:{}: `{word}`", number + 1));
                }
            }
        }
    }
    none(&found, "name a document of this repository, or say here what it would have said");
}

#[test]
fn each_link_leads_somewhere() {
    let mut found = Vec::new();
    for (path, text) in texts().filter(|(path, _)| has_extension(path, "md")) {
        for (number, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("](") {
                let target = line[at + 2..].split([')', ' ']).next().unwrap_or_default();
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let file = if file.is_empty() { path.clone() } else { join(folder(&path), file) };
                if !exists(&file) || (!heading.is_empty() && !headings(&read(&file)).any(|found| found == heading)) {
                    found.push(format!("{path}:{}: `{target}`", number + 1));
                }
            }
        }
    }
    none(&found, "link to a file of this repository, and to a heading it has");
}

/// The anchors of a document's headings, as GitHub makes them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(anchor)
}

#[test]
fn each_source_file_that_a_document_names_exists() {
    let all = files("");
    let mut found = Vec::new();
    for (path, text) in texts().filter(|(path, _)| has_extension(path, "md") && !path.starts_with("CHANGELOG")) {
        for (number, line) in text.lines().enumerate() {
            let quoted = line.split('`').skip(1).step_by(2).filter(|word| !word.contains([' ', '*', '{', '$']));
            let folders = path == "ARCHITECTURE.md";
            for word in quoted.filter(|word| has_extension(word, "rs") || folders && is_folder_of_ours(word)) {
                let name = format!("/{}", word.trim_end_matches('/'));
                let is_there = exists(word) || exists(&join(folder(&path), word));
                let is_somewhere = all.iter().any(|file| file.ends_with(&name) || file.contains(&format!("{name}/")));
                // In ARCHITECTURE.md a name without the crate's folder belongs to the paragraph's crate.
                if !is_there && !is_somewhere {
                    found.push(format!("{path}:{}: `{word}`", number + 1));
                }
            }
        }
    }
    none(&found, "it moved, or it is gone: follow it");
}

/// `web/`, `tests/harness/`: no path of a machine or a bucket, and no address.
fn is_folder_of_ours(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    let of_a_bucket = ["debs/", "server/", "status/", "history/", "pushes/", "rollouts/", "runs/"]
        .iter()
        .any(|name| word.starts_with(name));
    word.ends_with('/') && !word.starts_with('/') && word.chars().all(plain) && !of_a_bucket
}

/// The names of an enum's variants.
fn variants(path: &str, of: &str) -> Vec<String> {
    let source = read(path);
    let body = source.split_once(&format!("enum {of} {{\n")).and_then(|(_, rest)| rest.split_once("\n}\n"));
    let lines = body.map_or_else(|| panic!("`{path}` has no enum `{of}`"), |(body, _)| body.lines());
    let lines = lines.filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(char::is_uppercase));
    lines.map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
}

#[test]
fn what_is_drawn_of_transactions_and_rollouts_is_that_of_the_code() {
    let phases = variants("pulld/src/transaction/record.rs", "Phase");
    let mut states = variants("pulld/src/transaction/progress.rs", "Progress");
    states.extend(variants("pulld/src/transaction/progress.rs", "Outcome"));
    states.retain(|state| state != "Ended");
    let mut of_rollout = variants("bucket/src/rollout.rs", "RolloutStage");
    // Of a newer program: nothing is known of it.
    of_rollout.retain(|stage| stage != "Other");
    let document = read("ARCHITECTURE.md");
    let drawings = document.split("```").filter(|drawing| drawing.contains("──>"));
    let drawings: Vec<&str> = drawings.collect();
    let of_transaction = |drawing: &&&str| drawing.contains("Forward");
    let [Some((of_phases, of_states))] =
        drawings.iter().filter(of_transaction).map(|drawing| drawing.split_once("\n\n")).collect::<Vec<_>>()[..]
    else {
        panic!("one drawing of two parts")
    };
    let others: Vec<&&str> = drawings.iter().filter(|drawing| !of_transaction(drawing)).collect();
    let [drawn] = others[..] else { panic!("one drawing of a rollout") };
    for (drawn, names) in [(of_phases, phases), (of_states, states), (*drawn, of_rollout)] {
        let words: Vec<&str> = drawn.split(|c: char| !c.is_alphanumeric()).collect();
        for name in &names {
            assert!(words.contains(&name.as_str()), "`{name}` is not drawn");
        }
        let drawn = words.iter().filter(|word| word.starts_with(char::is_uppercase));
        for word in drawn {
            assert!(names.iter().any(|name| name == word), "`{word}` is drawn, and is not in the code");
        }
    }
}
