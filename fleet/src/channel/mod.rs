//! Channels: which release of an app goes out by itself, to whom, and what git says of the order of commits.
//!
//! - [`repo`], [`branch`]: where a channel's commits are, as the configuration names it
//! - [`mod@line`]: in which order they landed
//! - [`build`]: what a channel may point to; [`choose`]: which of it a channel moves to
//! - [`soaking`]: what it would move to once that has gone through the channel before
//! - [`change`]: what a person changes about a channel
//! - [`image_lines`]: the lines of a configuration that name an image
//! - [`follower`]: whether a server gets what a channel points to
//! - [`observe`]: what became of that on the servers that got it
//! - [`seen`]: what is known of a channel without git, from what a round saw
//!
//! Everything here is pure: it runs no git, and takes no clock.

pub mod branch;
pub mod build;
pub mod change;
pub mod choose;
pub mod follower;
pub mod image_lines;
pub mod line;
pub mod message;
pub mod observe;
pub mod repo;
pub mod seen;
pub mod soaking;
