//! Progress of long work, on stderr.

use std::io::{IsTerminal as _, stderr};

use console::size;
use indicatif::{ProgressBar, ProgressStyle};

/// Progress in bytes: a bar on a terminal, one plain line otherwise.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Begins something that has `total` bytes, as in `packing web`.
    pub(crate) fn begin(what: &str, total: u64) -> Self {
        if !stderr().is_terminal() {
            console::note(format_args!("{what} ({})", size(total)));
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(total).with_prefix(what.to_owned());
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Shows that `done` bytes of the total are done.
    pub(crate) fn at(&self, done: u64) {
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
