//! The instance metadata server of Compute Engine: through it this machine learns within a second that it was poked.
//!
//! A poke is a changed value of the custom attribute `pushrev`. It is a hint, and the agent uses only the
//! fact that it changed: a lost poke costs at most one poll interval, so no failure here ever ends the agent.
//!
//! [`mod@detect`] decides once whether there is such a server. [`watch()`] long-polls it, [`judge`](judge()) decides what
//! each response means, and only [`Client`] speaks HTTP.

mod client;
mod detect;
mod judge;
#[cfg(test)]
mod simulation;
mod watch;

pub(crate) use bucket::PRODUCT_NAME;
pub use client::Client;
pub(crate) use detect::{Detected, Mode, detect};
pub use judge::{Answer, Timing};
pub(crate) use judge::{Judgement, Known, News, judge};
pub use watch::watch;
