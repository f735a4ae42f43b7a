//! The agent that keeps a Debian server at its desired releases.
//!
//! Start at [`agent`]: the loop, and the pull cycle as a straight list. What it decides is decided by pure functions
//! ([`plan`], [`rollback`], [`health::verdict`], [`units::act`], [`report::compose`]); what it does is done through
//! the two boundaries in [`machine`] and through [`bucket::Bucket`].
//!
//! - before anything changes: [`config`], [`prepare`] with [`download`] and [`cache`]
//! - while it changes: [`apply`] with [`transaction`], [`quarantine`], [`rescue`]
//! - afterwards: [`report`], [`publish`]
//! - around it: [`wake`], [`schedule`], [`metadata`], [`control`], [`lock`], [`notify`], [`journal`], [`events`]

pub mod agent;
pub mod apply;
pub mod backoff;
pub mod cache;
pub mod commands;
pub mod config;
pub mod control;
pub mod deb;
pub mod depends;
pub mod download;
pub mod dpkg;
pub mod duration;
pub mod events;
#[cfg(test)]
mod fake;
pub mod health;
pub mod journal;
pub mod liveness;
pub mod lock;
pub mod machine;
pub mod metadata;
pub mod notify;
pub mod paths;
pub mod persist;
pub mod plan;
pub mod prepare;
pub mod publish;
pub mod quarantine;
pub mod report;
pub mod rescue;
pub mod rollback;
pub mod schedule;
pub mod systemd;
#[cfg(test)]
mod tests;
pub mod transact;
pub mod transaction;
pub mod units;
pub mod wake;

pub use agent::{Agent, Machine};
pub use cache::Cache;
pub use config::{Loaded, Settings};
pub use liveness::Liveness;
pub use paths::Paths;
pub use rescue::Rescue;
