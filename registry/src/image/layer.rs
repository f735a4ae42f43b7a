//! A layer that is made of a directory: the same files give the same bytes on every machine, whoever makes it and whenever.
//!
//! Entries are sorted, belong to root and have one time. Of their modes only whether the owner may execute a file counts, as
//! for git; `tmp` and `var/tmp` are as everywhere. Links are kept as they are and never followed, so nothing from outside of the
//! directory comes in, whoever changes it meanwhile.
//!
//! A directory of a layer replaces what a layer below it has there, with its mode and its owner, and a link too. So on a base a
//! layer has no directories but those that would not be there otherwise, and files below what is a link in every base are refused.

use std::{
    ffi::CString,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use console::{safe, size};
use flate2::{Compression, write::GzEncoder};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use super::summed::Summed;
use crate::Digest;

/// Most files, directories and links of a layer.
const MAX_ENTRIES: usize = 1_000_000;
/// Most of them in one directory, whose names are sorted in memory.
const MAX_NAMES: usize = 50_000;
/// How deep directories may lie in each other, each of which is open meanwhile.
const MAX_DEPTH: usize = 128;
/// Most bytes of all files of a layer.
const MAX_SIZE: u64 = 10 << 30;
/// How much is compressed at a time, in bytes.
const CHUNK: usize = 64 << 10;
/// Room for what a link leads to in a header.
const LINK: usize = 100;
/// What git keeps of itself.
const GIT: &[u8] = b".git";
/// What a name begins with by which a layer deletes something of those below it (OCI image layer, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// What is a link in bases, and leads to where its files belong.
const LINKS: [(&str, &str); 8] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib32", "usr/lib32"),
    ("lib64", "usr/lib64"),
    ("libx32", "usr/libx32"),
    ("var/run", "run"),
    ("var/lock", "run/lock"),
];
/// Where everybody may write, and remove only what is theirs.
const TEMPORARY: [&str; 2] = ["tmp", "var/tmp"];

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe that somebody puts where a file was keeps nobody waiting.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A layer, in a file.
#[derive(Debug)]
pub struct Layer {
    /// The file, of which all is the layer.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// Of the file, as a manifest names it.
    pub digest: Digest,
    /// Of what is compressed in it, as a configuration names it.
    pub diff_id: Digest,
}

impl Layer {
    /// Makes one of what lies in a directory, for an image on a base or on nothing, and writes it to an empty file. `time` is that
    /// of all of it, in seconds since 1970.
    ///
    /// # Errors
    /// What of it can be part of no such layer, or can't be read.
    pub fn write(root: &Path, on_base: bool, time: u64, file: File) -> Result<Self> {
        let shown = || format!("could not open the directory `{}`", root.display());
        let root = open(root, DIRECTORY, Mode::empty()).with_context(shown)?;
        let compressed = GzEncoder::new(Summed::new(BufWriter::new(file)), Compression::default());
        let tar = Builder::new(BufWriter::with_capacity(CHUNK, Summed::new(compressed)));
        let mut writer = Writer { tar, on_base, time, entries: 0, size: 0 };
        writer.directory(&root, Path::new(""), 0)?;
        if writer.entries == 0 && !on_base {
            bail!("there is nothing in the directory: an image is made of what a build puts there");
        }
        let failed = "could not write the layer";
        let tar = writer.tar.into_inner().context(failed)?;
        let (compressed, diff_id, _) = tar.into_inner().context(failed)?.finish();
        let (file, digest, size) = compressed.finish().context(failed)?.finish();
        let file = file.into_inner().context(failed)?;
        Ok(Self { file, size, digest, diff_id })
    }
}

struct Writer<W: Write> {
    tar: Builder<W>,
    on_base: bool,
    time: u64,
    entries: usize,
    size: u64,
}

impl<W: Write> Writer<W> {
    /// Adds what lies in a directory, which is at `path` of the layer, after the directory itself if it needs an entry.
    fn directory(&mut self, directory: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("`{}` lies more than {MAX_DEPTH} directories deep", shown(path));
        }
        let names = names(directory).with_context(|| format!("could not read the directory `{}`", shown(path)))?;
        let is_temporary = TEMPORARY.iter().any(|temporary| path == Path::new(temporary));
        if depth > 0 && (!self.on_base || names.is_empty() || is_temporary) {
            let mut header = self.header(EntryType::Directory, if is_temporary { 0o1777 } else { 0o755 }, 0);
            let added = self.tar.append_data(&mut header, path, io::empty());
            added.with_context(|| format!("could not write the directory `{}`", shown(path)))?;
        }
        for name in names {
            let path = path.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
            self.entry(directory, &name, &path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, name: &CString, path: &Path, depth: usize) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            bail!("there are more than {MAX_ENTRIES} files: an image has no room for so many");
        }
        if name.as_bytes().starts_with(WHITEOUT) {
            bail!("`{}` would delete a file of the base: in an image no name begins with `.wh.`", shown(path));
        }
        let failed = || format!("could not read `{}`", shown(path));
        let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).with_context(failed)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let replaced = LINKS.iter().find(|(link, _)| self.on_base && path == Path::new(link));
                if let Some((path, to)) = replaced {
                    bail!(
                        "`{path}` would replace what is a link in the base, and all behind it: put what is in it into `{to}`"
                    );
                }
                let below = openat(directory, name, DIRECTORY, Mode::empty()).with_context(failed)?;
                self.directory(&below, path, depth + 1)
            }
            FileType::Symlink => {
                let to = readlinkat(directory, name, Vec::new()).with_context(failed)?;
                self.link(path, to.as_bytes()).with_context(failed)
            }
            FileType::RegularFile => {
                let file = openat(directory, name, FILE, Mode::empty()).with_context(failed)?;
                self.file(path, File::from(file))
            }
            other => bail!("`{}` is {}: an image has files, directories and links", shown(path), kind(other)),
        }
    }

    fn file(&mut self, path: &Path, file: File) -> Result<()> {
        let failed = || format!("could not read `{}`", shown(path));
        let found = fstat(&file).with_context(failed)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            bail!("`{}` was replaced while it was read", shown(path));
        }
        let length = u64::try_from(found.st_size)?;
        self.size += length;
        if self.size > MAX_SIZE {
            bail!("with `{}` the files have more than {}, which is the most of an image", shown(path), size(MAX_SIZE));
        }
        let mode = if found.st_mode & 0o100 == 0 { 0o644 } else { 0o755 };
        let mut header = self.header(EntryType::Regular, mode, length);
        self.tar.append_data(&mut header, path, Exactly { file, left: length }).with_context(failed)
    }

    fn link(&mut self, path: &Path, to: &[u8]) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        if to.len() > LINK {
            return self.tar.append_link(&mut header, path, Path::new(std::ffi::OsStr::from_bytes(to)));
        }
        // As it stands: whatever else writes it would leave out a `./` at its beginning.
        header.set_link_name_literal(to)?;
        self.tar.append_data(&mut header, path, io::empty())
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header
    }
}

/// The names in a directory, sorted by their bytes, without what git keeps of itself.
fn names(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if ![b".", &b".."[..], GIT].contains(&name.to_bytes()) {
            names.push(name.to_owned());
        }
        if names.len() > MAX_NAMES {
            bail!("there are more than {MAX_NAMES} names in it");
        }
    }
    names.sort();
    Ok(names)
}

/// A file of which a header says how long it is.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let changed = || io::Error::other("it changed while it was read");
        if self.left == 0 {
            return if self.file.read(&mut [0])? == 0 { Ok(0) } else { Err(changed()) };
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read(&mut buffer[..most])?;
        if length == 0 && most > 0 {
            return Err(changed());
        }
        self.left -= length as u64;
        Ok(length)
    }
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "no file",
    }
}

/// A path as people read it.
fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { safe(&path.to_string_lossy()) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        io::Seek as _,
        os::unix::{
            fs::{PermissionsExt as _, symlink},
            net::UnixListener,
        },
        time::{Duration, SystemTime},
    };

    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use tempfile::{TempDir, tempfile};

    use super::*;
    use crate::image::summed::read_to_end;

    fn layer(root: &Path) -> Result<Layer, String> {
        on(root, false)
    }

    fn on(root: &Path, on_base: bool) -> Result<Layer, String> {
        Layer::write(root, on_base, 1_732_000_000, tempfile().unwrap()).map_err(|error| format!("{error:#}"))
    }

    /// Each entry as `tar -tv` has it.
    fn entries(layer: &mut Layer) -> Vec<String> {
        layer.file.rewind().unwrap();
        let mut tar = tar::Archive::new(GzDecoder::new(&layer.file));
        let shown = |entry: io::Result<tar::Entry<'_, GzDecoder<&File>>>| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let link = entry.link_name_bytes().map(|to| format!(" -> {}", String::from_utf8_lossy(&to)));
            let owner =
                (header.uid().unwrap(), header.gid().unwrap(), header.username().unwrap(), header.groupname().unwrap());
            assert_eq!(owner, (0, 0, Some(""), Some("")));
            assert_eq!(header.mtime().unwrap(), 1_732_000_000);
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            format!("{:o} {path}{} {content}", header.mode().unwrap(), link.unwrap_or_default())
        };
        tar.entries().unwrap().map(shown).map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn a_layer_has_what_is_there_and_nothing_of_who_made_it() {
        let root = TempDir::new().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in ["b", "a", "a.d", ".git", "empty"] {
            fs::create_dir(at(directory)).unwrap();
        }
        let long = format!("b/{}", "x".repeat(150));
        for (path, mode) in
            [("a/run", 0o4711), ("a/data", 0o606), ("a.d/f", 0o600), (".git/config", 0o644), (&long, 0o444)]
        {
            fs::write(at(path), path.rsplit('/').next().unwrap()).unwrap();
            fs::set_permissions(at(path), Permissions::from_mode(mode)).unwrap();
        }
        let far = format!("/{}", "y/".repeat(80));
        for (path, to) in [("out", "/etc/shadow"), ("up", "./../..//up"), ("far", &far), ("a/self", "self")] {
            symlink(to, at(path)).unwrap();
        }
        let mut made = layer(root.path()).unwrap();
        let expected = [
            "755 a",
            "644 a/data data",
            "755 a/run run",
            "777 a/self -> self",
            "755 a.d",
            "644 a.d/f f",
            "755 b",
            &format!("644 {long} {}", "x".repeat(150)),
            "755 empty",
            &format!("777 far -> {far}"),
            "777 out -> /etc/shadow",
            "777 up -> ./../..//up",
        ];
        assert_eq!(entries(&mut made), expected);
        assert_eq!(made.size, made.file.metadata().unwrap().len());
        made.file.rewind().unwrap();
        assert_eq!(read_to_end(&made.file).unwrap(), (made.digest.clone(), made.size));
        made.file.rewind().unwrap();
        assert_eq!(read_to_end(GzDecoder::new(&made.file)).unwrap().0, made.diff_id);
    }

    #[test]
    fn a_layer_on_a_base_leaves_the_directories_of_the_base_as_they_are() {
        let root = TempDir::new().unwrap();
        for directory in ["etc/web/empty", "usr/bin", "tmp", "var/tmp/x", "srv/bin"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in ["usr/bin/web", "etc/web/conf", "srv/bin/web"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        let files = ["644 etc/web/conf x", "644 srv/bin/web x", "644 usr/bin/web x"];
        let made = ["755 etc/web/empty", "1777 tmp", "1777 var/tmp", "755 var/tmp/x"];
        let mut expected = [&files[..1], &made[..1], &files[1..2], &made[1..2], &files[2..], &made[2..]].concat();
        assert_eq!(entries(&mut on(root.path(), true).unwrap()), expected);
        let nobodys = ["755 etc", "755 etc/web", "755 srv", "755 srv/bin", "755 usr", "755 usr/bin", "755 var"];
        expected.extend(nobodys);
        let path = |line: &&str| line.split(' ').nth(1).unwrap().split('/').map(str::to_owned).collect::<Vec<_>>();
        expected.sort_by_key(path);
        assert_eq!(entries(&mut layer(root.path()).unwrap()), expected);
    }

    #[test]
    fn what_would_replace_a_link_of_the_base_is_refused() {
        for (directory, to) in [("bin", "usr/bin"), ("lib64", "usr/lib64"), ("var/run", "run")] {
            let root = TempDir::new().unwrap();
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("web"), "").unwrap();
            let refused = on(root.path(), true).unwrap_err();
            let expected = format!(
                "`{directory}` would replace what is a link in the base, and all behind it: put what is in it into `{to}`"
            );
            assert_eq!(refused, expected);
            assert!(layer(root.path()).is_ok(), "without a base it is its own");
        }
        let root = TempDir::new().unwrap();
        symlink("usr/bin", root.path().join("bin")).unwrap();
        fs::create_dir(root.path().join("library")).unwrap();
        assert!(on(root.path(), true).is_ok());
    }

    #[test]
    fn of_nothing_there_is_a_layer_on_a_base_alone() {
        let root = TempDir::new().unwrap();
        assert!(on(root.path(), true).is_ok());
        assert!(layer(root.path()).unwrap_err().contains("there is nothing in the directory"));
    }

    #[test]
    fn what_can_be_part_of_no_layer_is_refused() {
        for (name, expected) in
            [("socket", "`socket` is a socket"), ("pipe", "`pipe` is a pipe"), (".wh.base", "would delete a file")]
        {
            let root = TempDir::new().unwrap();
            let path = root.path().join(name);
            match name {
                "socket" => drop(UnixListener::bind(&path).unwrap()),
                "pipe" => rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
                _ => fs::write(&path, "").unwrap(),
            }
            let refused = layer(root.path()).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
        let (root, deep) = (TempDir::new().unwrap(), "d/".repeat(MAX_DEPTH + 1));
        fs::create_dir_all(root.path().join(deep)).unwrap();
        assert!(layer(root.path()).unwrap_err().contains("more than 128 directories deep"));
        let link = TempDir::new().unwrap();
        symlink(root.path(), link.path().join("root")).unwrap();
        assert!(layer(&link.path().join("root")).unwrap_err().contains("could not open the directory"));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        for left in [2, 4] {
            let root = TempDir::new().unwrap();
            fs::write(root.path().join("f"), "abc").unwrap();
            let file = File::open(root.path().join("f")).unwrap();
            let read = io::copy(&mut Exactly { file, left }, &mut io::sink());
            assert!(read.unwrap_err().to_string().contains("it changed while it was read"), "{left}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// In whichever order, by whomever and whenever files were made.
        #[test]
        fn the_same_files_give_the_same_layer(
            files in prop::collection::btree_map("[a-c]{1,2}(/[a-cé.]{1,3}[a-c]){0,2}", (prop::collection::vec(any::<u8>(), 0..2000), any::<bool>()), 1..12),
            order in any::<u64>(),
            (mask, hours) in (0_u32..0o100, 0_u64..100_000),
        ) {
            let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
            let mut shuffled: Vec<_> = files.iter().collect();
            shuffled.sort_by_key(|(path, _)| path.bytes().fold(order, |sum, byte| sum.rotate_left(7) ^ u64::from(byte).wrapping_mul(order | 1)));
            let mut made = std::collections::BTreeSet::new();
            for (path, (content, is_executable)) in &files {
                // One that is a directory of another can't be a file.
                if fs::create_dir_all(one.path().join(path).parent().unwrap()).is_ok() && !one.path().join(path).exists() {
                    fs::write(one.path().join(path), content).unwrap();
                    let mode = if *is_executable { 0o755 } else { 0o644 };
                    fs::set_permissions(one.path().join(path), Permissions::from_mode(mode)).unwrap();
                    made.insert(path);
                }
            }
            let time = SystemTime::UNIX_EPOCH + Duration::from_hours(hours);
            for (path, (content, is_executable)) in shuffled.into_iter().filter(|(path, _)| made.contains(path)) {
                let path = other.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
                File::open(&path).unwrap().set_modified(time).unwrap();
                let mode = if *is_executable { 0o777 } else { 0o666 } & !mask;
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            let (one, other) = (layer(one.path()).unwrap(), layer(other.path()).unwrap());
            prop_assert_eq!((one.digest, one.diff_id, one.size), (other.digest, other.diff_id, other.size));
        }
    }
}
