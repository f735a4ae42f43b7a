//! The tar of a tree, made ahead of whoever compresses it: several threads read and sum, one takes what they made in order.
//!
//! The tree is cut into runs of files, dealt out in turn, so that each thread makes its own pieces in its own order and
//! the taker always knows whose is next. A thread is at most [`AHEAD`] pieces ahead: memory stays flat however large the
//! files are. Small files of a run share a piece, where handing over each would cost more than reading it; their MD5 sums
//! are made several at a time (`md5_lanes.rs`), while their bytes are still in the processor's cache.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    ops::Range,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{self, Scope, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{
    md5_lanes::{self, Sum},
    tarball::{Tarball, entry_size},
};
use crate::tree::{Entry, Kind, Tree};

/// Bytes of a piece. The sums of what is smaller are made side by side, so that most bytes of a program's files are.
const PIECE: usize = 3 * 512 * 1024;

/// Pieces that a thread may have made before they are taken.
const AHEAD: usize = 1;

/// Most threads. MD5 is the slowest part and does some 600 MB/s on each: no disk is faster than that many.
const MOST: usize = 8;

/// An entry of the tree with its path.
#[derive(Clone, Copy)]
struct Named<'a> {
    /// Its place among all entries.
    at: usize,
    path: &'a str,
    entry: &'a Entry,
}

/// MD5 sums, each with its file's place among all entries.
type Sums = Vec<(usize, [u8; 16])>;

/// Some bytes of the tar.
struct Piece {
    bytes: Vec<u8>,
    filled: usize,
    /// How many of them are content of files.
    content: u64,
    /// The last one of its run.
    last: bool,
}

/// Makes the tar of `tree` with `threads` threads, and hands it over piece by piece, each with the bytes of files in it.
/// Returns the MD5 sums of the files that have one, in the order of the tree: dpkg keeps those of conffiles itself.
pub(super) fn tar(
    tree: &Tree,
    time: u64,
    threads: usize,
    mut take: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<Vec<[u8; 16]>> {
    take(&Tarball::new(Vec::new(), time)?.into_inner(), 0)?;
    let links = tree.hard_links();
    let entries: Vec<Named> = tree.iter().enumerate().map(|(at, (path, entry))| Named { at, path, entry }).collect();
    let runs = runs(&entries, &links);
    let threads = threads.clamp(1, MOST).min(runs.len().max(1));
    let made = thread::scope(|scope| {
        let start = |lane| Lane::start(scope, runs.iter().copied().skip(lane).step_by(threads), &links, time);
        let mut lanes = (0..threads).map(start).collect::<Result<Vec<_>>>()?;
        for run in 0..runs.len() {
            let lane = run % threads;
            loop {
                let Ok(piece) = lanes[lane].made.recv() else {
                    let ended = lanes.swap_remove(lane).finish();
                    return ended.and_then(|_| bail!("a thread that reads files ended early"));
                };
                take(&piece.bytes[..piece.filled], piece.content)?;
                // Nobody takes it back after the last run.
                let _ = lanes[lane].used.send(piece.bytes);
                if piece.last {
                    break;
                }
            }
        }
        lanes.into_iter().map(Lane::finish).collect::<Result<Vec<Sums>>>()
    })?;
    take(&super::tarball::END, 0)?;
    let mut sums = vec![None; entries.len()];
    for (at, sum) in made.into_iter().flatten() {
        sums[at] = Some(sum);
    }
    for (path, to) in links {
        let place = |path: &str| entries.binary_search_by(|named| named.path.cmp(path)).ok();
        let (place, to) = place(path).zip(place(to)).context("a hard link leads nowhere")?;
        sums[place] = sums[to];
    }
    Ok(sums.into_iter().flatten().collect())
}

/// Cuts a tree into runs: as many small files as a piece has room for, or a larger one.
fn runs<'a, 'b>(entries: &'b [Named<'a>], links: &BTreeMap<&str, &str>) -> Vec<&'b [Named<'a>]> {
    let mut left = 0;
    let is_begun = |_: &Named, next: &Named| {
        let content = match &next.entry.kind {
            Kind::File { size, .. } if !links.contains_key(next.path) => *size,
            _ => 0,
        };
        let bytes = entry_size(next.path, content);
        let has_room = bytes <= left;
        left = if has_room { left } else { PIECE as u64 }.saturating_sub(bytes);
        has_room
    };
    entries.chunk_by(is_begun).collect()
}

/// A thread, as the taker sees it.
struct Lane<'scope> {
    made: Receiver<Piece>,
    used: Sender<Vec<u8>>,
    thread: ScopedJoinHandle<'scope, Result<Sums>>,
}

impl<'scope> Lane<'scope> {
    fn start(
        scope: &'scope Scope<'scope, '_>,
        runs: impl Iterator<Item = &'scope [Named<'scope>]> + Send + 'scope,
        links: &'scope BTreeMap<&'scope str, &'scope str>,
        time: u64,
    ) -> Result<Self> {
        let (taker, made) = sync_channel(AHEAD);
        let (used, reuse) = channel();
        let work = move || {
            let (bytes, whole, sums) = (vec![0; PIECE], Vec::new(), Sums::new());
            let mut out = Pieces { taker, reuse, bytes, filled: 0, content: 0, whole, sums };
            let mut opener = Opener::default();
            for run in runs {
                add(&mut out, run, links, &mut opener, time)?;
                out.hand_over(true)?;
            }
            Ok(out.sums)
        };
        let thread = thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, work);
        Ok(Self { made, used, thread: thread.context("could not start a thread")? })
    }

    fn finish(self) -> Result<Sums> {
        drop(self.made);
        self.thread.join().map_err(|_| anyhow!("a thread that reads files panicked"))?
    }
}

/// What a thread is writing.
struct Pieces {
    taker: SyncSender<Piece>,
    reuse: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    filled: usize,
    content: u64,
    /// Files of which all is in this piece, and that have no sum yet.
    whole: Vec<(usize, Range<usize>)>,
    sums: Sums,
}

impl Pieces {
    /// Where the next bytes go; never empty.
    fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.bytes.len() {
            self.hand_over(false)?;
        }
        Ok(&mut self.bytes[self.filled..])
    }

    fn hand_over(&mut self, last: bool) -> io::Result<()> {
        let contents: Vec<&[u8]> = self.whole.iter().map(|(_, range)| &self.bytes[range.clone()]).collect();
        let sums = md5_lanes::sums(&contents);
        self.sums.extend(self.whole.drain(..).zip(sums).map(|((at, _), sum)| (at, sum)));
        let next = self.reuse.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        let bytes = std::mem::replace(&mut self.bytes, next);
        let piece = Piece { bytes, filled: self.filled, content: self.content, last };
        (self.filled, self.content) = (0, 0);
        // The taker is gone by an error of its own.
        self.taker.send(piece).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room()?;
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.filled += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens files, each from its directory as long as that is the same: to follow a long path takes as long as to read a small
/// file.
#[derive(Default)]
struct Opener {
    directory: Option<(PathBuf, OwnedFd)>,
}

impl Opener {
    fn open(&mut self, source: &Path) -> io::Result<File> {
        let (Some(directory), Some(name)) = (source.parent(), source.file_name()) else { return File::open(source) };
        let held = match self.directory.take() {
            Some(held) if held.0.as_os_str() == directory.as_os_str() => held,
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                (directory.to_owned(), openat(CWD, directory, flags, Mode::empty())?)
            }
        };
        let (_, directory) = self.directory.insert(held);
        Ok(openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    }
}

/// Writes a run.
fn add(
    out: &mut Pieces,
    run: &[Named<'_>],
    links: &BTreeMap<&str, &str>,
    opener: &mut Opener,
    time: u64,
) -> Result<()> {
    let mut tar = Tarball::resume(out, time);
    for Named { at, path, entry } in run {
        match &entry.kind {
            Kind::Directory => tar.directory(path, entry.mode, &entry.owner)?,
            Kind::Link { to } => tar.link(path, to, &entry.owner)?,
            Kind::File { source, size, conffile, .. } => {
                if let Some(to) = links.get(path) {
                    tar.hard_link(path, to, entry.mode, &entry.owner)?;
                    continue;
                }
                let file = opener.open(source).with_context(|| format!("could not open `{}`", source.display()))?;
                let summed = (!conffile).then_some(*at);
                tar.file(path, entry.mode, &entry.owner, *size, |out| copy(source, file, *size, out, summed))?;
            }
        }
    }
    Ok(())
}

/// Copies a file of which exactly `size` bytes are expected; its sum is made for the entry `summed`.
fn copy(source: &Path, mut file: File, size: u64, out: &mut Pieces, summed: Option<usize>) -> Result<()> {
    let shown = source.display();
    // There is room left to find out that it ends.
    let is_whole = size < out.room()?.len() as u64;
    let begin = out.filled;
    let mut sum = summed.filter(|_| !is_whole).map(|at| (at, Sum::new()));
    let mut left = size;
    loop {
        let room = out.room()?;
        // One byte more than are expected, so that a file that grew is found out.
        let length = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX).min(room.len());
        let read = match file.read(&mut room[..length]) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("could not read `{shown}`")),
        };
        let Some(after) = left.checked_sub(read as u64).filter(|after| read > 0 || *after == 0) else {
            bail!("`{shown}` changed its size while being packed: build again when nothing writes to it")
        };
        if let Some((_, sum)) = &mut sum {
            sum.update(&room[..read]);
        }
        out.filled += read;
        out.content += read as u64;
        left = after;
        // It ended where it was to end, and had the chance to go on.
        if left == 0 && read < length {
            break;
        }
    }
    if let Some((at, sum)) = sum {
        out.sums.push((at, sum.finish()));
    } else if let Some(at) = summed {
        out.whole.push((at, begin..out.filled));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use md5::{Digest as _, Md5};

    use super::*;
    use crate::tree::Tree;

    /// A tree of files of these sizes, and the directory that keeps them.
    fn tree(sizes: &[usize]) -> (tempfile::TempDir, Tree, Vec<Vec<u8>>) {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        let mut contents = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let source = directory.path().join(number.to_string());
            let content: Vec<u8> = (0..*size).map(|at| u8::try_from((at * 31 + number) % 251).unwrap()).collect();
            fs::write(&source, &content).unwrap();
            tree.add_file(&format!("f/{number:05}"), source, *size as u64);
            contents.push(content);
        }
        (directory, tree, contents)
    }

    #[test]
    fn any_number_of_threads_makes_the_same_tar_and_the_same_sums() {
        let mut sizes: Vec<usize> = (0..600).map(|n| n * 37 % 5000).collect();
        sizes.extend([0, PIECE - 512, PIECE, PIECE + 1, 3 * PIECE + 7, 0, 1, 5 * PIECE, 512]);
        let (_directory, tree, contents) = tree(&sizes);
        let made: Vec<_> = [1, 2, 3, 8]
            .map(|threads| {
                let (mut bytes, mut counted) = (Vec::new(), 0);
                let sums = tar(&tree, 7, threads, |piece, content| {
                    bytes.extend_from_slice(piece);
                    counted += content;
                    Ok(())
                });
                assert_eq!(counted, tree.bytes());
                (bytes, sums.unwrap())
            })
            .into();
        assert!(made.iter().all(|other| *other == made[0]));
        let (bytes, sums) = &made[0];
        assert_eq!(sums.len(), contents.len());
        for (sum, content) in sums.iter().zip(&contents) {
            assert_eq!(sum[..], Md5::digest(content)[..]);
        }
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let mut files = contents.iter();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert!(content == *files.next().unwrap());
            }
        }
        assert_eq!(files.count(), 0);
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_an_error() {
        let (directory, _, _) = tree(&[5]);
        for (size, good) in [(4, false), (5, true), (6, false), (0, false)] {
            let mut tree = Tree::default();
            tree.add_file("f", directory.path().join("0"), size);
            let made = tar(&tree, 7, 2, |_, _| Ok(()));
            assert_eq!(made.is_ok(), good, "{size}");
            assert!(good || format!("{:#}", made.unwrap_err()).contains("changed its size"), "{size}");
        }
    }

    #[test]
    fn an_error_anywhere_ends_all_threads() {
        let (_directory, mut tree, _) = tree(&[2 * PIECE; 40]);
        let full = tar(&tree, 7, 4, |_, content| if content > 0 { bail!("no space") } else { Ok(()) });
        assert_eq!(full.unwrap_err().to_string(), "no space");
        tree.add_file("g", PathBuf::from("/nonexistent/g"), 1);
        let missing = tar(&tree, 7, 4, |_, _| Ok(()));
        assert!(missing.unwrap_err().to_string().contains("/nonexistent/g"));
    }

    #[test]
    fn an_empty_tree_is_an_archive_too() {
        let (tree, mut bytes) = (Tree::default(), Vec::new());
        let sums = tar(&tree, 7, 4, |piece, _| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!((sums.unwrap().len(), bytes.len()), (0, 512 + 1024));
    }
}
