//! What the manifests say: which crate may use which of ours, and why there is what others wrote.

use std::{collections::BTreeSet, process::Command};

use crate::source::{none, read, root};

/// Our crates, and those of ours that each may use. Arrows point down, from the programs' faces to the contract.
const ARROWS: [(&str, &[&str]); 9] = [
    ("bucket", &[]),
    ("connections", &[]),
    ("console", &[]),
    ("fleet", &["bucket", "console", "registry"]),
    ("pipeline", &["bucket", "console", "registry"]),
    ("pulld", &["bucket", "console"]),
    ("push-server", &["bucket", "connections", "console", "fleet", "registry"]),
    ("registry", &["bucket", "console"]),
    ("release-tool", &["bucket", "connections", "console", "fleet", "pipeline", "registry"]),
];

/// The page that says of each dependency why it is there.
const PAGE: &str = "docs/dependencies.md";

/// An entry of a manifest's tables of dependencies.
struct Entry {
    name: String,
    /// Whether it is another crate of ours.
    is_ours: bool,
    is_for_tests: bool,
    line: usize,
}

/// The dependencies of a manifest: all of ours are one line each, `name.workspace = true` or `name = …`.
fn dependencies(manifest: &str) -> Vec<Entry> {
    let mut table = "";
    let mut found = Vec::new();
    let text = read(manifest);
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
            assert!(!table.contains("dependencies."), "{manifest}:{}: write `name = {{ … }}`", number + 1);
        } else if table.ends_with("dependencies")
            && let Some((name, value)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let name = name.trim().trim_end_matches(".workspace").to_owned();
            let is_ours = value.contains("path =") || ARROWS.iter().any(|(ours, _)| *ours == name);
            found.push(Entry { name, is_ours, is_for_tests: table == "dev-dependencies", line: number + 1 });
        }
    }
    found
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let mut found = Vec::new();
    for (name, below) in ARROWS {
        let manifest = format!("{name}/Cargo.toml");
        for entry in dependencies(&manifest).iter().filter(|entry| entry.is_ours && !entry.is_for_tests) {
            if !below.contains(&entry.name.as_str()) {
                found.push(format!("{manifest}:{}: `{name}` uses `{}`", entry.line, entry.name));
            }
        }
    }
    none(&found, "move what both need into `bucket`, `console`, `fleet` or `registry`");
}

#[test]
fn each_crate_has_its_place_among_the_arrows() {
    let manifest = read("Cargo.toml");
    let members =
        manifest.lines().find_map(|line| line.strip_prefix("members = [")).expect("the workspace has members");
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).filter(|name| *name != "tests").collect();
    assert_eq!(members, ARROWS.iter().map(|(name, _)| *name).collect(), "add it to `ARROWS` of {}", file!());
}

#[test]
fn each_dependency_has_its_reason_and_each_reason_its_dependency() {
    let page = read(PAGE);
    let (reasons, _) = page.split_once("\n## What is not there").expect("the page has two parts");
    let rows = reasons.lines().enumerate().filter(|(_, line)| line.starts_with("| `"));
    let mut explained = BTreeSet::new();
    for (number, line) in rows {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (names, reason) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        assert!(reason.ends_with('.') && reason.len() > 12, "{PAGE}:{}: say why in a sentence", number + 1);
        explained.extend(names.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    let declared = ["Cargo.toml", "fuzz/Cargo.toml"].iter().flat_map(|manifest| dependencies(manifest));
    let declared: BTreeSet<_> = declared.filter(|entry| !entry.is_ours).map(|entry| entry.name).collect();
    let missing = declared.difference(&explained).map(|name| format!("{PAGE}:1: says nothing of `{name}`"));
    let gone = explained.difference(&declared).map(|name| format!("{PAGE}:1: `{name}` is no direct dependency"));
    none(
        &missing.chain(gone).collect::<Vec<_>>(),
        "the page names each direct dependency of Cargo.toml and fuzz/Cargo.toml, once",
    );
}

#[test]
fn each_dependency_of_the_workspace_is_used_by_a_member() {
    let members = ARROWS.iter().map(|(name, _)| *name).chain(["tests"]);
    let used: BTreeSet<_> =
        members.flat_map(|name| dependencies(&format!("{name}/Cargo.toml"))).map(|entry| entry.name).collect();
    let unused = dependencies("Cargo.toml").into_iter().filter(|entry| !entry.is_ours && !used.contains(&entry.name));
    let found: Vec<_> = unused.map(|entry| format!("Cargo.toml:{}: `{}`", entry.line, entry.name)).collect();
    none(&found, "remove what nobody uses, from `Cargo.toml` and from the page");
}

/// Tests that turn on a feature which programs don't have make the crate, and all that is built on it, compile twice.
#[test]
fn programs_and_tests_share_each_artefact() {
    let (programs, tests) = (resolved("normal,build"), resolved("normal,build,dev"));
    let name = |line: &String| line.split('|').next().unwrap_or_default().to_owned();
    let shared: BTreeSet<_> = programs.iter().map(name).collect();
    let found: Vec<_> = tests.difference(&programs).filter(|line| shared.contains(&name(line))).cloned().collect();
    none(&found, "each line is a crate with the features it has in tests only: state them in the workspace Cargo.toml");
}

/// Each crate that is built, once for each set of features: `name v1.0.0|features`.
fn resolved(edges: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--workspace", "--locked", "--offline", "--prefix=none"]);
    let output = cargo.args(["--format={p}|{f}", "--edges", edges]).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}
