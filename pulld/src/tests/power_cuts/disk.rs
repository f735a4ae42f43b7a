//! A file system that forgets at a power cut whatever it was not asked to keep.
//!
//! Of a file that was not synced, the content is the one at its last sync, or half of the new one, or as many zeros, or the
//! new one. Of a directory that was not synced, each name that was made, removed or changed since is so or is as before,
//! whatever became of the others; a rename is one change.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::trace::{Op, is_temporary};

/// A file's content and its time of modification, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Content {
    pub(super) bytes: Rc<Vec<u8>>,
    pub(super) time: i64,
}

/// Every file that is reachable, as one power cut may leave it.
pub(super) type Files = BTreeMap<Rc<Path>, Content>;

/// The most changes of names at a time that no sync has made to stay: every subset of them is tried.
const MAX_CHANGES: usize = 10;

#[derive(Debug, Clone, Default)]
struct Node {
    now: Content,
    synced: Content,
    is_directory: bool,
}

#[derive(Debug, Clone)]
struct Change {
    removed: Option<Rc<Path>>,
    added: Option<(Rc<Path>, usize)>,
}

/// The file system below one directory.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    names: BTreeMap<Rc<Path>, usize>,
    synced: BTreeMap<Rc<Path>, usize>,
    changes: Vec<Change>,
}

impl Disk {
    /// An empty one, whose root and these directories in it are there.
    pub(super) fn new(root: &Path, directories: &[&Path]) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            nodes: vec![],
            names: BTreeMap::new(),
            synced: BTreeMap::new(),
            changes: vec![],
        };
        for directory in [root].iter().chain(directories) {
            disk.names.insert(Rc::from(*directory), disk.nodes.len());
            disk.nodes.push(Node { is_directory: true, ..Node::default() });
        }
        disk.synced = disk.names.clone();
        disk
    }

    /// The content of a file, as programs see it.
    pub(super) fn read(&self, path: &Path) -> Option<&Content> {
        Some(&self.nodes[*self.names.get(path)?].now)
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Marker(_) => {}
            Op::MakeDirectory(path) => {
                self.node(path, true);
            }
            Op::Write(path, bytes) => {
                if let Some(node) = self.node(path, false) {
                    Rc::make_mut(&mut node.now.bytes).extend(bytes);
                }
            }
            Op::Time(path, time) => {
                if let Some(node) = self.node(path, false) {
                    node.now.time = *time;
                }
            }
            Op::Sync { path, with_time } => self.sync(path, *with_time),
            Op::Rename(from, to) => {
                if let Some(node) = self.names.remove(from.as_path()) {
                    self.change(Some(from), Some((to, node)));
                }
            }
            Op::Link(from, to) => {
                if let Some(node) = self.names.get(from.as_path()).copied() {
                    self.change(None, Some((to, node)));
                }
            }
            Op::Symlink(target, path) => {
                if let Some(node) = self.node(path, false) {
                    node.now.bytes = Rc::new(target.clone());
                    node.synced = node.now.clone();
                }
            }
            Op::Remove(path) => {
                if self.names.remove(path.as_path()).is_some() {
                    self.change(Some(path), None);
                }
            }
        }
    }

    /// What is at a path, made if there is nothing.
    fn node(&mut self, path: &Path, is_directory: bool) -> Option<&mut Node> {
        if !path.starts_with(&self.root) {
            return None;
        }
        let known = self.names.get(path).copied();
        let node = known.unwrap_or(self.nodes.len());
        if known.is_none() {
            self.nodes.push(Node { is_directory, ..Node::default() });
            self.change(None, Some((path, node)));
        }
        self.nodes.get_mut(node)
    }

    fn change(&mut self, removed: Option<&Path>, added: Option<(&Path, usize)>) {
        let added = added.map(|(path, node)| (Rc::from(path), node));
        if let Some((path, node)) = &added {
            self.names.insert(Rc::clone(path), *node);
        }
        self.changes.push(Change { removed: removed.map(Rc::from), added });
    }

    fn sync(&mut self, path: &Path, with_time: bool) {
        let Some(node) = self.names.get(path) else { return };
        let node = &mut self.nodes[*node];
        if !node.is_directory {
            node.synced.bytes = Rc::clone(&node.now.bytes);
            if with_time {
                node.synced.time = node.now.time;
            }
            return;
        }
        let of_it = |change: &mut Change| change.paths().any(|changed| changed.parent() == Some(path));
        let kept: Vec<Change> = self.changes.extract_if(.., of_it).collect();
        for change in kept {
            change.apply(&mut self.synced);
        }
    }

    /// Every state that a power cut may leave now.
    pub(super) fn cuts(&self) -> Vec<Files> {
        // Whether a temporary file has its name makes no difference to anybody.
        let (open, temporary): (Vec<&Change>, Vec<&Change>) =
            self.changes.iter().partition(|change| change.paths().any(|path| !is_temporary(path)));
        let mut cuts = Vec::new();
        for kept in subsets(open.len()) {
            let mut names = self.synced.clone();
            for change in &temporary {
                change.apply(&mut names);
            }
            open.iter().zip(kept).filter(|(_, is_kept)| *is_kept).for_each(|(change, _)| change.apply(&mut names));
            self.add_contents(&names, &mut cuts);
        }
        cuts
    }

    /// The states in which these names are there: one for each content that files which were not synced may have. All of
    /// those have the same fate: there is hardly ever more than one.
    fn add_contents(&self, names: &BTreeMap<Rc<Path>, usize>, cuts: &mut Vec<Files>) {
        let is_there = |path: &Path| {
            let mut above = path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
            above.all(|above| names.contains_key(above))
        };
        let nodes = names.iter().map(|(path, node)| (path, &self.nodes[*node]));
        let files: Vec<(&Rc<Path>, &Node)> =
            nodes.filter(|(path, node)| !node.is_directory && !is_temporary(path) && is_there(path)).collect();
        let is_synced = files.iter().all(|(_, node)| node.now == node.synced);
        let fates: &[Fate] = if is_synced { &[Fate::Kept] } else { &[Fate::Lost, Fate::Torn, Fate::Zeros, Fate::Kept] };
        for fate in fates {
            cuts.push(files.iter().map(|(path, node)| (Rc::clone(path), node.after(*fate))).collect());
        }
    }
}

/// What becomes of a content that was not synced.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Torn,
    Zeros,
    Kept,
}

impl Node {
    fn after(&self, fate: Fate) -> Content {
        let Content { bytes, time } = &self.now;
        match fate {
            Fate::Kept => self.now.clone(),
            Fate::Torn if *bytes != self.synced.bytes => {
                Content { bytes: Rc::new(bytes[..bytes.len() / 2].to_vec()), time: self.synced.time }
            }
            Fate::Zeros if *bytes != self.synced.bytes => Content { bytes: Rc::new(vec![0; bytes.len()]), time: *time },
            Fate::Lost | Fate::Torn | Fate::Zeros => self.synced.clone(),
        }
    }
}

impl Change {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let added = self.added.as_ref().map(|(path, _)| path);
        self.removed.iter().chain(added).map(AsRef::as_ref)
    }

    fn apply(&self, names: &mut BTreeMap<Rc<Path>, usize>) {
        if let Some(removed) = &self.removed {
            names.remove(removed);
        }
        if let Some((added, node)) = &self.added {
            names.insert(Rc::clone(added), *node);
        }
    }
}

/// Which of so many are kept, in every way.
fn subsets(count: usize) -> impl Iterator<Item = Vec<bool>> {
    assert!(count <= MAX_CHANGES, "{count} changes of names were not synced");
    (0..1_usize << count).map(move |bits| (0..count).map(|at| bits >> at & 1 == 1).collect())
}
