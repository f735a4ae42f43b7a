//! What each Rust file looks like from outside: short, introduced, and where one looks for it.

use crate::source::{exists, none, read, rust_files};

/// More lines than this are more than one idea.
const LINES: usize = 600;

#[test]
fn no_rust_file_is_longer_than_600_lines() {
    let long = |path: String| {
        let lines = read(&path).lines().count();
        (lines > LINES).then(|| format!("{path}:{LINES}: goes on to line {lines}"))
    };
    let found: Vec<_> = rust_files("").into_iter().filter_map(long).collect();
    none(&found, "split it by idea; tests are split by topic");
}

#[test]
fn each_rust_file_says_what_it_is() {
    // A fuzz target begins with `#![no_main]`, and a test may be a program that only exists to be run by one.
    let is_silent =
        |path: &String| !read(path).lines().find(|line| !line.starts_with("#!")).unwrap_or("").starts_with("//!");
    let found: Vec<_> =
        rust_files("").into_iter().filter(is_silent).map(|path| format!("{path}:1: no `//!`")).collect();
    none(&found, "begin with `//!`: what this is, and who uses it");
}

#[test]
fn each_module_folder_has_a_front_page() {
    let mut found = Vec::new();
    for path in rust_files("") {
        let Some((folder, _)) = path.rsplit_once('/') else { continue };
        let is_front = |name: &str| exists(&format!("{folder}/{name}"));
        if !["mod.rs", "lib.rs", "main.rs"].into_iter().any(is_front) && !is_alone(folder) {
            found.push(format!("{path}:1: its folder has no `mod.rs`"));
        }
        if exists(&format!("{folder}.rs")) {
            found.push(format!("{folder}.rs:1: stands beside its folder"));
        }
    }
    found.sort();
    found.dedup();
    none(&found, "a folder's front page is its `mod.rs`, with `//!` on what is in there");
}

/// Folders of whole programs, of which each file is one: tests, fuzz targets, examples.
fn is_alone(folder: &str) -> bool {
    ["tests", "fuzz_targets", "examples", "benches"].iter().any(|name| folder.ends_with(&format!("/{name}")))
        && !folder.contains("/src/")
}
