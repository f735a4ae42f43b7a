//! The inner format of a `.deb`: tar, in the GNU dialect that dpkg understands best (deb(5)).
//!
//! Names begin with `./`, as dpkg-deb writes them. Owners go in by name with number 0: dpkg looks the name up on the
//! server while it unpacks, and a name that isn't known there yet leaves the file to root.

use std::io::Write;

use anyhow::{Result, bail};
use tar::{EntryType, Header};

use crate::manifest::{Id, Owner};

/// Bytes of a block.
pub(super) const BLOCK: u64 = 512;

/// Room for a name in a header, less the zero at its end that some readers expect.
const NAME: usize = 99;

/// The end of an archive.
pub(super) const END: [u8; 1024] = [0; 1024];

/// An archive that is being written.
#[derive(Debug)]
pub(crate) struct Tarball<W> {
    to: W,
    time: u64,
}

impl<W: Write> Tarball<W> {
    /// Begins an archive whose files all have the time `time`, in seconds since 1970.
    pub(crate) fn new(to: W, time: u64) -> Result<Self> {
        let mut tarball = Self::resume(to, time);
        tarball.directory("", 0o755, &Owner::root())?;
        Ok(tarball)
    }

    /// Goes on with an archive that was begun elsewhere.
    pub(super) fn resume(to: W, time: u64) -> Self {
        Self { to, time }
    }

    /// What was written so far.
    pub(super) fn into_inner(self) -> W {
        self.to
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: &Owner) -> Result<()> {
        let name = if path.is_empty() { "./".to_owned() } else { format!("./{path}/") };
        self.header(EntryType::Directory, &name, "", 0, mode, owner)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str, owner: &Owner) -> Result<()> {
        self.header(EntryType::Symlink, &format!("./{path}"), to, 0, 0o777, owner)
    }

    /// Adds another name of a file that was added before, which has the same mode and owner.
    pub(crate) fn hard_link(&mut self, path: &str, to: &str, mode: u32, owner: &Owner) -> Result<()> {
        self.header(EntryType::Link, &format!("./{path}"), &format!("./{to}"), 0, mode, owner)
    }

    /// Adds a file of exactly `size` bytes.
    pub(crate) fn file(
        &mut self,
        path: &str,
        mode: u32,
        owner: &Owner,
        size: u64,
        content: impl FnOnce(&mut W) -> Result<()>,
    ) -> Result<()> {
        self.header(EntryType::Regular, &format!("./{path}"), "", size, mode, owner)?;
        content(&mut self.to)?;
        self.pad(size)
    }

    /// Adds a file from memory.
    pub(crate) fn text(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let write = |to: &mut W| Ok(to.write_all(content)?);
        self.file(path, mode, &Owner::root(), content.len() as u64, write)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.to.write_all(&END)?;
        Ok(self.to)
    }

    fn header(&mut self, kind: EntryType, name: &str, link: &str, size: u64, mode: u32, owner: &Owner) -> Result<()> {
        if link.len() > NAME {
            self.long(EntryType::GNULongLink, link)?;
        }
        if name.len() > NAME {
            self.long(EntryType::GNULongName, name)?;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(self.time);
        let number = |id: &Id| if let Id::Number(number) = id { u64::from(*number) } else { 0 };
        header.set_uid(number(&owner.user));
        header.set_gid(number(&owner.group));
        if let Id::Name(name) = &owner.user {
            header.set_username(name)?;
        }
        if let Id::Name(name) = &owner.group {
            header.set_groupname(name)?;
        }
        self.write(header, name, link)
    }

    /// The GNU way to say a name that the next header has no room for.
    fn long(&mut self, kind: EntryType, text: &str) -> Result<()> {
        let size = text.len() as u64 + 1;
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.write(header, "././@LongLink", "")?;
        self.to.write_all(text.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(size)
    }

    fn write(&mut self, mut header: Header, name: &str, link: &str) -> Result<()> {
        // The crate would normalise the names: `./` would be gone.
        let Some(gnu) = header.as_gnu_mut() else { bail!("a new GNU header isn't one") };
        let short = |text: &str| text.len().min(NAME);
        gnu.name[..short(name)].copy_from_slice(&name.as_bytes()[..short(name)]);
        gnu.linkname[..short(link)].copy_from_slice(&link.as_bytes()[..short(link)]);
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let missing = size.next_multiple_of(BLOCK) - size;
        Ok(self.to.write_all(&END[..usize::try_from(missing)?])?)
    }
}

/// Bytes of the entry of a file at `path`, of which `content` bytes are packed.
pub(super) fn entry_size(path: &str, content: u64) -> u64 {
    // It is written behind `./`. A long one has an entry of its own, with a zero at its end.
    let name = path.len() as u64 + 2;
    let long = if name > NAME as u64 { BLOCK + (name + 1).next_multiple_of(BLOCK) } else { 0 };
    BLOCK + long + content.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_and_links_survive() {
        let long = format!("usr/{}/file", "x".repeat(200));
        let mut tarball = Tarball::new(Vec::new(), 7).unwrap();
        tarball.text(&long, 0o644, b"hello").unwrap();
        tarball.link("l", &long, &Owner::root()).unwrap();
        tarball.text(&"y".repeat(NAME - 2), 0o755, b"").unwrap();
        let bytes = tarball.finish().unwrap();
        assert!((bytes.len() as u64).is_multiple_of(BLOCK));
        let mut archive = tar::Archive::new(&bytes[..]);
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                (path, entry.link_name_bytes().map(|name| String::from_utf8(name.into_owned()).unwrap()), entry.size())
            })
            .collect();
        assert_eq!(seen[0], ("./".to_owned(), None, 0));
        assert_eq!(seen[1], (format!("./{long}"), None, 5));
        assert_eq!(seen[2], ("./l".to_owned(), Some(long), 0));
        assert_eq!(seen[3].0, format!("./{}", "y".repeat(NAME - 2)));
    }

    #[test]
    fn owners_are_names_or_numbers() {
        let mut tarball = Tarball::new(Vec::new(), 7).unwrap();
        let owner = Owner { user: Id::Name("www-data".into()), group: Id::Number(33) };
        tarball.directory("d", 0o750, &owner).unwrap();
        let bytes = tarball.finish().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entry = archive.entries().unwrap().nth(1).unwrap().unwrap();
        let header = entry.header();
        assert_eq!((header.username().unwrap(), header.uid().unwrap()), (Some("www-data"), 0));
        assert_eq!((header.groupname().unwrap(), header.gid().unwrap()), (Some(""), 33));
        assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o750, 7));
    }
}
