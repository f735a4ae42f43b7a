//! A file to upload, as it was when it was read.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use crate::Sha256;

/// How much is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// A file to upload, as it was when it was read: an upload of other bytes never becomes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// The sum of its content.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// What Google's storage verifies by itself, of all that arrived.
    pub(crate) crc32c: u32,
}

impl SourceFile {
    /// Reads a file to its end.
    pub fn read(path: &Path) -> Result<Self, std::io::Error> {
        let mut file = File::open(path)?;
        let (mut sum, mut crc32c, mut size, mut chunk) = (Summing::default(), 0, 0, vec![0; CHUNK]);
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => {
                    sum.add(&chunk[..length]);
                    crc32c = crc32c::crc32c_append(crc32c, &chunk[..length]);
                    size += length as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { path: path.to_owned(), sha256: sum.finish(), size, crc32c })
    }

    /// Why an upload of it ended whose bytes weren't those that were read.
    pub(crate) fn changed(&self) -> String {
        format!("`{}` changed while it was being uploaded; nothing was published", self.path.display())
    }
}

/// A SHA-256 sum in the making.
#[derive(Debug, Default, Clone)]
pub(crate) struct Summing(sha2::Sha256);

impl Summing {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Sha256 {
        Sha256::from(<[u8; 32]>::from(self.0.finalize()))
    }
}
