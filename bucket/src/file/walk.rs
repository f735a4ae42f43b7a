//! Listings of a bucket's directory, in the byte order of the objects' paths.
//!
//! A page starts anew from the last path of the page before, so that no state is kept between pages and memory is
//! bounded by the largest directory's names.

use super::directory::Directory;
use crate::{Error, ObjectInfo, Page, PageToken};

/// One page of the objects whose path begins with `prefix`, after the path `after`.
pub(super) fn list(
    directory: &Directory,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<ObjectInfo>, Error> {
    let limit = limit.max(1);
    let mut walk = Walk { directory, prefix, after, limit: limit + 1, found: Vec::new() };
    let (parent, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    walk.descend(parent)?;
    let mut items = walk.found;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| PageToken::next(None, last.path.to_string()));
    Ok(Page { items, next })
}

/// One page of the directories right below `prefix`, after the one named `after`, that hold an object.
pub(super) fn list_directories(
    directory: &Directory,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<String>, Error> {
    let limit = limit.max(1);
    let parent = prefix.strip_suffix('/').unwrap_or(prefix);
    let after = after.map(|after| format!("{after}/"));
    let mut names: Vec<String> = Vec::new();
    for (name, is_directory) in directory.names(parent)?.unwrap_or_default() {
        // With its slash, as it sorts among the paths.
        let name = name + "/";
        if is_directory && after.as_ref().is_none_or(|after| &name > after) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut items = Vec::new();
    let mut more = false;
    for name in names {
        // As on GCS, where there are no directories but only objects below a prefix.
        if list(directory, &format!("{prefix}{name}"), None, 1)?.items.is_empty() {
            continue;
        }
        if items.len() == limit {
            more = true;
            break;
        }
        items.push(name.trim_end_matches('/').to_owned());
    }
    let next = items.last().filter(|_| more).map(|last| PageToken::next(None, last.clone()));
    Ok(Page { items, next })
}

struct Walk<'a> {
    directory: &'a Directory,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    found: Vec<ObjectInfo>,
}

impl Walk<'_> {
    fn descend(&mut self, parent: &str) -> Result<(), Error> {
        let names = self.directory.names(parent)?.unwrap_or_default();
        let mut paths: Vec<String> =
            names.iter().map(|(name, is_directory)| join(parent, name, *is_directory)).collect();
        // A directory sorts with its slash: that is where the paths below it sort.
        paths.sort_unstable();
        for path in paths {
            if self.found.len() >= self.limit {
                return Ok(());
            }
            match path.strip_suffix('/') {
                Some(below) if self.may_hold_some(&path) => self.descend(below)?,
                None if path.starts_with(self.prefix) && self.after.is_none_or(|after| path.as_str() > after) => {
                    self.found.extend(path.parse().ok().map(|path| self.directory.info(&path)).transpose()?.flatten());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether paths that begin with `directory` can be on this page.
    fn may_hold_some(&self, directory: &str) -> bool {
        let below_prefix = directory.starts_with(self.prefix) || self.prefix.starts_with(directory);
        let past = self.after.is_some_and(|after| directory < after && !after.starts_with(directory));
        below_prefix && !past
    }
}

fn join(parent: &str, name: &str, is_directory: bool) -> String {
    let slash = if is_directory { "/" } else { "" };
    if parent.is_empty() { format!("{name}{slash}") } else { format!("{parent}/{name}{slash}") }
}
