//! Writing a `.deb` (deb(5)) in one pass with flat memory, on all cores.
//!
//! The control member comes first in the file, but has the MD5 sums of what comes after it. A place is left free for it
//! (`control.rs` knows how large), the data member is streamed to where it belongs while the sums are made, and the
//! control member and the data member's size are filled in last.
//! Every source file is opened and read exactly once, ahead of the compression (`pieces.rs`).

pub(crate) mod ar;
mod control;
mod md5_lanes;
mod output;
mod pieces;
pub(crate) mod prebuilt;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod scripts;
mod tarball;
mod unfinished;

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    num::NonZero,
    path::Path,
    thread,
};

use anyhow::{Context, Result};
use bucket::Control;
use zstd::{
    stream::{raw, zio},
    zstd_safe::CParameter,
};

use crate::{
    manifest::Compression,
    tree::{Kind, Tree},
};
use ar::Member;
use output::Output;
use tarball::Tarball;
use unfinished::create;

/// How much is written at once, in bytes.
const CHUNK: usize = 1024 * 1024;

/// Most threads that compress: each takes some memory, and a few are faster than what they write to.
const MOST_THREADS: usize = 8;

/// How much of the tar a thread of zstd compresses at a time, in bytes: half of its default, and so is its memory.
const JOB: u32 = 4 << 20;

/// How much of what comes before a job is looked back at: half of the window. This outweighs what smaller jobs lose.
const OVERLAP: u32 = 8;

/// Entries of the table in which zstd's level 3 finds short matches, as a power of two: a quarter of its default, so that
/// the table stays in the nearest cache of a core. That takes a tenth less time, and makes a package half a percent larger.
const SHORT_MATCHES: u32 = 14;

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
        let tar = self.control_tar(guesses())?;
        let mut room = control::room(self.compression, &tar)?;
        // Zeros behind the tar are never more than the place has bytes.
        read::check_control_size((tar.len() + room) as u64)?;
        create(path, |file| {
            // Sums that compress worse than others are conceivable.
            while let Err(DoesNotFit { needed }) = self.write_into(file, room, progress)? {
                room = needed;
                file.set_len(0)?;
            }
            Ok(())
        })
    }

    /// Writes it with a place of `room` bytes for the control member.
    fn write_into(
        &self,
        file: &mut File,
        room: usize,
        progress: &dyn Fn(u64),
    ) -> Result<std::result::Result<(), DoesNotFit>> {
        let preamble = preamble(self.time)?;
        let control = Member::new(control::name(self.compression), room as u64);
        let control_at = preamble.len() as u64;
        let data_at = control_at + ar::HEADER + control.size + u64::from(control.is_padded());
        let mut out = Output::new(file);
        out.seek(SeekFrom::Start(data_at + ar::HEADER))?;
        let (mut out, fitted) = self.write_data(out, room, progress)?;
        let content = match fitted {
            Ok(content) => content,
            Err(does_not_fit) => return Ok(Err(does_not_fit)),
        };
        let data_name = match self.compression {
            Compression::Zstd => "data.tar.zst",
            Compression::Xz => "data.tar.xz",
        };
        let data = Member::new(data_name, out.stream_position()? - data_at - ar::HEADER);
        if data.is_padded() {
            out.write_all(b"\n")?;
        }
        let mut head = preamble;
        head.extend(control.header(self.time)?);
        head.extend(content);
        head.extend(control.is_padded().then_some(b'\n'));
        head.extend(data.header(self.time)?);
        out.rewind()?;
        out.write_all(&head)?;
        Ok(Ok(()))
    }

    /// Compresses the tree's tar, and meanwhile what goes into the place of `room` bytes for the control member.
    fn write_data<W: Write>(&self, out: W, room: usize, progress: &dyn Fn(u64)) -> Result<(W, Fitted)> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let workers = u32::try_from(threads)?;
        match self.compression {
            Compression::Zstd => {
                let out = zio::Writer::new_with_capacity(out, raw::Encoder::new(3)?, CHUNK);
                let mut encoder = zstd::Encoder::with_writer(out);
                // Also on one core: the single-threaded mode of zstd gives other bytes.
                encoder.multithread(workers).context("could not start zstd's threads")?;
                encoder.set_parameter(CParameter::JobSize(JOB))?;
                encoder.set_parameter(CParameter::OverlapSizeLog(OVERLAP))?;
                encoder.set_parameter(CParameter::ChainLog(SHORT_MATCHES))?;
                encoder.include_checksum(true)?;
                let sums = self.write_tar(&mut encoder, threads, progress)?;
                self.fit_while(&sums, room, || Ok(encoder.finish()?))
            }
            Compression::Xz => {
                let stream = liblzma::stream::MtStreamBuilder::new()
                    .threads(workers)
                    .preset(6)
                    .check(liblzma::stream::Check::Crc64)
                    .encoder()
                    .context("could not start xz's threads")?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(out, stream);
                let sums = self.write_tar(&mut encoder, threads, progress)?;
                self.fit_while(&sums, room, || Ok(encoder.finish()?))
            }
        }
    }

    /// Fits the control member with these sums into its place while `finish` waits for those who compress.
    fn fit_while<T>(&self, sums: &[[u8; 16]], room: usize, finish: impl FnOnce() -> Result<T>) -> Result<(T, Fitted)> {
        let fit = || -> Result<Fitted> {
            let tar = self.control_tar(sums.iter().copied())?;
            match control::fit(self.compression, &tar, room)? {
                Some(content) => Ok(Ok(content)),
                None => Ok(Err(DoesNotFit { needed: control::room(self.compression, &tar)? })),
            }
        };
        thread::scope(|scope| {
            let fitting = scope.spawn(fit);
            let finished = finish()?;
            match fitting.join() {
                Ok(fitted) => Ok((finished, fitted?)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn write_tar(&self, out: &mut impl Write, threads: usize, progress: &dyn Fn(u64)) -> Result<Vec<[u8; 16]>> {
        let mut done = 0;
        // Two also on one core: one may wait for the disk.
        pieces::tar(self.tree, self.time, threads.max(2), |piece, content| {
            done += content;
            progress(done);
            out.write_all(piece).context("could not write the package")
        })
    }

    /// Files that have a line in `md5sums`: dpkg keeps the sums of conffiles itself.
    fn summed(&self) -> impl Iterator<Item = &str> {
        self.tree
            .iter()
            .filter(|(_, entry)| matches!(entry.kind, Kind::File { conffile: false, .. }))
            .map(|(path, _)| path)
    }

    /// The control member as a tar, with a sum for each of the files in [`Self::summed`].
    fn control_tar(&self, sums: impl Iterator<Item = [u8; 16]>) -> Result<Vec<u8>> {
        let mut tar = Tarball::new(Vec::new(), self.time)?;
        let conffiles = self.tree.conffiles().fold(String::new(), |text, path| text + "/" + path + "\n");
        if !conffiles.is_empty() {
            tar.text("conffiles", 0o644, conffiles.as_bytes())?;
        }
        tar.text("control", 0o644, self.control.to_string().as_bytes())?;
        let mut lines = Vec::new();
        for (path, sum) in self.summed().zip(sums) {
            let mut digits = [0; 32];
            hex::encode_to_slice(sum, &mut digits)?;
            for part in [&digits[..], b"  ", path.as_bytes(), b"\n"] {
                lines.extend_from_slice(part);
            }
        }
        if !lines.is_empty() {
            tar.text("md5sums", 0o644, &lines)?;
        }
        for (name, text) in self.scripts {
            tar.text(name, 0o755, text.as_bytes())?;
        }
        tar.finish()
    }
}

/// The control member, if it fits into its place.
type Fitted = std::result::Result<Vec<u8>, DoesNotFit>;

/// What compresses like sums, and takes less time to make (`SplitMix64`).
fn guesses() -> impl Iterator<Item = [u8; 16]> {
    let mut state = 0_u64;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    std::iter::repeat_with(move || (next() << 64 | next()).to_be_bytes())
}

/// The place for the control member turned out to be too small.
struct DoesNotFit {
    /// Bytes that it should have.
    needed: usize,
}

/// The magic and the member that says which format follows.
fn preamble(time: u64) -> Result<Vec<u8>> {
    let version = b"2.0\n";
    let mut bytes = ar::MAGIC.to_vec();
    bytes.extend(Member::new("debian-binary", version.len() as u64).header(time)?);
    bytes.extend(version);
    Ok(bytes)
}
