//! The operators' half of Push: the `push` command and the web app, two faces over [`fleet`].
//!
//! - [`cli`]: the command, which is all that prints
//! - [`web`]: the web app, `push serve`
//! - [`watch`]: the watcher of channels
//! - [`snapshot`]: the whole fleet in memory, kept fresh, for pages
//! - [`badge`]: how states are shown, by both
//! - [`notes`]: what lies between two releases, for both
//! - [`connections`]: who may connect to a process that listens; [`monitoring`]: what it answers to whatever watches it

mod badge;
pub mod cli;
mod monitoring;
mod notes;
pub mod snapshot;
pub mod watch;
pub mod web;
