//! Listings of a bucket's directory, in the byte order of the objects' paths.
//!
//! A page starts anew from the last path of the page before, so that no state is kept between pages and memory is
//! bounded by the largest directory's names.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{directory::Directory, folder::Folder};
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
    if let Some(folder) = Folder::open(directory, parent)? {
        for entry in folder.names()? {
            let (name, is_directory) = entry?;
            // With its slash, as it sorts among the paths.
            let name = name + "/";
            if is_directory && after.as_ref().is_none_or(|after| &name > after) {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    let mut items = Vec::new();
    let mut more = false;
    for name in names {
        // As on GCS, where there are no directories but only objects below a prefix.
        if !holds_an_object(directory, &format!("{prefix}{}", name.trim_end_matches('/')))? {
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

/// Whether an object lies anywhere below a directory. The first one tells: an app's other releases aren't looked at.
fn holds_an_object(directory: &Directory, path: &str) -> Result<bool, Error> {
    let Some(folder) = Folder::open(directory, path)? else { return Ok(false) };
    let mut below = Vec::new();
    for entry in folder.names()? {
        let (name, is_directory) = entry?;
        let path = join(path, &name);
        if is_directory {
            below.push(path);
        } else if let Ok(path) = path.parse()
            && folder.listed(&path, &name)?.is_some()
        {
            return Ok(true);
        }
    }
    for path in below {
        if holds_an_object(directory, &path)? {
            return Ok(true);
        }
    }
    Ok(false)
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
        let Some(folder) = Folder::open(self.directory, parent)? else { return Ok(()) };
        let mut paths = Vec::new();
        for entry in folder.names()? {
            let (name, is_directory) = entry?;
            let mut path = join(parent, &name);
            if is_directory {
                // A directory sorts with its slash: that is where the paths below it sort.
                path.push('/');
            }
            if self.wants(&path) {
                paths.push(Reverse(path));
            }
        }
        // A page is a small part of a large directory: not all of it is sorted for each.
        let mut paths = BinaryHeap::from(paths);
        while self.found.len() < self.limit
            && let Some(Reverse(path)) = paths.pop()
        {
            if let Some(below) = path.strip_suffix('/') {
                self.descend(below)?;
            } else if let Ok(object) = path.parse() {
                let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
                self.found.extend(folder.listed(&object, name)?);
            }
        }
        Ok(())
    }

    /// Whether a path, or if it ends in a slash some path that begins with it, can be on this page.
    fn wants(&self, path: &str) -> bool {
        if path.ends_with('/') {
            let below_prefix = path.starts_with(self.prefix) || self.prefix.starts_with(path);
            let past = self.after.is_some_and(|after| path < after && !after.starts_with(path));
            return below_prefix && !past;
        }
        path.starts_with(self.prefix) && self.after.is_none_or(|after| path > after)
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}
