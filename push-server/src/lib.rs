//! The operators' half of Push: choosing which release each server should have.
//!
//! - [`assign`]: one app's entry in one document, pure
//! - [`plan`]: what a push would do to a server, and what to know before, pure
//! - [`condition`]: how a server is, pure
//! - [`filter`]: the filter language of servers, pure
//! - [`history`]: what a server had before, from the pushes to it, pure
//! - [`operation`]: pushing to any number of servers
//! - [`policy`]: what may go where, and who may do it
//! - [`push`]: the one way to write a server's document
//! - [`poke`]: waking the servers that were pushed to
//! - [`fleet`]: reading what servers should run and do run
//! - [`picture`]: the whole fleet in memory, kept fresh, for pages
//! - [`identity`]: who an operator is
//! - [`text`]: text from outside, made safe to show
//! - [`web`]: the web app, `push serve`
//!
//! None of these prints: the `push` command ([`cli`]) does.

pub mod assign;
pub mod cli;
pub mod condition;
pub mod filter;
pub mod fleet;
pub mod history;
pub mod identity;
pub mod operation;
pub mod picture;
pub mod plan;
pub mod poke;
pub mod policy;
pub mod push;
pub mod text;
pub mod web;
