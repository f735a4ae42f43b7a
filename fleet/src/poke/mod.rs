//! Waking servers at once: the instance metadata attribute `pushrev`, set through the Compute API.
//!
//! A poke is a hint and comes after the push is written: a server that isn't poked polls within minutes. So whatever
//! fails here is for the caller to show as a warning, with the reason, and never undoes a push.
//!
//! [`PokeSettings`] say whether and where, [`Poker::prepare`] looks up any number of servers and [`Poker::poke`] pokes
//! them, one write each.
//! `instance.rs` knows the documents and decides, `api.rs` speaks HTTP.

mod api;
mod instance;
mod poker;
mod settings;

pub use poker::{Poker, Prepared};
pub use settings::{ComputeSettings, PokeSettings};
