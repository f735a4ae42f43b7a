//! What may go where, who may do it, and in which waves: `skiapush.conf`.
//!
//! ```json5
//! { Servers: { "web-1": { AppNames: ["web", "pulld"] } } }    // all that the original system had
//! ```
//!
//! `docs/skiapush.conf` shows every key. The rules are pure: [`Policy::judge`] and [`Policy::way`] decide, `read.rs` makes them from text,
//! and [`watched::Watched`] reads the file anew when it changes.

mod channels;
mod links;
mod pattern;
mod read;
mod refusal;
mod rules;
pub mod watched;
mod way;

pub use channels::{ChannelRules, ConfigRules, ImageRules};
pub use links::Links;
pub use pattern::{Pattern, PatternError};
pub use read::{MAX_BYTES, Problem};
pub use refusal::Refusal;
pub use rules::{Case, Policy, Reason, Role};
pub use way::Way;
