//! The table of keys; see [`super`]. The order is that of the reference.

mod contents;
mod package;
mod project;
mod server;

use super::Key;

/// Every key.
pub(crate) fn table() -> impl Iterator<Item = &'static Key> {
    [project::KEYS, package::KEYS, contents::KEYS, server::KEYS].into_iter().flatten()
}
