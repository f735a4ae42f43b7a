//! What a person sees on stderr: progress, sizes, ages, and texts from elsewhere made harmless.

use std::io::{IsTerminal as _, stderr};

use bucket::Timestamp;
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
            eprintln!("{what} ({})", size(total));
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(total).with_prefix(what.to_owned());
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// So many bytes are done.
    pub(crate) fn at(&self, done: u64) {
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A text from elsewhere, safe to show in one line: nothing in it moves the cursor or turns the writing around.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = |c: char| if c.is_control() || turns(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.split('\n').map(|line| line.chars().map(escaped).collect::<String>()).collect::<Vec<_>>().join(" ⏎ ")
}

/// A size in bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KB", "MB", "GB", "TB"];
    let mut tenths = bytes.div_ceil(100);
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < units.len() {
        tenths = tenths.div_ceil(1000);
        unit += 1;
    }
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
    } else {
        format!("{} {}", tenths / 10, units[unit])
    }
}

/// How long ago something was, in its largest unit.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    match seconds {
        i64::MIN..0 => "in future".to_owned(),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KB"),
            (10_500, "10 KB"),
            (999_950, "1.0 MB"),
            (3_400_000_000, "3.4 GB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn ages_use_their_largest_unit() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (seconds, expected) in [(-5, "in future"), (5, "5 s"), (65, "1 min"), (7300, "2 h"), (200_000, "2 d")] {
            assert_eq!(age(at(1_000_000), at(1_000_000 + seconds)), expected);
        }
    }

    #[test]
    fn texts_from_elsewhere_do_nothing() {
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}c"), "a\\u{1b}[2J ⏎ b\\u{202e}c");
    }
}
