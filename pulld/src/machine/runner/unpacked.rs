//! When dpkg had unpacked each package, by what it says on `--status-fd` (dpkg(1)) while it works.
//!
//! A unit that started later runs what was unpacked; the end of dpkg is too late for that, because a package's own scripts
//! may start its units before.

use std::{
    collections::{BTreeMap, BTreeSet},
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
pub(super) struct Unpacked(Arc<Mutex<Seen>>);

/// What dpkg has said so far.
#[derive(Default)]
struct Seen {
    /// When it last called each package unpacked: it does so of the old one too, before it touches it and when it gives up.
    moments: BTreeMap<String, u64>,
    /// What it has gone on to configure: that is the new one.
    configured: BTreeSet<String>,
}

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
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(package) = unpacked(&line) {
                seen.moments.insert(package.to_owned(), clock::now());
            } else if let Some(package) = configured(&line) {
                seen.configured.insert(package.to_owned());
            }
        }
    }

    /// What is known by now, of the packages that were unpacked anew.
    pub(super) fn moments(&self) -> BTreeMap<String, u64> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let anew = seen.moments.iter().filter(|(package, _)| seen.configured.contains(*package));
        anew.map(|(package, moment)| (package.clone(), *moment)).collect()
    }
}

/// The options that make dpkg report on that pipe.
pub(super) fn options(writer: &PipeWriter) -> [String; 2] {
    ["--status-fd".to_owned(), writer.as_raw_fd().to_string()]
}

/// The package that a line says is unpacked.
fn unpacked(line: &str) -> Option<&str> {
    name(line.strip_prefix("status: ")?.strip_suffix(": unpacked")?)
}

/// The package that a line says is about to be configured.
fn configured(line: &str) -> Option<&str> {
    name(line.strip_prefix("processing: configure: ")?)
}

/// The name of a package, without its architecture.
fn name(package: &str) -> Option<&str> {
    package.split(':').next().filter(|name| !name.is_empty() && !name.contains([' ', '/']))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// As dpkg 1.21 says it of a package that is installed again, and whose `preinst` refuses that or does not.
    #[test]
    fn a_package_that_dpkg_gave_up_unpacking_is_the_one_that_was_there() {
        let before = "processing: upgrade: web\nstatus: web: half-configured\nstatus: web: unpacked\n";
        let refused = "status: web: half-installed\nstatus: web: unpacked\nstatus: web: installed\n";
        let replaced = "status: web: unpacked\nprocessing: configure: web:amd64\nstatus: web: installed\n";
        for (rest, is_new) in [(refused, false), (replaced, true)] {
            let seen = Unpacked::default();
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(format!("{before}{rest}").as_bytes()).unwrap();
            drop(writer);
            seen.read(reader);
            assert_eq!(seen.moments().contains_key("web"), is_new, "{rest}");
        }
    }

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
