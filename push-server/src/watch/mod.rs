//! The watcher: what git says of the branches that channels follow.
//!
//! - [`mirror`]: copies of the repositories, and the order of commits in them
//! - `git`: the command that makes and reads them; `history`: what it prints; `upkeep`: what is left when it is killed

mod git;
mod history;
pub mod mirror;
#[cfg(test)]
mod tests;
mod upkeep;
