//! Go: the program of a module, or those below `cmd/`.

use anyhow::Result;

use super::{Draft, Entry, Project, package_name};

pub(super) fn draft(project: &Project) -> Result<Option<Draft>> {
    let Some(text) = project.text("go.mod")? else { return Ok(None) };
    let module = text.lines().find_map(|line| line.strip_prefix("module ")).map(str::trim);
    let mut draft = Draft::new(project, "Go", module, None);
    let programs: Vec<String> =
        project.names("cmd").into_iter().filter(|name| project.has(&format!("cmd/{name}/main.go"))).collect();
    let (from, programs) = if programs.is_empty() {
        (".", vec![module.and_then(package_name).unwrap_or_else(|| draft.name.clone())])
    } else {
        ("./cmd/...", programs)
    };
    draft.is_compiled = true;
    // With a directory, `-o` takes one program or several; their names are those of their packages.
    draft.build = ["go", "build", "-trimpath", "-o", "build/", from].map(str::to_owned).into();
    draft.exec_start = programs.first().map(|program| format!("/usr/bin/{program}"));
    draft.contents = programs.iter().map(|program| Entry::program(format!("build/{program}"), program)).collect();
    draft.made = vec!["build"];
    Ok(Some(draft))
}
