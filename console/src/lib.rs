//! What `release`, `push` and `pulld` share towards a person, so that the three look and behave alike.
//!
//! - a program starts and ends: [`run()`], [`block_on`], [`UsageError`], [`Completions`], [`logging`]
//! - it prints: results to stdout by [`print()`], [`print_line`] and [`print_json`], messages to stderr by [`note`] and
//!   [`warning`], directly or by a thread ([`Messages`]); a reader that went away is never an error
//! - text from elsewhere is made harmless: [`safe()`], [`one_line`], [`safe_lines`], [`cut`], [`cut_lines`]
//! - values as people read them: [`Table`], [`age()`], [`size()`], [`count()`], [`duration`]
//! - what people wrote: [`nearest()`] for "did you mean", [`Keys`] for TOML, [`Person`] for who they are
//!
//! Depends on no other crate of Push; knows nothing of releases, servers or buckets.

mod age;
mod color;
mod completions;
mod count;
pub mod duration;
mod failure;
mod hidden;
mod keys;
mod label;
pub mod logging;
mod messages;
mod nearest;
mod person;
mod print;
mod run;
mod safe;
mod size;
mod table;
mod unique_keys;

pub use age::{age, ago};
pub use color::Color;
pub use completions::Completions;
pub use count::count;
pub use failure::UsageError;
pub use keys::{Keys, Mismatch, UnknownKey};
pub use label::label;
pub use messages::Messages;
pub use nearest::{nearest, quoted};
pub use person::Person;
pub use print::{note, print, print_json, print_line, warning};
pub use run::{Threads, block_on, run};
pub use safe::{cut, cut_lines, one_line, safe, safe_lines};
pub use size::size;
pub use table::{Cell, Table};
pub use unique_keys::parse_with_unique_keys;
