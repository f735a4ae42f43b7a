//! Where events go: the journal with their fields when systemd runs the program, else standard error.

use std::{ffi::OsStr, fmt, os::fd::AsFd};

use tracing::{Level, field::Field};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::format::{Writer, debug_fn},
    prelude::*,
};

use crate::{safe, warning};

/// Starts sending events at `level` and above of the crates `targets`; of all others only warnings.
pub fn start(level: Level, targets: &[&str]) {
    let ours = targets.iter().map(|target| (*target, LevelFilter::from_level(level)));
    let filter = Targets::new().with_default(LevelFilter::WARN).with_targets(ours);
    let registry = tracing_subscriber::registry().with(filter);
    let to_journal = is_journal(std::env::var_os("JOURNAL_STREAM").as_deref(), std::io::stderr());
    let journal = if to_journal { tracing_journald::layer().ok() } else { None };
    let installed = if let Some(journal) = journal {
        // No prefix: `message_id` must arrive as MESSAGE_ID.
        registry.with(journal.with_field_prefix(None)).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .fmt_fields(debug_fn(write_field).delimited(" "));
        registry.with(lines).try_init()
    };
    if let Err(error) = installed {
        warning(format_args!("could not start logging: {error}"));
    }
}

/// Whether a stream is the journal: systemd.exec(5) says to compare `$JOURNAL_STREAM`, `device:inode`, with it,
/// because the variable is inherited by programs whose output was redirected.
fn is_journal(variable: Option<&OsStr>, stream: impl AsFd) -> bool {
    let Some((device, inode)) = variable.and_then(OsStr::to_str).and_then(|text| text.split_once(':')) else {
        return false;
    };
    let Ok(stream) = rustix::fs::fstat(stream) else { return false };
    device.parse() == Ok(stream.st_dev) && inode.parse() == Ok(stream.st_ino)
}

/// Ids of event kinds are for machines: a person's terminal does without.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = safe(&format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        "message_id" => Ok(()),
        name => write!(writer, "{name}={value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_itself_is_the_journal() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let stat = rustix::fs::fstat(&reader).unwrap();
        let ours = format!("{}:{}", stat.st_dev, stat.st_ino);
        let other = format!("{}:{}", stat.st_dev, stat.st_ino + 1);
        let table =
            [(Some(ours.as_str()), true), (Some(&other), false), (Some("8"), false), (Some(""), false), (None, false)];
        for (variable, expected) in table {
            assert_eq!(is_journal(variable.map(OsStr::new), &reader), expected, "{variable:?}");
        }
    }
}
