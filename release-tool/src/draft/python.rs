//! Python: the modules of a project, run by the server's own interpreter.

use std::path::Path;

use anyhow::Result;

use super::{Draft, Entry, Project};

/// What is made when the modules run.
const EXCLUDE: [&str; 2] = ["**/__pycache__/**", "**/*.pyc"];

/// A program of one file, in the project's own directory.
fn is_script(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "py") && name != "setup.py"
}

pub(super) fn draft(project: &Project) -> Result<Option<Draft>> {
    let names = project.names(".");
    let scripts: Vec<&String> = names.iter().filter(|name| is_script(name)).collect();
    let described = ["pyproject.toml", "setup.py", "requirements.txt"].iter().any(|file| project.has(file));
    if !described && scripts.is_empty() {
        return Ok(None);
    }
    let file = project.toml("pyproject.toml")?.unwrap_or_default();
    let text = |key: &str| file.get("project").and_then(|table| table.get(key)).and_then(|value| value.as_str());
    let mut draft = Draft::new(project, "Python", text("name"), text("description"));
    draft.depends = vec!["python3"];
    let place = format!("/usr/lib/{}", draft.name);
    for parent in ["src", "."] {
        let prefix = if parent == "." { String::new() } else { format!("{parent}/") };
        for module in project.names(parent).iter().filter(|name| project.has(&format!("{prefix}{name}/__init__.py"))) {
            if ["test", "tests"].contains(&module.as_str()) {
                continue;
            }
            let (src, dst) = (format!("{prefix}{module}/**"), format!("{place}/{module}/"));
            draft.contents.push(Entry::Copy { src, dst, exclude: EXCLUDE.into(), is_program: false });
            if draft.exec_start.is_none() && project.has(&format!("{prefix}{module}/__main__.py")) {
                draft.exec_start = Some(format!("/usr/bin/env PYTHONPATH={place} /usr/bin/python3 -m {module}"));
            }
        }
    }
    for script in scripts {
        draft.contents.push(Entry::files(script.clone(), format!("{place}/{script}")));
        draft.exec_start.get_or_insert_with(|| format!("/usr/bin/python3 {place}/{script}"));
    }
    Ok(Some(draft))
}
