//! The watcher: moves channels along their branches, and pushes to their followers.
//!
//! - [`mirror`]: copies of the repositories, and the order of commits in them
//! - [`fetches`]: keeping those up to date, side by side
//! - [`watcher`]: who watches, and what they read once for all channels of a round
//! - [`round`]: one look at every channel, and where it moves; `pushing`: what its followers get then
//! - [`rollouts`]: those pushes that go out in waves
//! - `images`: channels that move the tag of an image, which no server follows
//! - `bases`: images that others are built on
//! - `configuration`: the files that say what deploys such an image; `commits`: changing files of a repository without a checkout
//! - [`outcome`]: what is told of that
//! - `messages`: hints that begin a round at once
//! - `counts`: what rounds and messages are counted as; `listen`: where that is shown
//! - [`record`]: what a round leaves behind for pages and programs
//! - `git`: the command that makes and reads them; `history`: what it prints; `upkeep`: what is left when it is killed; `unused`:
//!   mirrors that are removed

mod bases;
mod commits;
mod configuration;
pub(crate) mod counts;
pub mod fetches;
mod git;
mod history;
mod images;
pub(crate) mod listen;
pub(crate) mod messages;
pub mod mirror;
pub mod outcome;
mod pushing;
pub mod record;
pub mod rollouts;
pub mod round;
mod unused;
mod upkeep;
pub mod watcher;
