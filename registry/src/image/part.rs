//! A part of a file, read where it lies.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use anyhow::{Result, bail};

/// A part of a file.
#[derive(Debug, Clone)]
pub struct Part {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Part {
    pub(super) fn new(file: Arc<File>, offset: u64, size: u64) -> Self {
        Self { file, offset, size }
    }

    /// All of a file.
    pub(super) fn whole(file: File, size: u64) -> Self {
        Self::new(Arc::new(file), 0, size)
    }

    /// How many bytes it has, as far as the file does.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads it from its beginning. Several may at once.
    pub fn reader(&self) -> PartReader {
        PartReader { part: self.clone(), at: 0 }
    }

    /// All of it, if that is not more than `most` bytes.
    pub(super) fn read(&self, most: u64) -> Result<Vec<u8>> {
        if self.size > most {
            bail!("it has {} bytes, and {most} is the most", self.size);
        }
        let mut content = Vec::new();
        self.reader().read_to_end(&mut content)?;
        Ok(content)
    }

    /// Whether it begins with these bytes.
    pub(super) fn begins_with(&self, beginning: &[u8]) -> Result<bool> {
        let mut content = Vec::new();
        self.reader().take(beginning.len() as u64).read_to_end(&mut content)?;
        Ok(content == beginning)
    }
}

/// What reads a part of a file.
#[derive(Debug)]
pub struct PartReader {
    part: Part,
    at: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.part.size - self.at;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.part.file.read_at(&mut buffer[..most], self.part.offset + self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}
