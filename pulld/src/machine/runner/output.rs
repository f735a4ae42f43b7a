//! What dpkg and the maintainer scripts print: its end is kept for the result, and the journal of the transaction's
//! service gets it as it comes. A script may print a gigabyte, and anything.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
};

use console::safe;

/// Most bytes of output that are kept, from its end.
const MAX_OUTPUT: usize = 16 << 10;

/// Most bytes that go to the journal as they come. The end of what is more follows at the end of the run.
const MAX_JOURNAL: usize = 256 << 10;

/// What an entry of the journal counts beside its text.
const ENTRY: usize = 64;

/// Most bytes of one line there; the rest of the line is left out.
const MAX_LINE: usize = 2000;

/// Where what is written gets into the journal: standard error, of a service.
pub(crate) type JournalStream = Box<dyn Write + Send>;

/// What dpkg and its scripts have printed so far; each clone is the same one.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Printed>>);

struct Printed {
    end: VecDeque<u8>,
    journal: Journal<JournalStream>,
}

impl Output {
    /// Nothing yet; what is printed goes to `journal` too.
    pub(super) fn to_journal(journal: JournalStream) -> Self {
        let journal = Journal::new(journal);
        Self(Arc::new(Mutex::new(Printed { end: VecDeque::new(), journal })))
    }

    /// Reads a pipe in the background until it is closed, which the receiver reports. That may be never: a daemon
    /// that a script started can hold it open.
    pub(super) fn follow(&self, mut pipe: std::io::PipeReader) -> Receiver<()> {
        let output = self.clone();
        let (closed, rest) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let mut printed = output.0.lock().unwrap_or_else(PoisonError::into_inner);
                printed.end.extend(&chunk[..length]);
                let surplus = printed.end.len().saturating_sub(MAX_OUTPUT);
                printed.end.drain(..surplus);
                printed.journal.write(&chunk[..length]);
            }
            let _ = closed.send(());
        });
        rest
    }

    /// Says in the journal what is done; it is not a part of what was printed.
    pub(super) fn say(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).journal.write_line(line.as_bytes());
    }

    /// The end of what was printed, made valid UTF-8. The journal has it too from now on.
    pub(super) fn finish(&self) -> String {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end: Vec<u8> = printed.end.iter().copied().collect();
        printed.journal.finish(&end);
        String::from_utf8_lossy(&end).into_owned()
    }
}

/// The journal, as a stream of which each line is an entry.
struct Journal<W> {
    stream: W,
    line: Vec<u8>,
    left: usize,
}

impl<W: Write> Journal<W> {
    fn new(stream: W) -> Self {
        Self { stream, line: Vec::new(), left: MAX_JOURNAL }
    }

    /// Writes the lines that are whole by now, while there is room for them.
    fn write(&mut self, printed: &[u8]) {
        for byte in printed {
            if self.left == 0 {
                return;
            }
            if !matches!(byte, b'\n' | b'\r') {
                if self.line.len() < MAX_LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            // The journal needs more for an entry than its text.
            let Some(left) = self.left.checked_sub(line.len() + ENTRY) else {
                self.left = 0;
                self.write_line(b"(dpkg and the maintainer scripts print more than is kept; the end will follow)");
                return;
            };
            self.left = left;
            self.write_line(&line);
        }
    }

    /// Writes a last line that has no end, or the `end` of what there was no room for.
    fn finish(&mut self, end: &[u8]) {
        let last = std::mem::take(&mut self.line);
        if self.left > 0 {
            self.write_line(&last);
            return;
        }
        for line in end.split(|byte| *byte == b'\n') {
            self.write_line(&line[..line.len().min(MAX_LINE)]);
        }
    }

    /// Writes a line as text that can be read. That the journal cannot be written to must not keep dpkg from working.
    fn write_line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        // dpkg prints twenty of these in each run.
        let is_progress = line.starts_with("(Reading database ") && !line.ends_with(')');
        if !line.is_empty() && !is_progress {
            let _ = writeln!(self.stream, "{}", safe(&line.replace('\t', "    ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[&[u8]], end: &[u8]) -> String {
        let mut journal = Journal::new(Vec::new());
        for chunk in chunks {
            journal.write(chunk);
        }
        journal.finish(end);
        String::from_utf8(journal.stream).unwrap()
    }

    #[test]
    fn lines_reach_the_journal_whole_and_can_be_read_there() {
        let chunks: [&[u8]; 4] = [
            b"(Reading database ...\r(Reading database ... 5%\r",
            b"(Reading database ... 7 files)\n\nmi",
            b"grating\n\x1b[1m\xff\tx\n",
            b"the end",
        ];
        assert_eq!(
            written(&chunks, b""),
            "(Reading database ... 7 files)\nmigrating\n\\u{1b}[1m\u{fffd}    x\nthe end\n"
        );
    }

    #[test]
    fn a_gigabyte_is_cut_and_its_end_follows() {
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let chunks = vec![line.as_slice(); 100_000];
        let written = written(&chunks, b"the last\nwords\n");
        assert!(written.len() < MAX_JOURNAL + 1000, "{}", written.len());
        assert!(written.ends_with("the end will follow)\nthe last\nwords\n"));
        let one_line = vec![b"xxxxxxxxxx".as_slice(); 100_000];
        assert_eq!(self::written(&one_line, b"").len(), MAX_LINE + 1);
    }
}
