//! The agent that keeps a Debian server at its desired releases.
//!
//! Start at [`agent`]: the loop, and the pull cycle as a straight list. The rooms below it, each used by those above:
//!
//! - [`commands`] – the command line
//! - [`agent`] – the pull cycle and its report
//! - [`store`] – what must be on disk before anything changes
//! - [`transaction`] – changing the machine, and rolling back
//! - [`config`] – what the agent uses
//! - [`metadata`] – pokes
//! - [`decide`] – pure decisions
//! - [`machine`] – dpkg and systemd
//! - [`state`] – the agent's own files
//! - [`failure`] – why an update failed, as data with its words
//! - [`service`] – what wakes it, and what systemd and people are let know
//! - [`checker`] – what must hold of a server, for tests

// First: its macros are for those below.
#[macro_use]
mod failpoint;

mod agent;
pub mod checker;
pub mod commands;
mod config;
mod decide;
mod failure;
mod machine;
pub mod metadata;
mod random;
mod service;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod transaction;
