//! Node: a program that runs from its directory, or a site that `npm run build` makes.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Draft, Entry, Project};

/// What a program doesn't need on a server.
const EXCLUDE: [&str; 6] = ["release.toml", ".gitignore", ".github", "test", "tests", "*.md"];

pub(super) fn draft(project: &Project) -> Result<Option<Draft>> {
    let Some(text) = project.text("package.json")? else { return Ok(None) };
    let package: Value = serde_json::from_str(&text).context("`package.json` is not valid JSON")?;
    let mut draft = Draft::new(project, "Node", package["name"].as_str(), package["description"].as_str());
    let script = |name: &str| package["scripts"][name].is_string();
    let main = ["main", "module"].iter().find_map(|key| package[*key].as_str());
    let main = main.or_else(|| ["server.js", "index.js", "app.js"].into_iter().find(|file| project.has(file)));
    let program = program(&package);
    if main.is_none() && program.is_none() && script("build") && !script("start") {
        site(&mut draft, &package);
        return Ok(Some(draft));
    }
    let place = format!("/usr/lib/{}", draft.name);
    draft.depends = vec!["nodejs"];
    let depends = package["dependencies"].as_object().is_some_and(|dependencies| !dependencies.is_empty());
    if script("build") {
        draft.build = ["sh", "-c", "npm ci && npm run build && npm prune --omit=dev"].map(str::to_owned).into();
    } else if depends {
        draft.build = ["npm", "ci", "--omit=dev"].map(str::to_owned).into();
    }
    if depends || script("build") {
        draft.made = vec!["node_modules"];
    }
    let (src, dst) = (".".to_owned(), format!("{place}/"));
    draft.contents.push(Entry::Copy { src, dst, exclude: EXCLUDE.into(), is_program: false });
    if let Some((name, file)) = &program {
        let to = format!("../lib/{}/{}", draft.name, file.trim_start_matches("./"));
        draft.contents.push(Entry::Link { link: format!("/usr/bin/{name}"), to });
    }
    let main = main.map(str::to_owned).or_else(|| program.map(|(_, file)| file));
    draft.exec_start = main.map(|main| format!("/usr/bin/node {place}/{}", main.trim_start_matches("./")));
    Ok(Some(draft))
}

/// The first command of `bin`: its name and its file.
fn program(package: &Value) -> Option<(String, String)> {
    match &package["bin"] {
        Value::String(file) => {
            let name = package["name"].as_str()?;
            Some((name.rsplit('/').next().unwrap_or(name).to_owned(), file.clone()))
        }
        Value::Object(programs) => {
            let (name, file) = programs.iter().next()?;
            Some((name.clone(), file.as_str()?.to_owned()))
        }
        _ => None,
    }
}

/// A site whose files a bundler makes.
fn site(draft: &mut Draft, package: &Value) {
    let uses = |name: &str| ["dependencies", "devDependencies"].iter().any(|key| package[*key].get(name).is_some());
    let made = match () {
        () if uses("react-scripts") => "build",
        () if uses("next") => "out",
        () => "dist",
    };
    draft.build = ["sh", "-c", "npm ci && npm run build"].map(str::to_owned).into();
    draft.contents = vec![Entry::files(format!("{made}/**"), format!("/usr/share/{}/", draft.name))];
    draft.made = vec!["node_modules", made];
}
