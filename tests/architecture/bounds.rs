//! What a file may not do: print, look at the clock, read or write, ask the bucket, or know where in it things lie.

use crate::source::{Source, exists, none, shipped};

/// The crates that are shipped.
const SHIPPED: [&str; 8] =
    ["bucket", "connections", "console", "fleet", "pulld", "push-server", "registry", "release-tool"];

/// Where a program shows itself to a person.
const FACES: [&str; 5] = [
    "console/src/",
    "pulld/src/commands/",
    "push-server/src/cli/",
    "release-tool/src/commands/",
    "release-tool/src/progress.rs",
];

const PRINTING: [&str; 9] =
    ["print!", "println!", "eprint!", "eprintln!", "dbg!", "stdout()", "stderr()", "io::stdout", "io::stderr"];

/// Files, and folders, that decide: they are given everything, the time too.
const PURE: [&str; 20] = [
    "fleet/src/assign.rs",
    "fleet/src/channel/",
    "fleet/src/condition.rs",
    "fleet/src/filter.rs",
    "fleet/src/history.rs",
    "fleet/src/plan.rs",
    "fleet/src/policy/mod.rs",
    "fleet/src/policy/pattern.rs",
    "fleet/src/policy/read/",
    "fleet/src/policy/way.rs",
    "fleet/src/trial/decide.rs",
    "fleet/src/wish.rs",
    "pipeline/src/",
    "pulld/src/decide/",
    "pulld/src/failure/",
    "registry/src/names/",
    "release-tool/src/buildset/choose.rs",
    "release-tool/src/run/graph.rs",
    "release-tool/src/run/values.rs",
    "release-tool/src/sweep/decide.rs",
];

/// What has a clock, or does I/O, or waits for something that does.
const IMPURE: [&str; 24] = [
    "async",
    "await",
    "tokio",
    "reqwest",
    "zbus",
    "spawn",
    "fs",
    "File",
    "OpenOptions",
    "net",
    "env::",
    "process",
    "Command",
    "stdin",
    "Bucket",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "elapsed()",
    "random_u64",
    "rand",
    "rustix",
    "thread",
];

/// Pages that are drawn from the snapshot of the fleet and from nothing else.
const PAGES: &str = "push-server/src/web/pages";

/// Those that aren't, and say so: all of a server's history; the plan of a push, as fresh as the push; the push itself, and
/// what is done about it; who rejected a release, and that decision itself; a halt; a server that is retired; a run with its files.
const READING_PAGES: [&str; 9] = [
    "halt.rs",
    "history.rs",
    "plan/mod.rs",
    "push/mod.rs",
    "push/redo.rs",
    "push/restore.rs",
    "release.rs",
    "retire.rs",
    "run.rs",
];

/// What a page that reads the bucket can't do without.
const READING: [&str; 3] = ["await", "refresher", "Bucket"];

/// The directories of a bucket.
const DIRECTORIES: [&str; 4] = ["debs/", "server/", "status/", "history/"];

fn all_shipped() -> impl Iterator<Item = Source> {
    let directories = SHIPPED.iter().map(|name| format!("{name}/src"));
    directories.flat_map(|directory| shipped(&directory))
}

/// `path:line: word` for each of the words in a file's code.
fn uses(source: &Source, words: &[&str]) -> Vec<String> {
    // A child process that is given our stderr prints, not we.
    let is_given_away = |place: &usize| source.code[..*place].trim_end_matches("io::").ends_with("Stdio::from(std::");
    let places = |word: &str| source.finds(word).into_iter().filter(|place| !is_given_away(place)).collect::<Vec<_>>();
    let at = |word: &&str| places(word).into_iter().map(|place| (place, (*word).to_owned())).collect::<Vec<_>>();
    let mut found: Vec<(usize, String)> = words.iter().flat_map(at).collect();
    found.sort();
    found.into_iter().map(|(place, word)| format!("{}: `{word}`", source.at(place))).collect()
}

#[test]
fn only_faces_print() {
    let hidden = all_shipped().filter(|source| !FACES.iter().any(|face| source.path.starts_with(face)));
    let found: Vec<_> = hidden.flat_map(|source| uses(&source, &PRINTING)).collect();
    none(&found, "return what is to be said; what prints lives in `console` and in a program's commands");
}

#[test]
fn what_decides_has_no_clock_and_does_no_io() {
    for path in PURE {
        assert!(exists(path), "`{path}` moved: follow it in `PURE` of {}", file!());
    }
    let pure = all_shipped().filter(|source| PURE.iter().any(|pure| source.path.starts_with(pure)));
    let found: Vec<_> = pure.flat_map(|source| uses(&source, &IMPURE)).collect();
    none(&found, "let the caller read, and pass in what was read, and `now`");
}

#[test]
fn pages_are_drawn_from_the_snapshot() {
    let reads = |source: &Source| READING_PAGES.iter().any(|page| source.path == format!("{PAGES}/{page}"));
    let promising = shipped(PAGES).into_iter().filter(|source| !reads(source));
    let found: Vec<_> = promising.flat_map(|source| uses(&source, &READING)).collect();
    none(&found, "let the snapshot hold it, or name the page in `READING_PAGES` and in ARCHITECTURE.md");
}

#[test]
fn only_bucket_knows_where_things_lie() {
    let mut found = Vec::new();
    for source in all_shipped().filter(|source| !source.path.starts_with("bucket/")) {
        for (place, string) in &source.strings {
            if DIRECTORIES.iter().any(|directory| string.starts_with(directory)) {
                found.push(format!("{}: {string:?}", source.at(*place)));
            }
        }
    }
    none(&found, "ask `bucket` for the path: it has a function for each kind of object");
}
