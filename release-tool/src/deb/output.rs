//! The file that a package is written to: what was written is on its way to the disk before the end waits for it.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    num::NonZero,
};

use rustix::fs::{Advice, fadvise};

/// How much is written before the kernel is asked to begin with it, in bytes.
const STRETCH: u64 = 32 << 20;

/// A file that is written mostly from its beginning to its end.
#[derive(Debug)]
pub(super) struct Output<'a> {
    file: &'a mut File,
    at: u64,
    /// Up to where the kernel was asked.
    begun: u64,
}

impl<'a> Output<'a> {
    /// Writes to a file, from its beginning.
    pub(super) fn new(file: &'a mut File) -> Self {
        Self { file, at: 0, begun: 0 }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.at += length as u64;
        if let Some(stretch) = self.at.checked_sub(self.begun).filter(|stretch| *stretch >= STRETCH) {
            // Of pages that aren't written yet this only begins the writing (mm/fadvise.c). It is a hint: the end syncs.
            let _ = fadvise(&*self.file, self.begun, NonZero::new(stretch), Advice::DontNeed);
            self.begun = self.at;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Output<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}
