//! What a program did to the disk, as strace(1) wrote it down: with every string in hexadecimal, and the path of each file
//! descriptor.
//!
//! Reading isn't recorded, nor is opening: that a file was made shows by the first call that changes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The calls that are recorded.
pub(super) const CALLS: &str = "write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,rename,renameat,\
    renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,ftruncate,truncate,fallocate,utimensat,\
    copy_file_range,sendfile";

/// A directory that nobody has: whoever fails to make one below it says that a moment has come.
pub(super) const MARKER: &str = "/push-power-cuts/";

/// What a call does to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// Nothing: the program says where it is.
    Marker(String),
    /// At the end of the file, which is made if it does not exist.
    Write(PathBuf, Vec<u8>),
    /// Its time of modification, in microseconds.
    Time(PathBuf, i64),
    /// Of a directory or of a file, with its time or without.
    Sync {
        path: PathBuf,
        with_time: bool,
    },
    Rename(PathBuf, PathBuf),
    /// A symbolic link to that text: it is whole where it has its name.
    Symlink(Vec<u8>, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    MakeDirectory(PathBuf),
}

impl Op {
    /// What is another than before.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Marker(_) => Path::new(""),
            Self::Write(path, _)
            | Self::Time(path, _)
            | Self::Sync { path, .. }
            | Self::Rename(_, path)
            | Self::Link(_, path)
            | Self::Symlink(_, path)
            | Self::Remove(path)
            | Self::MakeDirectory(path) => path,
        }
    }
}

/// A call, and who made it.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) thread: u32,
    pub(super) op: Op,
}

/// The calls that succeeded, in their order.
pub(super) fn parse(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut unfinished: BTreeMap<u32, &str> = BTreeMap::new();
    let mut descriptors: BTreeMap<String, PathBuf> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let (Ok(thread), call) = (thread.parse(), call.trim_start()) else { continue };
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, begun);
            continue;
        }
        let whole = match call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => format!("{}{rest}", unfinished.remove(&thread).unwrap_or_default()),
            None => call.to_owned(),
        };
        let op = op(&whole);
        if let Some((number, path)) = first_descriptor(&whole) {
            descriptors.insert(number, path);
        }
        // A file without a name gets one by its descriptor, or by that in `/proc`: as if it were renamed.
        let op = op.map(|op| match op {
            Op::Link(from, to) => match from.strip_prefix("/proc/self/fd").ok().and_then(Path::to_str) {
                Some(number) => Op::Rename(descriptors.get(number).cloned().unwrap_or(from), to),
                None if is_unnamed(&from) => Op::Rename(from, to),
                None => Op::Link(from, to),
            },
            op => op,
        });
        events.extend(op.map(|op| Event { thread, op }));
    }
    events
}

fn op(call: &str) -> Option<Op> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest
        .rsplit_once(") = ")
        .or_else(|| rest.rsplit_once(')').map(|(a, r)| (a, r.trim_start_matches([' ', '=']))))?;
    let arguments = split(arguments);
    let is_done = !result.trim_start().starts_with('-');
    let path = |at: usize| text(arguments.get(at)?).map(PathBuf::from);
    let of_descriptor = |at: usize| descriptor(arguments.get(at)?);
    let below = |directory: usize, at: usize| Some(of_descriptor(directory).unwrap_or_default().join(path(at)?));
    if name == "mkdir"
        && let Some(moment) = path(0)?.to_str()?.strip_prefix(MARKER)
    {
        return Some(Op::Marker(moment.to_owned()));
    }
    if !is_done {
        return None;
    }
    Some(match name {
        "write" => {
            let written: usize = result.split_whitespace().next()?.parse().ok()?;
            Op::Write(of_descriptor(0)?, bytes(arguments.get(1)?).into_iter().take(written).collect())
        }
        "utimensat" => {
            let times = arguments.get(2)?;
            let seconds: i64 = number(times, "tv_sec=")?;
            let nanoseconds: i64 = number(times, "tv_nsec=")?;
            Op::Time(of_descriptor(0)?, seconds * 1_000_000 + nanoseconds / 1000)
        }
        // What is copied isn't recorded: it may be anything.
        "copy_file_range" => Op::Write(of_descriptor(2)?, vec![1; result.trim().parse().ok()?]),
        "sendfile" => Op::Write(of_descriptor(0)?, vec![1; result.trim().parse().ok()?]),
        "fsync" => Op::Sync { path: of_descriptor(0)?, with_time: true },
        "fdatasync" => Op::Sync { path: of_descriptor(0)?, with_time: false },
        "rename" => Op::Rename(path(0)?, path(1)?),
        "renameat" | "renameat2" => Op::Rename(below(0, 1)?, below(2, 3)?),
        "link" => Op::Link(path(0)?, path(1)?),
        "linkat" => Op::Link(below(0, 1)?, below(2, 3)?),
        "symlink" => Op::Symlink(bytes(arguments.first()?), path(1)?),
        "symlinkat" => Op::Symlink(bytes(arguments.first()?), below(1, 2)?),
        "unlink" | "rmdir" => Op::Remove(path(0)?),
        "unlinkat" => Op::Remove(below(0, 1)?),
        "mkdir" => Op::MakeDirectory(path(0)?),
        "mkdirat" => Op::MakeDirectory(below(0, 1)?),
        // Nothing of ours does these: what they do would have to be replayed.
        other => panic!("`{other}` is recorded and not understood: {call:.200}"),
    })
}

/// The last number after a word: of two times the second one is that of modification.
fn number(text: &str, word: &str) -> Option<i64> {
    let digits = text.rsplit_once(word)?.1;
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// The arguments of a call.
fn split(arguments: &str) -> Vec<&str> {
    let (mut depth, mut from) = (0, 0);
    let mut found = Vec::new();
    for (at, c) in arguments.char_indices() {
        match c {
            '{' | '[' | '<' => depth += 1,
            '}' | ']' | '>' => depth -= 1,
            ',' if depth == 0 => {
                found.push(arguments[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(arguments[from..].trim());
    found
}

/// The number and the path of the file descriptor that a call has as its first argument.
fn first_descriptor(call: &str) -> Option<(String, PathBuf)> {
    let argument = call.split_once('(')?.1;
    let number: String = argument.chars().take_while(char::is_ascii_digit).collect();
    argument[number.len()..].starts_with('<').then(|| Some((number, descriptor(argument)?)))?
}

/// Whether the kernel made up this name for a file that has none.
fn is_unnamed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('#'))
}

/// The path of a file descriptor, as in `3</etc>`.
fn descriptor(argument: &str) -> Option<PathBuf> {
    let path = String::from_utf8(bytes(argument.split_once('<')?.1)).ok()?;
    Some(PathBuf::from(path))
}

fn text(argument: &str) -> Option<String> {
    String::from_utf8(bytes(argument.strip_prefix('"')?)).ok()
}

/// What is written as `\x2f\x65`.
fn bytes(escaped: &str) -> Vec<u8> {
    escaped.split("\\x").filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

/// Whether a path is that of a file on its way to its name.
pub(super) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(".new-") || name.ends_with(".part") || path.components().any(|part| part.as_os_str() == "tmp")
}
