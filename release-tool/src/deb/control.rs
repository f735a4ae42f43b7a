//! The control member, compressed into a place that was left for it before its content was known.
//!
//! All but the MD5 sums is known at the start, and sums are as good as random: any others compress to about the same
//! size. What the sums of the real files leave free of the place is filled in a way that both formats have for it: blocks
//! of zeros behind the end of the tar with zstd, an extra field in the header with gzip. There is one frame or member, for
//! that is all that some readers read.

use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::manifest::Compression;

/// Level 1 of zstd leaves hex digits to its entropy coder, which makes them smaller than level 3 does, and faster.
const ZSTD_LEVEL: i32 = 1;

/// Zeros that a tar may end with come in blocks of this many bytes.
const ZEROS: usize = 512;

/// Most bytes of a block of zstd (RFC 8878, 3.1.1.2).
const LARGEST_BLOCK: usize = 128 * 1024;

/// Bytes that gzip needs for the smallest extra field: its length, and a subfield's name and length (RFC 1952, 2.3.1.1).
const SMALLEST_EXTRA: usize = 6;

/// Most bytes of an extra field, its length included.
const LARGEST_EXTRA: usize = 2 + 65_535;

/// Name of the member. Whoever reads a data member of zstd reads such a control member too; gzip is what all others read.
pub(super) fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::Zstd => "control.tar.zst",
        Compression::Xz => "control.tar.gz",
    }
}

/// Bytes of the place to leave for a tar of which only the sums are going to change.
pub(super) fn room(compression: Compression, tar: &[u8]) -> Result<usize> {
    let size = match compression {
        Compression::Zstd => zstd_blocks(tar)?.len(),
        Compression::Xz => gzip(tar)?.len(),
    };
    Ok(size + 64 + (size / 256).min(LARGEST_EXTRA / 2))
}

/// The member of exactly `room` bytes; `None` if it doesn't fit.
pub(super) fn fit(compression: Compression, tar: &[u8], room: usize) -> Result<Option<Vec<u8>>> {
    match compression {
        Compression::Zstd => fit_zstd(tar, room),
        Compression::Xz => fit_gzip(tar, room),
    }
}

/// The member as large as it comes: for whoever knows all of it at once.
pub(super) fn whole(compression: Compression, tar: &[u8]) -> Result<Vec<u8>> {
    match compression {
        Compression::Zstd => zstd_frame(tar, ZSTD_LEVEL),
        Compression::Xz => gzip(tar),
    }
}

fn fit_zstd(tar: &[u8], room: usize) -> Result<Option<Vec<u8>>> {
    const SUM: usize = 4;
    let mut frame = zstd_blocks(tar)?;
    let Some(left) = room.checked_sub(frame.len() + SUM).filter(|left| *left >= 6) else { return Ok(None) };
    let (blocks, zeros) = zeros(left);
    frame.extend(blocks);
    // The checksum is of the content alone: it ends every frame with this content alike, also one that is made in a hurry.
    let mut content = tar.to_vec();
    content.resize(tar.len() + zeros, 0);
    let same = zstd_frame(&content, *zstd::compression_level_range().start())?;
    frame.extend(&same[same.len() - SUM..]);
    Ok(Some(frame))
}

/// A frame up to where another block may follow.
fn zstd_blocks(tar: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.write_all(tar)?;
    encoder.flush()?;
    Ok(std::mem::take(encoder.get_mut()))
}

fn zstd_frame(tar: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    encoder.write_all(tar)?;
    Ok(encoder.finish()?)
}

/// Blocks of exactly `room` bytes, at least 6, that end a frame and hold nothing but zeros; and how many zeros.
fn zeros(mut room: usize) -> (Vec<u8>, usize) {
    // A header is 24 bits (RFC 8878, 3.1.1.2): whether it is the last, the type (0: as it is, 1: one byte repeated), the size.
    let header = |kind: usize, size: usize| (kind << 1 | size << 3).to_le_bytes()[..3].to_vec();
    let (mut blocks, mut zeros) = (Vec::new(), 0);
    while room >= 6 + 3 + ZEROS {
        let size = (room - 6 - 3).min(LARGEST_BLOCK) / ZEROS * ZEROS;
        blocks.push([header(0, size), vec![0; size]].concat());
        (room, zeros) = (room - 3 - size, zeros + size);
    }
    // The rest in blocks of three bytes and of four.
    for _ in 0..room % 3 {
        blocks.push([header(1, ZEROS), vec![0]].concat());
        (room, zeros) = (room - 4, zeros + ZEROS);
    }
    blocks.extend((0..room / 3).map(|_| header(0, 0)));
    if let Some(last) = blocks.last_mut() {
        last[0] |= 1;
    }
    (blocks.concat(), zeros)
}

fn fit_gzip(tar: &[u8], room: usize) -> Result<Option<Vec<u8>>> {
    /// Bytes of the header up to where an extra field goes.
    const HEADER: usize = 10;
    let member = gzip(tar)?;
    let Some(left) = room.checked_sub(member.len()).filter(|left| (SMALLEST_EXTRA..=LARGEST_EXTRA).contains(left))
    else {
        return Ok(None);
    };
    let (header, rest) = member.split_at(HEADER);
    let mut fitted = header.to_vec();
    // FLG.FEXTRA
    fitted[3] |= 4;
    let length = |bytes: usize| {
        Ok::<_, anyhow::Error>(u16::try_from(bytes).context("an extra field is too long")?.to_le_bytes())
    };
    fitted.extend(length(left - 2)?);
    fitted.extend(b"PU");
    fitted.extend(length(left - SMALLEST_EXTRA)?);
    fitted.resize(HEADER + left, 0);
    fitted.extend(rest);
    Ok(Some(fitted))
}

fn gzip(tar: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::default());
    encoder.write_all(tar)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use md5::{Digest as _, Md5};

    use super::*;

    fn tar(files: usize, salt: &str) -> Vec<u8> {
        let line = |file| format!("{}  usr/share/web/{file}\n", hex::encode(Md5::digest(format!("{salt}{file}"))));
        let mut tar = crate::deb::tarball::Tarball::new(Vec::new(), 7).unwrap();
        tar.text("md5sums", 0o644, (0..files).map(line).collect::<String>().as_bytes()).unwrap();
        tar.finish().unwrap()
    }

    fn unpacked(compression: Compression, member: &[u8]) -> Vec<u8> {
        let mut tar = Vec::new();
        // As the agent reads it: one frame, and nothing behind it.
        let mut rest = member;
        let read = match compression {
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(&mut rest).unwrap().single_frame();
                decoder.read_to_end(&mut tar)
            }
            Compression::Xz => flate2::bufread::GzDecoder::new(&mut rest).read_to_end(&mut tar),
        };
        read.unwrap();
        assert!(rest.is_empty());
        tar
    }

    #[test]
    fn real_sums_fit_where_others_fitted() {
        for compression in [Compression::Zstd, Compression::Xz] {
            for files in [0, 1, 7, 100, 20_000] {
                let left = room(compression, &tar(files, "guess")).unwrap();
                let real = tar(files, "real");
                let member = fit(compression, &real, left).unwrap().unwrap();
                assert_eq!(member.len(), left);
                let mut content = unpacked(compression, &member);
                assert!((content.len() as u64).is_multiple_of(512));
                assert!(content.split_off(real.len()).iter().all(|byte| *byte == 0));
                assert!(content == real, "{files}");
            }
        }
    }

    #[test]
    fn any_place_is_filled_or_found_too_small() {
        let tar = tar(3, "x");
        for compression in [Compression::Zstd, Compression::Xz] {
            let least = room(compression, &tar).unwrap() - 64;
            assert_eq!(fit(compression, &tar, least - 8).unwrap(), None);
            for left in (least + 10..least + 1700).chain([least + 60_000]) {
                let member = fit(compression, &tar, left).unwrap().unwrap();
                assert_eq!(member.len(), left);
                assert!(unpacked(compression, &member).starts_with(&tar), "{left}");
            }
        }
        let member = fit(Compression::Zstd, &tar, 500_000).unwrap().unwrap();
        assert!(unpacked(Compression::Zstd, &member).starts_with(&tar));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let tar = tar(100, "x");
        let mut member = fit(Compression::Zstd, &tar, room(Compression::Zstd, &tar).unwrap()).unwrap().unwrap();
        let last = member.len() - 1;
        member[last] ^= 1;
        assert!(zstd::decode_all(&member[..]).is_err());
    }
}
