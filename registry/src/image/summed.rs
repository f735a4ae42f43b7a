//! Sums of what passes by: where a layer is written, and where a file is read to its end.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::Digest;

/// How much is read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// What is written on to something else, with its sum.
#[derive(Debug)]
pub(super) struct Summed<W> {
    to: W,
    sum: Sha256,
    size: u64,
}

impl<W> Summed<W> {
    /// Nothing yet.
    pub(super) fn new(to: W) -> Self {
        Self { to, sum: Sha256::new(), size: 0 }
    }

    /// What it was written to, the digest of all of it, and how many bytes that were.
    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.to, digest(self.sum), self.size)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.to.write(bytes)?;
        self.sum.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The digest of all that is read, and how many bytes that were.
pub(super) fn read_to_end(mut from: impl Read) -> io::Result<(Digest, u64)> {
    let (mut sum, mut size, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok((digest(sum), size)),
            Ok(length) => {
                sum.update(&chunk[..length]);
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn digest(sum: Sha256) -> Digest {
    Digest::from(bucket::Sha256::from(<[u8; 32]>::from(sum.finalize())))
}
