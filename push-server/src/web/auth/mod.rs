//! Who makes a request, and whether they meant it: exactly one way of signing in, without fallback.
//!
//! [`protect`] wraps the whole router: everything but `/healthz` and `/readyz` needs somebody who is signed in, so that a
//! new route can't be forgotten. Handlers find the [`Identity`](fleet::identity::Identity) among a request's extensions.
//! Three ways, chosen at start:
//!
//! - local: whoever is on this machine may look, and whoever shows the token that was made at the start is the operator.
//!   It listens on loopback only, the request comes from loopback and names it as its host (against DNS rebinding), and
//!   no proxy has passed it on.
//! - iap: Google's identity-aware proxy. Its signature counts, not where the request comes from.
//! - proxy: another proxy, trusted for the address that it connects from.
//!
//! The decisions are pure functions of a request's head, apart from fetching Google's keys.

mod account;
mod authenticator;
mod csrf;
mod headers;
mod host;
mod jwt;
mod keys;
mod local_token;
mod name;
mod refusal;
mod settings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    authenticator::{Authenticator, protect},
    host::Host as PublicHost,
    keys::KeySource,
    settings::{AuthArguments, AuthSettings},
};
