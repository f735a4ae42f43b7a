//! The watcher: moves channels along their branches, and pushes to their followers.
//!
//! - [`mirror`]: copies of the repositories, and the order of commits in them
//! - [`round`]: one look at every channel, and what is done about it
//! - `git`: the command that makes and reads them; `history`: what it prints; `upkeep`: what is left when it is killed

mod git;
mod history;
pub mod mirror;
pub mod round;
mod upkeep;
