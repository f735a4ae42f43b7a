//! Where events go: the journal with their fields when systemd runs the agent, else standard error.

use std::fmt;

use tracing::{Level, field::Field};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::format::{Writer, debug_fn},
    prelude::*,
};

/// Starts sending events at `level` and above; of the libraries only warnings.
pub(crate) fn start(level: Level) {
    let filter =
        Targets::new().with_default(LevelFilter::WARN).with_target("pulld", level).with_target("bucket", level);
    let registry = tracing_subscriber::registry().with(filter);
    // systemd.exec(5): JOURNAL_STREAM is set when standard error goes to the journal anyway.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
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
        eprintln!("events can't be shown: {error}");
    }
}

/// Ids of event kinds are for machines: a person's terminal does without.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        "message_id" => Ok(()),
        name => write!(writer, "{name}={value:?}"),
    }
}
