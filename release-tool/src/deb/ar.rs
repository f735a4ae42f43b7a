//! The outer format of a `.deb` (deb(5)): an `ar` archive of a few members.
//!
//! Written by hand, and not with a crate, because the size of a member is filled in after the member was written.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, bail};

/// What every archive begins with.
pub(crate) const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Length of a member's header.
pub(crate) const HEADER: u64 = 60;

/// Largest member: the header has ten decimal digits for its size.
pub(crate) const LARGEST: u64 = 9_999_999_999;

/// A member, as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// As in `control.tar`.
    pub(crate) name: String,
    /// Size of its content.
    pub(crate) size: u64,
}

impl Member {
    /// A member by name and size.
    pub(crate) fn new(name: &str, size: u64) -> Self {
        Self { name: name.to_owned(), size }
    }

    /// Its header, with the archive's `time` in seconds since 1970.
    pub(crate) fn header(&self, time: u64) -> Result<Vec<u8>> {
        let Self { name, size } = self;
        if *size > LARGEST {
            bail!("`{name}` has {size} bytes, and a member of a .deb at most {LARGEST}: split the package");
        }
        if time > 999_999_999_999 {
            bail!("time {time} is out of range for a .deb");
        }
        let header = format!("{name:<16}{time:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, "100644");
        if header.len() as u64 != HEADER {
            bail!("`{name}` is too long for a member header of a .deb");
        }
        Ok(header.into_bytes())
    }

    /// Whether a byte of padding follows it.
    pub(crate) fn is_padded(&self) -> bool {
        !self.size.is_multiple_of(2)
    }

    /// Reads the magic that must come first.
    pub(crate) fn read_magic(from: &mut impl Read) -> Result<()> {
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => Ok(()),
            Ok(()) => bail!("not a .deb: it does not begin with `!<arch>`"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => bail!("not a .deb: file is too short"),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the header of the next member; `None` at the end.
    pub(crate) fn read(from: &mut impl Read) -> Result<Option<Self>> {
        let mut header = Vec::with_capacity(60);
        from.take(HEADER).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(None);
        }
        if header.len() as u64 != HEADER || !header.ends_with(b"`\n") {
            bail!("damaged archive: malformed member header");
        }
        let text = str::from_utf8(&header).context("damaged archive: member header is not text")?;
        let (name, size) =
            text.get(..16).zip(text.get(48..58)).context("damaged archive: member header is not ASCII")?;
        let name = name.trim_end().trim_end_matches('/').to_owned();
        if name.is_empty() || name.chars().any(char::is_control) {
            bail!("damaged archive: invalid member name");
        }
        let digits = size.trim_end();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            bail!("damaged archive: size of `{name}` is not a number");
        }
        Ok(Some(Self { name, size: digits.parse()? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_written() {
        let member = Member::new("control.tar", 1024);
        let header = member.header(1_700_000_000).unwrap();
        assert_eq!(header.len(), 60);
        assert_eq!(Member::read(&mut &header[..]).unwrap(), Some(member));
        assert_eq!(Member::read(&mut &b""[..]).unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Member::new("data.tar.zst", LARGEST).header(0).is_ok());
        assert!(Member::new("data.tar.zst", LARGEST + 1).header(0).unwrap_err().to_string().contains("split"));
        assert!(Member::new("a-very-long-member-name", 1).header(0).is_err());
    }

    #[test]
    fn damaged_headers_are_errors() {
        let good = Member::new("x", 3).header(0).unwrap();
        for at in [58, 59, 48] {
            let mut bad = good.clone();
            bad[at] = b'?';
            assert!(Member::read(&mut &bad[..]).is_err(), "{at}");
        }
        assert!(Member::read(&mut &good[..59]).is_err());
        assert!(Member::read_magic(&mut &b"!<arch>?"[..]).is_err());
        assert!(Member::read_magic(&mut &b"!<"[..]).is_err());
    }
}
