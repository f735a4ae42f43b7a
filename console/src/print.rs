//! Printing: results to stdout, messages to stderr.
//!
//! A reader that went away, as `head` does, has what it wanted: that is neither an error nor a panic, and the program
//! goes on to its own end.

use std::{
    fmt::Display,
    io::{ErrorKind, Write, stderr, stdout},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    failure::indented,
    messages::{self, Weight},
    unique_keys::parse_with_unique_keys,
};

/// Prints a result as it is. What of it comes from elsewhere must be [`safe()`](crate::safe()) already.
///
/// # Errors
/// When standard output can't be written, as on a full disk. A closed pipe is no error.
pub fn print(text: &str) -> Result<()> {
    write_to(&mut stdout().lock(), text)
}

/// Prints a line of a result; the same rules hold as for [`print()`].
///
/// # Errors
/// As [`print()`].
pub fn print_line(line: impl Display) -> Result<()> {
    print(&format!("{line}\n"))
}

/// Prints a result as one JSON document, indented.
///
/// # Errors
/// As [`print()`], or when the value has no JSON form.
///
/// # Panics
/// In debug builds, when an object has a key twice: readers would disagree about its value.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("could not write the result as JSON")?;
    debug_assert!(parse_with_unique_keys(&text).is_ok(), "a key is there twice: {text}");
    print_line(text)
}

/// Prints a message to stderr, made safe. Further lines of it are indented.
pub fn note(message: impl Display) {
    write_message(&indented(&message.to_string()), Weight::Ordinary);
}

/// Prints `warning: …` to stderr, made safe.
pub fn warning(message: impl Display) {
    write_message(&indented(&format!("warning: {message}")), Weight::Warning);
}

/// Prints an error to stderr as it is.
pub(crate) fn raw(text: &str) {
    write_message(text, Weight::Warning);
}

/// There is nobody to tell when that fails.
fn write_message(text: &str, weight: Weight) {
    if !messages::take(text, weight) {
        let _ = stderr().lock().write_all(text.as_bytes());
    }
}

fn write_to(writer: &mut impl Write, text: &str) -> Result<()> {
    match writer.write_all(text.as_bytes()).and_then(|()| writer.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("could not write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, PipeWriter, pipe};

    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error() {
        let (reader, mut writer): (_, PipeWriter) = pipe().unwrap();
        drop(reader);
        write_to(&mut writer, "result\n").unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(Error::from(ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let error = format!("{:#}", write_to(&mut Full, "x").unwrap_err());
        assert!(error.starts_with("could not write to standard output: "), "{error}");
    }
}
