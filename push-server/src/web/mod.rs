//! The web app, `push serve`: pages for people, an API for programs, and metrics.
//!
//! Lists and states on pages are drawn from the [`FleetSnapshot`](crate::snapshot::FleetSnapshot) in memory, and work
//! without JavaScript; every push goes through [`fleet::operation`], which reads the bucket afresh. `routes.rs` has the
//! table of all routes and who may use each. Nothing here calls a server.

mod accept;
mod api;
mod assets;
pub mod auth;
mod channels;
mod compare;
mod comparison;
mod counters;
mod driver;
mod events;
mod form;
mod guards;
mod health;
mod holds;
mod jobs;
mod metrics;
mod pages;
mod params;
mod parts;
mod problems;
mod redo;
mod retirements;
mod rollouts;
mod route;
mod routes;
mod runs;
mod serve;
mod shared;
mod shown;
mod targets;
#[cfg(test)]
mod testing;
mod view;
mod waves;

pub use serve::{Settings, serve};
