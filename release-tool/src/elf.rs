//! What a program says of the machine it runs on: its architecture, and the glibc it needs (elf(5)).
//!
//! Only headers and tables are read, each bounded. A file that breaks off or contradicts itself says nothing: whether it
//! works is not for a packer to judge.

use std::{fs::File, io::Read, os::unix::fs::FileExt as _, path::Path};

use anyhow::{Context, Result};

/// Largest table that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Most entries of lists that are followed.
const MOST: u64 = 4096;

/// A version of glibc, as in `2.34`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc(u32, u32);

impl std::fmt::Display for Glibc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Glibc {
    /// From the name of a symbol version, as in `GLIBC_2.34` or `GLIBC_2.2.5`.
    fn parse(version: &str) -> Option<Self> {
        // Debian's glibc has this one since 2.36: relative relocations in a form of their own.
        let version = if version == "GLIBC_ABI_DT_RELR" { "GLIBC_2.36" } else { version };
        let mut numbers = version.strip_prefix("GLIBC_")?.split('.').map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// The Debian architecture of an ELF file; `None` for any other file, or a machine that isn't known here.
pub(crate) fn architecture(path: &Path) -> Result<Option<&'static str>> {
    let mut head = Vec::new();
    open(path)?.take(20).read_to_end(&mut head).with_context(|| format!("could not read `{}`", path.display()))?;
    // The magic, then the class at 4, the byte order at 5, and the machine at 18.
    if head.len() < 20 || !head.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    Ok(match (head[4], head[5], head[18]) {
        (2, 1, 62) => Some("amd64"),
        (1, 1, 3) => Some("i386"),
        (2, 1, 183) => Some("arm64"),
        (2, 1, 243) => Some("riscv64"),
        (2, 1, 21) => Some("ppc64el"),
        _ => None,
    })
}

/// The oldest glibc that has all symbols that a program or library of 64 bits asks it for; `None` when it asks for none.
pub(crate) fn glibc(path: &Path) -> Result<Option<Glibc>> {
    let file = open(path)?;
    Ok(Elf::read(&file)
        .and_then(|elf| elf.versions())
        .and_then(|versions| versions.iter().filter_map(|version| Glibc::parse(version)).max()))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("could not open `{}`", path.display()))
}

/// An ELF file of 64 bits, little endian, with its dynamic section.
struct Elf<'a> {
    file: &'a File,
    /// Loaded parts: address, offset in the file, size.
    loaded: Vec<(u64, u64, u64)>,
    /// Tag and value.
    dynamic: Vec<(u64, u64)>,
}

impl<'a> Elf<'a> {
    fn read(file: &'a File) -> Option<Self> {
        let header = bytes(file, 0, 64)?;
        if !header.starts_with(b"\x7fELF\x02\x01") || number(&header, 54, 2)? != 56 {
            return None;
        }
        let headers = bytes(file, number(&header, 32, 8)?, 56 * number(&header, 56, 2)?)?;
        let (mut loaded, mut dynamic) = (Vec::new(), Vec::new());
        for header in headers.chunks_exact(56) {
            let (offset, address, size) = (number(header, 8, 8)?, number(header, 16, 8)?, number(header, 32, 8)?);
            match number(header, 0, 4)? {
                1 => loaded.push((address, offset, size)),
                2 => {
                    let entry = |entry: &[u8]| Some((number(entry, 0, 8)?, number(entry, 8, 8)?));
                    dynamic = bytes(file, offset, size)?.chunks_exact(16).map(entry).collect::<Option<_>>()?;
                }
                _ => {}
            }
        }
        Some(Self { file, loaded, dynamic })
    }

    /// The symbol versions that other libraries must have (`DT_VERNEED`).
    fn versions(&self) -> Option<Vec<String>> {
        let (strings, mut library) = (self.address(5)?, self.address(0x6fff_fffe)?);
        let mut versions = Vec::new();
        let mut followed: u64 = 0;
        loop {
            let needed = bytes(self.file, library, 16)?;
            let mut version = library.checked_add(number(&needed, 8, 4)?)?;
            // Of a file whose lists lead in a circle nothing is said.
            let count = number(&needed, 2, 2)?;
            followed += 1 + count;
            if followed > MOST {
                return None;
            }
            for _ in 0..count {
                let entry = bytes(self.file, version, 16)?;
                // Weak references (2) may stay unresolved.
                if number(&entry, 4, 2)? & 2 == 0 {
                    versions.push(self.text(strings.checked_add(number(&entry, 8, 4)?)?)?);
                }
                version = version.checked_add(number(&entry, 12, 4)?)?;
            }
            match number(&needed, 12, 4)? {
                0 => return Some(versions),
                next => library = library.checked_add(next)?,
            }
        }
    }

    /// Where in the file the table is that a dynamic tag gives the address of.
    fn address(&self, tag: u64) -> Option<u64> {
        let (_, address) = self.dynamic.iter().find(|(found, _)| *found == tag)?;
        let holds = |(start, _, size): &&(u64, u64, u64)| address.checked_sub(*start).is_some_and(|at| at < *size);
        let (start, offset, _) = self.loaded.iter().find(holds)?;
        offset.checked_add(address - start)
    }

    /// The text at an offset, up to its NUL.
    fn text(&self, offset: u64) -> Option<String> {
        let mut text = vec![0; 64];
        let read = self.file.read_at(&mut text, offset).ok()?;
        let end = text.iter().take(read).position(|byte| *byte == 0)?;
        text.truncate(end);
        String::from_utf8(text).ok()
    }
}

fn bytes(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(Some(size).filter(|size| *size <= LARGEST)?).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + size)?;
    Some(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// `objdump` comes with the linker, so it is wherever this was built.
    #[test]
    fn binutils_sees_the_same_glibc() {
        let path = std::env::current_exe().unwrap();
        let output = Command::new("objdump").arg("-T").arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._".contains(c));
        let newest = words.filter_map(Glibc::parse).max();
        assert!(newest >= Some(Glibc(2, 17)), "{newest:?}");
        assert_eq!(glibc(&path).unwrap(), newest);
    }

    #[test]
    fn versions_are_numbers_and_private_ones_are_none() {
        assert!(Glibc::parse("GLIBC_2.4") < Glibc::parse("GLIBC_2.34"));
        assert_eq!(Glibc::parse("GLIBC_2.2.5").unwrap().to_string(), "2.2");
        assert_eq!(Glibc::parse("GLIBC_ABI_DT_RELR").unwrap().to_string(), "2.36");
        assert_eq!(Glibc::parse("GLIBC_PRIVATE"), None);
        assert_eq!(Glibc::parse("GCC_3.0"), None);
    }

    #[test]
    fn a_file_cut_off_or_damaged_anywhere_says_nothing_and_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let whole = std::fs::read("/bin/true").unwrap();
        let newest = glibc(Path::new("/bin/true")).unwrap();
        assert!(newest.is_some());
        for size in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..size]).unwrap();
            glibc(&path).unwrap();
        }
        for at in (0..2048.min(whole.len())).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            std::fs::write(&path, &damaged).unwrap();
            glibc(&path).unwrap();
        }
    }
}
