//! The instance metadata server of Compute Engine: it tells this machine within a second that it was poked.
//!
//! A poke is a changed value of the custom attribute `pushrev`. It is a hint and nothing is read from it but that it
//! changed: losing every poke costs one poll interval, which is why nothing here ever ends the agent.
//!
//! [`mod@detect`] decides once whether there is such a server. [`watch()`] hangs on it, [`judge`](judge()) says what each
//! answer means, and [`Client`] is the only one here that speaks HTTP.

mod client;
mod detect;
mod judge;
#[cfg(test)]
mod simulation;
mod watch;

pub use bucket::PRODUCT_NAME;
pub use client::Client;
pub use detect::{Detected, Mode, detect};
pub use judge::{Answer, Judgement, Known, News, Timing, judge};
pub use watch::watch;
