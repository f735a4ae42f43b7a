//! Channels: which release of an app goes out by itself, to whom, and what git says of the order of commits.
//!
//! - [`repo`], [`branch`]: where a channel's commits are, as the configuration names it
//! - [`line`]: in which order they landed
//!
//! Everything here is pure: it runs no git, and takes no clock.

pub mod branch;
pub mod line;
pub mod repo;
