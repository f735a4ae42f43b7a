//! A bucket of Google Cloud Storage.
//!
//! Content goes through Google's own client, everything else through four REST requests (`rest.rs`). What both have
//! in common is in `connection.rs` and `attempt.rs`: each attempt has a time limit, what may be done twice is tried a few times,
//! `Retry-After` is honoured, a refused token is renewed. Google's client is told to try once only, except within the
//! upload of a file, which it resumes as `upload.rs` says.
//!
//! Every write states a generation, so it may be tried again after its answer was lost. The second try is then refused
//! (412) because of our own first: each write leaves a mark in the object's metadata, by which `write.rs` recognises it.

mod attempt;
mod bucket;
mod cause;
mod connection;
mod copy;
mod download;
mod firmware;
mod pubsub;
mod rest;
mod tokens;
mod upload;
mod write;

pub use bucket::GcsBucket;
pub use cause::chain;
pub(crate) use download::GcsDownload;
pub use firmware::{Firmware, PRODUCT_NAME, firmware};
pub use pubsub::{PubSubError, Pulled, Subscription, Topic};
pub use tokens::{NoToken, Tokens, no_tls};
