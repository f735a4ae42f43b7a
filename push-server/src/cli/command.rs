//! What the verbs share.

use std::sync::Arc;

use bucket::{Bucket, Timestamp};
use console::{Cell, Color, Person};
use fleet::policy::Policy;
use jiff::SignedDuration;

use crate::badge::{Badge, Severity};

/// Servers that are read at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// What a verb works with.
pub(crate) struct Command {
    pub(crate) bucket: Bucket,
    pub(crate) policy: Arc<Policy>,
    pub(crate) json: bool,
}

impl Command {
    /// The time by the bucket's clock, as far as that is known: ages go by it, whatever this machine's clock says.
    pub(crate) fn now(&self) -> Timestamp {
        self.bucket.now()
    }
}

/// How far this machine's clock may be from the bucket's before a person is told.
const MAX_CLOCK_OFFSET: SignedDuration = SignedDuration::from_mins(10);

/// What is said of a clock that is that far behind the bucket's; nothing of one that is about right.
pub(crate) fn clock_warning(ahead: SignedDuration) -> Option<String> {
    if ahead.abs() <= MAX_CLOCK_OFFSET {
        return None;
    }
    let (age, which) = (console::age(ahead.abs()), if ahead.is_positive() { "behind" } else { "ahead of" });
    Some(format!(
        "warning: the clock of this machine is {age} {which} that of the bucket, which is used instead: set it right"
    ))
}

/// Who pushes, as the history records it.
pub(crate) fn operator_name() -> String {
    console::safe(&Person::find(|key| std::env::var(key).ok()).to_string())
}

/// How long ago something was: `12 min ago`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    console::ago(now.duration_since(time))
}

/// How long something has been so: `12 min`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    console::age(now.duration_since(since))
}

/// A badge's text and its color.
pub(crate) fn painted(badge: Badge) -> (String, Color) {
    let color = match badge.severity {
        Severity::Good => Color::Good,
        Severity::Notice => Color::Notice,
        Severity::Bad => Color::Bad,
        Severity::Quiet => Color::Plain,
    };
    (format!("{} {}", badge.symbol, badge.text), color)
}

/// A cell of at most `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> Cell {
    console::cut(text, width).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_told() {
        assert_eq!(clock_warning(SignedDuration::from_mins(10)), None);
        assert_eq!(clock_warning(SignedDuration::from_mins(-10)), None);
        let said = |minutes| clock_warning(SignedDuration::from_mins(minutes)).unwrap();
        assert!(said(11).contains("is 11 min behind that of the bucket"), "{}", said(11));
        assert!(said(-120).contains("is 2 h ahead of that of the bucket"), "{}", said(-120));
    }
}
