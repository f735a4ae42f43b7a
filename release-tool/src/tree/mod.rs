//! The file tree of a package: from `contents` and units to a sorted list of what the data member has.
//!
//! Only looks, never reads a file's content: sizes are what the package is laid out by, and the writer
//! ([`crate::deb`]) finds out when one changed.

mod sources;
mod walk;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry as Place},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result, bail};

pub(crate) use sources::sources;
use walk::{Found, Wanted};
pub(crate) use walk::{NotThere, UNFINISHED, Walk};

use crate::manifest::{Content, Id, Mode, Owner, Recipe, Target, Unit};

/// Directory of unit files in a package.
///
/// `/usr/lib` and not `/lib`: on every supported release `/lib` is a link to it, so this is the name under which
/// dpkg, systemd and `dpkg -S` agree, and the one Debian moved to for good with 13.
/// `deb-systemd-helper` looks in both.
pub(crate) const UNITS: &str = "usr/lib/systemd/system";

/// The files of a package by path, without the slash at the beginning. In byte order parents come before their children.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
    /// The directory that was made sure of last: most files come right after another one of their directory.
    last: String,
}

/// One file, directory or link.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its type, with what only that type has.
    pub(crate) kind: Kind,
    /// Permission bits, setuid, setgid and sticky included.
    pub(crate) mode: u32,
    /// Owner and group on the server.
    pub(crate) owner: Owner,
    /// Which line of `release.toml` it comes from; `None` for a directory that only others need.
    from: Option<Arc<str>>,
    /// For such a directory, the line whose tree it belongs to, if that gives it an owner or a mode.
    tree: Option<Arc<str>>,
}

/// The type of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A regular file with the content of `source`.
    File {
        /// Path on this machine that the content is read from.
        source: PathBuf,
        /// Size in bytes when the tree was laid out; the writer refuses a file that has another by then.
        size: u64,
        /// Device and number of its inode, if the tree that it was found in may have it under other names too.
        inode: Option<(u64, u64)>,
        /// Whether dpkg asks before it overwrites an administrator's changes.
        conffile: bool,
    },
    /// A symbolic link.
    Link {
        /// Target of the link, as it is written into the package.
        to: String,
    },
}

impl Tree {
    /// Lays out what a recipe and its units install.
    pub(crate) fn lay_out(walk: &Walk, recipe: &Recipe, units: &[Unit]) -> Result<Self> {
        let mut tree = Self::default();
        for content in &recipe.contents {
            tree.add_content(walk, content)?;
        }
        for unit in units {
            let Some(file) = &unit.file else { continue };
            let at = format!("unit `{}`", unit.name);
            let (source, metadata) = walk.file(file).with_context(|| format!("{at}: cannot use `file`"))?;
            walk.check_inside(file, unit.outside).with_context(|| format!("{at}: cannot use `file`"))?;
            let kind = Kind::File { source, size: metadata.len(), inode: None, conffile: false };
            tree.add(format!("{UNITS}/{}", unit.name), Entry::new(kind, 0o644, &Owner::root(), &at.into()))?;
        }
        Ok(tree)
    }

    /// Everything, parents before their children.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// What is at a path, without the slash at its beginning.
    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Regular files that are conffiles.
    pub(crate) fn conffiles(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, e)| matches!(e.kind, Kind::File { conffile: true, .. })).map(|(path, _)| path)
    }

    /// Files that are another name of one that comes before them, each with the first name: what has one inode, mode and
    /// owner here is one file on the server too. Conffiles are files of their own: dpkg replaces them one by one.
    pub(crate) fn hard_links(&self) -> BTreeMap<&str, &str> {
        let mut first = HashMap::new();
        let mut links = BTreeMap::new();
        for (path, entry) in self.iter() {
            if let Kind::File { inode: Some(inode), conffile: false, .. } = entry.kind {
                let owner = |id: &Id| id.to_string();
                let one = (inode, entry.mode, owner(&entry.owner.user), owner(&entry.owner.group));
                let to = *first.entry(one).or_insert(path);
                if to != path {
                    links.insert(path, to);
                }
            }
        }
        links
    }

    /// Sum of the sizes of all files, of each once.
    pub(crate) fn bytes(&self) -> u64 {
        let links = self.hard_links();
        let size = |(path, entry): (&str, &Entry)| match entry.kind {
            Kind::File { size, .. } if !links.contains_key(path) => size,
            _ => 0,
        };
        self.iter().map(size).sum()
    }

    /// `Installed-Size` (deb-substvars(5)): every file and link rounded up to KiB, anything else one KiB. A file with
    /// several names counts once.
    pub(crate) fn installed_kib(&self) -> u64 {
        let links = self.hard_links();
        let kib = |(path, entry): (&str, &Entry)| match &entry.kind {
            Kind::File { .. } if links.contains_key(path) => 0,
            Kind::File { size, .. } => size.div_ceil(1024),
            Kind::Link { to } => (to.len() as u64).div_ceil(1024),
            Kind::Directory => 1,
        };
        // The root directory itself counts, as it does for dpkg-gencontrol(1).
        1 + self.iter().map(kib).sum::<u64>()
    }

    /// Adds a file of root's.
    #[cfg(test)]
    pub(crate) fn add_file(&mut self, path: &str, source: PathBuf, size: u64) {
        let kind = Kind::File { source, size, inode: None, conffile: false };
        self.add(path.to_owned(), Entry::new(kind, 0o644, &Owner::root(), &"a test".into())).unwrap();
    }

    /// Gives a file other permission bits.
    #[cfg(test)]
    pub(crate) fn set_mode(&mut self, path: &str, mode: u32) {
        self.entries.get_mut(path).unwrap().mode = mode;
    }

    fn add_content(&mut self, walk: &Walk, content: &Content) -> Result<()> {
        match content {
            Content::Link { at, link, to } => {
                let link_entry = Entry::new(Kind::Link { to: to.clone() }, 0o777, &Owner::root(), &at.as_str().into());
                self.add(link.path.clone(), link_entry)
            }
            Content::Directory { at, directory, mode, owner } => {
                if directory.path.is_empty() {
                    bail!("{at}: a package cannot change the root directory");
                }
                let entry = Entry::new(Kind::Directory, *mode, owner, &at.as_str().into());
                self.add(directory.path.clone(), entry)
            }
            Content::Copy { at, src, dst, exclude, outside, mode, dir_mode, owner, conffile } => {
                let wanted = Wanted { src, dst, exclude, outside: *outside };
                let directory_mode = directory_mode(mode.as_ref(), dir_mode.as_ref()).with_context(|| at.clone())?;
                let from: Arc<str> = at.as_str().into();
                let own = Entry {
                    kind: Kind::Directory,
                    mode: directory_mode,
                    owner: owner.clone(),
                    from: None,
                    tree: Some(from.clone()),
                };
                for found in walk.find(wanted).with_context(|| format!("{at}: cannot use `src`"))? {
                    check_executable(mode.as_ref(), &found).with_context(|| at.clone())?;
                    self.add_tree_directories(&found, dst, &own)?;
                    let (kind, mode) = match found.kind {
                        Kind::File { source, size, inode, .. } => {
                            let conffile = conffile.unwrap_or_else(|| found.path.starts_with("etc/"));
                            let default = if found.executable { 0o755 } else { 0o644 };
                            let mode = mode.as_ref().map_or(default, |mode| mode.apply(default, false));
                            (Kind::File { source, size, inode, conffile }, mode)
                        }
                        Kind::Directory => continue,
                        link @ Kind::Link { .. } => (link, 0o777),
                    };
                    self.add(found.path, Entry::new(kind, mode, owner, &from))?;
                }
                Ok(())
            }
        }
    }

    /// The directories on the way to what was found below `dst`: the tree's own, which have its owner and mode.
    fn add_tree_directories(&mut self, found: &Found, dst: &Target, own: &Entry) -> Result<()> {
        let path = if found.kind == Kind::Directory { &format!("{}/", found.path) } else { &found.path };
        let at = own.tree.as_deref().unwrap_or_default();
        self.add_parents(path).with_context(|| at.to_owned())?;
        if own.mode == 0o755 && own.owner == Owner::root() {
            return Ok(());
        }
        for (slash, _) in path.match_indices('/').filter(|(slash, _)| *slash > dst.path.len()) {
            let Some(there) = self.entries.get_mut(&path[..slash]).filter(|there| there.from.is_none()) else {
                continue;
            };
            match &there.tree {
                Some(other) if (there.mode, &there.owner) != (own.mode, &own.owner) => bail!(
                    "{at}: `/{}` has another owner or mode by {other}: add an entry that decides, as in {{ dir = \"/{}\" }}",
                    &path[..slash],
                    &path[..slash]
                ),
                Some(_) => {}
                None => *there = own.clone(),
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, entry: Entry) -> Result<()> {
        let at = entry.from.clone().unwrap_or_default();
        self.add_parents(&path).with_context(|| at.to_string())?;
        match self.entries.entry(path) {
            Place::Vacant(place) => {
                place.insert(entry);
            }
            Place::Occupied(mut there) => {
                let path = there.key();
                let both_directories = there.get().kind == Kind::Directory && entry.kind == Kind::Directory;
                match &there.get().from {
                    None if both_directories => {}
                    None => bail!("{at}: `/{path}` is a directory, because it contains other entries"),
                    Some(from) => bail!("{at}: `/{path}` is already defined by {from}: remove one of the two entries"),
                }
                there.insert(entry);
            }
        }
        Ok(())
    }

    /// Every directory on the way to `path`, once.
    fn add_parents(&mut self, path: &str) -> Result<()> {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        // What is a directory once stays one.
        if self.last == directory {
            return Ok(());
        }
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            let implied = || Entry { kind: Kind::Directory, mode: 0o755, owner: Owner::root(), from: None, tree: None };
            let entry = self.entries.entry(parent.to_owned()).or_insert_with(implied);
            if entry.kind != Kind::Directory {
                let from = entry.from.as_deref().unwrap_or_default();
                bail!("`/{path}` cannot be below `/{parent}`, which is not a directory ({from})");
            }
        }
        directory.clone_into(&mut self.last);
        Ok(())
    }
}

impl Entry {
    /// The line of `release.toml` that it comes from; `None` for a directory that only others need.
    pub(crate) fn line(&self) -> Option<&str> {
        self.from.as_deref()
    }

    fn new(kind: Kind, mode: u32, owner: &Owner, from: &Arc<str>) -> Self {
        Self { kind, mode, owner: owner.clone(), from: Some(from.clone()), tree: None }
    }
}

/// The mode of a tree's directories: their own, or what a symbolic mode makes of the default. An octal one is for the files.
fn directory_mode(mode: Option<&Mode>, dir_mode: Option<&Mode>) -> Result<u32> {
    let (key, mode) = match (dir_mode, mode) {
        (Some(mode), _) => ("dir_mode", mode),
        (None, Some(mode @ Mode::Symbolic(_))) => ("mode", mode),
        (None, _) => return Ok(0o755),
    };
    let bits = mode.apply(0o755, true);
    if bits & 0o444 & !(bits << 2) != 0 {
        bail!(
            "`{key}` makes directories that can be read and not entered ({bits:04o}): write `X`, which is `x` for directories \
             and for what is executable, or state `dir_mode`"
        );
    }
    Ok(bits)
}

/// Refuses an octal mode that would make a file of a tree executable which is not: data, as a rule.
fn check_executable(mode: Option<&Mode>, found: &Found) -> Result<()> {
    match (mode, &found.kind) {
        (Some(Mode::Octal(mode)), Kind::File { source, .. })
            if mode & 0o111 != 0 && !found.is_named && !found.executable =>
        {
            bail!(
                "mode {mode:04o} would make `{}` executable, which it is not in the project: write \
                 mode = \"u=rwX,go=rX\" to leave data as it is, or mode = \"a+x\" if it is meant",
                source.display()
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Entry {
        let kind = Kind::File { source: PathBuf::new(), size, inode: None, conffile: false };
        Entry::new(kind, 0o644, &Owner::root(), &"contents[0]".into())
    }

    #[test]
    fn parents_are_there_once_and_first() {
        let mut tree = Tree::default();
        tree.add("usr/lib/x".to_owned(), file(1)).unwrap();
        tree.add("usr/lib-y".to_owned(), file(1)).unwrap();
        tree.add("usr/lib/a/b".to_owned(), file(1)).unwrap();
        let paths: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/lib", "usr/lib-y", "usr/lib/a", "usr/lib/a/b", "usr/lib/x"]);
    }

    #[test]
    fn one_path_has_one_owner() {
        let mut tree = Tree::default();
        tree.add("usr/x".to_owned(), file(1)).unwrap();
        assert!(
            tree.add("usr/x".to_owned(), file(1)).unwrap_err().to_string().contains("already defined by contents[0]")
        );
        assert!(
            format!("{:#}", tree.add("usr/x/y".to_owned(), file(1)).unwrap_err()).contains("which is not a directory")
        );
        assert!(tree.add("usr".to_owned(), file(1)).unwrap_err().to_string().contains("is a directory"));
    }

    #[test]
    fn a_directory_may_state_its_mode_after_others_went_below_it() {
        let mut tree = Tree::default();
        tree.add("var/web/x".to_owned(), file(1)).unwrap();
        tree.add("var/web".to_owned(), Entry::new(Kind::Directory, 0o750, &Owner::root(), &"contents[1]".into()))
            .unwrap();
        assert_eq!(tree.entries["var/web"].mode, 0o750);
    }

    #[test]
    fn one_inode_is_one_file_unless_mode_owner_or_conffile_say_otherwise() {
        let mut tree = Tree::default();
        let mut add = |path: &str, mode, number, conffile, owner: &Owner| {
            let kind = Kind::File { source: PathBuf::new(), size: 2000, inode: Some((1, number)), conffile };
            tree.add(path.to_owned(), Entry::new(kind, mode, owner, &path.into())).unwrap();
        };
        let web = Owner { user: Id::Number(33), group: Id::Number(33) };
        add("a", 0o644, 7, false, &Owner::root());
        add("b", 0o644, 7, false, &Owner::root());
        add("c", 0o755, 7, false, &Owner::root());
        add("d", 0o644, 8, false, &Owner::root());
        add("e", 0o644, 7, true, &Owner::root());
        add("f", 0o644, 7, false, &web);
        add("g", 0o644, 7, false, &web);
        assert_eq!(tree.hard_links(), BTreeMap::from([("b", "a"), ("g", "f")]));
        assert_eq!((tree.bytes(), tree.installed_kib()), (5 * 2000, 1 + 5 * 2));
    }

    #[test]
    fn installed_size_follows_dpkgs_rule() {
        let mut tree = Tree::default();
        tree.add("a".to_owned(), file(0)).unwrap();
        tree.add("b".to_owned(), file(1)).unwrap();
        tree.add("c".to_owned(), file(1025)).unwrap();
        tree.add("d/e".to_owned(), Entry::new(Kind::Link { to: "x".into() }, 0o777, &Owner::root(), &"l".into()))
            .unwrap();
        // The root, then 0 + 1 + 2, then the directory and the link.
        assert_eq!(tree.installed_kib(), 1 + 3 + 2);
    }
}
