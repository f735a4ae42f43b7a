//! When dpkg had unpacked each package, by what it says on `--status-fd` (dpkg(1)) while it works.
//!
//! A unit that started later runs what was unpacked; the end of dpkg is too late for that, because a package's own scripts
//! may start its units before.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, PipeReader, PipeWriter},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
};

use anyhow::{Context, Result};
use rustix::io::FdFlags;

use super::super::clock;

/// The moments, filled in by a thread while dpkg runs.
#[derive(Clone, Default)]
pub(super) struct Unpacked(Arc<Mutex<BTreeMap<String, u64>>>);

impl Unpacked {
    /// Makes the pipe on which dpkg reports, and reads it in the background until it is closed, which the receiver reports.
    /// The writer is inherited by the next child.
    pub(super) fn listen(&self) -> Result<(PipeWriter, Receiver<()>)> {
        let (reader, writer) = std::io::pipe().context("could not make a pipe")?;
        rustix::io::fcntl_setfd(&writer, FdFlags::empty()).context("could not let dpkg inherit a pipe")?;
        let (closed, rest) = channel();
        let unpacked = self.clone();
        std::thread::spawn(move || {
            unpacked.read(reader);
            let _ = closed.send(());
        });
        Ok((writer, rest))
    }

    fn read(&self, pipe: PipeReader) {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if let Some(package) = unpacked(&line) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(package.to_owned(), clock::now());
            }
        }
    }

    /// What is known by now. dpkg says `unpacked` of the old package too, before it touches it: the last one counts.
    pub(super) fn moments(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The options that make dpkg report on that pipe.
pub(super) fn options(writer: &PipeWriter) -> [String; 2] {
    ["--status-fd".to_owned(), writer.as_raw_fd().to_string()]
}

/// The package that a line says is unpacked.
fn unpacked(line: &str) -> Option<&str> {
    let package = line.strip_prefix("status: ")?.strip_suffix(": unpacked")?;
    package.split(':').next().filter(|name| !name.is_empty() && !name.contains([' ', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_packages_that_dpkg_calls_unpacked_count() {
        assert_eq!(unpacked("status: web: unpacked"), Some("web"));
        assert_eq!(unpacked("status: web:amd64: unpacked"), Some("web"));
        for other in [
            "status: web: half-installed",
            "status: web: installed",
            "processing: install: web",
            "status: /var/cache/a b.deb : error : cannot be unpacked: unpacked",
            "status: /etc/web.conf : conffile-prompt : 'a' 'b' 1 1",
            "unpacked",
        ] {
            assert_eq!(unpacked(other), None, "{other}");
        }
    }
}
