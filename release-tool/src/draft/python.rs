//! Python: the modules of a project, run by the server's own interpreter.

use std::path::Path;

use anyhow::Result;

use super::{Draft, Entry, Project};

/// What is made when the modules run.
const EXCLUDE: [&str; 2] = ["**/__pycache__/**", "**/*.pyc"];

/// Directories of a project whose Python is not what it installs.
const NO_MODULES: [&str; 12] = [
    "src",
    "test",
    "tests",
    "doc",
    "docs",
    "examples",
    "build",
    "dist",
    "env",
    "venv",
    "site-packages",
    "node_modules",
];

/// Files that only whoever develops the project runs.
const NO_SCRIPTS: [&str; 4] = ["setup.py", "conftest.py", "noxfile.py", "fabfile.py"];

/// A module or a program of one file.
fn is_script(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "py") && !NO_SCRIPTS.contains(&name)
}

/// A directory with modules: since Python 3.3 it needs no `__init__.py` (PEP 420).
fn is_module(project: &Project, parent: &str, name: &str) -> bool {
    let is_candidate = !name.starts_with('.') && !NO_MODULES.contains(&name);
    is_candidate && project.names(&format!("{parent}/{name}")).iter().any(|name| is_script(name))
}

pub(super) fn draft(project: &Project) -> Result<Option<Draft>> {
    let names = project.names(".");
    let scripts: Vec<&String> = names.iter().filter(|name| is_script(name)).collect();
    let in_src: Vec<String> = project.names("src").into_iter().filter(|name| is_script(name)).collect();
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
        for module in project.names(parent).iter().filter(|name| is_module(project, parent, name)) {
            let (src, dst) = (format!("{prefix}{module}/**"), format!("{place}/{module}/"));
            draft.contents.push(Entry::Copy { src, dst, exclude: EXCLUDE.into(), is_program: false });
            if draft.exec_start.is_none() && project.has(&format!("{prefix}{module}/__main__.py")) {
                draft.exec_start = Some(format!("/usr/bin/env PYTHONPATH={place} /usr/bin/python3 -m {module}"));
            }
        }
    }
    for script in in_src {
        draft.contents.push(Entry::files(format!("src/{script}"), format!("{place}/{script}")));
    }
    for script in scripts {
        draft.contents.push(Entry::files(script.clone(), format!("{place}/{script}")));
        draft.exec_start.get_or_insert_with(|| format!("/usr/bin/python3 {place}/{script}"));
    }
    Ok(Some(draft))
}
