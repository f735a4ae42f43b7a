//! What the commands of a stage say: shown as it comes, each line after the stage's name, and all of it in a file.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use console::{note, safe, size, warning};

use crate::run::values;

/// How much of the beginning of what a stage says is shown, and how much of its end, in bytes.
const SHOWN: u64 = 5 << 20;
/// What is longer is shown as several lines.
const LONGEST_LINE: usize = 8 << 10;

/// What one stage says.
#[derive(Debug)]
pub(super) struct Output {
    /// What its lines begin with.
    label: String,
    path: PathBuf,
    log: io::BufWriter<File>,
    /// Whether all of it is in the file so far.
    is_logged: bool,
    /// All that is in the file, in bytes: what it has said, and what was said between.
    said: u64,
    /// A line without its end, as far as it is to be shown.
    line: Vec<u8>,
    /// The end of what the command that runs has said.
    recent: VecDeque<u8>,
    /// Whether it said more than is recent.
    is_cut: bool,
}

impl Output {
    /// Nothing yet. `nth` gives the name its color.
    pub(super) fn new(name: &str, nth: usize, path: PathBuf) -> Result<Self> {
        let shown = path.display();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("could not create the directory `{}`", directory.display()))?;
        }
        let log = File::create(&path).with_context(|| format!("could not create `{shown}`"))?;
        Ok(Self {
            label: console::label(name, nth),
            log: io::BufWriter::new(log),
            path,
            is_logged: true,
            said: 0,
            line: Vec::new(),
            recent: VecDeque::new(),
            is_cut: false,
        })
    }

    /// What a command says, as it comes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.is_logged
            && let Err(error) = self.log.write_all(bytes)
        {
            self.is_logged = false;
            let path = self.path.display();
            warning(format_args!("could not write `{path}`, and what follows is not in it: {error}"));
        }
        self.recent.extend(bytes);
        let too_many = self.recent.len().saturating_sub(values::MAX);
        self.is_cut |= too_many > 0;
        self.recent.drain(..too_many);
        let before = self.said;
        self.said += bytes.len() as u64;
        if let Some(room) = SHOWN.checked_sub(before).filter(|room| *room > 0) {
            let shown = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.show(&bytes[..shown]);
            if self.said >= SHOWN {
                self.end_line();
                let path = self.path.display();
                note(format_args!(
                    "{}the beginning was shown; what follows is in {path}, and its end is shown then",
                    self.label
                ));
            }
        }
    }

    /// A line of ours, between those of commands.
    pub(super) fn say(&mut self, line: &str) {
        self.end_line();
        let line = format!("{line}\n");
        if self.is_logged {
            self.is_logged = self.log.write_all(line.as_bytes()).is_ok();
            self.said += line.len() as u64;
        }
        note(format_args!("{}{}", self.label, safe(line.trim_end())));
    }

    /// Another command begins.
    pub(super) fn begin_command(&mut self) {
        self.recent.clear();
        self.is_cut = false;
    }

    /// The last lines of what the command said, in UTF-8, and what to know of them: that they were cut, or had other bytes.
    pub(super) fn last_lines(&self, lines: u32) -> (String, Vec<&'static str>) {
        let recent: Vec<u8> = self.recent.iter().copied().collect();
        let (last, is_first_there) = last_lines(&recent, usize::try_from(lines).unwrap_or(usize::MAX), self.is_cut);
        let text: Vec<Cow<str>> = last.into_iter().map(String::from_utf8_lossy).collect();
        let mut known = Vec::new();
        if self.is_cut && is_first_there {
            known.push("only the last 64 KiB of what it says are kept as `output`");
        }
        if text.iter().any(|line| matches!(line, Cow::Owned(_))) {
            known.push("what it says is not UTF-8: in `output`, other bytes are replaced");
        }
        (text.join("\n"), known)
    }

    /// All was said: shows its end, if it was too much to be shown as it came.
    pub(super) fn end(&mut self) {
        self.end_line();
        let flushed = self.log.flush();
        if self.said > SHOWN && flushed.is_ok() && self.is_logged {
            let shown = self.show_end();
            if let Err(error) = shown {
                warning(format_args!("could not read `{}`: {error}", self.path.display()));
            }
        }
    }

    fn show_end(&mut self) -> io::Result<()> {
        let from = SHOWN.max(self.said.saturating_sub(SHOWN));
        let left_out = from - SHOWN;
        if left_out > 0 {
            note(format_args!("{}… {} are left out here …", self.label, size(left_out)));
        }
        let mut log = File::open(&self.path)?;
        log.seek(SeekFrom::Start(from))?;
        let mut log = BufReader::new(log.take(SHOWN));
        loop {
            let read = log.fill_buf()?;
            if read.is_empty() {
                break;
            }
            let (length, read) = (read.len(), read.to_vec());
            self.show(&read);
            log.consume(length);
        }
        self.end_line();
        Ok(())
    }

    fn show(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LONGEST_LINE) {
                self.line.extend_from_slice(part);
                if self.line.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                    self.end_line();
                }
            }
        }
    }

    fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&self.line).replace('\t', "    ");
        note(format_args!("{}{}", self.label, safe(line.trim_end_matches(['\n', '\r']))));
        self.line.clear();
    }
}

/// The last lines of a text, and whether its first is among them. A text that was cut begins with its first whole character.
fn last_lines(text: &[u8], lines: usize, is_cut: bool) -> (Vec<&[u8]>, bool) {
    // No character of UTF-8 has more than three bytes that go on.
    let rest = text.iter().take(3).take_while(|byte| is_cut && **byte & 0b1100_0000 == 0b1000_0000).count();
    let text = &text[rest..];
    let ended = text.strip_suffix(b"\n").unwrap_or(text);
    let all: Vec<&[u8]> = if text.is_empty() { Vec::new() } else { ended.split(|byte| *byte == b'\n').collect() };
    let from = all.len().saturating_sub(lines);
    let last = all[from..].iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    (last, from == 0 && lines > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_ones_and_begin_with_a_whole_character() {
        let shown = |text: &str, lines, is_cut| {
            let (found, is_first_there) = last_lines(text.as_bytes(), lines, is_cut);
            let found: Vec<&str> = found.into_iter().map(|line| str::from_utf8(line).unwrap()).collect();
            (found.join("|"), is_first_there)
        };
        for (text, lines, expected, is_first_there) in [
            ("", 3, "", true),
            ("a", 1, "a", true),
            ("a\nb\r\n\nc\n", 3, "b||c", false),
            ("a\nb\n", 9, "a|b", true),
            ("a\n\n", 1, "", false),
            ("a", 0, "", false),
        ] {
            assert_eq!(shown(text, lines, false), (expected.to_owned(), is_first_there), "{text:?}");
        }
        for from in 0..4 {
            let cut = &"\u{1f600}x".as_bytes()[from..];
            let expected: &[u8] = if from == 0 { cut } else { b"x" };
            assert_eq!(last_lines(cut, 1, true), (vec![expected], true), "from byte {from}");
        }
        // What was not cut there is not UTF-8, and that is to be said.
        assert_eq!(last_lines(b"\x9fx", 1, false), (vec![&b"\x9fx"[..]], true));
    }
}
