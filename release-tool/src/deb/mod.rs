//! Writing a `.deb` (deb(5)) in one pass with flat memory.
//!
//! The control member comes first in the file, but has the MD5 sums of what comes after it. It is written
//! uncompressed, so its size is known before the sums are; its place is left free, the data member is streamed to
//! where it belongs while the sums are made, and the control member and the data member's size are filled in last.
//! Every source file is opened and read exactly once.

pub(crate) mod ar;
pub(crate) mod prebuilt;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod scripts;
mod sums;
mod tarball;

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
};

use anyhow::{Context, Result, bail};
use bucket::Control;
use tempfile::NamedTempFile;

use crate::{
    manifest::Compression,
    tree::{Kind, Tree},
};
use ar::Member;
use sums::Sums;
use tarball::Tarball;

/// How much is read from a file at once.
const CHUNK: usize = 256 * 1024;

/// An MD5 sum before it is known.
const UNKNOWN: &str = "00000000000000000000000000000000";

/// A package to be written.
#[derive(Debug)]
pub(crate) struct Deb<'a> {
    /// The control file, complete.
    pub(crate) control: &'a Control,
    /// Maintainer scripts by name, in the order in which they are packed.
    pub(crate) scripts: &'a [(&'static str, String)],
    /// The files of the data member.
    pub(crate) tree: &'a Tree,
    /// The time of everything in it, in seconds since 1970.
    pub(crate) time: u64,
    /// How the data member is compressed.
    pub(crate) compression: Compression,
}

impl Deb<'_> {
    /// Writes it as `path`, which must not exist. `progress` is told the bytes of files read so far.
    pub(crate) fn write(&self, path: &Path, progress: &dyn Fn(u64)) -> Result<()> {
        let sums: Vec<(&str, String)> = self.summed().map(|path| (path, UNKNOWN.to_owned())).collect();
        let control = Member::new("control.tar", self.control_member(&sums)?.len() as u64);
        read::check_control_size(control.size)?;
        let data_name = match self.compression {
            Compression::Zstd => "data.tar.zst",
            Compression::Xz => "data.tar.xz",
        };

        create(path, |file| {
            let mut out = BufWriter::with_capacity(CHUNK, file);
            out.write_all(&preamble(self.time)?)?;
            let control_at = out.stream_position()?;
            // A tar is a multiple of 512 bytes: never padded.
            let data_at = control_at + ar::HEADER + control.size;
            out.seek(SeekFrom::Start(data_at + ar::HEADER))?;

            let (mut out, sums) = self.write_data(out, progress)?;
            let data = Member::new(data_name, out.stream_position()? - data_at - ar::HEADER);
            if data.is_padded() {
                out.write_all(b"\n")?;
            }

            out.seek(SeekFrom::Start(control_at))?;
            out.write_all(&control.header(self.time)?)?;
            out.write_all(&self.control_member(&sums)?)?;
            out.write_all(&data.header(self.time)?)?;
            out.flush()?;
            Ok(())
        })
    }

    fn write_data<W: Write>(&self, out: W, progress: &dyn Fn(u64)) -> Result<(W, Vec<(&str, String)>)> {
        let threads = thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        match self.compression {
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, 3)?;
                // Also on one core: the single-threaded mode of zstd gives other bytes.
                encoder.multithread(threads.clamp(1, 64)).context("could not start zstd's threads")?;
                encoder.include_checksum(true)?;
                let (encoder, sums) = self.write_tar(encoder, progress)?;
                Ok((encoder.finish()?, sums))
            }
            Compression::Xz => {
                let stream = liblzma::stream::MtStreamBuilder::new()
                    .threads(threads)
                    .preset(6)
                    .check(liblzma::stream::Check::Crc64)
                    .encoder()
                    .context("could not start xz's threads")?;
                let encoder = liblzma::write::XzEncoder::new_stream(out, stream);
                let (encoder, sums) = self.write_tar(encoder, progress)?;
                Ok((encoder.finish()?, sums))
            }
        }
    }

    fn write_tar<W: Write>(&self, out: W, progress: &dyn Fn(u64)) -> Result<(W, Vec<(&str, String)>)> {
        let mut tar = Tarball::new(out, self.time)?;
        let mut sums = Sums::start()?;
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        for (path, entry) in self.tree.iter() {
            match &entry.kind {
                Kind::Directory => tar.directory(path, entry.mode, &entry.owner)?,
                Kind::Link { to } => tar.link(path, to, &entry.owner)?,
                Kind::File { source, size, conffile } => {
                    sums.begin(*size);
                    tar.file(path, entry.mode, &entry.owner, *size, |out| {
                        copy_exactly(source, *size, &mut buffer, |piece| {
                            done += piece.len() as u64;
                            progress(done);
                            if !conffile {
                                sums.update(piece)?;
                            }
                            out.write_all(piece).context("could not write the package")
                        })
                    })?;
                    if !conffile {
                        sums.end()?;
                    }
                }
            }
        }
        let out = tar.finish()?;
        Ok((out, self.summed().zip(sums.finish()?).collect()))
    }

    /// Files that have a line in `md5sums`: dpkg keeps the sums of conffiles itself.
    fn summed(&self) -> impl Iterator<Item = &str> {
        self.tree
            .iter()
            .filter(|(_, entry)| matches!(entry.kind, Kind::File { conffile: false, .. }))
            .map(|(path, _)| path)
    }

    fn control_member(&self, sums: &[(&str, String)]) -> Result<Vec<u8>> {
        let mut tar = Tarball::new(Vec::new(), self.time)?;
        let conffiles = self.tree.conffiles().fold(String::new(), |text, path| text + "/" + path + "\n");
        if !conffiles.is_empty() {
            tar.text("conffiles", 0o644, conffiles.as_bytes())?;
        }
        tar.text("control", 0o644, self.control.to_string().as_bytes())?;
        let lines = sums.iter().fold(String::new(), |text, (path, sum)| text + sum + "  " + path + "\n");
        if !lines.is_empty() {
            tar.text("md5sums", 0o644, lines.as_bytes())?;
        }
        for (name, text) in self.scripts {
            tar.text(name, 0o755, text.as_bytes())?;
        }
        tar.finish()
    }
}

/// The magic and the member that says which format follows.
fn preamble(time: u64) -> Result<Vec<u8>> {
    let version = b"2.0\n";
    let mut bytes = ar::MAGIC.to_vec();
    bytes.extend(Member::new("debian-binary", version.len() as u64).header(time)?);
    bytes.extend(version);
    Ok(bytes)
}

/// Makes a file that is either whole and called `path`, or not there at all; never one that was there before.
fn create(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let shown = path.display();
    let directory = path.parent().context("the package's path has no directory")?;
    let failed = || format!("could not write `{shown}`");
    let mut file = NamedTempFile::with_prefix_in(".release-", directory).with_context(failed)?;
    write(file.as_file_mut()).with_context(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644)).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "`{shown}` already exists, and releases are never overwritten: another build in the same second has this name, build again"
            )
        }
        Err(error) => Err(error.error).with_context(failed),
    }
}

/// Hands over the content of a file of which exactly `size` bytes are expected.
fn copy_exactly(source: &Path, size: u64, buffer: &mut [u8], mut piece: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let shown = source.display();
    let mut file = File::open(source).with_context(|| format!("could not open `{shown}`"))?;
    let mut left = size;
    loop {
        let read = match file.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("could not read `{shown}`")),
        };
        match left.checked_sub(read as u64) {
            Some(after) if read > 0 => left = after,
            Some(0) => return Ok(()),
            _ => bail!("`{shown}` changed its size while being packed: build again when nothing writes to it"),
        }
        piece(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grew_or_shrank_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        for (size, good) in [(4, false), (5, true), (6, false), (0, false)] {
            let copied = copy_exactly(&path, size, &mut [0; 3], |_| Ok(()));
            assert_eq!(copied.is_ok(), good, "{size}");
        }
    }

    #[test]
    fn what_failed_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.deb");
        assert!(create(&path, |_| bail!("no")).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        create(&path, |_| Ok(())).unwrap();
        assert!(create(&path, |_| Ok(())).unwrap_err().to_string().contains("never overwritten"));
    }
}
