//! What a power cut must leave of each file: what was there before a write, until that is said to be done, or what is there
//! since.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    disk::{Content, Disk, Files},
    trace::{Event, Op, is_temporary},
};

/// Where the metadata of objects lies, by path and generation: see `bucket/src/file/metadata.rs`.
const METADATA: &str = ".push/meta";

/// What writers lock, and whose time is the last generation: see `bucket/src/file/lock.rs`.
const LOCK: &str = ".push/lock";

/// A content that a file was given, or that it was removed.
struct Version {
    /// The call that gave it.
    began: usize,
    /// When the program was told that it will stay.
    ended: Option<usize>,
    content: Option<Content>,
}

impl Version {
    fn has_ended(&self, calls: usize) -> bool {
        self.ended.is_some_and(|ended| ended < calls)
    }
}

/// What was promised of the agent's own files and of a bucket.
pub(super) struct Promises {
    bucket: PathBuf,
    versions: BTreeMap<PathBuf, Vec<Version>>,
    /// The metadata of generations.
    metadata: BTreeMap<PathBuf, Rc<Vec<u8>>>,
}

impl Promises {
    /// Those of a program that did this on an empty disk.
    pub(super) fn of(events: &[Event], mut disk: Disk, own: &[PathBuf], bucket: &Path) -> Self {
        let mut promises = Self { bucket: bucket.to_owned(), versions: BTreeMap::new(), metadata: BTreeMap::new() };
        for (at, event) in events.iter().enumerate() {
            disk.apply(&event.op);
            let (path, content) = match &event.op {
                Op::Marker(moment) => {
                    promises.end(moment, at);
                    continue;
                }
                Op::Rename(_, path) | Op::Link(_, path) => (path, disk.read(path).cloned()),
                Op::Remove(path) => (path, None),
                _ => continue,
            };
            if is_temporary(path) || !(own.iter().any(|own| path.starts_with(own)) || path.starts_with(bucket)) {
                continue;
            }
            if path.starts_with(bucket.join(METADATA)) {
                promises.metadata.extend(content.map(|content| (path.clone(), content.bytes)));
                continue;
            }
            let version = Version { began: at, ended: None, content };
            promises.versions.entry(path.clone()).or_default().push(version);
        }
        promises
    }

    /// Notes that the program went on from a write.
    fn end(&mut self, moment: &str, at: usize) {
        let of_state = moment.strip_prefix("persist.").and_then(|call| call.strip_suffix(").end"));
        let file = of_state.and_then(|call| call.split_once('(')).map(|(_, file)| file);
        let of_bucket = moment == "step" || moment.ends_with("bucket.write_status.end");
        for (path, versions) in &mut self.versions {
            let is_of_bucket = path.starts_with(&self.bucket);
            let is_meant = if is_of_bucket { of_bucket } else { file == Some(crate::failpoint::file(path).as_str()) };
            let open = versions.iter_mut().filter(|version| is_meant && version.ended.is_none());
            open.for_each(|version| version.ended = Some(at));
        }
    }

    /// How many files it is about.
    pub(super) fn len(&self) -> usize {
        self.versions.len()
    }

    /// What a power cut has broken that left these files when so many calls were made.
    pub(super) fn broken(&self, files: &Files, calls: usize) -> Option<String> {
        self.broken_lock(files, calls).or_else(|| self.broken_content(files, calls))
    }

    fn broken_content(&self, files: &Files, calls: usize) -> Option<String> {
        self.versions.iter().find_map(|(path, versions)| {
            let found = files.get(path.as_path());
            let begun = || versions.iter().filter(|version| version.began < calls);
            let promised = begun().rposition_of_ended(calls);
            let allowed: Vec<Option<&Content>> = match promised {
                Some(promised) => begun().skip(promised).map(|version| version.content.as_ref()).collect(),
                None => std::iter::once(None).chain(begun().map(|version| version.content.as_ref())).collect(),
            };
            let is_of_bucket = path.starts_with(&self.bucket);
            let is_same = |content: Option<&Content>| match (content, found) {
                (Some(content), Some(found)) => {
                    content.bytes == found.bytes && (!is_of_bucket || content.time == found.time)
                }
                (content, found) => content.is_none() && found.is_none(),
            };
            if !allowed.iter().copied().any(is_same) {
                let told = found.map(|found| (found.time, String::from_utf8_lossy(&found.bytes).into_owned()));
                return Some(format!(
                    "`{}` is {told:.200?}, and {} contents may be there",
                    path.display(),
                    allowed.len()
                ));
            }
            found.filter(|_| is_of_bucket).and_then(|found| self.broken_metadata(path, found, files))
        })
    }

    /// Whether a generation could be given out once more: that is kept by the time of the bucket's lock.
    fn broken_lock(&self, files: &Files, calls: usize) -> Option<String> {
        let of_bucket = self.versions.iter().filter(|(path, _)| path.starts_with(&self.bucket));
        let ended = of_bucket.flat_map(|(_, versions)| versions).filter(|version| version.has_ended(calls));
        let last = ended.filter_map(|version| Some(version.content.as_ref()?.time)).max()?;
        let lock = files.get(self.bucket.join(LOCK).as_path()).map(|lock| lock.time);
        (lock < Some(last)).then(|| format!("generation {last} was given out, and the lock has {lock:?}"))
    }

    /// Whether an object's metadata is missing.
    fn broken_metadata(&self, path: &Path, object: &Content, files: &Files) -> Option<String> {
        let of = path.strip_prefix(&self.bucket).ok()?;
        let place = self.bucket.join(METADATA).join(of).join(object.time.to_string());
        let expected = self.metadata.get(&place)?;
        let found = files.get(place.as_path()).map(|content| &content.bytes);
        (found != Some(expected)).then(|| format!("`{}` has the metadata {found:.80?}", path.display()))
    }
}

/// Of versions in their order.
trait Ended {
    /// The place of the last one that had ended after so many calls.
    fn rposition_of_ended(self, calls: usize) -> Option<usize>;
}

impl<'a, T: Iterator<Item = &'a Version>> Ended for T {
    fn rposition_of_ended(self, calls: usize) -> Option<usize> {
        let ended = |(at, version): (usize, &Version)| version.has_ended(calls).then_some(at);
        self.enumerate().filter_map(ended).last()
    }
}
