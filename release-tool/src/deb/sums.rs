//! MD5 sums of files while they are packed.
//!
//! MD5 can't use more than one core, and at some 500 MB/s it is slower than reading and slower than zstd on two cores.
//! So the large files are hashed on a thread of their own, a few pieces behind the packing; small ones at once,
//! where waking a thread would cost more than the sum.

use std::{
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use md5::{Digest as _, Md5};

/// Largest file that is hashed at once.
const SMALL: u64 = 64 * 1024;

/// Pieces that may wait to be hashed: memory stays flat however slow that is.
const WAITING: usize = 8;

/// The sums of one file after the other.
#[derive(Debug)]
pub(super) struct Sums {
    small: Md5,
    is_small: bool,
    /// In the order of the files; empty where the thread has the sum.
    done: Vec<String>,
    pieces: SyncSender<Option<Vec<u8>>>,
    used: Receiver<Vec<u8>>,
    thread: JoinHandle<Vec<String>>,
}

impl Sums {
    /// Starts the hashing thread.
    pub(super) fn start() -> Result<Self> {
        let (pieces, work) = sync_channel::<Option<Vec<u8>>>(WAITING);
        let (back, used) = channel();
        let hash = move || {
            let (mut sum, mut sums) = (Md5::new(), Vec::new());
            for piece in work {
                let Some(piece) = piece else {
                    sums.push(hex::encode(sum.finalize_reset()));
                    continue;
                };
                sum.update(&piece);
                // Nobody takes it back after the last file.
                let _ = back.send(piece);
            }
            sums
        };
        let thread = thread::Builder::new().name("md5".to_owned()).spawn(hash).context("could not start a thread")?;
        Ok(Self { small: Md5::new(), is_small: true, done: Vec::new(), pieces, used, thread })
    }

    /// The next file begins; it will have `size` bytes.
    pub(super) fn begin(&mut self, size: u64) {
        self.is_small = size <= SMALL;
    }

    /// Adds the next piece of the current file.
    pub(super) fn update(&mut self, piece: &[u8]) -> Result<()> {
        if self.is_small {
            self.small.update(piece);
            return Ok(());
        }
        let mut copy = self.used.try_recv().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(piece);
        self.pieces.send(Some(copy)).context("the thread that makes MD5 sums is gone")
    }

    /// Ends the current file.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.is_small {
            self.done.push(hex::encode(self.small.finalize_reset()));
            return Ok(());
        }
        self.done.push(String::new());
        self.pieces.send(None).context("the thread that makes MD5 sums is gone")
    }

    /// All sums, in the order of the files.
    pub(super) fn finish(self) -> Result<Vec<String>> {
        drop(self.pieces);
        let Ok(large) = self.thread.join() else { anyhow::bail!("the thread that makes MD5 sums panicked") };
        let mut large = large.into_iter();
        let sums = self.done.into_iter().map(|sum| if sum.is_empty() { large.next() } else { Some(sum) });
        sums.collect::<Option<_>>().context("the thread that makes MD5 sums lost one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_in_the_order_of_the_files() {
        let files = [vec![1; 10], vec![2; 300_000], vec![], vec![3; 70_000], vec![4; 65_536], vec![5; 65_537]];
        let mut sums = Sums::start().unwrap();
        for file in &files {
            sums.begin(file.len() as u64);
            for piece in file.chunks(7000) {
                sums.update(piece).unwrap();
            }
            sums.end().unwrap();
        }
        let expected: Vec<String> = files.iter().map(|file| hex::encode(Md5::digest(file))).collect();
        assert_eq!(sums.finish().unwrap(), expected);
    }
}
