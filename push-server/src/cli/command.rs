//! What the verbs share.

use std::sync::Arc;

use bucket::{Bucket, Timestamp};
use console::{Cell, Color, Person};
use fleet::policy::Policy;

use crate::badge::{Badge, Severity};

/// Servers that are read at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// What a verb works with.
pub(crate) struct Command {
    pub(crate) bucket: Bucket,
    pub(crate) policy: Arc<Policy>,
    pub(crate) json: bool,
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
