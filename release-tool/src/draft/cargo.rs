//! Rust: the programs of a package, or of a workspace's members.

use anyhow::Result;
use toml::{Table, Value};

use super::{Draft, Entry, Project};

pub(super) fn draft(project: &Project) -> Result<Option<Draft>> {
    let Some(manifest) = project.toml("Cargo.toml")? else { return Ok(None) };
    let mut programs = programs(project, "", &manifest);
    let mut first = text(&manifest, "name").zip(Some(text(&manifest, "description")));
    for member in members(project, &manifest) {
        let Some(manifest) = project.toml(&format!("{member}/Cargo.toml"))? else { continue };
        let found = self::programs(project, &format!("{member}/"), &manifest);
        if first.is_none() && !found.is_empty() {
            first = text(&manifest, "name").zip(Some(text(&manifest, "description")));
        }
        programs.extend(found);
    }
    let (name, description) = first.map_or((None, None), |(name, description)| (Some(name), description));
    let mut draft = Draft::new(project, "Rust", name.as_deref(), description.as_deref());
    draft.is_compiled = true;
    draft.build = ["cargo", "build", "--release"].map(str::to_owned).into();
    draft.exec_start = programs.first().map(|program| format!("/usr/bin/{program}"));
    let entry = |program: &String| Entry::program(format!("target/release/{program}"), program);
    draft.contents = programs.iter().map(entry).collect();
    draft.made = vec!["target"];
    Ok(Some(draft))
}

/// A text of `[package]`; what is inherited from the workspace is none.
fn text(manifest: &Table, key: &str) -> Option<String> {
    Some(manifest.get("package")?.get(key)?.as_str()?.to_owned())
}

/// The programs that cargo makes of a package in `directory`, which ends in a slash or is empty.
fn programs(project: &Project, directory: &str, manifest: &Table) -> Vec<String> {
    let Some(package) = text(manifest, "name") else { return Vec::new() };
    let bins = manifest.get("bin").and_then(Value::as_array).into_iter().flatten();
    let mut programs: Vec<String> = bins.filter_map(|bin| bin.get("name")?.as_str().map(str::to_owned)).collect();
    if programs.is_empty() && project.has(&format!("{directory}src/main.rs")) {
        programs.push(package);
    }
    for name in project.names(&format!("{directory}src/bin")) {
        let program = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
        if !programs.contains(&program) {
            programs.push(program);
        }
    }
    programs
}

/// The directories of a workspace's members. Of globs only a last `*` is understood.
fn members(project: &Project, manifest: &Table) -> Vec<String> {
    let listed = manifest.get("workspace").and_then(|workspace| workspace.get("members")).and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_str);
    let all = |member: &str| match member.strip_suffix("/*") {
        Some(parent) => project.names(parent).iter().map(|name| format!("{parent}/{name}")).collect(),
        None => vec![member.to_owned()],
    };
    listed.flat_map(all).collect()
}
