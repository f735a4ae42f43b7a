//! Static files: a site that a web server has only to find.

use super::{Draft, Entry, Project};

/// Where a site may lie; the whole repository comes last.
const PLACES: [&str; 7] = ["public", "site", "www", "html", "web", "static", "."];

/// What of a repository is no part of its site.
const EXCLUDE: [&str; 5] = ["release.toml", ".gitignore", ".github", "*.md", "systemd"];

pub(super) fn draft(project: &Project) -> Option<Draft> {
    let place = PLACES.into_iter().find(|place| project.has(&format!("{place}/index.html")))?;
    let mut draft = Draft::new(project, "static files", None, None);
    let dst = format!("/usr/share/{}/", draft.name);
    draft.contents = vec![match place {
        "." => Entry::Copy { src: ".".to_owned(), dst, exclude: EXCLUDE.into(), is_program: false },
        _ => Entry::files(format!("{place}/**"), dst),
    }];
    Some(draft)
}
