//! Releasing somebody else's `.deb` as it is: only its control file gains the Push fields.
//!
//! The data member and everything else are copied byte for byte. The control member is written anew, compressed in a way
//! that whoever reads the original reads; of its files only `control` differs, all others keep their headers and content.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use bucket::Control;
use tar::Header;

use super::{
    CHUNK,
    ar::Member,
    read::{DebFile, check_control_size},
    unfinished::create,
};
use crate::manifest::Compression;

/// Writes `original` with another control file as `path`, which must not exist. Its own times are kept.
pub(crate) fn write(original: &DebFile, control: &Control, path: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    let control = Rewritten::of(original, control)?;
    create(path, |file| copy(original, &control, file, progress))
}

/// The same into a file without a name, of which nothing is left if nobody lives to close it.
pub(crate) fn write_unnamed(original: &DebFile, control: &Control) -> Result<File> {
    let control = Rewritten::of(original, control)?;
    let mut file = tempfile::tempfile().context("could not create a temporary file")?;
    copy(original, &control, &mut file, &|_| ()).context("could not write a temporary file")?;
    Ok(file)
}

/// The control member of the new package.
struct Rewritten {
    compression: Compression,
    member: Vec<u8>,
}

impl Rewritten {
    fn of(original: &DebFile, control: &Control) -> Result<Self> {
        let tar = with_control(&original.control_tar, control.to_string().as_bytes())
            .with_context(|| format!("damaged control member in `{}`", original.path.display()))?;
        check_control_size(tar.len() as u64)?;
        original.check_data()?;
        let data_is_zstd = original.members.iter().any(|(member, _)| member.name == "data.tar.zst");
        let compression = if data_is_zstd { Compression::Zstd } else { Compression::Xz };
        Ok(Self { compression, member: super::control::whole(compression, &tar)? })
    }
}

/// Copies all members but that one.
fn copy(original: &DebFile, control: &Rewritten, file: &mut File, progress: &dyn Fn(u64)) -> Result<()> {
    let mut source = File::open(&original.path).context("could not open the original package")?;
    let mut out = BufWriter::with_capacity(CHUNK, file);
    out.write_all(super::ar::MAGIC)?;
    for (member, at) in &original.members {
        if member.name.starts_with("control.tar") {
            let Rewritten { compression, member: control } = control;
            let member = Member::new(super::control::name(*compression), control.len() as u64);
            out.write_all(&member.header(0)?)?;
            out.write_all(control)?;
            if member.is_padded() {
                out.write_all(b"\n")?;
            }
            continue;
        }
        // The header as it was: its time and owner are the original's.
        source.seek(SeekFrom::Start(at - super::ar::HEADER))?;
        let length = super::ar::HEADER + member.size;
        let mut left = length;
        while left > 0 {
            let piece = left.min(4 * CHUNK as u64);
            let copied = io::copy(&mut (&source).take(piece), &mut out)?;
            if copied != piece {
                bail!("`{}` was truncated while being copied", original.path.display());
            }
            left -= piece;
            progress(length - left);
        }
        if member.is_padded() {
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// A tar with the content of `./control` replaced, block by block: what isn't understood stays as it is.
fn with_control(tar: &[u8], control: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(tar.len() + control.len());
    let mut rest = tar;
    let mut replaced = false;
    while let Some((block, after)) = rest.split_at_checked(512) {
        let mut header = Header::from_byte_slice(block).clone();
        if block.iter().all(|byte| *byte == 0) {
            // The end, which a file that grew may have moved.
            out.extend([0; 1024]);
            break;
        }
        let size = usize::try_from(header.entry_size()?)?;
        let padded = size.checked_next_multiple_of(512).context("a file is too large")?;
        let (content, after) = after.split_at_checked(padded).context("control member is truncated")?;
        rest = after;
        let name = header.path_bytes();
        if header.entry_type().is_file() && matches!(&*name, b"./control" | b"control") {
            header.set_size(control.len() as u64);
            header.set_cksum();
            out.extend(header.as_bytes());
            out.extend(control);
            out.resize(out.len().next_multiple_of(512), 0);
            replaced = true;
        } else {
            out.extend(block);
            out.extend(content);
        }
    }
    if !replaced {
        bail!("no file `control` in the control member");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::tarball::Tarball;

    #[test]
    fn only_the_control_file_changes() {
        let make = |control: &[u8]| {
            let mut tar = Tarball::new(Vec::new(), 9).unwrap();
            tar.text("control", 0o644, control).unwrap();
            tar.text("postinst", 0o755, b"#!/bin/sh\n").unwrap();
            tar.text(&"x".repeat(150), 0o644, b"long").unwrap();
            tar.finish().unwrap()
        };
        let longer = [b'y'; 1000];
        assert_eq!(with_control(&make(b"Package: a\n"), &longer).unwrap(), make(&longer));
        assert!(with_control(&[0; 1024], b"x").is_err());
        assert!(with_control(&make(b"x")[..700], b"x").is_err());
    }
}
