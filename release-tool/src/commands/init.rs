//! `release init`: a release.toml to begin with.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
};

use anyhow::{Context as _, Result, bail};
use console::{print_json, print_line};

use crate::{
    draft::{Draft, render},
    git::Git,
    manifest::FILE,
    options::Options,
    source::identity,
};

/// What its help shows.
pub(crate) const EXAMPLES: &str = "\
Examples:
  release init                          from what the current directory shows
  release init -C services/web

Cargo, Go, Node and Python projects and static files are recognized, and unit files.
Nothing is asked, and a release.toml that exists is never overwritten.";

/// Writes the file and prints its path.
pub(crate) fn run(options: &Options) -> Result<()> {
    let directory = options.directory()?;
    let path = directory.join(FILE);
    let shown = path.display();
    if path.exists() {
        bail!("`{shown}` already exists and is not overwritten: `release reference` explains what to add");
    }
    let draft = Draft::of(&directory)?;
    let text = render(&draft, identity(&directory).as_deref());
    let failed = || format!("could not write `{shown}`");
    let mut file = match File::create_new(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("`{shown}` already exists"),
        created => created.with_context(failed)?,
    };
    file.write_all(text.as_bytes()).with_context(failed)?;
    console::note(format_args!("wrote {shown} for `{}` ({})", draft.name, draft.kind));
    if draft.contents.is_empty() && draft.units.is_empty() {
        console::warning("nothing to install was found, so that the package would be empty: list it in `contents`");
    }
    for made in draft.made.iter().filter(|made| !is_ignored(options, made)) {
        console::note(format_args!("add /{made}/ to .gitignore: what the build makes must not be taken for a change"));
    }
    console::note("next: review it, run `release plan`, commit, and run `release -m \"why\"`");
    if options.json { print_json(&path) } else { print_line(shown) }
}

/// Whether git ignores a directory; outside of a repository nothing is.
fn is_ignored(options: &Options, made: &str) -> bool {
    Git::at(&options.directory).ask(&["check-ignore", "-q", made]).is_ok_and(|answer| answer.is_some())
}
