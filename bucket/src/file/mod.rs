//! A directory as a bucket: one machine's own, or a shared mount.
//!
//! An object is an ordinary file at its path, so that people can look at it. Its modification time, in
//! microseconds, *is* its generation: one rename puts content and generation in place together, and a file that
//! somebody edits by hand becomes a new generation by itself. Custom metadata lies apart, in a file named after
//! the generation it belongs to and written before that rename; a writer that dies in between leaves metadata of
//! a generation that never came to be, which nobody reads and the next writer of the object clears away.
//!
//! ```text
//! DIR/push-bucket                                 the marker: without it DIR may be a share that isn't mounted
//! DIR/server/web-1.json                          content
//! DIR/.push/meta/debs/web/web:….deb/1763…123     metadata of generation 1763…123
//! DIR/.push/tmp/…                                files being written
//! DIR/.push/lock                                 held by whoever writes; its own time is the last generation given out
//! ```
//!
//! Writers exclude each other with flock(2), on this machine and, where the mount carries it, between machines.
//! Readers take no lock. No path is followed through a symbolic link.

mod beneath;
mod bucket;
mod copy;
mod directory;
mod download;
mod failure;
mod folder;
mod generation;
mod lock;
mod marked;
mod marker;
mod metadata;
pub(crate) mod overlay;
mod take;
mod temporary;
#[cfg(test)]
mod tests;
mod walk;
mod write;

pub use bucket::FileBucket;
pub(crate) use download::{FileDownload, blocking};
pub use marker::NewBucket;
