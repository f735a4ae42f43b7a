//! The outer archive of a `.deb`: ar(5) as deb(5) and dpkg have it, without name tables and other extensions.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Take},
};

use anyhow::{Context, Result, ensure};

/// What every archive begins with.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Length of a member's header.
const HEADER: usize = 60;

/// Begins an archive.
pub(super) fn begin(file: &mut File) -> Result<()> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).context("not an archive")?;
    ensure!(magic == *MAGIC, "not an archive");
    Ok(())
}

/// The next member, with its name as it is written, without the padding and without the slash that some write behind it;
/// `None` at the end.
pub(super) fn next(file: &mut File) -> Result<Option<(Vec<u8>, Take<&mut File>)>> {
    let mut header = Vec::new();
    Read::by_ref(file).take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    ensure!(header.len() == HEADER && header.ends_with(b"`\n"), "damaged archive");
    let name = header[..16].trim_ascii_end();
    let name = name.strip_suffix(b"/").unwrap_or(name).to_vec();
    let size = header[48..58].trim_ascii_end();
    ensure!(!size.is_empty() && size.iter().all(u8::is_ascii_digit), "damaged archive: a member has no size");
    let size: u64 = str::from_utf8(size)?.parse()?;
    Ok(Some((name, file.take(size))))
}

/// Goes to the end of a member, whose length is even.
pub(super) fn skip(member: Take<&mut File>) -> Result<()> {
    let left = member.limit();
    let file = member.into_inner();
    file.seek(SeekFrom::Current(i64::try_from(left)?))?;
    if !file.stream_position()?.is_multiple_of(2) {
        file.seek(SeekFrom::Current(1))?;
    }
    Ok(())
}
