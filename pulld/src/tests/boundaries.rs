//! Whether every boundary has its fail points: what changes on the disk or in the machine does so between two of them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use crate::machine::fake::World;

use super::harness::Server;

/// What has changed on a server between the points that its agent met, seen at each of them.
#[derive(Clone)]
pub(super) struct Boundaries(Rc<RefCell<Seen>>);

struct Seen {
    root: PathBuf,
    world: World,
    /// Calls of the traits that were made before.
    calls: usize,
    files: BTreeMap<PathBuf, Vec<u8>>,
    machine: String,
    /// The calls under way, as their points name them.
    open: Vec<String>,
    last: String,
    /// Of each point, whether anything had changed since the one before.
    changed: Vec<bool>,
    unexplained: Vec<String>,
}

impl Boundaries {
    /// Begins to look at a server.
    pub(super) fn of(server: &Server) -> Self {
        let (root, world) = (server.root.path().to_owned(), server.world.clone());
        let (calls, files, machine) = (world.calls().len(), files(&root), world.shown());
        let (open, last, changed) = (Vec::new(), "the start".to_owned(), Vec::new());
        let unexplained = Vec::new();
        Self(Rc::new(RefCell::new(Seen { root, world, calls, files, machine, open, last, changed, unexplained })))
    }

    /// Looks at what has changed since the point before.
    pub(super) fn see(&self, point: &str) {
        self.0.borrow_mut().see(point);
    }

    /// Sees that all that changed did so within a call that has points, and that every call of dpkg and systemd had them.
    /// Gives of each point whether anything outside of the agent had changed since the one before.
    pub(super) fn end(&self, met: &[String]) -> Vec<bool> {
        let mut seen = self.0.borrow_mut();
        seen.see("the end");
        assert!(seen.unexplained.is_empty(), "a boundary without a fail point:\n{}", seen.unexplained.join("\n"));
        let calls = &seen.world.calls()[seen.calls..];
        for call in calls {
            let begin = format!("{call}.begin");
            let count = |of: &[String], what: &str| of.iter().filter(|name| *name == what).count();
            assert_eq!(count(met, &begin), count(calls, call), "`{call}` was called without meeting a fail point");
        }
        seen.changed[..met.len()].to_vec()
    }
}

impl Seen {
    fn see(&mut self, point: &str) {
        let files = files(&self.root);
        let paths = self.files.keys().chain(files.keys());
        let changed: Vec<_> = paths.filter(|path| self.files.get(*path) != files.get(*path)).collect();
        let by_call = |path: &Path| self.open.iter().any(|call| explains(call, path)) || explains(point, path);
        let unexplained = changed.iter().filter(|path| !by_call(path)).map(|path| path.display().to_string());
        let unexplained = unexplained.map(|path| format!("{path} changed between `{}` and `{point}`", self.last));
        self.unexplained.extend(unexplained);
        let machine = self.world.shown();
        let is_open = |prefix: &str| self.open.iter().any(|call| call.starts_with(prefix));
        let may_change = ["packages.", "services.re", "services.stop", "services.disable"];
        if machine != self.machine && !may_change.into_iter().any(is_open) {
            self.unexplained.push(format!("the machine changed between `{}` and `{point}`", self.last));
        }
        self.changed.push(!changed.is_empty() || machine != self.machine);
        (self.files, self.machine) = (files, machine);
        if let Some(call) = point.strip_suffix(".begin") {
            self.open.push(call.to_owned());
        } else if let Some(call) = point.strip_suffix(".end")
            && let Some(at) = self.open.iter().position(|open| open == call)
        {
            self.open.remove(at);
        }
        point.clone_into(&mut self.last);
    }
}

/// Whether a call may change a file.
fn explains(call: &str, path: &Path) -> bool {
    let call = call.strip_prefix("meanwhile.").unwrap_or(call);
    let (verb, of) = call.split_once('(').unwrap_or((call, ""));
    let of = of.trim_end_matches(')');
    let name = crate::failpoint::file(path);
    match verb {
        "persist.write" | "persist.remove" => name == of || name.starts_with(".new-"),
        // What gets another name goes under its old one.
        "persist.rename" => name == of || name == "*.part" || name == ".new-pulld.deb",
        "rescue.keep" => name == ".new-pulld.deb",
        "report.local" => name == "status.json" || name == "causes.json" || name.starts_with(".new-"),
        "download" => name == "*.part",
        "bucket.write_status" => path.starts_with("bucket"),
        "cache.clear" => path.starts_with("var/lib/pulld/cache"),
        _ => false,
    }
}

/// Every file below a directory, and what is in it.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(content) = std::fs::read(&path) {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
            }
        }
    }
    found
}
