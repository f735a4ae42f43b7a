//! Every place in our code that syncs something, and how its calls are known in a record: by what they are made after, and
//! by what becomes of the file.

use std::path::{Path, PathBuf};

use super::trace::{Event, Op};

/// A place that syncs something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Its file, and the line as it stands there.
    pub(super) file: &'static str,
    pub(super) line: &'static str,
    /// What is synced there.
    pub(super) what: What,
    /// Why it can be left out without a loss; empty if it can't.
    pub(super) excuse: &'static str,
}

/// What is synced, and after what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A file of the agent's own, before it gets its name.
    StateFile,
    /// The directory in which it got its name.
    StateName,
    /// The directory in which a directory was made.
    StateDirectory,
    /// The directory in which a finished file was renamed.
    StateRename,
    /// The directory from which a file was removed.
    StateRemoval,
    /// The directory of the cache in which one for a release was made.
    CacheDirectory,
    /// A download that has not ended.
    DownloadEarly,
    /// A download.
    Download,
    /// The program that a rescue keeps.
    RescueProgram,
    /// The package that a rescue keeps, as a copy.
    RescueCopy,
    /// The bucket's last generation.
    Generation,
    /// The metadata of an object, before it gets its name.
    MetadataFile,
    /// The directory in which it got its name.
    MetadataName,
    /// The directory of a bucket in which a directory was made.
    BucketDirectory,
    /// An object, before the bucket is locked.
    ObjectEarly,
    /// An object, before it gets its name.
    ObjectFile,
    /// The directory in which it got its name.
    ObjectName,
    /// The directory from which an object was deleted.
    ObjectRemoval,
}

const fn site(file: &'static str, line: &'static str, what: What) -> Site {
    Site { file, line, what, excuse: "" }
}

const PERSIST: &str = "pulld/src/state/persist.rs";
const RESCUE: &str = "pulld/src/state/rescue.rs";
const WRITE: &str = "bucket/src/file/write.rs";

/// All of them, in the files that write what must survive a power cut.
pub(super) const ALL: [Site; 18] = [
    site(PERSIST, "file.as_file().sync_all()", What::StateFile),
    site(PERSIST, "sync_directory(directory).", What::StateName),
    site(PERSIST, "sync_directory(directory.parent()", What::StateDirectory),
    site(PERSIST, "sync_directory(to.parent()", What::StateRename),
    site(PERSIST, "sync_directory(path.parent()", What::StateRemoval),
    site("pulld/src/store/download.rs", "sync_directory(&above)", What::CacheDirectory),
    Site {
        excuse: "the slow part of the next one, while more comes in",
        ..site("pulld/src/store/download.rs", "file.sync_data()", What::DownloadEarly)
    },
    site("pulld/src/store/download.rs", "file.sync_all()", What::Download),
    Site {
        excuse: "only where the cache is on another file system than the rescue",
        ..site(
            RESCUE,
            "fs::File::open(&new).and_then(|file| file.sync_all()).with_context(failed)?;\n        }",
            What::RescueCopy,
        )
    },
    site(
        RESCUE,
        "fs::File::open(&new).and_then(|file| file.sync_all()).with_context(failed)?;\n        persist",
        What::RescueProgram,
    ),
    site("bucket/src/file/generation.rs", "lock.sync_all()", What::Generation),
    site("bucket/src/file/metadata.rs", "file.as_file().sync_all()", What::MetadataFile),
    site("bucket/src/file/metadata.rs", "fsync(&parent)", What::MetadataName),
    site("bucket/src/file/beneath.rs", "fsync(&parent)", What::BucketDirectory),
    Site {
        excuse: "the slow part of the next one, before the bucket is locked",
        ..site(WRITE, "file.as_file().sync_data()", What::ObjectEarly)
    },
    site(WRITE, "file.as_file().sync_all()", What::ObjectFile),
    site(
        WRITE,
        "renameat(CWD, &*temporary, &parent, name).map_err(|e| fail(e.into()))?;\n        // Renamed: there is nothing left to remove.\n        let _ = temporary.keep();\n        rustix::fs::fsync(&parent)",
        What::ObjectName,
    ),
    site(
        WRITE,
        "unlinkat(&parent, name, AtFlags::empty()).map_err(|e| fail(e.into()))?;\n        rustix::fs::fsync(&parent)",
        What::ObjectRemoval,
    ),
];

/// How often a file calls what syncs.
pub(super) fn count(source: &str) -> usize {
    let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = [".sync_all()", ".sync_data()", "fsync(", "sync_directory("]
        .map(|call| shipped.matches(call).count())
        .iter()
        .sum::<usize>();
    // The helper is one that is made of another.
    calls - 2 * usize::from(shipped.contains("fn sync_directory("))
}

/// What the call at that place of a record syncs, if it is one that does.
pub(super) fn what(events: &[Event], at: usize, bucket: &Path) -> Option<What> {
    let Op::Sync { path, with_time } = &events[at].op else { return None };
    let thread = events[at].thread;
    let before = events[..at].iter().rev().filter(|event| event.thread == thread).map(|event| &event.op);
    let change =
        before.filter(|op| !matches!(op, Op::Sync { .. } | Op::Marker(_))).find(|op| op.path().parent() == Some(path));
    let after = events[at..].iter().filter(|event| event.thread == thread).map(|event| &event.op);
    // A file without a name gets one for a moment, and then its own.
    let next_name = after.fold(None, |name: Option<&PathBuf>, op| match op {
        Op::Rename(from, to) if from == name.unwrap_or(path) => Some(to),
        _ => name,
    });
    let is_of_metadata = |path: &PathBuf| path.starts_with(bucket.join(".push/meta"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.starts_with(bucket) {
        return Some(match (next_name, change) {
            _ if name == "lock" => What::Generation,
            (Some(_), _) if !with_time => What::ObjectEarly,
            (Some(to), _) if is_of_metadata(to) => What::MetadataFile,
            (Some(_), _) => What::ObjectFile,
            (None, Some(Op::Rename(_, to))) if is_of_metadata(to) => What::MetadataName,
            (None, Some(Op::Rename(..))) => What::ObjectName,
            (None, Some(Op::Remove(_))) => What::ObjectRemoval,
            // It was made, or somebody else made it a moment ago.
            (None, _) => What::BucketDirectory,
        });
    }
    Some(match (next_name, change) {
        _ if name.ends_with(".part") && !with_time => What::DownloadEarly,
        _ if name.ends_with(".part") => What::Download,
        (None, _) if name == "cache" => What::CacheDirectory,
        (Some(to), _) if to.ends_with("rescue/pulld") => What::RescueProgram,
        (Some(to), _) if to.ends_with("rescue/pulld.deb") => What::RescueCopy,
        (Some(_), _) => What::StateFile,
        (None, Some(Op::Rename(from, _))) if is_named_by_rename(from) => What::StateRename,
        (None, Some(Op::Rename(..))) => What::StateName,
        (None, Some(Op::Remove(_))) => What::StateRemoval,
        (None, _) => What::StateDirectory,
    })
}

/// Whether a finished file has that name before `persist::rename` gives it another; of `persist::write` it is a random one.
fn is_named_by_rename(from: &Path) -> bool {
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".part") || name == ".new-pulld" || name == ".new-pulld.deb"
}
